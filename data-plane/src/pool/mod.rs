//! One pool as workers use it: picks backends, records the outcome of attempts, and queues requests that wait for room.
//!
//! A pick prefers available backends with room, then those in slow start beyond their share. If all look dead, all are
//! used (panic mode), because the health checker may be cut off. Requests of a route with a fallback do not go to dead
//! backends: the fallback comes first.

pub(crate) mod addresses;
pub(crate) mod availability;
pub(crate) mod backend;
pub(crate) mod balance;
pub(crate) mod breaker;
mod latency;
mod retry_budget;
pub(crate) mod selection;
pub(crate) mod state;
pub(crate) mod sticky;

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use weir_snapshot::{
    KeepAlive, Resilience, Timeouts,
    config::{BackendState as Wanted, Protocol},
    units::Fraction,
};

use self::{
    availability::{DOWN, OPEN, TRIAL},
    backend::{BackendState, InFlight, Member},
    balance::{Balancer, PickContext, Tried},
    breaker::TRIALS,
    latency::FAILED,
    state::PoolState,
    sticky::{Session, Sticky},
};
use crate::{failure::Resend, hash};

/// A pool as workers use it.
pub(crate) struct ActivePool {
    /// Its name, for the statistics.
    pub(crate) name: Arc<str>,
    pub(crate) timeouts: Timeouts,
    /// Keep-alive settings, which detect that a backend is gone.
    pub(crate) keep_alive: KeepAlive,
    /// The protocol of its backends.
    pub(crate) protocol: Protocol,
    /// Requests to its backends get no `Via` of this hop.
    pub(crate) omit_via: bool,
    /// Limits, retries, breaker and panic mode.
    pub(crate) resilience: Resilience,
    /// Its backends, in the order of the configuration.
    pub(crate) members: Vec<Member>,
    /// The balancing strategy.
    pub(crate) balancer: Balancer,
    /// Its sessions.
    pub(crate) sticky: Option<Sticky>,
    /// State that outlives the snapshot.
    pub(crate) state: Arc<PoolState>,
}

/// A backend that was picked, by its index in the pool, with the request counted there.
pub(crate) struct Picked {
    pub(crate) member: usize,
    pub(crate) in_flight: InFlight,
}

/// Result of a pick.
pub(crate) enum Pick {
    /// A backend was picked.
    Member(Picked),
    /// All usable backends are full.
    Full,
    /// There is no backend, or all were tried.
    None,
}

/// Result of a pick for a session.
pub(crate) enum SessionPick {
    /// The session's backend takes the request.
    At(InFlight),
    /// The session's backend is full: this request goes to another one, the session stays.
    Full,
    /// The session's backend must not be used: the session moves to another one.
    Lost,
}

/// Which backends a pick may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Candidates {
    /// Only backends that do not look dead, because there is an alternative.
    Usable,
    /// All backends if needed, unless the pool's panic mode is off.
    LastResort,
}

impl ActivePool {
    /// Picks a backend and counts a request there.
    pub(crate) fn take(&self, context: &mut PickContext, tried: &Tried, candidates: Candidates) -> Pick {
        let Self { members, balancer, .. } = self;
        let panics_early = candidates == Candidates::LastResort && self.panics_early();
        // If another worker takes the last room in between, the next best backend is tried.
        for _ in 0..if panics_early { 0 } else { 8 } {
            let lot = if balancer.hashes() { hash::mix(context.key ^ 1) as u16 } else { context.rng.u16(..) };
            let best = balancer
                .pick(members, context, |i| self.may(i, tried) && members[i].state.availability.admits(lot));
            let best = best.or_else(|| balancer.pick(members, context, |i| self.may(i, tried)));
            let Some(member) = best else { break };
            if let Some(in_flight) = self.enter(member) {
                return Pick::Member(Picked { member, in_flight });
            }
        }
        let is_full = (0..members.len()).any(|i| {
            let bits = members[i].state.availability.bits();
            let is_usable = members[i].wanted == Wanted::Active && bits & (DOWN | OPEN | TRIAL) == 0;
            is_usable && !tried.contains(i) && !self.has_room(i)
        });
        if is_full && !panics_early {
            return Pick::Full;
        }
        if candidates == Candidates::Usable || self.resilience.panic.is_none() {
            return Pick::None;
        }
        let mut any = false;
        for _ in 0..8 {
            let untried = |i: usize| !tried.contains(i);
            let Some(member) = balancer.pick(members, context, |i| untried(i) && self.has_room(i)) else {
                any |= balancer.pick(members, context, untried).is_some();
                break;
            };
            any = true;
            if let Some(in_flight) = members[member].state.enter(self.resilience.limits.max_connections) {
                if tried.is_empty() {
                    self.state.counts.count(|counts| &counts.panics);
                }
                return Pick::Member(Picked { member, in_flight });
            }
        }
        if any { Pick::Full } else { Pick::None }
    }

