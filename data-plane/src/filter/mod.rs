//! What a route asks of a request before it goes on, in this order: address, method, rate, password, token.
//!
//! The cheap questions come first, and the rate before the dear ones, so that guessing passwords is limited too. A
//! route's filters are a [`Chain`], made when a snapshot is activated and kept as long as they stay the same; what
//! they count and remember ([`FilterState`]) is the node's, bounded, and outlives them.

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
use weir_snapshot::Filters;

pub(crate) use self::{rate_limit::Quota, state::FilterState};
use crate::{answer::Local, stats, wire::timer::Timers};

/// Which filter refused a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The client's address.
    IpFilter,
    /// The method.
    Method,
    /// The rate.
    RateLimit,
    /// The password or the token.
    Auth,
}

impl Refusal {
    /// All of them, as metrics name them.
    pub(crate) const ALL: [(Self, &str); 4] = [
        (Self::IpFilter, "ip_filter"),
        (Self::Method, "method"),
        (Self::RateLimit, "rate_limit"),
        (Self::Auth, "auth"),
    ];
}

impl From<Refusal> for stats::Refusal {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::IpFilter => Self::IpFilter,
            Refusal::Method => Self::Method,
            Refusal::RateLimit => Self::RateLimit,
            Refusal::Auth => Self::Auth,
        }
    }
}

/// What a route has refused since the node began; kept while the route has filters.
#[derive(Debug, Default)]
pub(crate) struct RefusalCounts([AtomicU64; Refusal::ALL.len()]);

impl RefusalCounts {
    fn count(&self, refusal: Refusal) {
        // Who is refused costs nothing else that is shared.
        self.0[refusal as usize].fetch_add(1, Relaxed);
    }

    /// How often this was the reason.
    pub(crate) fn of(&self, refusal: Refusal) -> u64 {
        self.0[refusal as usize].load(Relaxed)
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
    /// What they refused.
    pub(crate) refused: Arc<RefusalCounts>,
}

/// What the filters of a route decided about a request.
pub(crate) struct Outcome {
    /// The client's state in the route's rate limit, which the response shows.
    pub(crate) quota: Option<Quota>,
    /// The request is refused.
    pub(crate) refused: Option<Refused>,
}

/// A refused request.
pub(crate) struct Refused {
    pub(crate) reason: stats::Refusal,
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
    let refused = result.err().map(|(refusal, answer)| {
        chain.refused.count(refusal);
        Refused { reason: refusal.into(), answer }
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
    ) -> Result<(), (Refusal, Local)> {
        let Filters { ip, methods, .. } = &*self.settings;
        if !ip.iter().all(|rules| rules.allows(address)) {
            return Err((Refusal::IpFilter, Local::FORBIDDEN));
        }
        if !methods.is_empty() && !methods.iter().any(|method| method.as_bytes() == head.method()) {
            let local = Local::METHOD_NOT_ALLOWED.with("allow", methods.join(", "));
            return Err((Refusal::Method, local));
        }
        if let Some(limiter) = &self.rate_limit {
            match limiter.ask(head, address, Instant::now()) {
                Ok(left) => *quota = Some(left),
                Err(exhausted) => return Err((Refusal::RateLimit, exhausted.refuse())),
            }
        }
        if let Some(auth) = &self.basic_auth {
            auth.ask(timers, address, head).await.map_err(|local| (Refusal::Auth, local))?;
        }
        if let Some(jwt) = &self.jwt {
            jwt.ask(head).map_err(|local| (Refusal::Auth, local))?;
        }
        Ok(())
    }
}

/// What stands for a client where clients are told apart: an IPv4 address, or of IPv6 the /64, of which whoever has one
/// address has them all.
fn client_key(address: IpAddr) -> u64 {
    match address.to_canonical() {
        IpAddr::V4(address) => u64::from(u32::from(address)),
        // Unicast IPv6 does not begin with 32 zero bits, so that the two do not meet.
        IpAddr::V6(address) => (u128::from(address) >> 64) as u64,
    }
}
