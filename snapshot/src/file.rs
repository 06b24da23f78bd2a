//! Reads the configuration file, YAML or JSON, and finds all its mistakes with line and path.
//!
//! The text becomes a tree in which every value knows its line. Each pool, backend and route is then read on its
//! own, so that a mistake in one does not hide those in the others; unknown keys are collected on the way; and the
//! problems of [`check`](crate::check()) get the line of the value that they name.

mod references;

use std::{collections::HashMap, fmt, ops::Range};

use serde::{
    Deserialize, Deserializer,
    de::{self, DeserializeOwned, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Value};
use serde_saphyr::Spanned;

pub use self::references::{MAX_FILE, inline, is_content};
use crate::{
    config::{Backend, Certificate, Config, Pool, Route, Settings},
    problem::{Problem, Problems},
    snapshot::Snapshot,
};

/// The largest text that is read.
pub const MAX_BYTES: usize = 64 << 20;

/// Reads a configuration and checks it.
///
/// # Errors
/// Every mistake with its path, and its line as far as it is known.
pub fn parse(text: &str) -> Result<(Config, Snapshot), Problems> {
    let document = Document::read(text)?;
    let mut problems = Problems::default();
    let config = document.config(&mut problems);
    let snapshot = match crate::check(&config) {
        Ok(snapshot) => Some(snapshot),
        // What could not be read was left out; what then dangles is not another mistake of the writer.
        Err(found) if problems.0.is_empty() => {
            problems = found;
            None
        }
        Err(found) => {
            let is_reference = |problem: &Problem| problem.message.contains("unknown pool");
            problems.0.extend(found.0.into_iter().filter(|problem| !is_reference(problem)));
            None
        }
    };
    match snapshot {
        Some(mut snapshot) if problems.0.is_empty() => {
            let mut warnings = Problems(std::mem::take(&mut snapshot.warnings));
            document.place(&mut warnings);
            snapshot.warnings = warnings.0;
            Ok((config, snapshot))
        }
        _ => {
            document.place(&mut problems);
            Err(problems)
        }
    }
}

/// Gives problems that were found elsewhere the lines of what they name in the text.
pub fn locate(text: &str, problems: &mut Problems) {
    if let Ok(document) = Document::read(text) {
        document.place(problems);
    }
}

/// Writes a configuration as YAML that [`parse`] reads back to the same.
pub fn to_yaml(config: &Config) -> String {
    serde_saphyr::to_string(config).unwrap_or_default()
}

/// A text as a tree, with the line of each value.
struct Document {
    root: Value,
    lines: HashMap<String, u64>,
}

impl Document {
    fn read(text: &str) -> Result<Self, Problems> {
        if text.len() > MAX_BYTES {
            return Err(Problem::new(
                "",
                format!("the configuration is larger than {} MiB", MAX_BYTES >> 20),
            )
            .into());
        }
        let mut lines = HashMap::new();
        let root = Self::tree(text)?.into_value("", &mut lines);
        Ok(Self { root, lines })
    }

    fn tree(text: &str) -> Result<Node, Problems> {
        let read = serde_saphyr::from_str(text).map_err(|error| {
            let line = error.location().map(|location| location.line());
            let message = error.without_snippet().to_string();
            Problem { line, ..Problem::new("", message) }
        });
        Ok(read?)
    }

    fn config(&self, problems: &mut Problems) -> Config {
        let mut root = match &self.root {
            Value::Object(root) => root.clone(),
            Value::Null => Map::new(),
            _ => {
                problems.add(
                    "",
                    "a configuration is a mapping with the keys settings, pools, routes and certificates",
                );
                return Config::default();
            }
        };
        let settings: Settings = match root.remove("settings") {
            None | Some(Value::Null) => Settings::default(),
            Some(settings) => read("settings", settings, problems).unwrap_or_default(),
        };
        let mut pools = Vec::new();
        for (i, pool) in list(&mut root, "pools", "", problems).into_iter().enumerate() {
            let path = format!("pools[{i}]");
            let Value::Object(mut pool) = pool else {
                problems.add(path, "a pool is a mapping");
                continue;
            };
            let backends = list(&mut pool, "backends", &path, problems);
            // A pool or backend that cannot be read keeps its place, so that the paths of the others stay right.
            let fallback = || Pool { name: format!("unreadable-pool-{i}"), ..Pool::default() };
            let mut pool: Pool = read(&path, Value::Object(pool), problems).unwrap_or_else(fallback);
            for (j, backend) in backends.into_iter().enumerate() {
                let fallback = || Backend {
                    id: String::new(),
                    url: format!("http://unreadable-backend-{j}"),
                    weight: 1,
                    state: Default::default(),
                };
                let path = format!("{path}.backends[{j}]");
                pool.backends.push(read(&path, backend, problems).unwrap_or_else(fallback));
            }
            pools.push(pool);
        }
        let mut routes: Vec<Route> = Vec::new();
        for (i, route) in list(&mut root, "routes", "", problems).into_iter().enumerate() {
            // As with pools: what cannot be read keeps its place, and is no other mistake by what it lacks.
            let fallback = || Route {
                name: format!("unreadable-route-{i}"),
                pool: format!("unreadable-pool-{i}"),
                ..Route::default()
            };
            routes.push(read(&format!("routes[{i}]"), route, problems).unwrap_or_else(fallback));
        }
        let mut certificates: Vec<Certificate> = Vec::new();
        for (i, certificate) in list(&mut root, "certificates", "", problems).into_iter().enumerate() {
            certificates.extend(read(&format!("certificates[{i}]"), certificate, problems));
        }
        for key in root.keys() {
            problems.add(key.as_str(), "unknown key (known: settings, pools, routes, certificates)");
        }
        Config { settings, pools, routes, certificates }
    }

    /// Gives each problem the line of the value that its path names, or of the nearest one around it.
    fn place(&self, problems: &mut Problems) {
        for problem in &mut problems.0 {
            let mut path = problem.path.as_str();
            while problem.line.is_none() {
                problem.line = self.lines.get(path).copied();
                match path.rfind(['.', '[']) {
                    Some(end) => path = &path[..end],
                    None => break,
                }
            }
        }
        problems.0.sort_by_key(|problem| problem.line);
    }
}

fn list(parent: &mut Map<String, Value>, key: &str, path: &str, problems: &mut Problems) -> Vec<Value> {
    match parent.remove(key) {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::Array(items)) => items,
        Some(_) => {
            let path = if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
            problems.add(path, format!("{key} is a list"));
            Vec::new()
        }
    }
}

