//! Reads the configuration file, YAML or JSON, and reports all problems at once, with line, column and path.
//!
//! The text becomes a [tree](tree) in which every key and value knows its location. Each pool, backend and route is
//! then read on its own and [leniently](lenient): an invalid value is reported and left out, so that it hides
//! neither other invalid values nor the problems that only [`check`](crate::check()) finds in the rest.
//!
//! No text causes a panic or needs more time and memory than the limits below allow.

mod lenient;
mod locate;
mod references;
mod tree;

use std::collections::HashSet;

use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::{Map, Value};

pub use self::references::{MAX_FILE, inline, is_content};
use self::{locate::Locator, tree::Node};
use crate::{
    backend_address,
    config::{Backend, Certificate, Config, Pool, Route, Settings},
    problem::{Problem, Problems},
    snapshot::Snapshot,
};

/// The largest text, in bytes.
pub const MAX_BYTES: usize = 16 << 20;

/// The most values in a text.
pub const MAX_NODES: usize = 500_000;

/// The most values that aliases may add.
pub const MAX_REPEATED: usize = 100_000;

/// The deepest nesting of values.
pub const MAX_DEPTH: usize = 32;

/// The most problems that are reported.
pub const MAX_PROBLEMS: usize = 1000;

/// Reads a configuration and checks it.
///
/// # Errors
/// Every problem with its path, and with its location if it is known. After [`MAX_PROBLEMS`] only their number.
pub fn parse(text: &str) -> Result<(Config, Snapshot), Problems> {
    if text.len() > MAX_BYTES {
        let message = format!("the configuration is too large: {} MiB at most", MAX_BYTES >> 20);
        return Err(Problem::new("", message).into());
    }
    let root = Node::read(text)?;
    let mut reader = Reader::default();
    let value = root.value(&mut String::new(), &mut reader.problems);
    let config = reader.config(value);
    let Reader { mut problems, unreadable } = reader;
    let snapshot = match crate::check(&config) {
        Ok(snapshot) => {
            problems.0.extend(backend_address::forbidden(&snapshot, &[], |_| false).0);
            Some(snapshot)
        }
        Err(found) => {
            let unreadable = Unreadable::new(unreadable);
            problems.0.extend(found.0.into_iter().filter(|problem| !unreadable.explains(problem)));
            None
        }
    };
    match snapshot {
        Some(mut snapshot) if problems.0.is_empty() => {
            let mut warnings = Problems(std::mem::take(&mut snapshot.warnings));
            add_locations(&root, &mut warnings);
            snapshot.warnings = warnings.0;
            Ok((config, snapshot))
        }
        _ => {
            add_locations(&root, &mut problems);
            Err(problems)
        }
    }
}

/// Adds the locations in the text to problems that were found elsewhere.
pub fn locate(text: &str, problems: &mut Problems) {
    // Parse the text again only if a problem has no location yet.
    if problems.0.iter().any(|problem| problem.line.is_none())
        && text.len() <= MAX_BYTES
        && let Ok(root) = Node::read(text)
    {
        add_locations(&root, problems);
    }
}

/// Like [`parse`], for bytes that may not be text.
///
/// # Errors
/// As [`parse`].
pub fn parse_bytes(bytes: &[u8]) -> Result<(Config, Snapshot), Problems> {
    parse(text(bytes)?)
}

/// Decodes UTF-8.
///
/// # Errors
/// The line of the first byte that is not UTF-8.
pub fn text(bytes: &[u8]) -> Result<&str, Problems> {
    std::str::from_utf8(bytes).map_err(|error| {
        let good = &bytes[..error.valid_up_to()];
        let line = 1 + good.iter().filter(|byte| **byte == b'\n').count() as u64;
        Problem { line: Some(line), ..Problem::new("", "the configuration is not UTF-8 text") }.into()
    })
}

/// Writes a configuration as YAML. [`parse`] reads it back to the same configuration.
pub fn to_yaml(config: &Config) -> String {
    serde_saphyr::to_string(config).unwrap_or_default()
}

