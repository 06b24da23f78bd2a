//! The grammar of the command line: `weir NOUN VERB`.
//!
//! Each noun has its own file. A noun without a verb means `list` (see [`Noun`]).

mod access;
mod backends;
mod certs;
mod configuration;
mod contexts;
mod load;
mod nodes;
mod reports;
mod resources;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::engine::ArgValueCompleter;
use weir_snapshot::units::HumanDuration;

pub(crate) use self::{
    access::{AuditList, AuditVerb, NewNodeToken, NewToken, NodeTokensVerb, Role, TokensVerb},
    backends::{BackendsList, BackendsVerb, Several, Which},
    certs::{CertsVerb, NewCertificate},
    configuration::{Apply, Changing, Explain, RevisionsList, RevisionsVerb},
    contexts::{ContextsVerb, Login},
    load::Load,
    nodes::NodesVerb,
    reports::{Filters, Kind, OldReport, Ranking, ReportsVerb, Tail},
    resources::{Content, Fields, PoolsList, PoolsVerb, RoutesList, RoutesVerb},
};
use crate::completion;

/// The command line of a Weir fleet: a noun and a verb, such as `weir backends drain b1`. Without a verb, a noun lists.
#[derive(Debug, Parser)]
#[command(
    name = "weir",
    version,
    after_help = "Flags take precedence over environment variables, these over the context (weir login), and that over the defaults.\n\
                  Shell completion: source <(weir completions bash)"
)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Flags of every command.
#[derive(Debug, Args)]
#[command(next_help_heading = "Connection and output")]
pub(crate) struct Global {
    /// Address of the control plane's admin API [default: that of the context, or http://127.0.0.1:8081].
    #[arg(long, env = "WEIR_ADMIN", global = true, value_name = "URL")]
    pub(crate) admin: Option<String>,
    /// Token for the admin API; other users of the machine may see it, so prefer a file or a context.
    #[arg(long, env = "WEIR_TOKEN", hide_env_values = true, global = true)]
    pub(crate) token: Option<String>,
    /// File with the token for the admin API.
    #[arg(long, env = "WEIR_TOKEN_FILE", global = true, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// CA certificates (PEM) that the certificate of an https:// control plane must be signed by [default: the system's].
    #[arg(long, env = "WEIR_CA", global = true, value_name = "FILE")]
    pub(crate) ca: Option<PathBuf>,
    /// Context to use in place of the current one; see `weir contexts`.
    #[arg(long, env = "WEIR_CONTEXT", global = true, value_name = "NAME", add = ArgValueCompleter::new(completion::contexts))]
    pub(crate) context: Option<String>,
    /// Output format. table: for people, in 120 columns. wide: all columns, exact numbers.
    #[arg(
        short,
        long,
        env = "WEIR_OUTPUT",
        value_enum,
        default_value = "table",
        global = true,
        value_name = "FORMAT",
        hide_possible_values = true,
        help = "Output format: table (for people, in 120 columns), wide (all columns, exact numbers), json, yaml or csv"
    )]
    pub(crate) output: Output,
}

/// How results are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// For people, in 120 columns.
    Table,
    /// For people: all columns, exact numbers.
    Wide,
    /// The answer of the admin API.
    Json,
    /// The same as YAML.
    Yaml,
    /// The same as CSV with a header line.
    Csv,
}

impl Output {
    /// Whether the output is for people, not for programs.
    pub(crate) fn is_for_people(self) -> bool {
        matches!(self, Self::Table | Self::Wide)
    }
}

/// A noun: its verb, or the flags of `list` when there is none.
#[derive(Debug, Args)]
pub(crate) struct Noun<L: Args, V: Subcommand> {
    #[command(flatten)]
    pub(crate) list: L,
    #[command(subcommand)]
    pub(crate) verb: Option<V>,
}

/// A noun whose `list` has no flags.
#[derive(Debug, Clone, Default, PartialEq, Args)]
pub(crate) struct Plain {}

