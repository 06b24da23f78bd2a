//! `weir pools` and `weir routes`.

use clap::{Args, Subcommand};
use clap_complete::engine::ArgValueCompleter;

use super::Watch;
use crate::completion;

#[derive(Debug, Clone, Default, PartialEq, Args)]
pub(crate) struct PoolsList {
    /// Only pools that this route can send requests to.
    #[arg(long, add = ArgValueCompleter::new(completion::routes))]
    pub(crate) route: Option<String>,
    #[command(flatten)]
    pub(crate) watch: Watch,
}

#[derive(Debug, Clone, Default, PartialEq, Args)]
pub(crate) struct RoutesList {
    /// Only routes that can send requests to this pool.
    #[arg(long, add = ArgValueCompleter::new(completion::pools))]
    pub(crate) pool: Option<String>,
    #[command(flatten)]
    pub(crate) watch: Watch,
}

/// The content of a pool or a route: a file, or fields.
#[derive(Debug, Args)]
pub(crate) struct Content {
    /// File with the whole content, YAML or JSON; - reads standard input.
    #[arg(short, long, conflicts_with = "fields")]
    pub(crate) file: Option<String>,
    #[command(flatten)]
    pub(crate) fields: Fields,
}

/// Fields by their path, such as `strategy=least_connections`.
#[derive(Debug, Args)]
pub(crate) struct Fields {
    /// Field and value by path, such as strategy=ip_hash, health_check.interval=5s or 'retry.on=[reset, 502]'. Values are
    /// YAML; null returns to the default.
    #[arg(value_name = "FIELD=VALUE", add = ArgValueCompleter::new(completion::fields))]
    pub(crate) fields: Vec<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum PoolsVerb {
    /// Lists pools; the default.
    #[command(alias = "ls")]
    List(PoolsList),
    /// Shows one pool with all its settings.
    #[command(alias = "show")]
    Get {
        /// The pool's name.
        #[arg(add = ArgValueCompleter::new(completion::pools))]
        name: String,
    },
    /// Adds a pool; fails when it exists.
    #[command(alias = "create")]
    Add {
        /// The new pool's name.
        name: String,
        #[command(flatten)]
        content: Content,
    },
    /// Changes fields of a pool, or replaces it by a file.
    Set {
        /// The pool's name.
        #[arg(add = ArgValueCompleter::new(completion::pools))]
        name: String,
        #[command(flatten)]
        content: Content,
    },
    /// Deletes pools with their backends.
    #[command(aliases = ["remove", "rm"])]
    Delete {
        /// Names of pools.
        #[arg(required = true, add = ArgValueCompleter::new(completion::pools))]
        names: Vec<String>,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum RoutesVerb {
    /// Lists routes; the default.
    #[command(alias = "ls")]
    List(RoutesList),
    /// Shows one route with all its settings.
    #[command(alias = "show")]
    Get {
        /// The route's name.
        #[arg(add = ArgValueCompleter::new(completion::routes))]
        name: String,
    },
    /// Adds a route; fails when it exists.
    #[command(alias = "create")]
    Add {
        /// The new route's name.
        name: String,
        #[command(flatten)]
        content: Content,
    },
    /// Changes fields of a route, or replaces it by a file.
    Set {
        /// The route's name.
        #[arg(add = ArgValueCompleter::new(completion::routes))]
        name: String,
        #[command(flatten)]
        content: Content,
    },
    /// Deletes routes.
    #[command(aliases = ["remove", "rm"])]
    Delete {
        /// Names of routes.
        #[arg(required = true, add = ArgValueCompleter::new(completion::routes))]
        names: Vec<String>,
    },
}
