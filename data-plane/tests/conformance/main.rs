//! The conformance suite: what HTTP demands of a proxy, a case a rule, over raw sockets, against the real program.
//!
//! `cargo test -p data-plane --test conformance` plays all cases with Weir between a scripted client and a scripted
//! backend; each must hold. `cargo test -p data-plane --test conformance -- --ignored` plays the same cases with the
//! peers that are installed and writes the table in `docs/conformance.md`. `WEIR_CONFORMANCE_TARGET=nginx,haproxy`
//! chooses among them, `WEIR_CONFORMANCE_CASE=text` plays only the cases whose name holds the text and writes nothing.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "these are tests, outside test functions")]

mod case;
mod cases;
mod control;
mod message;
mod peer;
mod play;
mod report;
mod stage;
mod target;

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
};

use case::Case;
use stage::Stage;
use target::{Profile, Target};

/// How many proxies of a profile take cases at once.
fn lanes(profile: Profile) -> usize {
    match profile {
        // They wait more than they work.
        Profile::Short => 12,
        Profile::Usual => 4,
        _ => 1,
    }
}

/// What broke each case, in their order; `None` where the rule holds.
fn play(target: Target, cases: &[Case]) -> Vec<Option<String>> {
    let results = Mutex::new(vec![Some("not played".to_owned()); cases.len()]);
    std::thread::scope(|scope| {
        for profile in Profile::ALL {
            let queue: VecDeque<usize> =
                (0..cases.len()).filter(|at| cases[*at].profile == profile).collect();
            let lanes = lanes(profile).min(queue.len());
            let queue = std::sync::Arc::new(Mutex::new(queue));
            for _ in 0..lanes {
                let (queue, results) = (std::sync::Arc::clone(&queue), &results);
                scope.spawn(move || {
                    let mut stage = None;
                    loop {
                        let next = queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
                        let Some(at) = next else { break };
                        let result = play_one(target, &cases[at], &mut stage);
                        results.lock().unwrap_or_else(PoisonError::into_inner)[at] = result.err();
                    }
                });
            }
        }
    });
    results.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// A peer gets more tries, each with a fresh process, so that one broken case does not spoil the next. Weir gets one.
fn play_one(target: Target, case: &Case, stage: &mut Option<Stage>) -> Result<(), String> {
    let tries = if target == Target::Weir { 1 } else { 2 };
    let mut result = Err("not played".to_owned());
    for _ in 0..tries {
        if stage.is_none() {
            match Stage::new(&target, case.profile) {
                Ok(new) => *stage = Some(new),
                Err(error) => result = Err(format!("{error:#}")),
            }
        }
        let Some(at) = stage else { continue };
        at.clear();
        result = (case.play)(at);
        if result.is_ok() {
            break;
        }
        *stage = None;
    }
    result
}

#[test]
fn weir_keeps_every_rule() {
    let cases = chosen();
    let results = play(Target::Weir, &cases);
    let failures: Vec<String> = cases
        .iter()
        .zip(results)
        .filter_map(|(case, result)| {
            Some(format!("{} | {} [{}]\n    {}", case.group, case.name, case.rfc, result?))
        })
        .collect();
    println!("{} of {} cases hold", cases.len() - failures.len(), cases.len());
    assert!(
        failures.is_empty(),
        "{} of {} rules broken:\n{}",
        failures.len(),
        cases.len(),
        failures.join("\n")
    );
}

#[test]
fn cases_have_names_of_their_own_and_a_place_in_the_rfc() {
    let cases = cases::all();
    let mut names: Vec<_> = cases.iter().map(|case| (case.group, case.name.as_str())).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), cases.len());
    for case in &cases {
        assert!(case.level == case::Level::Own || !case.rfc.is_empty(), "{}", case.name);
    }
    assert!(cases.len() >= 150, "{}", cases.len());
}

#[test]
#[ignore = "needs the peers' programs; writes docs/conformance.md"]
fn the_peers_are_measured_by_the_same_rules() -> anyhow::Result<()> {
    let wanted = std::env::var("WEIR_CONFORMANCE_TARGET").ok();
    let is_wanted = |target: &Target| {
        wanted.as_ref().is_none_or(|wanted| wanted.split(',').any(|name| name == target.name()))
    };
    let cases = chosen();
    let mut columns =
        vec![(Target::Weir, Target::Weir.version().unwrap_or_default(), play(Target::Weir, &cases))];
    for target in Target::PEERS.into_iter().filter(is_wanted) {
        match target.version() {
            Some(version) => columns.push((target, version, play(target, &cases))),
            None => println!("{}: not installed", target.name()),
        }
    }
    report::print(&cases, &columns);
    // A part of the table does not replace the whole.
    if wanted.is_none() && std::env::var_os("WEIR_CONFORMANCE_CASE").is_none() {
        report::write(&cases, &columns)?;
    }
    Ok(())
}

fn chosen() -> Vec<Case> {
    let filter = std::env::var("WEIR_CONFORMANCE_CASE").unwrap_or_default();
    cases::all().into_iter().filter(|case| case.name.contains(&filter)).collect()
}
