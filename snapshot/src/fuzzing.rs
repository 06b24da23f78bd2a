//! What fuzzers call: each function takes what came from outside and panics where something that must always hold does
//! not. Exists only in tests and under `cargo fuzz`; docs/evidence/fuzzing.md says how to run it.

mod paths;

pub use self::paths::paths;

use crate::{
    Config, check,
    diff::{Difference, diff, in_words},
    file::{self, MAX_PROBLEMS},
    place::Places,
    problem::Problems,
    resource::{ContentHash, Key, Kind, Resources, from_resources, to_resources},
    step,
};

/// A configuration file. What is read is written and read again to the same; what is not is refused with mistakes
/// that lie in the text.
pub fn config_file(input: &[u8]) {
    let Ok(text) = file::text(input) else { return };
    // Names of files stay what they are, or become what the file says: on its one line.
    if let Ok(inlined) = file::inline(text, |name| match name.len() % 3 {
        0 => Err("no such file".to_owned()),
        _ => Ok(format!("-----BEGIN {name:?}\n: - \"'\n")),
    }) {
        let _ = file::parse(&inlined);
    }
    match file::parse(text) {
        Ok((mut config, snapshot)) => {
            // Private keys are read and never written.
            config.certificates.iter_mut().for_each(|certificate| certificate.key = None);
            let yaml = file::to_yaml(&config);
            let again = file::parse(&yaml);
            let (again, checked) = again.unwrap_or_else(|problems| panic!("{problems}\n{yaml}"));
            assert!(again == config, "what is written reads back to something else:\n{yaml}");
            assert!(checked.pools == snapshot.pools && checked.routes.len() == snapshot.routes.len());
            pieces_fit(config);
        }
        Err(problems) => refused(text, &problems),
    }
}

fn refused(text: &str, problems: &Problems) {
    assert!(!problems.0.is_empty(), "refused without a reason");
    assert!(problems.0.len() <= MAX_PROBLEMS + 1, "{} problems", problems.0.len());
    let lines = text.split('\n').count() as u64;
    for problem in &problems.0 {
        assert!(!problem.message.is_empty(), "{problem:?}");
        // A parser may count the end as a line of its own, and YAML has more line breaks than one.
        let breaks = text.matches(['\r', '\u{85}', '\u{2028}', '\u{2029}']).count() as u64;
        assert!(
            problem.line.is_none_or(|line| (1..=lines + breaks + 1).contains(&line)),
            "{problem:?} of {lines}"
        );
    }
}

/// Cuts a configuration into pieces and puts it together again.
fn pieces_fit(mut config: Config) {
    for (i, backend) in config.pools.iter_mut().flat_map(|pool| &mut pool.backends).enumerate() {
        backend.id = format!("b{i}");
    }
    let pieces = to_resources(&config);
    let again = from_resources(&pieces);
    assert!(again.as_ref() == Ok(&config), "the pieces make something else: {again:?}");
    assert!(check(&config).is_ok());
    assert!(diff(&pieces, &pieces).is_empty());
}

/// The node's door: pieces that come and go as deltas say. After each delta the hash that is kept piece by piece is that
/// of the whole, and what the pieces make is a configuration that is checked, or refused with a reason.
///
/// The input is a list of steps: what is done, a kind, the length of a name and of a content, and both.
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
                assert!(pieces.keys().all(|key| again.contains_key(key)), "a piece is lost");
                assert!(again.len() <= pieces.len() + 1, "a piece more than the settings");
                assert!(file::parse(&file::to_yaml(&config)).is_ok(), "what runs cannot be written");
            }
            Err(problems) => assert!(!problems.0.is_empty()),
        },
        Err(problems) => assert!(!problems.0.is_empty()),
    }
}

/// The difference leads from one to the other, and can be told.
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
    assert!(in_words(&changes).len() <= changes.len());
    stepped(before, after);
}

/// The step from one sound configuration to another leads there, and to nothing that cannot be stepped from again.
fn stepped(before: &Resources, after: &Resources) {
    let sound = |pieces| from_resources(pieces).ok().filter(|config| check(config).is_ok());
    let (Some(old), Some(new)) = (sound(before), sound(after)) else { return };
    let (changes, places) = step::step(&old, before, &Places::of(before), &new);
    let walked = step::changed(before, &changes);
    assert!(from_resources(&walked) == Ok(new.clone()), "the step leads elsewhere: {changes:?}");
    let (changes, back) = step::step(&new, &walked, &places, &old);
    assert!(
        from_resources(&step::changed(&walked, &changes)) == Ok(old),
        "and not back: {changes:?} {back:?}"
    );
}

/// What a node of a small fleet runs.
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

    /// A function with its target's name.
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
    fn the_whole_corpus_keeps_every_rule() {
        for (name, target) in TARGETS {
            for (path, input) in corpus(name) {
                let outcome = std::panic::catch_unwind(|| target(&input));
                assert!(outcome.is_ok(), "{path}");
            }
        }
    }

    /// A few steps of what a fuzzer does, always the same ones: bytes changed, cut out, doubled, and taken from elsewhere.
    #[test]
    fn what_resembles_the_corpus_keeps_every_rule() {
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
