//! The difference between two configurations, resource by resource, in words and as data.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::resource::{Key, Kind, Resources};

/// One resource that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// Which one.
    #[serde(flatten)]
    pub key: Key,
    /// Its content before; `None`: it is new.
    pub before: Option<String>,
    /// Its content after; `None`: it is gone.
    pub after: Option<String>,
}

/// What has to change to come from `before` to `after`, in the order of the keys.
pub fn diff(before: &Resources, after: &Resources) -> Vec<Change> {
    let removed = before.iter().filter(|(key, _)| !after.contains_key(*key)).map(|(key, spec)| Change {
        key: key.clone(),
        before: Some(spec.clone()),
        after: None,
    });
    let changed = after.iter().filter(|(key, spec)| before.get(*key) != Some(*spec)).map(|(key, spec)| {
        Change { key: key.clone(), before: before.get(key).cloned(), after: Some(spec.clone()) }
    });
    let mut changes: Vec<Change> = removed.chain(changed).collect();
    changes.sort_by(|a, b| a.key.cmp(&b.key));
    changes
}

/// The change in words, one line: `backend b3 http://10.0.0.3:80 added to pool "books"`.
pub fn describe(change: &Change) -> String {
    let name = name(change);
    match (&change.before, &change.after) {
        (None, _) if change.key.kind == Kind::Backend => format!("{name} added to pool {:?}", pool(change)),
        (None, _) => format!("{name} added"),
        (_, None) if change.key.kind == Kind::Backend => {
            format!("{name} removed from pool {:?}", pool(change))
        }
        (_, None) => format!("{name} removed"),
        (Some(before), Some(after)) => {
            let (before, after) = (parse(before), parse(after));
            let mut fields = Vec::new();
            compare("", &before, &after, &mut fields);
            format!("{name}: {}", fields.join(", "))
        }
    }
}

fn parse(spec: &str) -> Value {
    serde_json::from_str(spec).unwrap_or_default()
}

fn text(change: &Change, field: &str) -> String {
    let spec = change.after.as_deref().or(change.before.as_deref()).unwrap_or_default();
    parse(spec).get(field).and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn pool(change: &Change) -> String {
    text(change, "pool")
}

fn name(change: &Change) -> String {
    match change.key.kind {
        Kind::Backend => format!("backend {} {}", change.key.name, text(change, "url")),
        _ => change.key.to_string(),
    }
}

/// Walks both values and writes `path: before → after` for each leaf that differs.
fn compare(path: &str, before: &Value, after: &Value, fields: &mut Vec<String>) {
    match (before, after) {
        (Value::Object(left), Value::Object(right)) => {
            let mut keys: Vec<&String> = left.keys().chain(right.keys()).collect();
            keys.sort();
            keys.dedup();
            for key in keys {
                // The wrapper that keeps a resource's place in the file is no part of what people wrote.
                let path = match (path, key.as_str()) {
                    ("", "spec") => String::new(),
                    ("", key) => key.to_owned(),
                    (path, key) => format!("{path}.{key}"),
                };
                compare(
                    &path,
                    left.get(key).unwrap_or(&Value::Null),
                    right.get(key).unwrap_or(&Value::Null),
                    fields,
                );
            }
        }
        (before, after) if before != after => {
            let show = |value: &Value| match value {
                Value::Null => "default".to_owned(),
                // A certificate is long and says nothing to the eye: whether two are the same, its hash does.
                Value::String(text) if text.contains("-----BEGIN") => {
                    let hash = Sha256::digest(text.as_bytes());
                    format!("(PEM {:02x}{:02x}{:02x}{:02x})", hash[0], hash[1], hash[2], hash[3])
                }
                Value::String(text) => text.clone(),
                value => value.to_string(),
            };
            fields.push(format!("{path} {} → {}", show(before), show(after)));
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::{Backend, Config, Strategy},
        resource::to_resources,
    };

    #[test]
    fn differences_are_told_in_words() {
        let mut before = Config::default();
        before.pools[0].backends.push(Backend {
            id: "b1".into(),
            url: "http://a:1".into(),
            weight: 1,
            state: Default::default(),
        });
        let mut after = before.clone();
        after.pools[0].strategy = Strategy::Random;
        after.pools[0].backends[0].weight = 5;
        after.pools[0].backends.push(Backend {
            id: "b2".into(),
            url: "http://b:1".into(),
            weight: 1,
            state: Default::default(),
        });
        let told = |before: &Config, after: &Config| {
            diff(&to_resources(before), &to_resources(after)).iter().map(describe).collect::<Vec<_>>()
        };
        assert_eq!(
            told(&before, &after),
            [
                "pool \"default\": strategy round_robin → random",
                "backend b1 http://a:1: weight 1 → 5",
                "backend b2 http://b:1 added to pool \"default\"",
            ]
        );
        after.pools[0].backends.remove(0);
        assert_eq!(told(&before, &after)[1], "backend b1 http://a:1 removed from pool \"default\"");
        assert!(told(&before, &before).is_empty());
    }
}
