//! A text as a tree in which every key and value knows its location, parsed within fixed limits.

use std::{fmt, ops::Range};

use serde::{
    Deserialize, Deserializer,
    de::{self, MapAccess, SeqAccess, Visitor},
};
use serde_json::Value;
use serde_saphyr::{Error, Spanned, budget::BudgetBreach, options::DuplicateKeyPolicy};

use super::{MAX_DEPTH, MAX_NODES, MAX_REPEATED};
use crate::problem::{MAX_PATH, Problem, Problems};

/// Line and column, counted from 1; 0 if unknown.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Location {
    line: u32,
    column: u32,
}

impl Location {
    fn of(location: serde_saphyr::Location) -> Self {
        let number = |number: u64| u32::try_from(number).unwrap_or_default();
        Self { line: number(location.line()), column: number(location.column()) }
    }

    pub(super) fn mark(self, problem: &mut Problem) {
        let known = |number: u32| (number > 0).then_some(u64::from(number));
        (problem.line, problem.column) = (known(self.line), known(self.column));
    }
}

/// A value with its location.
pub(super) struct Node {
    pub(super) location: Location,
    /// Range in the text: offset and length in bytes.
    span: Option<(u32, u32)>,
    pub(super) value: Tree,
}

pub(super) enum Tree {
    Leaf(Value),
    List(Vec<Node>),
    Mapping(Vec<Entry>),
}

pub(super) struct Entry {
    pub(super) key: String,
    pub(super) location: Location,
    pub(super) value: Node,
}

impl Node {
    pub(super) fn read(text: &str) -> Result<Self, Problems> {
        // Each limit is documented in the configuration reference. Values that aliases repeat count too, so that a
        // short text cannot become a large tree.
        let options = serde_saphyr::options! {
            budget: serde_saphyr::budget! {
                max_nodes: MAX_NODES,
                max_events: 4 * MAX_NODES,
                max_depth: MAX_DEPTH,
                max_merge_keys: 100_000,
                // One anchor for the health checks of a thousand pools is legitimate.
                enforce_alias_anchor_ratio: false,
            },
            alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: MAX_REPEATED },
            // Keep all duplicates here; each one is reported later.
            duplicate_keys: DuplicateKeyPolicy::LastWins,
            with_snippet: false,
        };
        serde_saphyr::from_str_with_options(text, options).map_err(|error| {
            let mut problem = Problem::new("", describe(error.without_snippet()));
            error.location().map(Location::of).unwrap_or_default().mark(&mut problem);
            problem.into()
        })
    }

    /// Byte range in the text.
    pub(super) fn span(&self) -> Option<Range<usize>> {
        let (begin, length) = self.span?;
        let begin = usize::try_from(begin).ok()?;
        Some(begin..begin + usize::try_from(length).ok()?)
    }

    /// The value without locations. Duplicate keys become problems; the first one counts.
    pub(super) fn value(&self, path: &mut String, problems: &mut Problems) -> Value {
        match &self.value {
            Tree::Leaf(value) => value.clone(),
            Tree::List(items) => {
                let items = items
                    .iter()
                    .enumerate()
                    .map(|(i, item)| within(path, format_args!("[{i}]"), |path| item.value(path, problems)));
                Value::Array(items.collect())
            }
            Tree::Mapping(entries) => {
                let mut object = serde_json::Map::new();
                for Entry { key, location, value } in entries {
                    let dot = if path.is_empty() { "" } else { "." };
                    let value = within(path, format_args!("{dot}{key}"), |path| {
                        if object.contains_key(key) {
                            let short = &path[..path.floor_char_boundary(2 * MAX_PATH)];
                            let mut problem = Problem::new(short, format!("duplicate key {key:?}"));
                            location.mark(&mut problem);
                            problems.0.push(problem);
                            return None;
                        }
                        Some(value.value(path, problems))
                    });
                    if let Some(value) = value {
                        object.insert(key.clone(), value);
                    }
                }
                Value::Object(object)
            }
        }
    }
}

/// Describes a parse error without its location, which is reported separately.
fn describe(error: &Error) -> String {
    let too_deep = || format!("values are nested too deeply (at most {MAX_DEPTH} levels)");
    match error {
        Error::Budget { breach: BudgetBreach::Depth { .. }, .. } => too_deep(),
        Error::Budget { breach: BudgetBreach::Nodes { .. } | BudgetBreach::Events { .. }, .. } => {
            format!("the text contains too many values (at most {MAX_NODES})")
        }
        Error::Budget { breach: BudgetBreach::MergeKeys { .. }, .. } => {
            "the text contains too many merge keys (<<)".to_owned()
        }
        error => {
            let text = error.to_string();
            // These errors are only recognizable by their text.
            if text.starts_with("multiple YAML documents") {
                return "a second document starts here (---): expected a single document".to_owned();
            }
            if text.starts_with("alias replay") || text.starts_with("alias expansion") {
                return format!("aliases repeat too many values (at most {MAX_REPEATED})");
            }
            if text.starts_with("recursive references") {
                return "an alias refers to a value that contains it".to_owned();
            }
            if text.starts_with("recursion limit exceeded") {
                return too_deep();
            }
            let is_location = |location: &str| {
                location.split(", column ").all(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
            };
            match text.rsplit_once(" at line ") {
                Some((message, location)) if is_location(location) => message.to_owned(),
                _ => text,
            }
        }
    }
}

/// Runs `run` with the path extended by one step.
fn within<T>(path: &mut String, step: fmt::Arguments<'_>, run: impl FnOnce(&mut String) -> T) -> T {
    let length = path.len();
    // Writing to a string cannot fail.
    let _ = fmt::Write::write_fmt(path, step);
    let value = run(path);
    path.truncate(length);
    value
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Spanned { value, referenced, defined } = Spanned::<Tree>::deserialize(deserializer)?;
        let span = defined.span();
        let bytes = |number: Option<u64>| number.and_then(|number| u32::try_from(number).ok());
        let span = bytes(span.byte_offset()).zip(bytes(span.byte_len()));
        Ok(Self { location: Location::of(referenced), span, value })
    }
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TreeVisitor)
    }
}

struct TreeVisitor;

impl<'de> Visitor<'de> for TreeVisitor {
    type Value = Tree;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Tree, E> {
        Ok(Tree::Leaf(value.into()))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Tree, E> {
        Ok(Tree::Leaf(value.into()))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Tree, E> {
        Ok(Tree::Leaf(value.into()))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Tree, E> {
        Ok(Tree::Leaf(value.into()))
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Tree, E> {
        Ok(Tree::Leaf(value.into()))
    }

    fn visit_string<E: de::Error>(self, value: String) -> Result<Tree, E> {
        Ok(Tree::Leaf(value.into()))
    }

    fn visit_unit<E: de::Error>(self) -> Result<Tree, E> {
        Ok(Tree::Leaf(Value::Null))
    }

    fn visit_none<E: de::Error>(self) -> Result<Tree, E> {
        Ok(Tree::Leaf(Value::Null))
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Tree, D::Error> {
        Tree::deserialize(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Tree, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Tree::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Tree, A::Error> {
        let mut mapping = Vec::new();
        while let Some((key, value)) = entries.next_entry::<Spanned<String>, Node>()? {
            mapping.push(Entry { key: key.value, location: Location::of(key.referenced), value });
        }
        Ok(Tree::Mapping(mapping))
    }
}
