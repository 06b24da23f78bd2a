//! The configuration of a fleet: the declarative [`Config`] that operators write, and the checked, immutable
//! [`Snapshot`] that nodes use.
//!
//! One schema serves the file, the REST API and the node's stream. [`Config`] is read from YAML or JSON ([`file`]),
//! split into [`Resource`]s for storage and transfer ([`resource`]), and turned into a [`Snapshot`] by
//! [`check`](check::check), which reports all problems at once, each with its path. A checked type cannot hold an
//! invalid value, so code behind this crate does not validate again.
//!
//! This crate does no I/O and knows neither protobuf nor an async runtime. The control plane, the nodes, `weir check`
//! and `weir explain` all use it.

pub mod backend_address;
pub mod check;
pub mod config;
pub mod diff;
pub mod explain;
pub mod file;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
pub mod headers;
pub mod incremental;
pub mod mask;
pub mod merge;
mod networks;
pub mod pem;
pub mod position;
mod problem;
mod refusal;
pub mod resource;
pub mod routing;
pub mod schema;
mod snapshot;
mod suggestion;
pub mod units;
mod visible;

pub use check::check;
pub use config::Config;
pub use networks::Networks;
pub use problem::{Problem, Problems};
pub use refusal::{FilterRefusals, RefusalCounts, RefusalReason, UnknownReason};
pub use resource::{Kind, Resource};
pub use snapshot::{
    Backend, BackendId, BackendUrl, Breaker, Certificate, CertificateName, Chain, ExpectedStatus, Fallback,
    HealthCheck, HealthProbe, Host, KeepAlive, KeyId, Limits, Pool, Redirect, RedirectError, Resilience,
    Retry, Rewrite, Route, RouteOverrides, Scheme, Share, Snapshot, Split, Sticky, Target, Timeouts,
    UpstreamTls, UrlMap, Weight,
};
pub use snapshot::{BasicAuth, Filters, IpRules, Jwt, RateLimit};
pub use suggestion::nearest;
pub use visible::{is_visible, visible, visible_bytes, visible_json};
