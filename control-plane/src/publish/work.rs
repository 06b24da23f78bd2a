//! What nodes say of the backends and pools that they use, and how it adds up over the fleet.

use std::collections::BTreeMap;

use weir_proto::v1;

/// Where a node's breaker for a backend stands, the worst last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Breaker {
    /// It gets its share.
    #[default]
    Closed,
    /// A few requests try it.
    HalfOpen,
    /// It gets nothing.
    Open,
}

impl Breaker {
    /// As the API names it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::HalfOpen => "half_open",
            Self::Open => "open",
        }
    }
}

/// One node's breaker for a backend, and its sessions there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BackendWork {
    /// Where the breaker stands.
    pub breaker: Breaker,
    /// How often it has opened.
    pub ejections: u64,
    /// Sessions that came lately, while the backend drains.
    pub sessions: u32,
}

/// One node's view of a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PoolWork {
    /// All its backends look dead.
    pub panic: bool,
    /// Requests that wait.
    pub waiting: u32,
    /// Retries that were paid for.
    pub retries: u64,
    /// Retries that were not.
    pub retries_refused: u64,
    /// Requests that the fallback answered.
    pub fallbacks: u64,
    /// Requests refused for want of room.
    pub refused: u64,
    /// Sessions that went elsewhere.
    pub repinned: u64,
}

/// What a route's filters have refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub struct Refused {
    /// For the client's address.
    pub ip_filter: u64,
    /// For the method.
    pub method: u64,
    /// For the rate.
    pub rate_limit: u64,
    /// For the password or the token.
    pub auth: u64,
}

impl Refused {
    /// For whatever reason.
    pub fn all(&self) -> u64 {
        self.ip_filter + self.method + self.rate_limit + self.auth
    }
}

impl std::iter::Sum for Refused {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), |sum, one| Self {
            ip_filter: sum.ip_filter + one.ip_filter,
            method: sum.method + one.method,
            rate_limit: sum.rate_limit + one.rate_limit,
            auth: sum.auth + one.auth,
        })
    }
}

/// What a node does, by backend and by pool.
#[derive(Debug, Clone, Default)]
pub struct Work {
    /// By backend's id; the others are closed and have no sessions.
    pub backends: BTreeMap<String, BackendWork>,
    /// By name.
    pub pools: BTreeMap<String, PoolWork>,
    /// By name; of the others nothing was refused.
    pub routes: BTreeMap<String, Refused>,
}

impl Work {
    pub(super) fn of(load: &v1::Load) -> Self {
        let backend = |load: &v1::BackendLoad| {
            let breaker = match load.breaker() {
                v1::Breaker::Unspecified | v1::Breaker::Closed => Breaker::Closed,
                v1::Breaker::HalfOpen => Breaker::HalfOpen,
                v1::Breaker::Open => Breaker::Open,
            };
            let work = BackendWork { breaker, ejections: load.ejections, sessions: load.sessions };
            (load.backend_id.clone(), work)
        };
        let pool = |load: &v1::PoolLoad| {
            let v1::PoolLoad { pool, panic, waiting, retries, retries_refused, fallbacks, refused, repinned } =
                load.clone();
            let work = PoolWork { panic, waiting, retries, retries_refused, fallbacks, refused, repinned };
            (pool, work)
        };
        let route = |load: &v1::RouteLoad| {
            let v1::RouteLoad { route, ip_filter, method, rate_limit, auth } = load.clone();
            (route, Refused { ip_filter, method, rate_limit, auth })
        };
        Self {
            backends: load.backends.iter().map(backend).collect(),
            pools: load.pools.iter().map(pool).collect(),
            routes: load.routes.iter().map(route).collect(),
        }
    }
}