    /// Picks a backend for a resend after an attempt at `member`: the same one, or another one with room if that is as
    /// good. `None`: a normal pick is needed.
    pub(crate) fn take_again(
        &self,
        context: &mut PickContext,
        tried: &Tried,
        member: usize,
        resend: Resend,
    ) -> Option<Picked> {
        if resend == (Resend::Unseen { stays: false }) {
            let mut others = tried.clone();
            others.add(member);
            if let Pick::Member(picked) = self.take(context, &others, Candidates::Usable) {
                return Some(picked);
            }
        }
        let state = &self.members[member].state;
        let is_out = state.availability.bits() & (DOWN | OPEN) != 0 && !self.is_panicking();
        if is_out { None } else { Some(Picked { member, in_flight: self.enter(member)? }) }
    }

    /// Picks the backend of a session. A draining backend keeps its sessions for a while, and in panic mode each
    /// session stays.
    pub(crate) fn take_session(&self, session: Session, now_ms: u64, candidates: Candidates) -> SessionPick {
        let Member { state, wanted, .. } = &self.members[session.member];
        match wanted {
            Wanted::Active => {}
            Wanted::Draining if self.keeps_sessions(state, now_ms) => state.note_session(session.id, now_ms),
            Wanted::Draining | Wanted::Disabled => return SessionPick::Lost,
        }
        let bits = state.availability.bits();
        let is_dead = bits & (DOWN | OPEN) != 0 || bits & TRIAL != 0 && state.trials() >= TRIALS;
        let taken = if !is_dead {
            self.enter(session.member)
        } else if candidates == Candidates::LastResort && *wanted == Wanted::Active && self.is_panicking() {
            state.enter(self.resilience.limits.max_connections)
        } else {
            return SessionPick::Lost;
        };
        taken.map_or(SessionPick::Full, SessionPick::At)
    }

    fn keeps_sessions(&self, state: &BackendState, now_ms: u64) -> bool {
        let since = state.draining_since_ms().unwrap_or(now_ms);
        Duration::from_millis(now_ms.saturating_sub(since)) < self.resilience.drain_timeout
    }

    fn may(&self, member: usize, tried: &Tried) -> bool {
        let state = &self.members[member].state;
        let bits = state.availability.bits();
        let usable = bits == 0 || bits & (DOWN | OPEN) == 0 && (bits & TRIAL == 0 || state.trials() < TRIALS);
        usable && !tried.contains(member) && self.has_room(member)
    }

    fn has_room(&self, member: usize) -> bool {
        self.members[member].state.in_flight() < self.resilience.limits.max_connections
    }

    fn enter(&self, member: usize) -> Option<InFlight> {
        let state = &self.members[member].state;
        let most = self.resilience.limits.max_connections;
        if state.availability.bits() & TRIAL == 0 { state.enter(most) } else { state.enter_trial(most) }
    }

    /// Whether so many active backends look dead that all are used.
    pub(crate) fn is_panicking(&self) -> bool {
        let Some(threshold) = self.resilience.panic else { return false };
        let (mut active, mut dead) = (0_u64, 0_u64);
        for member in self.members.iter().filter(|member| member.wanted == Wanted::Active) {
            active += 1;
            dead += u64::from(member.state.availability.bits() & (DOWN | OPEN) != 0);
        }
        dead > 0 && dead * 1_000_000 >= active * u64::from(threshold.millionths())
    }

