//! What can be typed after `weir`.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use weir_snapshot::units::HumanDuration;

/// Where the admin API is when nothing is said.
pub(crate) const ADMIN: &str = "http://127.0.0.1:8081";

/// The shares that a backend may have.
const WEIGHTS: std::ops::RangeInclusive<i64> = 1..=weir_snapshot::Weight::MAX as i64;

/// The command line of a Weir fleet.
#[derive(Debug, Parser)]
#[command(name = "weir", version)]
pub(crate) struct Arguments {
    /// Where the control plane's admin API is.
    #[arg(
        long,
        env = "WEIR_ADMIN",
        default_value = ADMIN,
        global = true,
        value_name = "URL"
    )]
    pub(crate) admin: String,
    /// The token for the admin API.
    #[arg(long, env = "WEIR_TOKEN", hide_env_values = true, global = true)]
    pub(crate) token: Option<String>,
    /// A file with the token, where --token is not given.
    #[arg(long, env = "WEIR_TOKEN_FILE", global = true, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// The certificates, as PEM, that an https:// control plane's has to be signed by [default: the system's].
    #[arg(long, env = "WEIR_CA", global = true, value_name = "FILE")]
    pub(crate) ca: Option<PathBuf>,
    /// Tables for people, JSON for scripts.
    #[arg(long, env = "WEIR_OUTPUT", value_enum, default_value = "table", global = true)]
    pub(crate) output: Output,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// How results are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    Table,
    Json,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// The revision, every backend and every node.
    Status,
    /// Every node: what it runs, how far it is behind, what it does, what went wrong. And who may be a node.
    #[command(args_conflicts_with_subcommands = true)]
    Nodes {
        /// Show it again and again, each second or as often as this says.
        #[arg(long, value_name = "EVERY", num_args = 0..=1, default_missing_value = "1s")]
        watch: Option<HumanDuration>,
        #[command(subcommand)]
        command: Option<NodesCommand>,
    },
    /// Lists and changes backends.
    #[command(subcommand)]
    Backends(Backends),
    /// Every pool.
    Pools,
    /// Every route.
    Routes,
    /// Lists and changes the certificates that nodes show.
    #[command(subcommand)]
    Certs(Certs),
    /// Sets the strategy of a pool.
    Strategy {
        /// The pool's name.
        pool: String,
        /// round_robin, random, least_connections, power_of_two, peak_ewma, ip_hash or consistent_hash.
        strategy: String,
    },
    /// Says how a file differs from the configuration that runs: exit status 0 same, 1 different, 2 trouble.
    Diff {
        /// The file, YAML or JSON; - reads stdin.
        #[arg(short, long)]
        file: String,
    },
    /// Replaces the whole configuration by a file.
    Apply(ApplyArguments),
    /// Checks a configuration file without a control plane.
    Check {
        /// The file, YAML or JSON; - reads stdin.
        file: String,
    },
    /// Hashes a password from stdin for a route's basic_auth.
    HashPassword,
    /// Writes the JSON Schema of the configuration file, for editors.
    Schema,
    /// Writes the configuration that runs.
    Export,
    /// Has the control plane read its --config file again.
    Reload(Changing),
    /// Who changed what, and when.
    Revisions(RevisionsArguments),
    /// Makes a new revision with the content of an earlier one.
    Rollback {
        /// The number of the earlier revision.
        #[arg(value_parser = clap::value_parser!(u64).range(1..), allow_negative_numbers = true)]
        revision: u64,
        #[command(flatten)]
        changing: Changing,
    },
    /// Where a request would go: its route, what its filters say, which backends could get it.
    Explain(Explain),
    /// Traffic from exact counts.
    Report(Report),
    /// Requests of all nodes as they end.
    Tail(Tail),
    /// Makes, lists and revokes the tokens that the admin API asks for.
    #[command(subcommand)]
    Token(Token),
    /// Makes, lists and revokes the tokens that nodes join with.
    #[command(subcommand)]
    NodeToken(NodeToken),
    /// Ends a node's membership and lets it join again; the same as the commands of `weir nodes`.
    #[command(subcommand)]
    Node(NodeAccess),
    /// What was changed and what was refused, newest first.
    Audit {
        /// At most so many.
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1000))]
        limit: u32,
        /// Only what is older than the entry with this id.
        #[arg(long, value_name = "ID")]
        after: Option<u64>,
    },
    /// Writes the completions of a shell.
    Completions {
        /// Which shell.
        shell: clap_complete::Shell,
    },
    /// Sends requests and says what came back.
    Load(Load),
    /// Runs a whole fleet in this process: control plane, nodes and mock backends.
    Dev(crate::dev::Dev),
}

#[derive(Debug, Args)]
pub(crate) struct ApplyArguments {
    /// The file, YAML or JSON; - reads stdin.
    #[arg(short, long)]
    pub(crate) file: String,
    /// Only say what would change.
    #[arg(long, conflicts_with = "wait")]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) changing: Changing,
}