/// Reads one object as `T`. Every unknown key and every wrong type becomes a problem. `like` is the path at which a
/// configuration has such an object (`routes[0]`); with it, problems with unknown keys list the known ones. If there
/// are problems, the value contains only the readable parts.
pub fn read<T: DeserializeOwned>(like: Option<&str>, value: Value, problems: &mut Problems) -> Option<T> {
    lenient::read(("", like), value, problems).value
}

/// Parses a JSON object, for [`read`].
///
/// # Errors
/// The text is not JSON, has a duplicate key, or is not an object.
pub fn json_object(text: &str) -> Result<Map<String, Value>, Problems> {
    if text.trim().is_empty() {
        return Err(Problem::new("", "the body is empty").into());
    }
    if let Err(error) = serde_json::from_str::<IgnoredAny>(text) {
        let mut problem = Problem::new("", format!("the body is not JSON: {error}"));
        problem.line = u64::try_from(error.line()).ok();
        return Err(problem.into());
    }
    let mut twice = Problems::default();
    match Node::read(text)?.value(&mut String::new(), &mut twice) {
        _ if !twice.0.is_empty() => Err(twice),
        Value::Object(object) => Ok(object),
        _ => Err(Problem::new("", "the body is not a JSON object").into()),
    }
}

/// Reads the parts of a configuration.
#[derive(Default)]
struct Reader {
    problems: Problems,
    /// Paths of values that could not be read.
    unreadable: Vec<String>,
}

impl Reader {
    fn config(&mut self, root: Value) -> Config {
        let mut root = match root {
            Value::Object(root) => root,
            // An empty file is probably the result of a failed command and must not delete everything.
            Value::Null => {
                let message =
                    "the configuration is empty: write {} for a configuration without pools and routes";
                self.problems.add("", message);
                return Config::default();
            }
            _ => {
                let message = "expected a mapping with the keys settings, pools, routes and certificates";
                self.problems.add("", message);
                return Config::default();
            }
        };
        let settings = root.remove("settings").filter(|settings| !settings.is_null());
        let settings = settings.and_then(|settings| self.read::<Settings>("settings", "settings", settings));
        let mut pools = Vec::new();
        for (i, mut pool) in self.list(&mut root, "pools", "").into_iter().enumerate() {
            let path = format!("pools[{i}]");
            let backends =
                pool.as_object_mut().map(|pool| self.list(pool, "backends", &path)).unwrap_or_default();
            // An unreadable item keeps its index, so that the paths of the others stay right.
            let stand_in = || Pool { name: lenient::STAND_IN.to_owned(), ..Pool::default() };
            let mut pool = self.read(&path, "a pool", pool).unwrap_or_else(stand_in);
            for (j, backend) in backends.into_iter().enumerate() {
                let stand_in = || Backend {
                    id: String::new(),
                    url: lenient::STAND_IN.to_owned(),
                    weight: 1,
                    state: Default::default(),
                };
                let path = format!("{path}.backends[{j}]");
                pool.backends.push(self.read(&path, "a backend", backend).unwrap_or_else(stand_in));
            }
            pools.push(pool);
        }
        let mut routes = Vec::new();
        for (i, route) in self.list(&mut root, "routes", "").into_iter().enumerate() {
            let stand_in = || Route { name: lenient::STAND_IN.to_owned(), ..Route::default() };
            let path = format!("routes[{i}]");
            routes.push(self.read(&path, "a route", route).unwrap_or_else(stand_in));
        }
        let mut certificates = Vec::new();
        for (i, certificate) in self.list(&mut root, "certificates", "").into_iter().enumerate() {
            let path = format!("certificates[{i}]");
            certificates.extend(self.read::<Certificate>(&path, "a certificate", certificate));
        }
        lenient::unknown_keys("", root.keys(), &mut self.problems);
        Config { settings: settings.unwrap_or_default(), pools, routes, certificates }
    }

    fn read<T: DeserializeOwned>(&mut self, path: &str, what: &str, value: Value) -> Option<T> {
        // Serde would also accept a list of the fields' values in their order.
        if !value.is_object() {
            self.problems.add(path, format!("{what} must be a mapping"));
            self.unreadable.push(path.to_owned());
            return None;
        }
        let reading = lenient::read((path, Some(path)), value, &mut self.problems);
        self.unreadable.extend(reading.unreadable);
        reading.value
    }

