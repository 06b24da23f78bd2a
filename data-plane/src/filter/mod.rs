//! Filters of a route, in this order: address, method, rate, password, token.
//!
//! Cheap checks come first, and the rate before the expensive ones, so that password guessing is limited too. The
//! filters of a route are a [`Chain`], made when a snapshot is activated and kept while they stay the same. Their
//! counters and caches ([`FilterState`]) belong to the node, have bounds, and outlive them.

mod basic_auth;
mod fleet_size;
mod hashing;
mod jwt;
mod rate_limit;
mod state;
mod verified;

use std::{
    net::IpAddr,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Instant,
};

use weir_http::RequestHead;
use weir_snapshot::{Filters, RefusalCounts, RefusalReason};

pub(crate) use self::{rate_limit::Quota, state::FilterState};
use crate::{answer::Local, wire::timer::Timers};

/// Refused requests of a route since the start; kept while the route has filters.
#[derive(Debug, Default)]
pub(crate) struct RouteRefusals([AtomicU64; RefusalReason::COUNT]);

impl RouteRefusals {
    fn count(&self, reason: RefusalReason) {
        // A refused request writes no other shared memory.
        self.0[reason as usize].fetch_add(1, Relaxed);
    }

    /// The counts now.
    pub(crate) fn counts(&self) -> RefusalCounts {
        let mut counts = RefusalCounts::default();
        for reason in RefusalReason::filters() {
            counts.set(reason, self.0[reason as usize].load(Relaxed));
        }
        counts
    }
}

/// The filters of one route.
pub(crate) struct Chain {
    /// The route's name.
    pub(crate) route: Arc<str>,
    settings: Arc<Filters>,
    rate_limit: Option<rate_limit::Limiter>,
    basic_auth: Option<basic_auth::BasicAuth>,
    jwt: Option<jwt::Jwt>,
    /// Counts of refused requests.
    pub(crate) refused: Arc<RouteRefusals>,
}

/// The decision of a route's filters about a request.
pub(crate) struct Outcome {
    /// The client's state in the route's rate limit, which the response shows.
    pub(crate) quota: Option<Quota>,
    /// The request is refused.
    pub(crate) refused: Option<Refused>,
}

/// A refused request.
pub(crate) struct Refused {
    pub(crate) reason: RefusalReason,
    pub(crate) answer: Local,
}

/// Applies all filters of a route. They may add and remove request headers.
pub(crate) async fn apply(
    chain: &Chain,
    client_ip: IpAddr,
    timers: &Rc<Timers>,
    head: &mut RequestHead,
) -> Outcome {
    let mut quota = None;
    let result = chain.apply(client_ip, timers, head, &mut quota).await;
    let refused = result.err().map(|(reason, answer)| {
        chain.refused.count(reason);
        Refused { reason, answer }
    });
    Outcome { quota, refused }
}

impl Chain {
    async fn apply(
        &self,
        address: IpAddr,
        timers: &Rc<Timers>,
        head: &mut RequestHead,
        quota: &mut Option<Quota>,
    ) -> Result<(), (RefusalReason, Local)> {
        let Filters { ip, methods, .. } = &*self.settings;
        if !ip.iter().all(|rules| rules.allows(address)) {
            return Err((RefusalReason::IpFilter, Local::FORBIDDEN));
        }
        if !methods.is_empty() && !methods.iter().any(|method| method.as_bytes() == head.method()) {
            let local = Local::METHOD_NOT_ALLOWED.with("allow", methods.join(", "));
            return Err((RefusalReason::Method, local));
        }
        if let Some(limiter) = &self.rate_limit {
            match limiter.ask(head, address, Instant::now()) {
                Ok(left) => *quota = Some(left),
                Err(exhausted) => return Err((RefusalReason::RateLimit, exhausted.refuse())),
            }
        }
        if let Some(auth) = &self.basic_auth {
            auth.ask(timers, address, head).await.map_err(|local| (RefusalReason::Auth, local))?;
        }
        if let Some(jwt) = &self.jwt {
            jwt.ask(head).map_err(|local| (RefusalReason::Auth, local))?;
        }
        Ok(())
    }
}

/// The key of a client: its IPv4 address, or the /64 network of its IPv6 address, because one host can use all of its
/// addresses.
fn client_key(address: IpAddr) -> u64 {
    match address.to_canonical() {
        IpAddr::V4(address) => u64::from(u32::from(address)),
        // Unicast IPv6 does not begin with 32 zero bits, so the two kinds of keys are disjoint.
        IpAddr::V6(address) => (u128::from(address) >> 64) as u64,
    }
}
