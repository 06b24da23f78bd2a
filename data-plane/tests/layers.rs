//! The modules of the data plane import in one direction: from top to bottom of the list in ARCHITECTURE.md.

#![allow(clippy::unwrap_used, reason = "a test ends with a panic")]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// The line of ARCHITECTURE.md that lists the modules.
const LIST: &str = "From bottom to top: ";

#[test]
fn no_module_imports_one_above_it() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let layers = layers(&fs::read_to_string(root.join("../ARCHITECTURE.md")).unwrap());
    let place = |module: &str| layers.iter().position(|layer| layer == module);
    let mut modules = BTreeSet::new();
    let mut wrong = Vec::new();
    for file in files(&root.join("src")) {
        let path = module_path(file.strip_prefix(root.join("src")).unwrap());
        let Some(module) = path.first() else { continue };
        modules.insert(module.clone());
        let text = code(&fs::read_to_string(&file).unwrap());
        for used in imports(&text, &path).into_iter().filter(|used| used != module) {
            if place(&used).is_none() || place(&used) > place(module) {
                wrong.push(format!("{}: `{module}` imports `{used}`", file.display()));
            }
        }
    }
    let listed: BTreeSet<String> = layers.iter().cloned().collect();
    assert_eq!(listed, modules, "the list in ARCHITECTURE.md has exactly the modules of src/");
    assert!(wrong.is_empty(), "imports against the direction of the list:\n{}", wrong.join("\n"));
}

#[test]
fn every_form_of_an_import_is_found() {
    let path = ["wire".to_owned(), "tls".to_owned(), "session".to_owned()];
    let text = "use crate::{a::{B, c::D}, e, f as g}; fn x() { crate::h::i(); }\n// crate::no\n\
                use super::super::wire_own; use super::super::super::j::K; pub(in crate::l) fn y() {}\n\
                #[cfg(test)]\nmod tests { use crate::no; }";
    let found: Vec<String> = imports(&code(text), &path).into_iter().collect();
    assert_eq!(found, ["a", "e", "f", "h", "j", "l"]);
}

/// The modules in the list of the data plane.
fn layers(architecture: &str) -> Vec<String> {
    let section = architecture.split("### Inside the data plane").nth(1).unwrap();
    let list = section.split(LIST).nth(1).unwrap().split("\n\n").next().unwrap();
    list.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// All source files but the roots of the library and the program, and tests.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if path.is_dir() {
            found.extend(files(&path));
        } else if name.ends_with(".rs") && !name.ends_with("tests.rs") {
            found.push(path);
        }
    }
    found
}

/// The path of a file's module; empty for the roots.
fn module_path(file: &Path) -> Vec<String> {
    let file = file.with_extension("");
    let mut path: Vec<String> = file.iter().map(|part| part.to_str().unwrap().to_owned()).collect();
    if path.last().is_some_and(|last| last == "mod") || path == ["lib"] || path == ["main"] {
        path.pop();
    }
    path
}

/// A file without comments and without its tests.
fn code(text: &str) -> String {
    let text = text.split("\n#[cfg(test)]\nmod ").next().unwrap();
    text.lines().map(|line| line.split("//").next().unwrap()).collect::<Vec<_>>().join("\n")
}

/// The top-level modules that a module names by `crate::` or by enough `super::`.
fn imports(text: &str, path: &[String]) -> BTreeSet<String> {
    let to_root = "super::".repeat(path.len());
    let mut found = BTreeSet::new();
    for start in ["crate::", to_root.as_str()] {
        for (at, _) in text.match_indices(start) {
            let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
            if !text[..at].ends_with(|c| is_word(c) || c == ':') {
                found.extend(names(&text[at + start.len()..]));
            }
        }
    }
    found
}

/// The first names of a path, or of each path in braces.
fn names(text: &str) -> Vec<String> {
    let word = |text: &str| text.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
    let Some(group) = text.strip_prefix('{') else { return vec![word(text)] };
    let mut found = Vec::new();
    let (mut depth, mut begins) = (1, true);
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 1 => begins = true,
            c if begins && !c.is_whitespace() => {
                found.push(word(&group[at..]));
                begins = false;
            }
            _ => {}
        }
        if depth == 0 {
            break;
        }
    }
    found
}
