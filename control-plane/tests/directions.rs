//! The modules of the control plane depend on each other only in the direction that ARCHITECTURE.md states.

#![allow(clippy::unwrap_used)]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

/// The modules from bottom to top. A module uses only modules of the lines above its own.
const LAYERS: &[&[&str]] = &[
    &["time", "private_file", "core_dumps", "connections", "current"],
    &["store", "expiry"],
    &["secrets"],
    &["access", "health", "stats"],
    &["publish"],
    &["app"],
    &["api"],
    &["serve"],
    &["config"],
];

fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&module))
}

/// Source text without comments, and without the contents of string literals.
fn code_of(text: &str) -> String {
    let (mut code, mut rest) = (String::new(), text);
    while let Some(first) = rest.chars().next() {
        let end = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if let Some(hashes) = raw_string(rest) {
            let close = format!("\"{}", "#".repeat(hashes));
            let start = hashes + 2;
            rest[start..].find(&close).map_or(rest.len(), |end| start + end + close.len())
        } else if first == '"' {
            let mut escaped = false;
            let close = rest[1..].find(|c| {
                let closes = c == '"' && !escaped;
                escaped = c == '\\' && !escaped;
                closes
            });
            close.map_or(rest.len(), |end| end + 2)
        } else if rest.starts_with("'\"'") || rest.starts_with("'{'") || rest.starts_with("'}'") {
            3
        } else {
            code.push(first);
            rest = &rest[first.len_utf8()..];
            continue;
        };
        code.push(' ');
        rest = &rest[end..];
    }
    code
}

fn raw_string(text: &str) -> Option<usize> {
    let hashes = text.strip_prefix('r')?;
    let count = hashes.len() - hashes.trim_start_matches('#').len();
    hashes[count..].starts_with('"').then_some(count)
}

fn tokens(code: &str) -> Vec<&str> {
    let (mut tokens, mut rest) = (Vec::new(), code.trim_start());
    while !rest.is_empty() {
        let word = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
        let end = match word {
            0 if rest.starts_with("::") => 2,
            0 => rest.chars().next().map_or(1, char::len_utf8),
            word => word,
        };
        tokens.push(&rest[..end]);
        rest = rest[end..].trim_start();
    }
    tokens
}

/// The first names after a path that ends at `at`: `x` of `x::y`, and `x` and `y` of `{x::a, y}`.
fn first_names<'a>(tokens: &[&'a str], at: usize) -> Vec<&'a str> {
    if tokens.get(at) != Some(&"{") {
        return tokens.get(at).copied().into_iter().collect();
    }
    let (mut names, mut depth, mut is_first) = (Vec::new(), 0, true);
    for token in &tokens[at..] {
        match *token {
            "{" => depth += 1,
            "}" => depth -= 1,
            "," if depth == 1 => is_first = true,
            name if depth == 1 && is_first => {
                names.push(name);
                is_first = false;
            }
            _ => {}
        }
        if depth == 0 {
            break;
        }
    }
    names
}

/// The top-level modules that a file names by `crate::` or by enough `super::`. `depth` is that of the file's own module.
fn uses(code: &str, depth: usize) -> BTreeSet<String> {
    let tokens = tokens(code);
    let mut found = BTreeSet::new();
    // For each open brace, whether it belongs to an inline module.
    let mut open = Vec::new();
    for (at, token) in tokens.iter().enumerate() {
        match *token {
            "{" => open.push(at >= 2 && tokens[at - 2] == "mod"),
            "}" => drop(open.pop()),
            "crate" if tokens.get(at + 1) == Some(&"::") => {
                found.extend(first_names(&tokens, at + 2).into_iter().map(str::to_owned));
            }
            "super" if at < 2 || tokens[at - 1] != "::" || tokens[at - 2] != "super" => {
                let ups = tokens[at..].chunks(2).take_while(|pair| *pair == ["super", "::"]).count();
                let depth = depth + open.iter().filter(|is_module| **is_module).count();
                if ups >= depth {
                    found.extend(first_names(&tokens, at + 2 * ups).into_iter().map(str::to_owned));
                }
            }
            _ => {}
        }
    }
    found
}

/// Each file's code with its module's depth below the crate's root, by top-level module.
fn read(folder: &Path, depth: usize, files: &mut Vec<(String, usize)>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            read(&path, depth + 1, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let depth = if path.file_name().unwrap() == "mod.rs" { depth } else { depth + 1 };
            files.push((code_of(&fs::read_to_string(&path).unwrap()), depth));
        }
    }
}

fn modules() -> BTreeMap<String, BTreeSet<String>> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut modules = BTreeMap::new();
    for entry in fs::read_dir(source).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let mut files = Vec::new();
        if path.is_dir() {
            read(&path, 1, &mut files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push((code_of(&fs::read_to_string(&path).unwrap()), 1));
        }
        let uses: BTreeSet<String> = files.iter().flat_map(|(code, depth)| uses(code, *depth)).collect();
        modules.entry(name).or_insert_with(BTreeSet::new).extend(uses);
    }
    modules.retain(|name, _| !["lib", "main"].contains(&name.as_str()));
    modules
}

#[test]
fn modules_use_only_modules_below_them() {
    let modules = modules();
    let mut wrong = Vec::new();
    for (name, uses) in &modules {
        let Some(own) = layer(name) else {
            wrong.push(format!("module {name} has no layer"));
            continue;
        };
        for used in uses.iter().filter(|used| *used != name) {
            // A name that is not a module is an item of the crate's root.
            let is_below = !modules.contains_key(used) || layer(used).is_some_and(|used| used < own);
            if !is_below {
                wrong.push(format!("{name} uses {used}"));
            }
        }
    }
    for name in LAYERS.iter().copied().flatten() {
        if !modules.contains_key(*name) {
            wrong.push(format!("layer names the module {name}, which does not exist"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    let uses = |name: &str, used: &str| modules[name].contains(used);
    assert!(uses("app", "store") && uses("publish", "health") && uses("serve", "api"), "{modules:?}");
}

#[test]
fn every_form_of_a_path_is_found() {
    let names = |text: &str, depth| uses(&code_of(text), depth).into_iter().collect::<Vec<_>>().join(" ");
    assert_eq!(names("use crate::store::Store;", 2), "store");
    assert_eq!(names("use crate::{\n    app::{App, stats},\n    store,\n};", 1), "app store");
    assert_eq!(names("fn f() -> crate::health::State { crate::time::now_ms() }", 3), "health time");
    assert_eq!(names("pub(crate) use crate::{self as root, api::{rest::x}};", 1), "api self");
    assert_eq!(names("// crate::a\n/* crate::b */ \"crate::c \\\" crate::d\" r#\"crate::e\"#", 1), "");
    assert_eq!(names("use super::stats;", 1), "stats");
    assert_eq!(names("use super::{stats::A, app};", 1), "app stats");
    assert_eq!(names("use super::sibling; use super::super::store::X;", 2), "store");
    assert_eq!(names("mod tests { use super::*; } use super::app;", 1), "app");
    assert_eq!(names("mod tests { fn f() { super::super::store::x() } }", 1), "store");
}
