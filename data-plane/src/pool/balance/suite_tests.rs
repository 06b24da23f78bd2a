//! One behavioural suite for every balancer, through the pool that uses it.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use weir_snapshot::{
    Config,
    config::{Backend, BackendState as Wanted, Pool, Strategy},
};

use super::{PickContext, Tried};
use crate::{
    fleet::{Active, Fleet},
    hash,
    pool::{
        Candidates, Pick, Picked,
        backend::{Health, InFlight},
    },
};

const MS: Duration = Duration::from_millis(1);

fn backend(i: usize, weight: u32) -> Backend {
    Backend { id: format!("b{i}"), url: format!("http://10.0.0.{i}:80"), weight, state: Wanted::Active }
}

fn with(fleet: &Fleet, pool: Pool) -> Arc<Active> {
    let pools = vec![Pool { name: "p".into(), ..pool }];
    let config = Config { settings: Default::default(), pools, routes: vec![], certificates: vec![] };
    fleet.build(Arc::new(weir_snapshot::check(&config).unwrap())).unwrap()
}

fn pool(strategy: Strategy, weights: &[u32]) -> Pool {
    let backends = weights.iter().enumerate().map(|(i, weight)| backend(i, *weight)).collect();
    Pool { strategy, backends, ..Pool::default() }
}

fn active(strategy: Strategy, weights: &[u32]) -> Arc<Active> {
    with(&Fleet::default(), pool(strategy, weights))
}

/// The n-th request: its own key, so that what hashes sees many clients.
fn context(n: u64) -> PickContext {
    PickContext { key: hash::mix(n + 1), now_ms: n / 10, rng: fastrand::Rng::with_seed(n) }
}

fn take(active: &Active, n: u64) -> Option<(usize, InFlight)> {
    match active.pools[0].take(&mut context(n), &Tried::default(), Candidates::LastResort) {
        Pick::Member(Picked { member, in_flight }) => Some((member, in_flight)),
        Pick::Full | Pick::None => None,
    }
}

/// Shares of 100,000 picks; each is in flight until `holding` more were made, and answers in a millisecond.
fn shares(active: &Active, holding: usize) -> Vec<f64> {
    const PICKS: u64 = 100_000;
    let pool = &active.pools[0];
    let mut counts = vec![0_u32; pool.members.len()];
    let mut held = VecDeque::new();
    for n in 0..PICKS {
        let (member, in_flight) = take(active, n).unwrap();
        counts[member] += 1;
        held.push_back((member, in_flight));
        if held.len() > holding {
            let (member, in_flight) = held.pop_front().unwrap();
            pool.outcome(member, in_flight.is_trial(), true, MS, n / 10);
        }
    }
    counts.into_iter().map(|count| f64::from(count) / PICKS as f64).collect()
}

fn assert_shares(name: &str, shares: &[f64], expected: &[f64], tolerance: f64) {
    for (share, expected) in shares.iter().zip(expected) {
        assert!((share - expected).abs() < tolerance, "{name}: {shares:?}");
    }
}

#[test]
fn equal_weights_get_equal_shares_within_one_percent() {
    for (strategy, name) in Strategy::ALL {
        for holding in [0, 50] {
            assert_shares(name, &shares(&active(strategy, &[1; 5]), holding), &[0.2; 5], 0.01);
        }
    }
}

#[test]
fn shares_keep_to_the_weights_within_two_percent() {
    for (strategy, name) in Strategy::ALL {
        for holding in [0, 80] {
            let shares = shares(&active(strategy, &[1, 2, 5]), holding);
            assert_shares(name, &shares, &[0.125, 0.25, 0.625], 0.02);
        }
    }
}

#[test]
fn the_dead_are_skipped_and_their_share_is_spread_evenly() {
    for (strategy, name) in Strategy::ALL {
        let active = active(strategy, &[1; 4]);
        active.pools[0].members[1].state.set_health(Health::Down);
        let third = 1.0 / 3.0;
        assert_shares(name, &shares(&active, 50), &[third, 0.0, third, third], 0.01);
    }
}

#[test]
fn all_dead_are_used_all_the_same_and_none_is_none() {
    for (strategy, name) in Strategy::ALL {
        let dead = active(strategy, &[1; 3]);
        let pool = &dead.pools[0];
        for member in &pool.members {
            member.state.set_health(Health::Down);
        }
        assert!(pool.is_panicking());
        let mut tried = Tried::default();
        for n in 0..3 {
            assert!(matches!(pool.take(&mut context(n), &tried, Candidates::Usable), Pick::None), "{name}");
            let Pick::Member(Picked { member, .. }) =
                pool.take(&mut context(n), &tried, Candidates::LastResort)
            else {
                panic!("{name}: nothing in panic mode");
            };
            assert!(!tried.contains(member), "{name}");
            tried.add(member);
        }
        assert!(matches!(pool.take(&mut context(0), &tried, Candidates::LastResort), Pick::None), "{name}");
        assert!(take(&active(strategy, &[]), 0).is_none(), "{name}");
    }
}

