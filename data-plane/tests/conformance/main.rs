//! The conformance suite: what HTTP demands of a proxy, a case a rule, over raw sockets, against the real program.
//!
//! `cargo test -p data-plane --test conformance` plays all cases with Weir between a scripted client and a scripted
//! backend, each at every listener where it says something; each must hold, save those in `known.rs`. `WEIR_UPDATE=1` plays the same cases with the
//! peers that are installed too, and writes the tables in `docs/evidence/conformance.md` and `docs/evidence/conformance-http2.md`. `WEIR_CONFORMANCE_TARGET=nginx,haproxy`
//! chooses among them, `WEIR_CONFORMANCE_CASE=text` plays only the cases whose name holds the text and writes nothing.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "these are tests, outside test functions")]

mod case;
mod cases;
mod control;
mod h2;
mod h2_play;
mod known;
mod message;
mod peer;
mod play;
mod report;
mod stage;
mod target;
mod tls;

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use case::Case;
use peer::Verdict;
use stage::Stage;
use target::{Listener, Profile, Target};

/// How many proxies of a profile take cases at once.
fn lanes(profile: Profile) -> usize {
    match profile {
        // They wait more than they work.
        Profile::Short => 12,
        Profile::Usual => 4,
        _ => 1,
    }
}

/// How each case went at a listener, in their order; `None` where it is not played there.
type Played = Vec<Option<Verdict>>;

fn play(target: Target, listener: Listener, cases: &[Case]) -> Played {
    let results: Mutex<Played> = Mutex::new(cases.iter().map(|_| None).collect());
    std::thread::scope(|scope| {
        for profile in Profile::ALL {
            let queue: VecDeque<usize> = (0..cases.len())
                .filter(|at| cases[*at].profile == profile && cases[*at].listeners().contains(&listener))
                .collect();
            let lanes = lanes(profile).min(queue.len());
            let queue = std::sync::Arc::new(Mutex::new(queue));
            for _ in 0..lanes {
                let (queue, results) = (std::sync::Arc::clone(&queue), &results);
                scope.spawn(move || {
                    let mut stage = None;
                    loop {
                        let next = queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
                        let Some(at) = next else { break };
                        let result = play_one(target, listener, &cases[at], &mut stage);
                        results.lock().unwrap_or_else(PoisonError::into_inner)[at] = Some(result);
                    }
                });
            }
        }
    });
    results.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// A peer gets more tries, each with a fresh process, so that one broken case does not spoil the next. Weir gets one.
fn play_one(target: Target, listener: Listener, case: &Case, stage: &mut Option<Stage>) -> Verdict {
    let tries = if target == Target::Weir { 1 } else { 2 };
    let mut result = Err("not played".to_owned());
    for _ in 0..tries {
        if stage.is_none() {
            match Stage::new(&target, listener, case.profile) {
                Ok(new) => *stage = Some(new),
                Err(error) => result = Err(format!("{error:#}")),
            }
        }
        let Some(at) = stage else { continue };
        at.clear(case.profile);
        // A case that is known to fail gets less patience, but still the time of the deadlines.
        let known = target == Target::Weir && known::why(case.group, &case.name).is_some();
        at.patience = if known { Duration::from_secs(3) } else { target.patience() };
        result = (case.play)(at);
        if result.is_err() || case.profile == Profile::Drained {
            *stage = None;
        }
        if result.is_ok() {
            break;
        }
    }
    result
}

/// Each rule holds at this listener.
fn weir_keeps_every_rule(listener: Listener) {
    // One listener after the other: cases measure deadlines, and floods take what there is.
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let cases = chosen();
    let results = play(Target::Weir, listener, &cases);
    let played = results.iter().flatten().count();
    let (mut failures, mut known) = (Vec::new(), 0);
    for (case, result) in cases.iter().zip(results) {
        match (result, known::why(case.group, &case.name)) {
            (None, _) | (Some(Ok(())), None) => {}
            (Some(Ok(())), Some(_)) => {
                failures
                    .push(format!("{} | {} holds: take it off the list in known.rs", case.group, case.name));
            }
            (Some(Err(_)), Some(_)) => known += 1,
            (Some(Err(why)), None) => {
                failures.push(format!("{} | {} [{}]\n    {why}", case.group, case.name, case.rfc));
            }
        }
    }
    let holding = played - known - failures.len();
    println!("{}: {holding} of {played} cases hold, {known} are known to be broken", listener.name());
    assert!(
        failures.is_empty(),
        "{}: {} of {played}:\n{}",
        listener.name(),
        failures.len(),
        failures.join("\n")
    );
}

#[test]
fn weir_keeps_every_rule_of_http1() {
    weir_keeps_every_rule(Listener::Http1);
}

#[test]
fn weir_keeps_every_rule_of_http1_over_tls() {
    weir_keeps_every_rule(Listener::Http1Tls);
}

#[test]
fn weir_keeps_every_rule_of_http2() {
    weir_keeps_every_rule(Listener::H2c);
}

#[test]
fn weir_keeps_every_rule_of_http2_over_tls() {
    weir_keeps_every_rule(Listener::H2);
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
    for (group, name) in known::all() {
        assert!(
            cases.iter().any(|case| (case.group, case.name.as_str()) == (group, name)),
            "{group}: {name}"
        );
    }
}

/// The tables in the documentation are those of these cases, with what `known.rs` says of Weir. With `WEIR_UPDATE=1` the peers
/// that are installed are measured, and the tables written anew.
#[test]
fn the_tables_show_every_case_and_what_weir_breaks() -> anyhow::Result<()> {
    if std::env::var_os("WEIR_UPDATE").is_some() {
        measure()?;
    }
    report::check(&cases::all())
}

fn measure() -> anyhow::Result<()> {
    let wanted = std::env::var("WEIR_CONFORMANCE_TARGET").ok();
    let is_wanted = |target: &Target| {
        wanted.as_ref().is_none_or(|wanted| wanted.split(',').any(|name| name == target.name()))
    };
    let cases = chosen();
    let all = |target: Target| {
        Listener::ALL.map(|listener| match target.is_set_up_for(listener) {
            true => play(target, listener, &cases),
            false => cases.iter().map(|_| None).collect(),
        })
    };
    let mut columns = vec![(Target::Weir, Target::Weir.version().unwrap_or_default(), all(Target::Weir))];
    for target in Target::PEERS.into_iter().filter(is_wanted) {
        match target.version() {
            Some(version) => columns.push((target, version, all(target))),
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
