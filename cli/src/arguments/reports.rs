//! `weir reports` and `weir tail`.

use clap::{Args, Subcommand, ValueEnum};
use clap_complete::engine::ArgValueCompleter;

use super::{Output, Plain, Watch};
use crate::completion;

/// Flags of every report.
#[derive(Debug, Args)]
pub(crate) struct Filters {
    /// Start of the range: RFC 3339, a date, or an age such as -2h.
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub(crate) from: Option<String>,
    /// End of the range, in the same forms; a date includes its day.
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub(crate) to: Option<String>,
    /// Only requests of this route.
    #[arg(long, add = ArgValueCompleter::new(completion::routes))]
    pub(crate) route: Option<String>,
    /// Only requests of this pool.
    #[arg(long, add = ArgValueCompleter::new(completion::pools))]
    pub(crate) pool: Option<String>,
    /// Only requests of this backend, by id or URL.
    #[arg(long, add = ArgValueCompleter::new(completion::backends))]
    pub(crate) backend: Option<String>,
    /// Only requests with this method.
    #[arg(long)]
    pub(crate) method: Option<String>,
    /// Only requests for this host; not together with another filter.
    #[arg(long, conflicts_with_all = ["route", "pool", "backend", "method"])]
    pub(crate) host: Option<String>,
    /// Time zone of dates, hours and days, such as Europe/Rome [default: UTC].
    #[arg(long)]
    pub(crate) tz: Option<String>,
    #[command(flatten)]
    pub(crate) watch: Watch,
    /// The same as --output.
    #[arg(long, value_enum, hide = true)]
    pub(crate) format: Option<Output>,
}

/// Flags of `top`.
#[derive(Debug, Args)]
pub(crate) struct Ranking {
    /// What is ranked: route (the default), host, pool, backend, method, status or slowest.
    #[arg(long)]
    pub(crate) by: Option<String>,
    /// What it is ranked by: requests (the default), errors, refused, cut, slowest or bytes.
    #[arg(long)]
    pub(crate) sort: Option<String>,
    /// Maximum number of items [default: 10].
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) limit: Option<u32>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ReportsVerb {
    /// Lists the reports there are; the default.
    #[command(alias = "ls")]
    List(Plain),
    /// Shows a report by its name: `weir reports get hourly` is `weir reports hourly`.
    #[command(alias = "show")]
    Get(OldReport),
    /// Traffic by minute.
    Minutely(Filters),
    /// Traffic by hour.
    Hourly(Filters),
    /// Traffic by day.
    Daily(Filters),
    /// Traffic of a range as one, with its peak and its lowest hour.
    Summary {
        #[command(flatten)]
        filters: Filters,
        /// Compares with the range of equal length before it.
        #[arg(long)]
        compare: bool,
    },
    /// Routes, hosts, pools, backends, methods or statuses with the most traffic.
    Top {
        #[command(flatten)]
        filters: Filters,
        #[command(flatten)]
        top: Ranking,
    },
}

/// A report by name, with the flags of all reports.
#[derive(Debug, Args)]
pub(crate) struct OldReport {
    /// The report.
    pub(crate) kind: Kind,
    #[command(flatten)]
    pub(crate) filters: Filters,
    #[command(flatten)]
    pub(crate) top: Ranking,
    /// summary: compares with the range of equal length before it.
    #[arg(long)]
    pub(crate) compare: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    Minutely,
    Hourly,
    Daily,
    Summary,
    Top,
}

#[derive(Debug, Args)]
pub(crate) struct Tail {
    /// Only requests of this route.
    #[arg(long, add = ArgValueCompleter::new(completion::routes))]
    pub(crate) route: Option<String>,
    /// Only requests of this pool.
    #[arg(long, add = ArgValueCompleter::new(completion::pools))]
    pub(crate) pool: Option<String>,
    /// Only requests of this backend, by id or URL.
    #[arg(long, add = ArgValueCompleter::new(completion::backends))]
    pub(crate) backend: Option<String>,
    /// Only requests for this host.
    #[arg(long)]
    pub(crate) host: Option<String>,
    /// Only requests with this method.
    #[arg(long)]
    pub(crate) method: Option<String>,
    /// Only requests whose path begins with this.
    #[arg(long)]
    pub(crate) path: Option<String>,
    /// Only answers with this status: 404, 5xx or 400-499.
    #[arg(long)]
    pub(crate) status: Option<String>,
    /// Only requests that took at least this long, such as 200ms; tunnels and streams have no latency.
    #[arg(long)]
    pub(crate) min_latency: Option<String>,
    /// Only requests from this address, or network such as 10.0.0.0/8.
    #[arg(long)]
    pub(crate) client: Option<String>,
    /// Only requests with this outcome: finished, cut, cut_by_client, cut_by_backend or cut_by_node.
    #[arg(long)]
    pub(crate) outcome: Option<String>,
    /// Ends after this many requests.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) count: Option<u64>,
}
