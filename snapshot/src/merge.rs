//! Three-way merge of configurations: what a file changed since it was last applied is carried over to a configuration that
//! was changed by other means meanwhile.
//!
//! Mappings are merged field by field. Pools, routes and certificates are matched by name, the backends of a pool by URL.
//! Every other value is one whole. Where the file changed a value, the file wins; where it did not, the current value stays.
//! The result is not checked: a merge of two sound configurations may be unsound.

use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value};

use crate::{
    config::{Config, PrivateKey},
    mask,
};

/// A merged configuration.
#[derive(Debug)]
pub struct Merged {
    /// What is to become current.
    pub config: Config,
    /// Each value that differed from the file's earlier content and was replaced by the file's new one, one per line.
    pub replaced: Vec<String>,
}

/// Applies the difference between `base`, the file as it was last applied, and `file` to `current`. URLs of backends must be
/// in their canonical spelling. Private keys are taken from `file`; ids of backends are left out.
///
/// # Errors
/// The fields do not fit together, for example where one side chose another variant of a value.
pub fn merge(base: &Config, file: &Config, current: &Config) -> Result<Merged, serde_json::Error> {
    let [base, value, current] = [base, file, current].map(serde_json::to_value);
    let (base, value, current) = (base?, value?, current?);
    let mut replaced = Vec::new();
    let merged = one("", Some(&base), Some(&value), Some(&current), &mut replaced).unwrap_or_default();
    let mut config: Config = serde_json::from_value(merged)?;
    // Private keys are never written, so they are not in the values above.
    let mut keys: HashMap<&str, &PrivateKey> =
        file.certificates.iter().filter_map(|one| Some((one.name.as_str(), one.key.as_ref()?))).collect();
    for certificate in &mut config.certificates {
        certificate.key = keys.remove(certificate.name.as_str()).cloned();
    }
    let mut keys: HashMap<&str, &PrivateKey> = file
        .pools
        .iter()
        .filter_map(|pool| Some((pool.name.as_str(), pool.tls.as_ref()?.key.as_ref()?)))
        .collect();
    for pool in &mut config.pools {
        if let Some(tls) = &mut pool.tls {
            tls.key = keys.remove(pool.name.as_str()).cloned();
        }
    }
    Ok(Merged { config, replaced })
}

/// The field by which items of a list are matched; `None`: the list is one whole.
fn identity(field: &str) -> Option<&'static str> {
    match field {
        "pools" | "routes" | "certificates" => Some("name"),
        "backends" => Some("url"),
        _ => None,
    }
}

fn one(
    path: &str,
    base: Option<&Value>,
    file: Option<&Value>,
    current: Option<&Value>,
    replaced: &mut Vec<String>,
) -> Option<Value> {
    if file == base || file == current {
        return current.cloned();
    }
    let field = path.rsplit('.').next().unwrap_or(path);
    match (base, file, current) {
        (Some(Value::Object(base)), Some(Value::Object(file)), Some(Value::Object(current))) => {
            Some(Value::Object(mapping(path, base, file, current, replaced)))
        }
        (Some(Value::Array(base)), Some(Value::Array(file)), Some(Value::Array(current)))
            if identity(field).is_some() =>
        {
            let by = identity(field).unwrap_or_default();
            Some(Value::Array(list(path, by, [base, file, current], replaced)))
        }
        _ => {
            if current != base {
                replaced.push(format!("{path}: {} → {}", shown(current), shown(file)));
            }
            file.cloned()
        }
    }
}

fn mapping(
    path: &str,
    base: &Map<String, Value>,
    file: &Map<String, Value>,
    current: &Map<String, Value>,
    replaced: &mut Vec<String>,
) -> Map<String, Value> {
    let only_current = current.keys().filter(|key| !file.contains_key(*key));
    // A key of the base alone is gone on both sides.
    let keys = file.keys().chain(only_current);
    let merged = keys.filter_map(|key| {
        let inner = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        Some((key.clone(), one(&inner, base.get(key), file.get(key), current.get(key), replaced)?))
    });
    merged.collect()
}

