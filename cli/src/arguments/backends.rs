//! `weir backends`.

use clap::{Args, Subcommand, builder::NonEmptyStringValueParser};
use clap_complete::engine::ArgValueCompleter;

use super::Watch;
use crate::completion;

/// Weights that a backend may have.
const WEIGHTS: std::ops::RangeInclusive<i64> = 1..=weir_snapshot::Weight::MAX as i64;

#[derive(Debug, Clone, Default, PartialEq, Args)]
pub(crate) struct BackendsList {
    /// Only backends of this pool.
    #[arg(long, add = ArgValueCompleter::new(completion::pools))]
    pub(crate) pool: Option<String>,
    /// Only backends that this route can send requests to.
    #[arg(long, add = ArgValueCompleter::new(completion::routes))]
    pub(crate) route: Option<String>,
    #[command(flatten)]
    pub(crate) watch: Watch,
}

#[derive(Debug, Subcommand)]
pub(crate) enum BackendsVerb {
    /// Lists backends; the default.
    #[command(alias = "ls")]
    List(BackendsList),
    /// Shows one backend.
    #[command(alias = "show")]
    Get(Which),
    /// Adds a backend.
    #[command(alias = "create")]
    Add {
        /// Its URL, such as http://127.0.0.1:8085.
        url: String,
        /// Its pool [default: default].
        #[arg(long, add = ArgValueCompleter::new(completion::pools))]
        pool: Option<String>,
        /// Its share of the traffic, 1 to 1000.
        #[arg(long, value_parser = clap::value_parser!(u32).range(WEIGHTS), allow_negative_numbers = true)]
        weight: Option<u32>,
    },
    /// Changes a backend, such as `weir backends set b1 weight=5`.
    Set {
        #[command(flatten)]
        which: Which,
        /// What to change: weight=1..1000, state=active, state=draining or state=disabled.
        #[arg(required = true, value_name = "FIELD=VALUE", add = ArgValueCompleter::new(completion::backend_fields))]
        fields: Vec<String>,
    },
    /// Deletes backends.
    #[command(aliases = ["remove", "rm"])]
    Delete(Several),
    /// Sends backends no new requests, and lets running ones finish.
    Drain(Several),
    /// Sends backends traffic again.
    Enable(Several),
    /// Takes backends out at once, and stops their health checks.
    Disable(Several),
    /// Runs the health check of backends now.
    Check(Several),
    /// Sets a backend's weight; the same as `set ID weight=N`.
    #[command(hide = true)]
    SetWeight {
        #[command(flatten)]
        which: Which,
        /// Its share of the traffic, 1 to 1000.
        #[arg(value_parser = clap::value_parser!(u32).range(WEIGHTS), allow_negative_numbers = true)]
        weight: u32,
    },
}

/// One backend.
#[derive(Debug, Clone, Args)]
pub(crate) struct Which {
    /// The backend's id or URL.
    #[arg(value_name = "ID|URL", value_parser = NonEmptyStringValueParser::new(), add = ArgValueCompleter::new(completion::backends))]
    pub(crate) backend: String,
    /// Its pool, when the URL is in several pools.
    #[arg(long, add = ArgValueCompleter::new(completion::pools))]
    pub(crate) pool: Option<String>,
}

/// One or more backends.
#[derive(Debug, Args)]
pub(crate) struct Several {
    /// Ids or URLs of backends.
    #[arg(required = true, value_name = "ID|URL", value_parser = NonEmptyStringValueParser::new(),
          add = ArgValueCompleter::new(completion::backends))]
    pub(crate) backends: Vec<String>,
    /// Their pool, when a URL is in several pools.
    #[arg(long, add = ArgValueCompleter::new(completion::pools))]
    pub(crate) pool: Option<String>,
}
