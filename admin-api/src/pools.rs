//! Pools, routes and strategies: `/pools`, `/routes`, `/strategy`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use weir_snapshot::config::{Route, Strategy};

/// Query of `GET /pools`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct PoolQuery {
    /// Only pools that this route can send requests to.
    pub route: Option<String>,
    /// Items per page, at most 1000; without it the answer is the whole list.
    pub limit: Option<u32>,
    /// `next_page_token` of the page before.
    pub page_token: Option<String>,
}

/// Query of `GET /routes`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct RouteQuery {
    /// Only routes that can send requests to this pool.
    pub pool: Option<String>,
    /// Items per page, at most 1000; without it the answer is the whole list.
    pub limit: Option<u32>,
    /// `next_page_token` of the page before.
    pub page_token: Option<String>,
}

/// A route as it was stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SavedRoute {
    /// The route.
    #[serde(flatten)]
    pub route: Route,
    /// Warnings: valid settings of it that look like mistakes.
    pub warnings: Vec<String>,
}

/// A new strategy for a pool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SetStrategy {
    /// The pool.
    pub pool: String,
    /// Its balancing strategy.
    pub strategy: Strategy,
}

/// A pool's strategy was set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StrategySet {
    /// The current revision.
    pub revision: u64,
    /// The pool.
    pub pool: String,
    /// Its strategy.
    pub strategy: Strategy,
}
