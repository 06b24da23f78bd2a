//! Reads a value as a type although parts of it are invalid, so that one problem does not hide the others.
//!
//! An invalid part is reported and removed, and the rest is read again. Fields that are then missing get a
//! placeholder. The resulting value only serves to find more problems and is discarded if there are any.

use std::collections::{BTreeSet, HashMap};

use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use serde_path_to_error::Segment;

use super::MAX_PROBLEMS;
use crate::{
    problem::{Problem, Problems},
    schema, suggestion,
};

/// Placeholder for a text that cannot be read.
pub(super) const STAND_IN: &str = "unreadable-value";

/// Limit on the problems of one object, after which the rest of it is skipped. Each problem costs reading the object
/// again.
const MOST: usize = 100;

/// The readable parts of a value.
pub(super) struct Reading<T> {
    /// `None` if not enough could be read.
    pub(super) value: Option<T>,
    /// Paths of the parts that were removed or filled in; nothing more can be said about them.
    pub(super) unreadable: Vec<String>,
}

/// Reads the value at `path`.
pub(super) fn read<T: DeserializeOwned>(
    (path, like): (&str, Option<&str>),
    mut value: Value,
    problems: &mut Problems,
) -> Reading<T> {
    let mut unreadable = Vec::new();
    let mut origins = Origins::default();
    let mut stand_ins: HashMap<String, usize> = HashMap::new();
    take_lists_out((path, like), &mut value, &mut origins, problems, &mut unreadable);
    loop {
        let mut unknown = BTreeSet::new();
        let mut track = serde_path_to_error::Track::new();
        let deserializer = serde_path_to_error::Deserializer::new(&value, &mut track);
        let result = serde_ignored::deserialize(deserializer, |path| {
            unknown.insert(path.to_string());
        });
        let error = match result {
            Ok(read) => {
                unknown.iter().for_each(|key| unknown_key((path, like), &origins.translate(key), problems));
                return Reading { value: Some(read), unreadable };
            }
            Err(error) => error,
        };
        let message = error.to_string();
        let mut steps: Vec<Step> = track.path().iter().filter_map(step).collect();
        let missing = message.strip_prefix("missing field `").and_then(|rest| rest.split('`').next());
        if let Some(field) = missing {
            steps.push(Step::Key(field.to_owned()));
        }
        let inner = origins.path(&steps);
        let path_in_text = join(path, &inner);
        let tried = stand_ins.get(&path_in_text).copied();
        if tried.is_none() && !unreadable.contains(&path_in_text) {
            let told = missing.map_or_else(|| path_in_text.as_str(), |field| parent(&path_in_text, field));
            let message = without_type(&message, || {
                like.map_or_else(Vec::new, |like| schema::keys(&join(like, &inner)))
            });
            problems.add(told, suggestion::with_suggestion(message));
        }
        let give_up = steps.is_empty() || unreadable.len() >= MOST;
        let mended = !give_up
            && if missing.is_some() || tried.is_some() {
                let kind = tried.map_or(0, |tried| tried + 1);
                stand_ins.insert(path_in_text.clone(), kind);
                stand_in(kind).is_some_and(|stand_in| fill(&mut value, &steps, stand_in))
            } else {
                origins.take_out(&mut value, &steps)
            };
        unreadable.push(path_in_text);
        if !mended {
            unknown.iter().for_each(|key| unknown_key((path, like), &origins.translate(key), problems));
            return Reading { value: None, unreadable };
        }
    }
}

/// Serde names Rust types in "expected ..."; users know the keys of a mapping, and numbers.
fn without_type(message: &str, keys: impl FnOnce() -> Vec<String>) -> String {
    let Some((before, expected)) = message.rsplit_once("expected ") else { return message.to_owned() };
    let expected = match expected {
        "u8" => "a whole number from 0 to 255".to_owned(),
        "u16" => "a whole number from 0 to 65535".to_owned(),
        "u32" | "u64" | "usize" => "a whole number, 0 or more".to_owned(),
        "i64" => "a whole number".to_owned(),
        "f32" | "f64" => "a number".to_owned(),
        _ if expected.starts_with("struct ") => mapping(&keys()),
        _ => return message.to_owned(),
    };
    format!("{before}expected {expected}")
}

fn mapping(keys: &[String]) -> String {
    if keys.is_empty() { "a mapping".to_owned() } else { format!("a mapping of {}", keys.join(", ")) }
}

/// Removes lists where the schema allows only a mapping. Serde would read their items as the fields' values in
/// declaration order.
fn take_lists_out(
    (path, like): (&str, Option<&str>),
    value: &mut Value,
    origins: &mut Origins,
    problems: &mut Problems,
    unreadable: &mut Vec<String>,
) {
    let Some(like) = like else { return };
    let mut found = Vec::new();
    find_lists(value, like, &mut Vec::new(), &mut found);
    for (steps, keys) in &found {
        let path_in_text = join(path, &origins.path(steps));
        problems.add(&path_in_text, format!("invalid type: sequence, expected {}", mapping(keys)));
        unreadable.push(path_in_text);
    }
    // From the last one on, so that the indexes of the others stay valid.
    found.iter().rev().for_each(|(steps, _)| {
        origins.take_out(value, steps);
    });
}