    /// Takes a list out of a mapping, so that its items are read one by one.
    fn list(&mut self, parent: &mut Map<String, Value>, key: &str, path: &str) -> Vec<Value> {
        match parent.remove(key) {
            None | Some(Value::Null) => Vec::new(),
            Some(Value::Array(items)) => items,
            Some(_) => {
                let path = if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
                self.problems.add(&path, format!("{key} must be a list"));
                self.unreadable.push(path);
                Vec::new()
            }
        }
    }
}

/// Values that could not be read. They tell real problems from those that only follow from unreadable values.
struct Unreadable {
    paths: HashSet<String>,
    /// All paths that contain an unreadable value.
    parents: HashSet<String>,
    /// Whether every pool's name could be read.
    knows_pools: bool,
}

impl Unreadable {
    fn new(unreadable: Vec<String>) -> Self {
        let parents = unreadable.iter().map(|path| parent(path).to_owned()).collect();
        let is_pool = |path: &String| {
            let rest = path
                .strip_prefix("pools")
                .map(|rest| rest.trim_start_matches(|c: char| c.is_ascii_digit() || c == '[' || c == ']'));
            matches!(rest, Some("" | ".name"))
        };
        Self {
            knows_pools: !unreadable.iter().any(is_pool),
            parents,
            paths: unreadable.into_iter().collect(),
        }
    }

    /// Whether a problem only follows from an unreadable value: it concerns the value itself, an object that contains
    /// it, or something that depends on it.
    fn explains(&self, problem: &Problem) -> bool {
        if self.paths.is_empty() {
            return false;
        }
        let path = problem.path.as_str();
        let is_unknown_pool = problem.message.contains("unknown pool");
        if problem.message.contains(lenient::STAND_IN) || is_unknown_pool && !self.knows_pools {
            return true;
        }
        if self.parents.contains(path) {
            return true;
        }
        if path.strip_suffix("hash_on").is_some_and(|pool| self.paths.contains(&format!("{pool}strategy"))) {
            return true;
        }
        // From the root down to the value. A key may be long and full of dots, so the number of prefixes is limited.
        let ends = path.char_indices().filter(|(_, letter)| matches!(letter, '.' | '[')).map(|(end, _)| end);
        let mut around = ends.take(4 * MAX_DEPTH).chain([0, path.len()]).map(|end| &path[..end]);
        around.any(|around| self.paths.contains(around) || self.paths.contains(&format!("{around}.type")))
    }
}

fn parent(path: &str) -> &str {
    path.rfind(['.', '[']).map_or("", |end| &path[..end])
}

/// Adds the location to each problem, sorts the problems, and limits their number.
fn add_locations(root: &Node, problems: &mut Problems) {
    let mut places = Locator::new(root);
    for problem in problems.0.iter_mut().filter(|problem| problem.line.is_none()) {
        places.find(&problem.path, problem.of_key).mark(problem);
    }
    problems.0.sort_by_key(|problem| (problem.line, problem.column));
    problems.0.dedup();
    let more = problems.0.len().saturating_sub(MAX_PROBLEMS);
    if more > 0 {
        problems.0.truncate(MAX_PROBLEMS);
        problems.add("", format!("and {more} more"));
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
    fn a_file_round_trips() {
        let (config, snapshot) = parse(BOOKS).unwrap();
        assert_eq!(snapshot.pools[0].backends[0].weight.get(), 2);
        let (again, _) = parse(&to_yaml(&config)).unwrap();
        assert_eq!(config, again);
        let json = serde_json::to_string_pretty(&config).unwrap();
        assert_eq!(parse(&json).unwrap().0, config);
    }

    #[test]
    fn every_problem_has_its_line() {
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
            (14, "routes[0].pool"),
            (15, "colour"),
        ] {
            assert!(found.contains(&expected), "{expected:?} is missing from {problems}");
        }
    }

    #[test]
    fn invalid_texts_are_rejected_with_their_line() {
        for text in ["pools: [", "a: b: c", "pools:\n  - name: x\n    name: y\n", "- 1", "pools: 5", "\u{0}"]
        {
            parse(text).unwrap_err();
        }
        let twice = parse("pools:\n  - name: x\n    name: y\n").unwrap_err();
        assert_eq!(twice.0[0].line, Some(3), "{twice}");
    }
}