    /// Whether panic mode is on while some backends do not look dead. If it needs all to look dead, a pick notices that
    /// itself.
    fn panics_early(&self) -> bool {
        self.resilience.panic.is_some_and(|threshold| threshold < Fraction::from_percent(100))
            && self.state.panicking.load(Ordering::Relaxed)
    }

    /// Whether an open breaker prevented the use of a backend.
    #[cold]
    pub(crate) fn is_held_by_breaker(&self, tried: &Tried) -> bool {
        let is_ejected = |member: &Member| {
            member.wanted == Wanted::Active && member.state.availability.bits() & (OPEN | TRIAL) != 0
        };
        self.members.iter().enumerate().any(|(i, member)| is_ejected(member) && !tried.contains(i))
    }

    /// Logs when panic mode begins and ends.
    pub(crate) fn tick(&self) {
        let now = self.is_panicking();
        match (self.state.panicking.swap(now, Ordering::Relaxed), now) {
            (false, true) => tracing::error!(
                pool = %self.name,
                "panic mode on: too many backends are unavailable, so all of them get requests, except on routes with a fallback"
            ),
            (true, false) => tracing::info!(pool = %self.name, "panic mode off"),
            _ => {}
        }
    }

    /// Joins the queue, unless it is full.
    pub(crate) fn queue(&self) -> Option<Waiting<'_>> {
        let active = self.members.iter().filter(|member| member.wanted == Wanted::Active).count();
        let most =
            self.resilience.limits.max_pending.saturating_mul(u32::try_from(active).unwrap_or(u32::MAX));
        let pool_state = &*self.state;
        if pool_state.waiting.0.fetch_add(1, Ordering::SeqCst) >= most {
            pool_state.waiting.0.fetch_sub(1, Ordering::SeqCst);
            return None;
        }
        Some(Waiting(pool_state))
    }

    /// Records the outcome of an attempt for the breaker and for strategies that use latency.
    pub(crate) fn outcome(&self, member: usize, is_trial: bool, ok: bool, took: Duration, now_ms: u64) {
        let state = &self.members[member].state;
        if self.balancer.wants_latency() {
            let took = if ok { took } else { took.max(FAILED) };
            state.latency().observe(now_ms, u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
        }
        let Some(settings) = &self.resilience.breaker else { return };
        let ejects = state.tally().count(ok, now_ms, settings);
        if is_trial && ok {
            if state.circuit.trial_succeeded(now_ms, state.tally()) {
                state.recover(now_ms, self.resilience.slow_start, OPEN | TRIAL);
                tracing::info!(backend = %state.id, url = %state.url, pool = %self.name, "breaker closed");
            }
        } else if ejects || is_trial && state.availability.bits() & TRIAL != 0 {
            self.eject(member, now_ms);
        }
    }

    /// Opens a member's breaker, unless too much of the pool is ejected already.
    #[cold]
    fn eject(&self, member: usize, now_ms: u64) {
        let Some(settings) = &self.resilience.breaker else { return };
        let state = &self.members[member].state;
        if state.availability.bits() & OPEN != 0 {
            return;
        }
        // Another worker is at it; the next failure asks again.
        let Ok(_ejecting) = self.state.ejecting.try_lock() else { return };
        let active = || self.members.iter().filter(|member| member.wanted == Wanted::Active);
        let is_out = |member: &&Member| member.state.availability.bits() & (OPEN | TRIAL) != 0;
        let out = active().filter(is_out).count() + usize::from(state.availability.bits() & TRIAL == 0);
        if out as f64 > settings.max_ejected * active().count() as f64 {
            self.state.counts.count(|counts| &counts.spared);
            return;
        }
        let Some(open_ms) = state.circuit.open(now_ms, settings, fastrand::f64()) else { return };
        state.availability.open();
        tracing::warn!(backend = %state.id, url = %state.url, pool = %self.name, open_ms, "breaker open");
    }
}

/// A request that waits for room.
pub(crate) struct Waiting<'a>(&'a PoolState);

impl Waiting<'_> {
    /// Ready when a backend may have room again. Made before the last look for room, so that none is missed.
    pub(crate) fn room(&self) -> tokio::sync::futures::Notified<'_> {
        self.0.room.notified()
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.0.fetch_sub(1, Ordering::SeqCst);
    }
}
