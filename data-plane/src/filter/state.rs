//! State of filters that outlives a snapshot.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, OnceLock, PoisonError, Weak},
};

use weir_snapshot::{Filters, Route, Snapshot};

use super::{
    Chain,
    basic_auth::BasicAuth,
    fleet_size::FleetSize,
    hashing::Hashing,
    jwt::{ClaimValues, Jwt},
    rate_limit::{Limiter, Table},
    verified::Verified,
};

/// The filters' memory. Each part is made when a route first needs it, and has a bound.
#[derive(Default)]
pub(crate) struct FilterState {
    chains: Mutex<HashMap<Arc<str>, Weak<Chain>>>,
    /// The number of nodes that share limits of the fleet.
    pub(crate) size: Arc<FleetSize>,
    rates: OnceLock<Arc<Table>>,
    hashing: OnceLock<Arc<Hashing>>,
    passwords: OnceLock<Arc<Verified<()>>>,
    tokens: OnceLock<Arc<Verified<ClaimValues>>>,
}

impl FilterState {
    /// The filters of each route. Unchanged filters are kept.
    pub(crate) fn chains(&self, snapshot: &Snapshot) -> Vec<Option<Arc<Chain>>> {
        let mut known = self.chains.lock().unwrap_or_else(PoisonError::into_inner);
        let mut chain = |route: &Route| {
            let settings = route.filters.as_ref()?;
            let old = known.get(&route.name).and_then(Weak::upgrade);
            if let Some(old) = &old
                && (Arc::ptr_eq(&old.settings, settings) || old.settings == *settings)
            {
                return Some(Arc::clone(old));
            }
            let chain = Arc::new(self.chain(&route.name, settings, old));
            known.insert(Arc::clone(&route.name), Arc::downgrade(&chain));
            Some(chain)
        };
        let chains = snapshot.routes.iter().map(&mut chain).collect();
        known.retain(|_, chain| chain.strong_count() > 0);
        chains
    }

    fn chain(&self, name: &Arc<str>, settings: &Arc<Filters>, old: Option<Arc<Chain>>) -> Chain {
        let Filters { rate_limit, basic_auth, jwt, .. } = &**settings;
        Chain {
            route: Arc::clone(name),
            rate_limit: rate_limit.as_ref().map(|limit| {
                let table = self.rates.get_or_init(Arc::default);
                Limiter::new(name, limit, Arc::clone(table), Arc::clone(&self.size))
            }),
            basic_auth: basic_auth.as_ref().map(|settings| {
                let hashing = self.hashing.get_or_init(|| Arc::new(Hashing::start()));
                let verified = self.passwords.get_or_init(Arc::default);
                BasicAuth::new(settings, Arc::clone(hashing), Arc::clone(verified))
            }),
            jwt: jwt
                .as_ref()
                .map(|settings| Jwt::new(name, settings, Arc::clone(self.tokens.get_or_init(Arc::default)))),
            refused: old.map(|old| Arc::clone(&old.refused)).unwrap_or_default(),
            settings: Arc::clone(settings),
        }
    }

    /// The clients of rate limits, once there is a limit.
    pub(crate) fn rates(&self) -> Option<&Table> {
        self.rates.get().map(|table| &**table)
    }

    /// The password checker, once there are passwords.
    pub(crate) fn hashing(&self) -> Option<&Hashing> {
        self.hashing.get().map(|hashing| &**hashing)
    }
}

#[cfg(test)]
mod tests {
    use weir_snapshot::RefusalReason;

    use super::*;

    fn snapshot(limit: u32, weight: u32) -> Snapshot {
        let text = format!(
            "pools: [{{ name: p, backends: [{{ url: 'http://a:1', weight: {weight} }}] }}]\nroutes: [{{ name: r, pool: p, rate_limit: {{ requests: {limit}, per: 1m }} }}]\n"
        );
        weir_snapshot::file::parse(&text).unwrap().1
    }

    #[test]
    fn filters_stay_while_something_else_changes_and_counts_stay_while_they_change() {
        let live = FilterState::default();
        let first = live.chains(&snapshot(20, 1))[0].clone().unwrap();
        first.refused.count(RefusalReason::RateLimit);
        let same = live.chains(&snapshot(20, 2))[0].clone().unwrap();
        assert!(Arc::ptr_eq(&first, &same));
        let other = live.chains(&snapshot(30, 2))[0].clone().unwrap();
        assert!(!Arc::ptr_eq(&first, &other));
        assert_eq!(other.refused.counts()[RefusalReason::RateLimit], 1);
    }
}
