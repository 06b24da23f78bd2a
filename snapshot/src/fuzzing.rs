//! Entry points for fuzzers. Each function takes untrusted input and panics if an invariant does not hold. Compiled
//! only for tests and under `cargo fuzz`; see docs/evidence/fuzzing.md.

mod paths;

pub use self::paths::paths;

use crate::{
    Config, check,
    diff::{Difference, describe_all, diff},
    file::{self, MAX_PROBLEMS},
    incremental,
    position::Positions,
    problem::Problems,
    resource::{ContentHash, Key, Kind, Resources, from_resources, to_resources},
};

/// A configuration file. A valid file is written and reads back to the same configuration; the problems of an invalid
/// one lie within the text.
pub fn config_file(input: &[u8]) {
    let Ok(text) = file::text(input) else { return };
    // File names stay or become a content that fits in one line.
    if let Ok(inlined) = file::inline(text, |name| match name.len() % 3 {
        0 => Err("no such file".to_owned()),
        _ => Ok(format!("-----BEGIN {name:?}\n: - \"'\n")),
    }) {
        let _ = file::parse(&inlined);
    }
    match file::parse(text) {
        Ok((mut config, snapshot)) => {
            // Private keys are never written.
            config.certificates.iter_mut().for_each(|certificate| certificate.key = None);
            let yaml = file::to_yaml(&config);
            let again = file::parse(&yaml);
            let (again, checked) = again.unwrap_or_else(|problems| panic!("{problems}\n{yaml}"));
            assert!(again == config, "the written configuration reads back differently:\n{yaml}");
            assert!(checked.pools == snapshot.pools && checked.routes.len() == snapshot.routes.len());
            pieces_fit(config);
        }
        Err(problems) => refused(text, &problems),
    }
}

fn refused(text: &str, problems: &Problems) {
    assert!(!problems.0.is_empty(), "rejected without a reason");
    assert!(problems.0.len() <= MAX_PROBLEMS + 1, "{} problems", problems.0.len());
    let lines = text.split('\n').count() as u64;
    for problem in &problems.0 {
        assert!(!problem.message.is_empty(), "{problem:?}");
        // The parser may count the end as a line of its own, and YAML has several kinds of line breaks.
        let breaks = text.matches(['\r', '\u{85}', '\u{2028}', '\u{2029}']).count() as u64;
        assert!(
            problem.line.is_none_or(|line| (1..=lines + breaks + 1).contains(&line)),
            "{problem:?} of {lines}"
        );
    }
}

/// Splits a configuration into resources and joins them again.
fn pieces_fit(mut config: Config) {
    for (i, backend) in config.pools.iter_mut().flat_map(|pool| &mut pool.backends).enumerate() {
        backend.id = format!("b{i}");
    }
    let pieces = to_resources(&config);
    let again = from_resources(&pieces);
    assert!(again.as_ref() == Ok(&config), "joining the resources gives another configuration: {again:?}");
    assert!(check(&config).is_ok());
    assert!(diff(&pieces, &pieces).is_empty());
}

/// Resources as a node receives them in deltas. After each delta, the hash that is updated per resource equals the
/// hash of all resources, and the resources form a configuration that passes the check or is rejected with a reason.
///
/// The input is a list of steps: action, kind, length of the name, length of the content, name, content.
pub fn pieces(mut input: &[u8]) {
    let mut pieces = start();
    let mut hash = ContentHash::of(&pieces);
    let mut before = pieces.clone();
    while let Some((said, rest)) = said(input) {
        input = rest;
        let Said { action, key, spec } = said;
        match action % 4 {
            0 => {
                if let Some(gone) = pieces.remove(&key) {
                    hash.remove(&key, &gone);
                }
            }
            1 | 2 => {
                hash.add(&key, &spec);
                if let Some(was) = pieces.insert(key.clone(), spec) {
                    hash.remove(&key, &was);
                }
            }
            _ => {
                door(&pieces, hash);
                told(&before, &pieces);
                before = pieces.clone();
            }
        }
    }
    door(&pieces, hash);
    told(&before, &pieces);
}

fn door(pieces: &Resources, hash: ContentHash) {
    assert_eq!(hash, ContentHash::of(pieces));
    match from_resources(pieces) {
        Ok(config) => match check(&config) {
            Ok(_) => {
                let again = to_resources(&config);
                assert!(pieces.keys().all(|key| again.contains_key(key)), "a resource is lost");
                assert!(
                    again.len() <= pieces.len() + 1,
                    "more resources than before, apart from the settings"
                );
                assert!(
                    file::parse(&file::to_yaml(&config)).is_ok(),
                    "a valid configuration cannot be written"
                );
            }
            Err(problems) => assert!(!problems.0.is_empty()),
        },
        Err(problems) => assert!(!problems.0.is_empty()),
    }
}

