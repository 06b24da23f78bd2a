//! Explanations of a request's way: `/explain`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use weir_snapshot::{
    config::Strategy,
    explain::{Filter, SkippedRoute},
};

/// Query of `GET /explain`: the request to explain.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ExplainQuery {
    /// Its method; `GET` when absent.
    pub method: Option<String>,
    /// Its URL, or only its path.
    #[schemars(example = "http://shop.example.com/v1/books")]
    pub url: String,
    /// Its headers, each as `name: value`.
    pub header: Vec<String>,
    /// The client's address.
    pub client: Option<String>,
}

/// The way of a request through Weir.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Explained {
    /// The revision that the answer is based on; nodes that are behind may act otherwise.
    pub revision: u64,
    /// The route that takes the request; null: none does.
    pub route: Option<String>,
    /// Host and target sent to the backend, when the route rewrites them; null: as the client sent them.
    pub rewritten: Option<String>,
    /// Other differences between the client's request and the backend's, and mappings in the answer.
    pub changes: Vec<String>,
    /// The answer that the node gives itself; null: the request goes to a backend.
    pub answer: Option<String>,
    /// The route's filters in the order in which they run.
    pub filters: Vec<Filter>,
    /// Other routes, and why they do not take the request; at most 100.
    pub passed: Vec<SkippedRoute>,
    /// How many more routes do not take it.
    pub more: usize,
    /// The pools that the request can go to.
    pub pools: Vec<ExplainedPool>,
}

/// A pool that a request can go to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ExplainedPool {
    /// Its name.
    pub pool: String,
    /// Why the request can go there.
    pub because: String,
    /// Its balancing strategy.
    pub strategy: Strategy,
    /// Nodes in panic mode: they use backends that look dead.
    pub panic: Vec<String>,
    /// Its backends.
    pub backends: Vec<ExplainedBackend>,
}

/// A backend that a request could go to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ExplainedBackend {
    /// Its id.
    pub id: String,
    /// Its URL.
    pub url: String,
    /// Its weight.
    pub weight: u32,
    /// Whether a node could pick it now.
    pub may: bool,
    /// Reasons not to pick it, and other remarks.
    pub because: Vec<String>,
}