#[test]
fn panic_mode_is_off_or_begins_at_its_threshold() {
    use weir_snapshot::{config::Panic, units::Fraction};
    let dead = |panic, count: usize| {
        let active = with(&Fleet::default(), Pool { panic, ..pool(Strategy::RoundRobin, &[1; 4]) });
        active.pools[0].members[..count].iter().for_each(|member| {
            member.state.set_health(Health::Down);
        });
        active.pools[0].tick();
        active
    };
    let picked = |active: &Active| {
        let mut picked: Vec<usize> = (0..40).filter_map(|n| take(active, n)).map(|taken| taken.0).collect();
        picked.sort_unstable();
        picked.dedup();
        picked
    };
    let at = |percent| Panic::Threshold(Fraction::from_percent(percent));
    for (panic, count, panics, all) in [
        (Panic::Off, 4, false, &[][..]),
        (Panic::Off, 3, false, &[3]),
        (Panic::default(), 4, true, &[0, 1, 2, 3]),
        (Panic::default(), 3, false, &[3]),
        (at(50), 1, false, &[1, 2, 3]),
        (at(50), 2, true, &[0, 1, 2, 3]),
        (at(51), 2, false, &[2, 3]),
        (at(1), 0, false, &[0, 1, 2, 3]),
    ] {
        let active = dead(panic, count);
        assert_eq!(active.pools[0].is_panicking(), panics, "{panic:?}, {count} dead");
        assert_eq!(picked(&active), all, "{panic:?}, {count} dead");
        // With a fallback only backends that do not look dead are picked, whatever the threshold.
        for n in 0..40 {
            match active.pools[0].take(&mut context(n), &Tried::default(), Candidates::Usable) {
                Pick::Member(Picked { member, .. }) => assert!(member >= count, "{panic:?}, {count} dead"),
                Pick::None => assert_eq!(count, 4, "{panic:?}"),
                Pick::Full => panic!("{panic:?}: nothing is full"),
            }
        }
    }
}

#[test]
fn draining_and_disabled_backends_get_nothing() {
    for (strategy, name) in Strategy::ALL {
        let mut pool = pool(strategy, &[1; 3]);
        pool.backends[0].state = Wanted::Draining;
        pool.backends[2].state = Wanted::Disabled;
        let active = with(&Fleet::default(), pool);
        for n in 0..100 {
            assert_eq!(take(&active, n).unwrap().0, 1, "{name}");
        }
    }
}

#[test]
fn what_is_full_is_passed_over_and_when_all_are_full_that_is_said() {
    for (strategy, name) in Strategy::ALL {
        let limits =
            weir_snapshot::config::Limits { max_connections: 2, max_pending: 1, ..Default::default() };
        let active = with(&Fleet::default(), Pool { limits, ..pool(strategy, &[1; 3]) });
        let pool = &active.pools[0];
        let held: Vec<_> = (0..6).map(|n| take(&active, n).unwrap()).collect();
        assert!(pool.members.iter().all(|member| member.state.in_flight() == 2), "{name}");
        assert!(
            matches!(pool.take(&mut context(7), &Tried::default(), Candidates::LastResort), Pick::Full),
            "{name}"
        );
        drop(held);
        assert!(take(&active, 8).is_some(), "{name}");
    }
}

#[test]
fn a_slow_start_gets_its_part_and_comes_to_a_full_share() {
    for (strategy, name) in Strategy::ALL {
        let fleet = Fleet::default();
        let slow_start = "100s".parse().unwrap();
        drop(with(&fleet, Pool { slow_start, ..pool(strategy, &[1; 3]) }));
        // The pool's live state lives on in the snapshot that is in use.
        let before = with(&fleet, Pool { slow_start, ..pool(strategy, &[1; 3]) });
        let active = with(&fleet, Pool { slow_start, ..pool(strategy, &[1; 4]) });
        drop(before);
        let newcomer = &active.pools[0].members[3].state;
        let expected = |share: f64| {
            let others = (1.0 - share) / 3.0;
            [others, others, others, share]
        };
        // A tenth of a fourth at the beginning.
        assert_shares(name, &shares(&active, 0), &expected(0.025), 0.08);
        assert!(shares(&active, 0)[3] < 0.11, "{name}: its part is small");
        newcomer.availability.tick(u64::MAX);
        assert_shares(name, &shares(&active, 50), &expected(0.25), 0.01);
    }
}

