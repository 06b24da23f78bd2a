//! Three-way merge of configurations: the changes of a file since it was last applied are applied to a configuration
//! that has been changed by other means.
//!
//! Mappings are merged field by field. Pools, routes and certificates are matched by name, the backends of a pool by
//! URL. All other values are merged as a whole. If the file changed a value, the file wins; otherwise the current
//! value stays. The result is not checked: merging two valid configurations may give an invalid one.

use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value};

use crate::{
    config::{Config, PrivateKey},
    mask,
};

/// A merged configuration.
#[derive(Debug)]
pub struct Merged {
    /// The result.
    pub config: Config,
    /// Each current value that differed from the file's previous content and was replaced by its new content, one per
    /// line.
    pub replaced: Vec<String>,
}

/// Applies the difference between `base`, the file as last applied, and `file` to `current`. Backend URLs must be in
/// canonical form. Private keys are taken from `file`; backend ids are left out.
///
/// # Errors
/// The fields do not fit together, for example because one side chose another variant of a value.
pub fn merge(base: &Config, file: &Config, current: &Config) -> Result<Merged, serde_json::Error> {
    let [base, value, current] = [base, file, current].map(serde_json::to_value);
    let (base, value, current) = (base?, value?, current?);
    let mut replaced = Vec::new();
    let merged = one("", Some(&base), Some(&value), Some(&current), &mut replaced).unwrap_or_default();
    let mut config: Config = serde_json::from_value(merged)?;
    // Private keys are never serialized, so the values above do not contain them.
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

/// The field that identifies items of a list; `None` if the list is merged as a whole.
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
    // A key that only the base has was removed on both sides.
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
    // The order is a value like any other: the file's order if the file changed it.
    let (first, rest) = if names[0] == names[1] { (&names[2], &names[1]) } else { (&names[1], &names[2]) };
    let mut seen = HashSet::new();
    let order = first.iter().chain(rest).filter(|name| seen.insert(name.as_str()));
    let merged = order.filter_map(|name| {
        let inner = format!("{path}[{name}]");
        one(&inner, base.get(name).copied(), file.get(name).copied(), current.get(name).copied(), replaced)
    });
    merged.collect()
}

/// A value in one short line for logs, without password hashes.
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
    fn an_unchanged_file_changes_nothing() {
        let live = BASE.replace("random", "ip_hash").replace("weight: 1", "weight: 7, state: draining");
        assert_eq!(merged(BASE, &live), (config(&live), Vec::new()));
    }

    #[test]
    fn changes_of_both_sides_are_merged_field_by_field() {
        let live = BASE.replace("weight: 1", "weight: 1, state: draining");
        let file = BASE.replace("weight: 1", "weight: 9").replace("random", "ip_hash");
        let (config, replaced) = merged(&file, &live);
        let backend = &config.pools[0].backends[0];
        assert_eq!((backend.weight, backend.state.to_string()), (9, "draining".into()));
        assert_eq!(config.pools[0].strategy.to_string(), "ip_hash");
        assert!(replaced.is_empty(), "{replaced:?}");
    }

    #[test]
    fn the_file_wins_where_it_changed_and_replaced_values_are_listed() {
        let live = BASE.replace("weight: 1", "weight: 3");
        let (config, replaced) = merged(&BASE.replace("weight: 1", "weight: 9"), &live);
        assert_eq!(config.pools[0].backends[0].weight, 9);
        assert_eq!(replaced, ["pools[web].backends[http://a:1].weight: 3 → 9"]);
    }

    #[test]
    fn additions_and_removals_of_one_side_are_kept() {
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
    fn an_item_removed_from_the_file_is_removed_although_it_was_changed_live() {
        let live = BASE.replace("- name: spare", "- name: spare\n    strategy: ip_hash");
        let (config, replaced) = merged(&BASE.replace("  - name: spare\n", ""), &live);
        assert_eq!(config.pools.len(), 1);
        assert!(replaced.len() == 1 && replaced[0].starts_with("pools[spare]: {"), "{replaced:?}");
    }

    #[test]
    fn an_item_changed_in_the_file_returns_although_it_was_removed_live() {
        let live = BASE.replace("  - name: spare\n", "");
        let (config, replaced) =
            merged(&BASE.replace("- name: spare", "- name: spare\n    strategy: ip_hash"), &live);
        assert_eq!(config.pools.len(), 2);
        assert!(replaced.len() == 1 && replaced[0].starts_with("pools[spare]: nothing → {"), "{replaced:?}");
    }
}
