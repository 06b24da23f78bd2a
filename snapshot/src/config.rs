//! The declarative configuration, as the file and the API carry it; not yet checked.
//!
//! Field names are part of the contract. An absent field takes the default written here. Serializing leaves defaults
//! out, so that an exported file is as short as the file it came from.

mod filters;
mod health_check;
mod pool;
mod resilience;
mod route;
mod routing;
mod settings;
mod strategy;
mod target;
mod tls;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::{
    filters::{BasicAuth, IpFilter, Jwks, Jwt, RateKey, RateLimit, RateScope},
    health_check::{HealthCheck, HealthCheckKind},
    pool::{Backend, BackendState, KeepAlive, Pool, Protocol, Timeouts},
    resilience::{Breaker, Fallback, HashOn, Limits, Panic, Retry, RetryOn, Sticky},
    route::{Route, RouteLimits, RouteTimeouts},
    routing::{HeaderMatch, Match, UnderscoreHeaders, WebScheme},
    settings::{AllowBackends, Downstream, Settings},
    strategy::{Strategy, UnknownStrategy},
    target::{HeaderEdits, Redirect, Rewrite, Share, SplitSticky},
    tls::{Certificate, Hsts, PrivateKey, Tls},
};
use crate::units::HumanDuration;

/// A whole configuration. A fresh database holds a pool `default` without backends and a
/// route `default` to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Config {
    /// Settings of the whole fleet.
    #[serde(default, skip_serializing_if = "is_default")]
    pub settings: Settings,
    /// Groups of backends that share a strategy, a health check and a resilience policy.
    #[serde(default)]
    pub pools: Vec<Pool>,
    /// Rules that match requests and say where they go.
    #[serde(default)]
    pub routes: Vec<Route>,
    /// Certificates that nodes present to HTTPS clients. Clients whose server name matches no certificate get the
    /// first one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub certificates: Vec<Certificate>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            settings: Settings::default(),
            pools: vec![Pool { name: "default".into(), ..Pool::default() }],
            routes: vec![Route { name: "default".into(), pool: "default".into(), ..Route::default() }],
            certificates: Vec::new(),
        }
    }
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

fn seconds(seconds: u64) -> HumanDuration {
    HumanDuration(std::time::Duration::from_secs(seconds))
}
