//! The committed schema and reference are up to date, and all examples fit the schema.

// The lint does not recognize helper functions of tests.
#![allow(clippy::unwrap_used)]

mod reference;
mod validate;

use std::{fs, path::PathBuf};

use serde_json::{Value, json};
use weir_snapshot::{Config, file, schema};

fn repository() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..")
}

#[track_caller]
fn fits(schema: &Value, value: &Value, what: &str) {
    let errors = validate::errors(schema, value);
    assert!(errors.is_empty(), "{what}: {errors:#?}");
}

/// Update: `WEIR_UPDATE=1 cargo test -p weir-snapshot --test schema`.
#[test]
fn the_committed_schema_is_the_generated_one() {
    let file = repository().join("docs/reference/weir.schema.json");
    if std::env::var_os("WEIR_UPDATE").is_some() {
        fs::write(&file, schema::text()).unwrap();
    }
    let committed = fs::read_to_string(&file).unwrap_or_default();
    assert!(
        committed == schema::text(),
        "docs/reference/weir.schema.json is out of date; update it with \
         WEIR_UPDATE=1 cargo test -p weir-snapshot --test schema"
    );
}

/// The code blocks of documents that are whole configurations, and the example files.
fn examples() -> Vec<(String, String)> {
    let mut examples = Vec::new();
    let mut folders = vec![repository().join("docs")];
    let mut documents = vec![repository().join("README.md")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.extension().and_then(|extension| extension.to_str()) {
                _ if path.is_dir() => folders.push(path),
                Some("md") => documents.push(path),
                _ => {}
            }
        }
    }
    for document in documents {
        let text = fs::read_to_string(&document).unwrap();
        for block in text.split("```yaml\n").skip(1) {
            let block = block.split("```").next().unwrap();
            let is_key = |line: &str| {
                ["settings:", "pools:", "routes:", "certificates:"].iter().any(|key| line.starts_with(key))
            };
            let mut keys = block.lines().filter(|line| line.starts_with(|c: char| c.is_ascii_alphabetic()));
            let is_whole = block.lines().any(is_key) && keys.all(is_key);
            if is_whole {
                examples.push((document.display().to_string(), block.to_owned()));
            }
        }
    }
    let compose = repository().join("deploy/compose/weir.yaml");
    examples.push((compose.display().to_string(), fs::read_to_string(compose).unwrap()));
    examples
}

#[test]
fn every_example_of_the_repository_fits() {
    let schema = schema::schema();
    let examples = examples();
    assert!(examples.len() >= 3, "{}", examples.len());
    for (name, text) in examples {
        let value: Value =
            serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}\n{text}"));
        fits(&schema, &value, &name);
    }
}

#[test]
fn serialized_configurations_fit_the_schema() {
    let schema = schema::schema();
    fits(&schema, &serde_json::to_value(Config::default()).unwrap(), "the default");
    for (name, text) in examples() {
        // Excerpts may refer to names that they do not define.
        let Ok((config, _)) = file::parse(&text) else { continue };
        fits(&schema, &serde_json::to_value(config).unwrap(), &name);
    }
}

#[test]
fn invalid_configurations_do_not_fit_the_schema() {
    let schema = schema::schema();
    let pool = |field: &str, value: Value| json!({ "pools": [{ "name": "p", field: value }] });
    for wrong in [
        json!({ "colour": 1 }),
        json!({ "pools": [{}] }),
        json!({ "pools": [{ "name": "p", "backends": [{ "url": "http://a", "weight": 0 }] }] }),
        pool("strategy", json!("fastest")),
        pool("slow_start", json!("soon")),
        pool("slow_start", json!(5)),
        pool("health_check", json!({ "type": "ftp" })),
        pool("health_check", json!({ "typ": "http" })),
        pool("breaker", json!({ "error_rate": 2 })),
        pool("retry", json!({ "on": ["nothing"] })),
        pool("retry", json!({ "on": [200] })),
        pool("hash_on", json!({ "header": 5 })),
        json!({ "routes": [{ "name": "r", "pool": "p", "limits": { "max_body": "10 apples" } }] }),
    ] {
        assert!(!validate::errors(&schema, &wrong).is_empty(), "{wrong}");
    }
    for good in [
        pool("slow_start", json!("1m30s")),
        pool("hash_on", json!({ "header": "x-user" })),
        pool("hash_on", json!("client_ip")),
        pool("retry", json!({ "on": ["reset", 503], "budget": 0.2 })),
    ] {
        fits(&schema, &good, "good");
    }
}

const BEGIN: &str = "<!-- Written by `WEIR_UPDATE=1 cargo test -p weir-snapshot --test schema`. -->\n";

#[test]
fn the_committed_reference_is_the_generated_one() {
    let file = repository().join("docs/reference/configuration.md");
    let committed = fs::read_to_string(&file).unwrap();
    let (head, tables) = committed.split_once(BEGIN).unwrap();
    let wanted = reference::markdown(&schema::schema());
    if std::env::var_os("WEIR_UPDATE").is_some() {
        fs::write(&file, format!("{head}{BEGIN}{wanted}")).unwrap();
        return;
    }
    assert!(tables == wanted, "docs/reference/configuration.md is out of date; update it with WEIR_UPDATE=1");
}