/// How the whole is changed.
#[derive(Debug, Args)]
pub(crate) struct Changing {
    /// Wait for every connected node to run it, at most so long, such as 5s [without a value: 30s].
    #[arg(long, num_args = 0..=1, default_missing_value = "30s", value_name = "DURATION")]
    pub(crate) wait: Option<HumanDuration>,
    /// Change nothing unless this is the current revision.
    #[arg(long, value_name = "N")]
    pub(crate) if_revision: Option<u64>,
}

#[derive(Debug, Args)]
pub(crate) struct Explain {
    /// Such as GET.
    pub(crate) method: String,
    /// Such as https://api.example.com/v1/books, or a path.
    pub(crate) url: String,
    /// A header, as `name: value`; as often as needed.
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE")]
    pub(crate) headers: Vec<String>,
    /// The client's address.
    #[arg(long, value_name = "IP")]
    pub(crate) client: Option<String>,
    /// Shows up to a hundred of the routes that were passed over.
    #[arg(long)]
    pub(crate) all: bool,
}

#[derive(Debug, Args)]
pub(crate) struct RevisionsArguments {
    /// Shows the whole difference of this one.
    #[arg(value_parser = clap::value_parser!(u64).range(1..), allow_negative_numbers = true)]
    pub(crate) revision: Option<u64>,
    /// At most so many.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) limit: u32,
    /// Only those below this one.
    #[arg(long, value_name = "N")]
    pub(crate) before: Option<u64>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Backends {
    /// Every backend.
    List,
    /// Adds a backend.
    Add {
        /// Such as http://127.0.0.1:8085.
        url: String,
        /// Its pool [default: default].
        #[arg(long)]
        pool: Option<String>,
        /// Its share of the traffic, 1 to 1000.
        #[arg(long, value_parser = clap::value_parser!(u32).range(WEIGHTS), allow_negative_numbers = true)]
        weight: Option<u32>,
    },
    /// Removes a backend.
    Remove(Which),
    /// Lets a backend finish what runs and gives it nothing new.
    Drain(Which),
    /// Gives a backend traffic again.
    Enable(Which),
    /// Takes a backend out at once, and probes it no more.
    Disable(Which),
    /// Sets a backend's share of the traffic.
    SetWeight {
        #[command(flatten)]
        which: Which,
        /// The share, 1 to 1000.
        #[arg(value_parser = clap::value_parser!(u32).range(WEIGHTS), allow_negative_numbers = true)]
        weight: u32,
    },
    /// Probes a backend now.
    Check(Which),
}

#[derive(Debug, Subcommand)]
pub(crate) enum Token {
    /// Makes a token and shows it, this once. The first has role admin, and from then on each call needs one.
    Create {
        /// Whose or what for.
        name: String,
        /// What it allows.
        #[arg(long, value_enum)]
        role: Role,
        /// How long, such as 30d [default: until it is revoked].
        #[arg(long)]
        expires: Option<HumanDuration>,
    },
    /// Every token, without itself.
    List,
    /// Ends a token, and every session and stream that it opened.
    Revoke {
        /// Its name.
        name: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Certs {
    /// Every certificate, and when it expires.
    List,
    /// Adds a certificate, or replaces it.
    Add {
        /// Its name in the configuration; the hosts are in the certificate.
        name: String,
        /// The certificate with its chain, its own first, as PEM.
        #[arg(long, value_name = "FILE")]
        cert: String,
        /// Its private key, as PEM [default: the one that is stored].
        #[arg(long, value_name = "FILE")]
        key: Option<String>,
    },
    /// Removes a certificate.
    Remove {
        /// Its name.
        name: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum NodeToken {
    /// Makes a join token and shows it, this once. A node gets it as --token-file or WEIR_NODE_TOKEN.
    Create {
        /// How long it is good, such as 1h; never: until it is revoked [default: 24h].
        #[arg(long)]
        ttl: Option<String>,
        /// How many nodes may join with it [default: any number].
        #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
        uses: Option<u32>,
        /// The node id that it is for; several of them, or one list with commas [default: any].
        #[arg(long = "node", value_name = "ID", value_delimiter = ',')]
        nodes: Vec<String>,
    },
    /// Every join token, without itself.
    List,
    /// Ends a join token. Nodes that joined with it stay.
    Revoke {
        /// Its id.
        id: u64,
    },
}

/// What `weir nodes` does.
#[derive(Debug, Subcommand)]
pub(crate) enum NodesCommand {
    /// Every node; the same as without a command.
    List {
        /// Show it again and again, each second or as often as this says.
        #[arg(long, value_name = "EVERY", num_args = 0..=1, default_missing_value = "1s")]
        watch: Option<HumanDuration>,
    },
    #[command(flatten)]
    Access(NodeAccess),
}

#[derive(Debug, Subcommand)]
pub(crate) enum NodeAccess {
    /// Ends a node's membership and its streams: it gets nothing any more.
    Revoke {
        /// The node's id.
        id: String,
    },
    /// Lets a revoked node join again; or, within an hour, one more process join as a node that is connected.
    Allow {
        /// The node's id.
        id: String,
    },
    /// Leaves a node's counts out of reports from now on.
    Exclude {
        /// The node's id.
        id: String,
    },
    /// Counts a node again from now on.
    Include {
        /// The node's id.
        id: String,
    },
}

/// What a token allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Role {
    /// Looks.
    Viewer,
    /// And changes backends and strategies.
    Operator,
    /// And everything else.
    Admin,
}

/// Which backend is meant.
#[derive(Debug, Args)]
pub(crate) struct Which {
    /// The backend's id or URL.
    #[arg(value_name = "ID|URL", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub(crate) backend: String,
    /// Its pool, where a URL stands in several.
    #[arg(long)]
    pub(crate) pool: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Report {
    /// What a period is.
    pub(crate) kind: ReportKind,
    /// From when on: RFC 3339, a date, or back from now as -2h.
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub(crate) from: Option<String>,
    /// Until when; a date includes its day.
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub(crate) to: Option<String>,
    /// Only this route.
    #[arg(long)]
    pub(crate) route: Option<String>,
    /// Only this pool.
    #[arg(long)]
    pub(crate) pool: Option<String>,
    /// Only this backend, by id or URL.
    #[arg(long)]
    pub(crate) backend: Option<String>,
    /// Only this method.
    #[arg(long)]
    pub(crate) method: Option<String>,
    /// Only this host; hosts are counted by themselves, so no other filter goes with one.
    #[arg(long, conflicts_with_all = ["route", "pool", "backend", "method"])]
    pub(crate) host: Option<String>,
    /// The time zone, such as Europe/Rome.
    #[arg(long)]
    pub(crate) tz: Option<String>,
    /// top: route (the default), host, pool, backend, method, status or slowest.
    #[arg(long)]
    pub(crate) by: Option<String>,
    /// top: requests (the default), errors, rejected, cut, slowest or bytes.
    #[arg(long)]
    pub(crate) sort: Option<String>,
    /// top: at most so many [default: 10].
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) limit: Option<u32>,
    /// summary: with as much time before.
    #[arg(long)]
    pub(crate) compare: bool,
    /// Shows it again every so often, until interrupted.
    #[arg(long, value_name = "EVERY", num_args = 0..=1, default_missing_value = "2s")]
    pub(crate) watch: Option<HumanDuration>,
    /// How it is written [default: as --output].
    #[arg(long, value_enum)]
    pub(crate) format: Option<Format>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ReportKind {
    Minutely,
    Hourly,
    Daily,
    Summary,
    Top,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    Table,
    Json,
    Csv,
}

#[derive(Debug, Args)]
pub(crate) struct Tail {
    /// Only this route.
    #[arg(long)]
    pub(crate) route: Option<String>,
    /// Only this pool.
    #[arg(long)]
    pub(crate) pool: Option<String>,
    /// Only this backend, by id or URL.
    #[arg(long)]
    pub(crate) backend: Option<String>,
    /// Only this host.
    #[arg(long)]
    pub(crate) host: Option<String>,
    /// Only this method.
    #[arg(long)]
    pub(crate) method: Option<String>,
    /// Only paths that begin so.
    #[arg(long)]
    pub(crate) path: Option<String>,
    /// Only this status: 404, 5xx or 400-499.
    #[arg(long)]
    pub(crate) status: Option<String>,
    /// Only answers that took this long, such as 200ms; tunnels and streams have no latency.
    #[arg(long)]
    pub(crate) min_latency: Option<String>,
    /// Only this client: an address, or a network such as 10.0.0.0/8.
    #[arg(long)]
    pub(crate) client: Option<String>,
    /// Only this outcome: finished, cut, cut_by_client, cut_by_backend or cut_by_node.
    #[arg(long)]
    pub(crate) outcome: Option<String>,
    /// Ends after so many requests.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) count: Option<u64>,
}

#[derive(Debug, Args)]
pub(crate) struct Load {
    /// A URL, or `books`: a mix of reads and writes of the bookstore at --target.
    pub(crate) scenario: String,
    /// Where the scenario `books` goes.
    #[arg(long, default_value = "http://127.0.0.1:8080")]
    pub(crate) target: String,
    /// So many requests a second, however fast the answers come.
    #[arg(long, conflicts_with = "connections", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) rps: Option<u32>,
    /// So many connections, each sending as soon as it has its answer [default: 10].
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) connections: Option<u32>,
    /// How long [default: 10s, or without end when --requests is given].
    #[arg(long)]
    pub(crate) duration: Option<HumanDuration>,
    /// Ends after so many requests.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) requests: Option<u64>,
    /// The method.
    #[arg(long, default_value = "GET")]
    pub(crate) method: hyper::Method,
    /// The path, in place of the URL's.
    #[arg(long)]
    pub(crate) path: Option<String>,
    /// An answer that takes longer counts as failed.
    #[arg(long, default_value = "30s")]
    pub(crate) timeout: HumanDuration,
}