fn find_lists(value: &Value, like: &str, steps: &mut Vec<Step>, found: &mut Vec<(Vec<Step>, Vec<String>)>) {
    let inner: Vec<(Step, &Value, String)> = match value {
        Value::Object(object) => {
            object.iter().map(|(key, value)| (Step::Key(key.clone()), value, join(like, key))).collect()
        }
        Value::Array(items) => match schema::only_mapping(like) {
            Some(keys) => {
                if found.len() < MOST {
                    found.push((steps.clone(), keys));
                }
                return;
            }
            None => items
                .iter()
                .enumerate()
                .filter(|(_, item)| item.is_object() || item.is_array())
                .map(|(i, item)| (Step::Item(i), item, format!("{like}[{i}]")))
                .collect(),
        },
        _ => return,
    };
    for (step, value, like) in inner {
        if value.is_object() || value.is_array() {
            steps.push(step);
            find_lists(value, &like, steps, found);
            steps.pop();
        }
    }
}

fn stand_in(kind: usize) -> Option<Value> {
    [json!(STAND_IN), json!(1), json!(true), json!({}), json!([])].into_iter().nth(kind)
}

/// Reports keys that the object at `path` does not have.
pub(super) fn unknown_keys<'a>(path: &str, keys: impl Iterator<Item = &'a String>, problems: &mut Problems) {
    keys.for_each(|key| unknown_key((path, Some(path)), key, problems));
}

/// `like` is the path at which a configuration has such an object; its known keys are suggested.
fn unknown_key((path, like): (&str, Option<&str>), inner: &str, problems: &mut Problems) {
    let (parent, key) = inner.rsplit_once('.').unwrap_or(("", inner));
    // Problems beyond the limit are not reported and need no suggestion.
    let like = like.filter(|_| problems.0.len() < MAX_PROBLEMS);
    let known = like.map(|like| schema::keys(&join(like, parent))).unwrap_or_default();
    let path = join(path, inner);
    let mut message = "unknown key".to_owned();
    if let Some(near) = suggestion::nearest(key, known.iter().map(String::as_str)) {
        message.push_str(&format!("; did you mean {near}?"));
    } else if !known.is_empty() {
        message.push_str(&format!(" (known: {})", known.join(", ")));
    }
    problems.0.push(Problem { of_key: true, ..Problem::new(&path, message) });
}

/// The path of the object in which a field is missing.
fn parent<'a>(path_in_text: &'a str, field: &str) -> &'a str {
    path_in_text.strip_suffix(field).map_or(path_in_text, |parent| parent.trim_end_matches('.'))
}

fn join(path: &str, inner: &str) -> String {
    match inner {
        "" | "." => path.to_owned(),
        inner if path.is_empty() || inner.starts_with('[') => format!("{path}{inner}"),
        inner => format!("{path}.{inner}"),
    }
}

#[derive(Debug, Clone)]
enum Step {
    Key(String),
    Item(usize),
}

fn step(segment: &Segment) -> Option<Step> {
    match segment {
        Segment::Seq { index } => Some(Step::Item(*index)),
        Segment::Map { key } => Some(Step::Key(key.clone())),
        Segment::Enum { variant } => Some(Step::Key(variant.clone())),
        Segment::Unknown => None,
    }
}

/// Original indexes of the remaining items of lists from which items were removed.
#[derive(Default)]
struct Origins(HashMap<String, Vec<usize>>);

impl Origins {
    /// The path as it is in the text.
    fn path(&self, steps: &[Step]) -> String {
        let mut path = String::new();
        for step in steps {
            path = match step {
                Step::Key(key) => join(&path, key),
                Step::Item(now) => {
                    let then = self.0.get(&path).and_then(|left| left.get(*now)).unwrap_or(now);
                    format!("{path}[{then}]")
                }
            };
        }
        path
    }

    /// The same for a path in serde_ignored's format: `a.0.b`, with `?` for the inside of an option.
    fn translate(&self, path: &str) -> String {
        let steps: Vec<Step> = path
            .split('.')
            .filter(|step| *step != "?")
            .map(|step| step.parse().map_or_else(|_| Step::Key(step.to_owned()), Step::Item))
            .collect();
        self.path(&steps)
    }

    /// Removes the value that the steps lead to.
    fn take_out(&mut self, value: &mut Value, steps: &[Step]) -> bool {
        let Some((last, before)) = steps.split_last() else { return false };
        let parent = self.path(before);
        match (walk(value, before), last) {
            (Some(Value::Object(object)), Step::Key(key)) => object.remove(key).is_some(),
            (Some(Value::Array(items)), Step::Item(index)) if *index < items.len() => {
                self.0.entry(parent).or_insert_with(|| (0..items.len()).collect()).remove(*index);
                items.remove(*index);
                true
            }
            // An enum variant that is a plain text: the text is removed.
            (Some(Value::String(_)), Step::Key(_)) => self.take_out(value, before),
            _ => false,
        }
    }
}

/// Sets the value that the steps lead to.
fn fill(value: &mut Value, steps: &[Step], with: Value) -> bool {
    let Some((last, before)) = steps.split_last() else { return false };
    match (walk(value, before), last) {
        (Some(Value::Object(object)), Step::Key(key)) => {
            object.insert(key.clone(), with);
            true
        }
        _ => false,
    }
}

fn walk<'a>(value: &'a mut Value, steps: &[Step]) -> Option<&'a mut Value> {
    steps.iter().try_fold(value, |value, step| match step {
        Step::Key(key) => value.get_mut(key),
        Step::Item(index) => value.get_mut(index),
    })
}
