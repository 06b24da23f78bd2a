//! `weir load`.

use clap::Args;
use weir_snapshot::units::HumanDuration;

#[derive(Debug, Args)]
pub(crate) struct Load {
    /// A URL, or `books`: a mix of reads and writes of the bookstore at --target.
    pub(crate) scenario: String,
    /// Where the scenario `books` is sent.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8080")]
    pub(crate) target: String,
    /// Requests per second, however fast the answers come.
    #[arg(long, value_name = "N", conflicts_with = "connections", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) rps: Option<u32>,
    /// Connections, each of which sends as soon as it has its answer [default: 10].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) connections: Option<u32>,
    /// Ends after this time [default: 10s, or without a limit when --requests is given].
    #[arg(long)]
    pub(crate) duration: Option<HumanDuration>,
    /// Ends after this many requests.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) requests: Option<u64>,
    /// Method of the requests.
    #[arg(long, default_value = "GET")]
    pub(crate) method: hyper::Method,
    /// Path, in place of the URL's.
    #[arg(long)]
    pub(crate) path: Option<String>,
    /// An answer that takes longer counts as failed.
    #[arg(long, default_value = "30s", value_name = "DURATION")]
    pub(crate) timeout: HumanDuration,
}
