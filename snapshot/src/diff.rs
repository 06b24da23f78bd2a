//! The difference between two configurations, resource by resource, as text and as data.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::{
    mask,
    resource::{Key, Kind, Resources},
};

/// One resource that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// The resource.
    #[serde(flatten)]
    pub key: Key,
    /// The content before; `None` if the resource is new.
    pub before: Option<String>,
    /// The content after; `None` if the resource was removed.
    pub after: Option<String>,
}

/// The changes that lead from `before` to `after`, sorted by key.
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

/// Describes a change in one line.
pub fn describe(change: &Change) -> String {
    Difference::of(change).text
}

/// Kind of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// The resource is new.
    Add,
    /// The resource was removed.
    Remove,
    /// The content changed.
    Change,
    /// Only the position in the list changed.
    Move,
}

/// A field that differs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Field {
    /// Path within the resource, such as `health_check.interval`.
    pub path: String,
    /// Value before; null if it had its default.
    pub before: Value,
    /// Value after; null if it has its default.
    pub after: Value,
}

/// The difference of one resource, as data for programs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Difference {
    /// Kind of the change.
    pub action: Action,
    /// The kind of the resource.
    pub kind: Kind,
    /// The name of the resource; for a backend its id.
    pub name: String,
    /// The change as text in one line: `backend b3 http://10.0.0.3:80 added to pool "books"`.
    pub text: String,
    /// The fields that differ, if the resource exists on both sides.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fields: Vec<Field>,
    /// The whole content before; null if the resource is new.
    pub before: Value,
    /// The whole content after; null if the resource was removed.
    pub after: Value,
}

impl Difference {
    /// Compares the two contents of a change.
    pub fn of(change: &Change) -> Self {
        let spec = |spec: &Option<String>| spec.as_deref().map(parse).unwrap_or_default();
        let (before, after) = (spec(&change.before), spec(&change.after));
        let mut fields = Vec::new();
        let action = match (&change.before, &change.after) {
            (None, _) => Action::Add,
            (_, None) => Action::Remove,
            _ => {
                compare("", &before, &after, &mut fields);
                if is_move(&fields) { Action::Move } else { Action::Change }
            }
        };
        fields.retain(|field| !field.is_position());
        let Key { kind, name } = change.key.clone();
        let text = in_a_line(&change.key, action, [&after, &before], &fields);
        Self { action, kind, name, text, fields, before, after }
    }
}

/// Describes a change; `contents` are those after and before, or null.
fn in_a_line(key: &Key, action: Action, contents: [&Value; 2], fields: &[Field]) -> String {
    let said = |field: &str| {
        contents.into_iter().find_map(|content| content.get(field)?.as_str()).unwrap_or_default()
    };
    let name = match key.kind {
        Kind::Backend => format!("backend {} {}", key.name, said("url")),
        _ => key.to_string(),
    };
    match (action, key.kind) {
        (Action::Add, Kind::Backend) => format!("{name} added to pool {:?}", said("pool")),
        (Action::Add, _) => format!("{name} added"),
        (Action::Remove, Kind::Backend) => format!("{name} removed from pool {:?}", said("pool")),
        (Action::Remove, _) => format!("{name} removed"),
        (Action::Move, _) => format!("{name} moved in the order"),
        (Action::Change, _) => {
            let fields: Vec<String> = fields.iter().map(ToString::to_string).collect();
            format!("{name}: {}", fields.join(", "))
        }
    }
}

impl Field {
    /// The position in the file is stored as a number, which is of no use to readers.
    fn is_position(&self) -> bool {
        self.path == "place"
    }
}

fn is_move(fields: &[Field]) -> bool {
    !fields.is_empty() && fields.iter().all(Field::is_position)
}

/// Describes all changes. Resources that only moved are summarized in one line per kind.
pub fn describe_all(changes: &[Change]) -> Vec<String> {
    let mut words = Vec::with_capacity(changes.len());
    let mut moved = [false; 8];
    for change in changes {
        match Difference::of(change) {
            Difference { action: Action::Move, kind, .. } => moved[kind as usize] = true,
            difference => words.push(difference.text),
        }
    }
    let kinds = [
        (Kind::Pool, "pools"),
        (Kind::Backend, "backends"),
        (Kind::Route, "routes"),
        (Kind::Certificate, "certificates"),
    ];
    for (_, name) in kinds.iter().filter(|(kind, _)| moved[*kind as usize]) {
        words.push(format!("the order of the {name} changed"));
    }
    words
}

fn parse(spec: &str) -> Value {
    serde_json::from_str(spec).unwrap_or_default()
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (before, after) = self.values();
        write!(f, "{} {before} → {after}", self.path)
    }
}

impl Field {
    /// The values before and after, shortened for display. The text goes to logs and pages that more people read than
    /// may see password hashes.
    pub fn values(&self) -> (String, String) {
        let show = |shown: &Value| match mask::value(shown.clone()) {
            Value::Null => "default".to_owned(),
            // Certificates are too long to display. Their hash shows whether two are equal.
            Value::String(text) if text.contains("-----BEGIN") => {
                let hash = Sha256::digest(text.as_bytes());
                format!("(PEM {:02x}{:02x}{:02x}{:02x})", hash[0], hash[1], hash[2], hash[3])
            }
            Value::String(text) => text,
            value => value.to_string(),
        };
        (show(&self.before), show(&self.after))
    }
}

/// Collects each leaf in which the two values differ.
fn compare(path: &str, before: &Value, after: &Value, fields: &mut Vec<Field>) {
    match (before, after) {
        (Value::Object(left), Value::Object(right)) => {
            let mut keys: Vec<&String> = left.keys().chain(right.keys()).collect();
            keys.sort();
            keys.dedup();
            for key in keys {
                // The wrapper that stores the resource's position is not part of the configuration.
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
            fields.push(Field { path: path.to_owned(), before: before.clone(), after: after.clone() });
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
    fn differences_are_described() {
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
            diff(&to_resources(before), &to_resources(after))
                .iter()
                .map(|change| Difference::of(change).text)
                .collect::<Vec<_>>()
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