/// A list that can be watched.
#[derive(Debug, Clone, Copy, Default, PartialEq, Args)]
pub(crate) struct Watch {
    /// Repeats it until interrupted: every second, or as often as given.
    #[arg(short, long, value_name = "EVERY", num_args = 0..=1, default_missing_value = "1s")]
    pub(crate) watch: Option<HumanDuration>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Revision, backends, nodes and certificates at a glance.
    Status(Watch),
    /// Backends: list, add, change, drain, check.
    #[command(alias = "backend")]
    Backends(Noun<BackendsList, BackendsVerb>),
    /// Pools of backends.
    #[command(alias = "pool")]
    Pools(Noun<PoolsList, PoolsVerb>),
    /// Routes: which requests go where.
    #[command(alias = "route")]
    Routes(Noun<RoutesList, RoutesVerb>),
    /// Certificates that nodes present to clients.
    #[command(aliases = ["cert", "certificates", "certificate"])]
    Certs(Noun<Watch, CertsVerb>),
    /// Data-plane nodes: what each one runs, and whether it may.
    #[command(alias = "node")]
    Nodes(Noun<Watch, NodesVerb>),
    /// Tokens for the admin API.
    #[command(alias = "token")]
    Tokens(Noun<Plain, TokensVerb>),
    /// Tokens that nodes join the fleet with.
    #[command(aliases = ["node-token", "join-tokens", "join-token"])]
    NodeTokens(Noun<Plain, NodeTokensVerb>),
    /// Revisions of the configuration: who changed what, and when.
    #[command(alias = "revision")]
    Revisions(RevisionsNoun),
    /// Audit log: changes and refused calls, newest first.
    Audit(Noun<AuditList, AuditVerb>),
    /// Traffic reports from exact counts.
    Reports(Noun<Plain, ReportsVerb>),
    /// Requests of all nodes as they complete.
    Tail(Tail),
    /// Replaces the whole configuration by a file.
    Apply(Apply),
    /// Compares a file with the current configuration: exit status 0 same, 1 different, 2 error.
    Diff {
        /// The file, YAML or JSON; - reads standard input.
        #[arg(short, long)]
        file: String,
    },
    /// Checks a configuration file without a control plane.
    Check {
        /// The file, YAML or JSON; - reads standard input.
        file: String,
    },
    /// Writes the current configuration.
    Export,
    /// Makes the control plane read its --config file again.
    Reload(Changing),
    /// Makes the content of an earlier revision current again, as a new revision.
    Rollback {
        /// Number of the earlier revision.
        #[arg(value_parser = clap::value_parser!(u64).range(1..), allow_negative_numbers = true)]
        revision: u64,
        #[command(flatten)]
        changing: Changing,
    },
    /// Explains where a request would go: its route, its filters, its backends.
    Explain(Explain),
    /// Writes the JSON Schema of the configuration file, for editors.
    Schema,
    /// Hashes a password from standard input for a route's basic_auth.
    HashPassword,
    /// Sends requests and counts what comes back.
    Load(Load),
    /// Runs a whole fleet in this process: control plane, nodes and mock backends.
    Dev(crate::dev::Dev),
    /// Checks an address and a token, and stores them as a context.
    Login(Login),
    /// Forgets a context with its token.
    Logout {
        /// The context [default: the current one].
        #[arg(add = ArgValueCompleter::new(completion::contexts))]
        name: Option<String>,
    },
    /// Contexts: control planes that this user knows by name.
    #[command(aliases = ["context", "ctx"])]
    Contexts(Noun<Plain, ContextsVerb>),
    /// Versions of this program and of the control plane.
    Version {
        /// Does not ask the control plane.
        #[arg(long)]
        client: bool,
    },
    /// Writes the completion script of a shell: bash, zsh, fish, elvish or powershell.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Sets the strategy of a pool; the same as `weir pools set POOL strategy=NAME`.
    #[command(hide = true)]
    Strategy {
        /// The pool's name.
        #[arg(add = ArgValueCompleter::new(completion::pools))]
        pool: String,
        /// round_robin, random, least_connections, power_of_two, peak_ewma, ip_hash or consistent_hash.
        #[arg(add = ArgValueCompleter::new(completion::strategies))]
        strategy: String,
    },
    /// The same as `weir reports`.
    #[command(hide = true)]
    Report(OldReport),
}

/// `weir revisions`, which also takes the number of a revision in place of a verb.
#[derive(Debug, Args)]
pub(crate) struct RevisionsNoun {
    #[command(flatten)]
    pub(crate) list: RevisionsList,
    /// The same as `get N`.
    #[arg(hide = true, value_parser = configuration::number_or_verb, allow_negative_numbers = true)]
    pub(crate) revision: Option<u64>,
    #[command(subcommand)]
    pub(crate) verb: Option<RevisionsVerb>,
}

impl Command {
    /// A flag of `list` before another verb: it would have no effect, so it is an error.
    pub(crate) fn misplaced_flags(&self) -> bool {
        fn of<L: Args + Default + PartialEq, V: Subcommand>(noun: &Noun<L, V>) -> bool {
            noun.verb.is_some() && noun.list != L::default()
        }
        match self {
            Self::Backends(noun) => of(noun),
            Self::Pools(noun) => of(noun),
            Self::Routes(noun) => of(noun),
            Self::Certs(noun) => of(noun),
            Self::Nodes(noun) => of(noun),
            Self::Revisions(noun) => {
                let has_flags = noun.list != RevisionsList::default();
                noun.verb.is_some() && (has_flags || noun.revision.is_some())
            }
            Self::Audit(noun) => of(noun),
            _ => false,
        }
    }
}