#[test]
fn many_threads_pick_at_once_and_the_set_changes_meanwhile() {
    for (strategy, name) in Strategy::ALL {
        let fleet = Fleet::default();
        let current = Mutex::new(with(&fleet, pool(strategy, &[1; 8])));
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let pickers: Vec<_> = (0..4)
                .map(|thread| {
                    let (current, done) = (&current, &done);
                    scope.spawn(move || {
                        let mut picks = 0_u64;
                        while !done.load(Relaxed) || picks < 1_000 {
                            let active = Arc::clone(&current.lock().unwrap());
                            for n in 0..50 {
                                let (member, in_flight) =
                                    take(&active, thread * 1_000_000 + picks + n).unwrap();
                                assert!(member < active.pools[0].members.len());
                                active.pools[0].outcome(member, in_flight.is_trial(), n % 3 > 0, MS, picks);
                            }
                            picks += 50;
                        }
                    })
                })
                .collect();
            for round in 0..30 {
                let next = with(&fleet, pool(strategy, &vec![1 + round % 3; 3 + round as usize % 6]));
                next.pools[0].members[0].state.set_health(if round % 2 > 0 {
                    Health::Down
                } else {
                    Health::Up
                });
                *current.lock().unwrap() = next;
            }
            done.store(true, Relaxed);
            pickers.into_iter().for_each(|picker| picker.join().unwrap());
        });
        let last = current.into_inner().unwrap();
        let left: u32 = last.pools[0].members.iter().map(|member| member.state.in_flight()).sum();
        assert_eq!(left, 0, "{name}: every request in flight has been given back");
    }
}

#[test]
fn hashing_keeps_a_key_where_it_is_and_a_change_of_the_set_moves_few() {
    for strategy in [Strategy::IpHash, Strategy::ConsistentHash] {
        let (ten, nine) = (active(strategy, &[1; 10]), active(strategy, &[1; 9]));
        let again = active(strategy, &[1; 10]);
        let (mut moved, mut away) = (0, 0);
        for n in 0..20_000 {
            let (before, _) = take(&ten, n).unwrap();
            assert_eq!(take(&again, n).unwrap().0, before, "another node says the same");
            let (after, _) = take(&nine, n).unwrap();
            moved += u32::from(before != after);
            away += u32::from(before == 9);
        }
        assert!(moved >= away && f64::from(moved - away) < 0.01 * 20_000.0, "{moved} moved, {away} had to");
    }
}

#[test]
fn round_robin_is_strictly_in_turn_and_interleaves_weights() {
    let equal = active(Strategy::RoundRobin, &[1, 1, 1]);
    let picks: Vec<_> = (0..6).map(|n| take(&equal, n).unwrap().0).collect();
    assert_eq!(picks, [0, 1, 2, 0, 1, 2]);
    let weighted = active(Strategy::RoundRobin, &[3, 1]);
    let picks: Vec<_> = (0..8).map(|n| take(&weighted, n).unwrap().0).collect();
    assert!(!picks.windows(2).any(|pair| pair == [1, 1]), "{picks:?}");
}

#[test]
fn two_choices_avoid_the_busy_one_and_latency_the_slow_one() {
    let busy = active(Strategy::PowerOfTwo, &[1; 2]);
    let state = Arc::clone(&busy.pools[0].members[0].state);
    let _held: Vec<_> = (0..10).map(|_| state.enter(u32::MAX).unwrap()).collect();
    assert!((0..100).all(|n| take(&busy, n).unwrap().0 == 1));

    let slow = active(Strategy::PeakEwma, &[1; 3]);
    let pool = &slow.pools[0];
    for (member, took) in [(0, 900), (1, 1), (2, 1)] {
        pool.outcome(member, false, true, MS * took, 0);
    }
    assert!((0..100).all(|n| take(&slow, n).unwrap().0 != 0));
    // Nothing was heard of it for two minutes, while the others went on answering: it gets another try.
    (1..3).for_each(|member| pool.outcome(member, false, true, MS, 120_000));
    let later = |n| PickContext { now_ms: 120_000, ..context(n) };
    let tries = (0..100).filter(|n| {
        matches!(
            pool.take(&mut later(*n), &Tried::default(), Candidates::Usable),
            Pick::Member(Picked { member: 0, .. })
        )
    });
    assert!(tries.count() > 10);
}

#[test]
fn a_failing_backend_is_ejected_up_to_the_bound_and_tried_again() {
    let active = active(Strategy::RoundRobin, &[1; 4]);
    let pool = &active.pools[0];
    let fail = |member: usize, now_ms| (0..5).for_each(|_| pool.outcome(member, false, false, MS, now_ms));
    (0..3).for_each(|member| fail(member, 1_000));
    let out: Vec<bool> = pool.members.iter().map(|member| !member.state.is_usable()).collect();
    assert_eq!(out, [true, true, false, false], "half of the pool at most");
    assert!((0..40).all(|n| take(&active, n).unwrap().0 >= 2));
    // Its time has come: three at once try it, no more.
    let state = &pool.members[0].state;
    assert!(state.circuit.half_open(u64::MAX, false));
    state.availability.half_open();
    let trials: Vec<_> =
        (0..200).filter_map(|n| take(&active, n)).filter(|(member, _)| *member == 0).collect();
    assert_eq!(trials.len(), 3);
    for (member, in_flight) in &trials {
        assert!(in_flight.is_trial());
        pool.outcome(*member, in_flight.is_trial(), true, MS, 20_000);
    }
    assert!(state.availability.bits() == 0 && state.trials() == 3);
    drop(trials);
    assert_eq!(state.trials(), 0);
}
