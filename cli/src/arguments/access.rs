//! `weir tokens`, `weir node-tokens` and `weir audit`.

use clap::{Args, Subcommand, ValueEnum};
use clap_complete::engine::ArgValueCompleter;
use weir_snapshot::units::HumanDuration;

use super::Plain;
use crate::completion;

#[derive(Debug, Subcommand)]
pub(crate) enum TokensVerb {
    /// Lists tokens, without their secrets; the default.
    #[command(alias = "ls")]
    List(Plain),
    /// Shows one token, without its secret.
    #[command(alias = "show")]
    Get {
        /// Its name.
        #[arg(add = ArgValueCompleter::new(completion::tokens))]
        name: String,
    },
    /// Creates a token and prints it, this once. The first one has role admin; from then on each call needs a token.
    #[command(alias = "add")]
    Create(NewToken),
    /// Revokes a token, and ends every session and stream that it opened.
    #[command(aliases = ["revoke", "remove", "rm"])]
    Delete {
        /// Its name.
        #[arg(add = ArgValueCompleter::new(completion::tokens))]
        name: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct NewToken {
    /// A name: the person or the program that uses it.
    pub(crate) name: String,
    /// What it allows.
    #[arg(long, value_enum)]
    pub(crate) role: Role,
    /// How long it is valid, such as 30d [default: until it is revoked].
    #[arg(long)]
    pub(crate) expires: Option<HumanDuration>,
}

/// What a token allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Role {
    /// Reads.
    Viewer,
    /// Also changes backends and strategies.
    Operator,
    /// Does everything.
    Admin,
}

#[derive(Debug, Subcommand)]
pub(crate) enum NodeTokensVerb {
    /// Lists join tokens, without their secrets; the default.
    #[command(alias = "ls")]
    List(Plain),
    /// Shows one join token, without its secret.
    #[command(alias = "show")]
    Get {
        /// Its id.
        id: i64,
    },
    /// Creates a join token and prints it, this once. A node reads it from --token-file or WEIR_NODE_TOKEN.
    #[command(alias = "add")]
    Create(NewNodeToken),
    /// Revokes a join token. Nodes that joined with it stay.
    #[command(aliases = ["delete", "remove", "rm"])]
    Revoke {
        /// Its id.
        id: i64,
    },
}

#[derive(Debug, Args)]
pub(crate) struct NewNodeToken {
    /// How long it is valid, such as 1h; never: until it is revoked [default: 24h].
    #[arg(long)]
    pub(crate) ttl: Option<String>,
    /// How many nodes may join with it [default: any number].
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) uses: Option<u32>,
    /// Node id that it is valid for; several times, or one list with commas [default: any].
    #[arg(long = "node", value_name = "ID", value_delimiter = ',')]
    pub(crate) nodes: Vec<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Args)]
pub(crate) struct AuditList {
    /// Maximum number of entries [default: 50].
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) limit: Option<u32>,
    /// Only entries older than the one with this id.
    #[arg(long, value_name = "ID")]
    pub(crate) after: Option<i64>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum AuditVerb {
    /// Lists entries, newest first; the default.
    #[command(alias = "ls")]
    List(AuditList),
    /// Shows one entry.
    #[command(alias = "show")]
    Get {
        /// Its id.
        id: i64,
    },
}
