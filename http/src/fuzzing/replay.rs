//! The corpus of the fuzzers in every test run: what once broke something, and what is worth mutating.

use std::{fs, path::Path};

use super::TARGETS;

#[test]
fn the_whole_corpus_keeps_every_rule() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz");
    for (name, target) in TARGETS {
        let folder = root.join("corpus").join(name);
        let mut count = 0;
        let mut broken = Vec::new();
        for entry in fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
            let path = entry.unwrap().path();
            let input = fs::read(&path).unwrap();
            let outcome = std::panic::catch_unwind(|| target(&input));
            if outcome.is_err() {
                broken.push(path.display().to_string());
            }
            count += 1;
        }
        assert!(broken.is_empty(), "{broken:#?}");
        assert!(count > 10, "{name} has {count} inputs");
    }
}
