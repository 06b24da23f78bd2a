//! The configuration of a fleet: the declarative [`Config`] that people write, and the checked, immutable
//! [`Snapshot`] that nodes run.
//!
//! One schema serves the file, the REST API and the node's stream: [`Config`] is read from YAML or JSON
//! ([`file`]), cut into [`Resource`]s for storage and for the wire ([`resource`]), and turned into a
//! [`Snapshot`] by [`check`](check::check), which reports every mistake at once with its path. A checked type cannot hold
//! a wrong value, so nothing behind this crate validates again.
//!
//! This crate does no I/O, knows no protobuf and no runtime: the control plane that builds a snapshot, the node
//! that runs it, `weir check` and `weir explain` all use this code.

pub mod backend_address;
pub mod check;
pub mod config;
pub mod diff;
pub mod explain;
pub mod file;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
pub mod headers;
pub mod mask;
pub mod merge;
mod near;
mod networks;
pub mod pem;
pub mod place;
mod problem;
pub mod resource;
pub mod routing;
pub mod schema;
mod snapshot;
pub mod step;
pub mod units;
mod visible;

pub use check::check;
pub use config::Config;
pub use near::nearest;
pub use networks::Networks;
pub use problem::{Problem, Problems};
pub use resource::{Kind, Resource};
pub use snapshot::{
    Backend, BackendId, BackendUrl, Breaker, Certificate, CertificateName, Chain, Expectation, Fallback,
    HealthCheck, HealthProbe, Host, KeepAlive, KeyId, Limits, NoRedirect, Pool, Redirect, Resilience, Retry,
    Rewrite, Route, RouteBounds, Scheme, Share, Snapshot, Split, Sticky, Target, Timeouts, UpstreamTls,
    UrlMap, Weight,
};
pub use snapshot::{BasicAuth, Filters, IpRules, Jwt, RateLimit};
pub use visible::{is_visible, visible, visible_bytes, visible_json};
