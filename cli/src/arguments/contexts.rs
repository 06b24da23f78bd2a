//! `weir login` and `weir contexts`.

use clap::{Args, Subcommand};
use clap_complete::engine::ArgValueCompleter;

use super::Plain;
use crate::completion;

/// The address, the token and the CA are those of the flags --admin, --token, --token-file and --ca. Without a token flag or
/// variable, the token is read from standard input.
#[derive(Debug, Args)]
pub(crate) struct Login {
    /// Name of the context [default: default].
    #[arg(default_value = "default", hide_default_value = true, add = ArgValueCompleter::new(completion::contexts))]
    pub(crate) name: String,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ContextsVerb {
    /// Lists contexts; the default.
    #[command(aliases = ["ls", "get-contexts"])]
    List(Plain),
    /// Shows a context, without its token.
    #[command(aliases = ["show", "current", "current-context"])]
    Get {
        /// The context [default: the current one].
        #[arg(add = ArgValueCompleter::new(completion::contexts))]
        name: Option<String>,
    },
    /// Makes a context the current one.
    #[command(aliases = ["use-context", "switch"])]
    Use {
        /// The context.
        #[arg(add = ArgValueCompleter::new(completion::contexts))]
        name: String,
    },
    /// Deletes contexts with their tokens.
    #[command(aliases = ["delete-context", "remove", "rm"])]
    Delete {
        /// Names of contexts.
        #[arg(required = true, add = ArgValueCompleter::new(completion::contexts))]
        names: Vec<String>,
    },
}