fn list(path: &str, by: &str, lists: [&Vec<Value>; 3], replaced: &mut Vec<String>) -> Vec<Value> {
    let name = |item: &Value| item.get(by).and_then(Value::as_str).unwrap_or_default().to_owned();
    let names = lists.map(|list| list.iter().map(name).collect::<Vec<_>>());
    let [base, file, current] =
        lists.map(|list| list.iter().map(|item| (name(item), item)).collect::<HashMap<_, _>>());
    // The order is a value like any other: the file's where the file changed it.
    let (first, rest) = if names[0] == names[1] { (&names[2], &names[1]) } else { (&names[1], &names[2]) };
    let mut seen = HashSet::new();
    let order = first.iter().chain(rest).filter(|name| seen.insert(name.as_str()));
    let merged = order.filter_map(|name| {
        let inner = format!("{path}[{name}]");
        one(&inner, base.get(name).copied(), file.get(name).copied(), current.get(name).copied(), replaced)
    });
    merged.collect()
}

/// A value on one short line, without password hashes: it goes to logs.
fn shown(value: Option<&Value>) -> String {
    const MOST: usize = 80;
    let text = match value.cloned().map(mask::value) {
        None => return "nothing".to_owned(),
        Some(Value::String(text)) if text.contains("-----BEGIN") => return "(PEM)".to_owned(),
        Some(Value::String(text)) => text,
        Some(value) => value.to_string(),
    };
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::file::parse;

    const BASE: &str = "
pools:
  - name: web
    strategy: random
    backends: [{ url: \"http://a:1\", weight: 1 }, { url: \"http://b:1\" }]
  - name: spare
routes:
  - name: default
    pool: web
";

    fn config(text: &str) -> Config {
        parse(text).unwrap().0
    }

    fn merged(file: &str, current: &str) -> (Config, Vec<String>) {
        let Merged { config, replaced } = merge(&config(BASE), &config(file), &config(current)).unwrap();
        (config, replaced)
    }

    #[test]
    fn a_file_that_did_not_change_changes_nothing() {
        let live = BASE.replace("random", "ip_hash").replace("weight: 1", "weight: 7, state: draining");
        assert_eq!(merged(BASE, &live), (config(&live), Vec::new()));
    }

    #[test]
    fn both_sides_changes_are_kept_field_by_field() {
        let live = BASE.replace("weight: 1", "weight: 1, state: draining");
        let file = BASE.replace("weight: 1", "weight: 9").replace("random", "ip_hash");
        let (config, replaced) = merged(&file, &live);
        let backend = &config.pools[0].backends[0];
        assert_eq!((backend.weight, backend.state.to_string()), (9, "draining".into()));
        assert_eq!(config.pools[0].strategy.to_string(), "ip_hash");
        assert!(replaced.is_empty(), "{replaced:?}");
    }

    #[test]
    fn the_file_wins_for_what_it_changed_and_says_what_it_replaced() {
        let live = BASE.replace("weight: 1", "weight: 3");
        let (config, replaced) = merged(&BASE.replace("weight: 1", "weight: 9"), &live);
        assert_eq!(config.pools[0].backends[0].weight, 9);
        assert_eq!(replaced, ["pools[web].backends[http://a:1].weight: 3 → 9"]);
    }

    #[test]
    fn what_was_added_or_removed_on_one_side_stays_so() {
        let live = BASE
            .replace(", { url: \"http://b:1\" }", ", { url: \"http://c:1\" }")
            .replace("routes:", "  - name: live\nroutes:");
        let file = BASE.replace("  - name: spare\n", "  - name: more\n");
        let (config, replaced) = merged(&file, &live);
        let pools: Vec<&str> = config.pools.iter().map(|pool| pool.name.as_str()).collect();
        assert_eq!(pools, ["web", "more", "live"]);
        let urls: Vec<&str> = config.pools[0].backends.iter().map(|one| one.url.as_str()).collect();
        assert_eq!(urls, ["http://a:1", "http://c:1"]);
        assert!(replaced.is_empty(), "{replaced:?}");
    }

    #[test]
    fn what_the_file_removes_goes_although_it_was_changed_live() {
        let live = BASE.replace("- name: spare", "- name: spare\n    strategy: ip_hash");
        let (config, replaced) = merged(&BASE.replace("  - name: spare\n", ""), &live);
        assert_eq!(config.pools.len(), 1);
        assert!(replaced.len() == 1 && replaced[0].starts_with("pools[spare]: {"), "{replaced:?}");
    }

    #[test]
    fn what_the_file_changes_comes_back_although_it_was_removed_live() {
        let live = BASE.replace("  - name: spare\n", "");
        let (config, replaced) =
            merged(&BASE.replace("- name: spare", "- name: spare\n    strategy: ip_hash"), &live);
        assert_eq!(config.pools.len(), 2);
        assert!(replaced.len() == 1 && replaced[0].starts_with("pools[spare]: nothing → {"), "{replaced:?}");
    }
}