/// Reads one value of the tree as `T`; unknown keys and a wrong type become problems below `path`.
pub fn read<T: DeserializeOwned>(path: &str, value: Value, problems: &mut Problems) -> Option<T> {
    let join = |inner: &str| match inner {
        "" | "." => path.to_owned(),
        inner if path.is_empty() || inner.starts_with('[') => format!("{path}{inner}"),
        inner => format!("{path}.{inner}"),
    };
    let mut track = serde_path_to_error::Track::new();
    let mut unknown = Vec::new();
    let deserializer = serde_path_to_error::Deserializer::new(value, &mut track);
    let result = serde_ignored::deserialize(deserializer, |path| unknown.push(path.to_string()));
    for key in unknown {
        problems.add(join(&key), "unknown key");
    }
    match result {
        Ok(value) => Some(value),
        Err(error) => {
            problems.add(join(&track.path().to_string()), error.to_string());
            None
        }
    }
}

/// A value of the text with the lines of everything in it.
struct Node {
    line: u64,
    /// Where the text defines it, in bytes.
    span: Option<Range<usize>>,
    value: Tree,
}

enum Tree {
    Leaf(Value),
    List(Vec<Node>),
    Mapping(Vec<(String, Node)>),
}

impl Node {
    fn into_value(self, path: &str, lines: &mut HashMap<String, u64>) -> Value {
        lines.insert(path.to_owned(), self.line);
        match self.value {
            Tree::Leaf(value) => value,
            Tree::List(items) => {
                let value = |(i, item): (usize, Node)| item.into_value(&format!("{path}[{i}]"), lines);
                Value::Array(items.into_iter().enumerate().map(value).collect())
            }
            Tree::Mapping(entries) => {
                let value = |(key, item): (String, Node)| {
                    let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                    (key, item.into_value(&path, lines))
                };
                Value::Object(entries.into_iter().map(value).collect())
            }
        }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Spanned { value, referenced, defined } = Spanned::<Tree>::deserialize(deserializer)?;
        let span = defined.span();
        let bytes = |number: Option<u64>| number.and_then(|number| usize::try_from(number).ok());
        let span = bytes(span.byte_offset()).zip(bytes(span.byte_len())).map(|(at, len)| at..at + len);
        Ok(Self { line: referenced.line(), span, value })
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
        let mut mapping: Vec<(String, Node)> = Vec::new();
        while let Some((key, value)) = entries.next_entry::<String, Node>()? {
            mapping.push((key, value));
        }
        Ok(Tree::Mapping(mapping))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOOKS: &str = "
pools:
  - name: books
    strategy: least_connections
    health_check: { type: http, path: /health, interval: 500ms }
    timeouts: { connect: 1s, response: 10s, idle: 60s }
    backends:
      - { url: \"http://127.0.0.1:8082\", weight: 2 }
      - { url: \"http://127.0.0.1:8083\" }
routes:
  - name: default
    pool: books
";

    #[test]
    fn a_file_reads_and_writes() {
        let (config, snapshot) = parse(BOOKS).unwrap();
        assert_eq!(snapshot.pools[0].backends[0].weight.get(), 2);
        let (again, _) = parse(&to_yaml(&config)).unwrap();
        assert_eq!(config, again);
        let json = serde_json::to_string_pretty(&config).unwrap();
        assert_eq!(parse(&json).unwrap().0, config);
    }

    #[test]
    fn every_mistake_has_its_line() {
        let text = "
pools:
  - name: books
    strategy: fastest
    backends:
      - url: ftp://x
      - { url: \"http://a:1\", weight: heavy }
      - url: http://b:1
        color: red
  - name: other
    health_check: { interval: soon }
routes:
  - name: r
    pool: nowhere
colour: blue
";
        let problems = parse(text).unwrap_err();
        let found: Vec<(u64, &str)> =
            problems.0.iter().map(|problem| (problem.line.unwrap_or(0), problem.path.as_str())).collect();
        for expected in [
            (4, "pools[0].strategy"),
            (6, "pools[0].backends[0].url"),
            (7, "pools[0].backends[1].weight"),
            (9, "pools[0].backends[2].color"),
            (11, "pools[1].health_check.interval"),
            (15, "colour"),
        ] {
            assert!(found.contains(&expected), "{expected:?} is missing from {problems}");
        }
    }

    #[test]
    fn broken_texts_are_refused_with_their_line() {
        for text in ["pools: [", "a: b: c", "pools:\n  - name: x\n    name: y\n", "- 1", "pools: 5", "\u{0}"]
        {
            parse(text).unwrap_err();
        }
        let twice = parse("pools:\n  - name: x\n    name: y\n").unwrap_err();
        assert_eq!(twice.0[0].line, Some(3), "{twice}");
    }
}