/// The difference leads from one set to the other and can be described.
fn told(before: &Resources, after: &Resources) {
    let changes = diff(before, after);
    let mut walked = before.clone();
    for change in &changes {
        let difference = Difference::of(change);
        assert!(!difference.text.is_empty());
        match &change.after {
            Some(spec) => walked.insert(change.key.clone(), spec.clone()),
            None => walked.remove(&change.key),
        };
    }
    assert!(walked == *after);
    assert!(describe_all(&changes).len() <= changes.len());
    stepped(before, after);
}

/// The incremental difference between two valid configurations leads from one to the other and back.
fn stepped(before: &Resources, after: &Resources) {
    let sound = |pieces| from_resources(pieces).ok().filter(|config| check(config).is_ok());
    let (Some(old), Some(new)) = (sound(before), sound(after)) else { return };
    let (changes, positions) = incremental::changes(&old, before, &Positions::of(before), &new);
    let walked = incremental::apply(before, &changes);
    assert!(
        from_resources(&walked) == Ok(new.clone()),
        "the changes lead to another configuration: {changes:?}"
    );
    let (changes, back) = incremental::changes(&new, &walked, &positions, &old);
    assert!(
        from_resources(&incremental::apply(&walked, &changes)) == Ok(old),
        "the changes cannot be undone: {changes:?} {back:?}"
    );
}

/// The configuration of a small fleet.
fn start() -> Resources {
    let text =
        "pools:\n- { name: p, backends: [{ url: \"http://a:1\" }] }\nroutes:\n- { name: r, pool: p }\n";
    let Ok((mut config, _)) = file::parse(text) else { return Resources::new() };
    config.pools[0].backends[0].id = "b1".into();
    to_resources(&config)
}

struct Said {
    action: u8,
    key: Key,
    spec: String,
}

fn said(input: &[u8]) -> Option<(Said, &[u8])> {
    let [action, kind, name, low, high, rest @ ..] = input else { return None };
    let (name, rest) = rest.split_at_checked(usize::from(*name).min(rest.len()))?;
    let (spec, rest) =
        rest.split_at_checked(usize::from(u16::from_le_bytes([*low, *high])).min(rest.len()))?;
    let kinds = [Kind::Settings, Kind::Pool, Kind::Backend, Kind::Route, Kind::Certificate];
    let kind = kinds[usize::from(*kind) % kinds.len()];
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Some((Said { action: *action, key: Key { kind, name: text(name) }, spec: text(spec) }, rest))
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    /// A fuzz target's name and function.
    type Target = (&'static str, fn(&[u8]));

    const TARGETS: [Target; 3] =
        [("config_file", super::config_file), ("pieces", super::pieces), ("paths", super::paths)];

    fn corpus(name: &str) -> Vec<(String, Vec<u8>)> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(name);
        let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        let mut inputs: Vec<(String, Vec<u8>)> = entries
            .map(|entry| entry.unwrap().path())
            .map(|path| (path.display().to_string(), fs::read(&path).unwrap()))
            .collect();
        inputs.sort();
        assert!(inputs.len() > 10, "{name} has {} inputs", inputs.len());
        inputs
    }

    #[test]
    fn the_corpus_violates_no_invariant() {
        for (name, target) in TARGETS {
            for (path, input) in corpus(name) {
                let outcome = std::panic::catch_unwind(|| target(&input));
                assert!(outcome.is_ok(), "{path}");
            }
        }
    }

    /// A short deterministic fuzzing run: changed, removed, doubled and copied bytes.
    #[test]
    fn mutations_of_the_corpus_violate_no_invariant() {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut draw = |below: usize| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            usize::try_from(state >> 11).unwrap_or(0) % below.max(1)
        };
        for (name, target) in TARGETS {
            let inputs = corpus(name);
            for (path, input) in &inputs {
                for _ in 0..8 {
                    let mut bytes = input.clone();
                    for _ in 0..=draw(3) {
                        let at = draw(bytes.len() + 1);
                        let end = (at + draw(12)).min(bytes.len());
                        match draw(4) {
                            0 if at < bytes.len() => bytes[at] = b"\n -:{}[],&*'\"#|>?!%@0aZ\0\xff"[draw(25)],
                            1 => drop(bytes.drain(at..end)),
                            2 => {
                                let copy = bytes[at..end].to_vec();
                                bytes.splice(at..at, copy);
                            }
                            _ => {
                                let other = &inputs[draw(inputs.len())].1;
                                let from = draw(other.len());
                                let piece = &other[from..(from + draw(40)).min(other.len())];
                                bytes.splice(at..at, piece.iter().copied());
                            }
                        }
                    }
                    let outcome = std::panic::catch_unwind(|| target(&bytes));
                    assert!(outcome.is_ok(), "{path}: {:?}", String::from_utf8_lossy(&bytes));
                }
            }
        }
    }
}
