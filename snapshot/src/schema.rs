//! The JSON Schema of the configuration, generated from its types.
//!
//! Editors use it (`# yaml-language-server: $schema=…`), `weir schema` and `GET /schema.json` return it, and the
//! repository holds a copy, `docs/reference/weir.schema.json`. It describes structure, names and bounds. Rules that need the whole
//! configuration, such as references to pools, are checked by [`check`](crate::check()).

use std::{borrow::Cow, sync::OnceLock};

use schemars::{
    JsonSchema, Schema, SchemaGenerator,
    generate::SchemaSettings,
    json_schema,
    transform::{Transform, transform_subschemas},
};
use serde_json::{Map, Value};

use crate::{
    config::{Config, HeaderMatch, Jwks, Panic, RetryOn},
    units::{ByteSize, Fraction, HumanDuration},
};

/// The schema of the whole file.
pub fn schema() -> Value {
    let settings = SchemaSettings::draft2020_12().with_transform(Closed);
    let mut schema = settings.into_generator().into_root_schema_for::<Config>();
    schema.insert("title".into(), "Weir configuration".into());
    schema.into()
}

/// The schema as text, as it is committed and served.
pub fn text() -> String {
    let mut text = serde_json::to_string_pretty(&schema()).unwrap_or_default();
    text.push('\n');
    text
}

/// Every type of the configuration by its name, with references to `path` instead of `#/$defs`, for documents that
/// embed the schema. The type of the whole file is `Config`.
pub fn definitions(path: &'static str) -> Map<String, Value> {
    let settings = SchemaSettings::draft2020_12()
        .with(|settings| {
            settings.definitions_path = path.into();
            settings.meta_schema = None;
        })
        .with_transform(Closed);
    let mut generator = settings.into_generator();
    generator.subschema_for::<Config>();
    generator.take_definitions(true)
}

/// The keys of an object at this path of a configuration, such as `pools[0].retry`; empty if the path does not exist.
pub(crate) fn keys(path: &str) -> Vec<String> {
    keys_of(&at(path))
}

/// The same, or `None` if values other than objects are allowed at the path.
pub(crate) fn only_mapping(path: &str) -> Option<Vec<String>> {
    let found = at(path);
    let is_list = |schema: &&Value| schema.get("items").is_some();
    let keys = keys_of(&found);
    (!keys.is_empty() && !found.iter().any(is_list)).then_some(keys)
}

fn keys_of(schemas: &[&'static Value]) -> Vec<String> {
    let objects = schemas.iter().filter_map(|schema| schema.get("properties").and_then(Value::as_object));
    objects.flat_map(|properties| properties.keys().cloned()).collect()
}

/// The schemas of a path.
fn at(path: &str) -> Vec<&'static Value> {
    static SCHEMA: OnceLock<Value> = OnceLock::new();
    let root = SCHEMA.get_or_init(schema);
    let mut found = vec![root];
    let steps = path.split(['.', '[']).filter(|step| !step.is_empty());
    for step in steps {
        found = found.into_iter().flat_map(|schema| variants(root, schema)).collect();
        let inner = |schema: &'static Value| match step.strip_suffix(']') {
            Some(_) => schema.get("items"),
            None => schema.get("properties").and_then(|properties| properties.get(step)),
        };
        found = found.into_iter().filter_map(inner).collect();
    }
    found.into_iter().flat_map(|schema| variants(root, schema)).collect()
}

/// The schema itself with references resolved, or its alternatives.
fn variants(root: &'static Value, schema: &'static Value) -> Vec<&'static Value> {
    let mut found = vec![schema];
    if let Some(name) = schema.get("$ref").and_then(Value::as_str)
        && let Some(schema) = name.strip_prefix('#').and_then(|pointer| root.pointer(pointer))
    {
        found.extend(variants(root, schema));
    }
    for alternatives in ["anyOf", "oneOf", "allOf"] {
        let alternatives = schema.get(alternatives).and_then(Value::as_array);
        found.extend(alternatives.into_iter().flatten().flat_map(|schema| variants(root, schema)));
    }
    found
}

/// Forbids unknown keys everywhere.
#[derive(Debug, Clone)]
pub struct Closed;

impl Transform for Closed {
    fn transform(&mut self, schema: &mut Schema) {
        if schema.get("properties").is_some() && schema.get("additionalProperties").is_none() {
            schema.insert("additionalProperties".into(), false.into());
        }
        transform_subschemas(self, schema);
    }
}

impl JsonSchema for HumanDuration {
    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A duration: a number with the unit ms, s, m, h or d. Several are added up: 1m30s.",
            "type": ["string", "integer"],
            "pattern": "^\\s*([0-9]+\\s*(ms|s|m|min|h|d)\\s*)+$|^\\s*0+\\s*$",
            "minimum": 0,
            "maximum": 0,
            "examples": ["500ms", "10s", "5m"],
        })
    }
}

impl JsonSchema for ByteSize {
    fn schema_name() -> Cow<'static, str> {
        "ByteSize".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A size in bytes, without a unit or with KiB, MiB, GiB (1024) or kB, MB, GB (1000).",
            "type": ["string", "integer"],
            "pattern": "^\\s*[0-9]+\\s*(B|KiB|MiB|GiB|kB|KB|MB|GB)?\\s*$",
            "minimum": 0,
            "examples": ["64KiB", "10MiB"],
        })
    }
}

impl JsonSchema for Fraction {
    fn schema_name() -> Cow<'static, str> {
        "Fraction".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "description": "A share from 0 to 1.", "type": "number", "minimum": 0, "maximum": 1 })
    }
}

impl JsonSchema for RetryOn {
    fn schema_name() -> Cow<'static, str> {
        "RetryOn".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A kind of failure that is retried.",
            "oneOf": [
                { "description": "The connection failed: nothing was sent.", "const": "connect_failure" },
                { "description": "The connection broke before a response, or the response was not valid HTTP.", "const": "reset" },
                { "description": "No response within `per_attempt`.", "const": "timeout" },
                { "description": "A response with this status.", "type": "integer", "minimum": 400, "maximum": 599 },
            ],
        })
    }
}

impl JsonSchema for Panic {
    fn schema_name() -> Cow<'static, str> {
        "Panic".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let threshold = generator.subschema_for::<Fraction>();
        json_schema!({
            "description": "When a pool's backends get requests although they are down by their health check or \
                ejected by the circuit breaker. A route's fallback comes first.",
            "oneOf": [
                { "description": "Never: requests get 503. Older YAML parsers read off as false.", "enum": ["off", false] },
                {
                    "description": "When at least this share of the active backends is down or ejected, 0 to 1; 1: when all are.",
                    "type": "object",
                    "properties": { "threshold": threshold },
                    "required": ["threshold"],
                },
            ],
        })
    }
}

impl JsonSchema for Jwks {
    fn schema_name() -> Cow<'static, str> {
        "Jwks".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A JSON Web Key Set: a file name, its JSON text, or an object.",
            "type": ["string", "object"],
        })
    }
}

impl JsonSchema for HeaderMatch {
    fn schema_name() -> Cow<'static, str> {
        "HeaderMatch".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "Condition on a header: its value, or whether it is present.",
            "oneOf": [
                { "description": "One of the header's values equals this text.", "type": "string" },
                {
                    "type": "object",
                    "properties": {
                        "present": { "description": "Whether the header is present.", "type": "boolean" },
                    },
                    "required": ["present"],
                },
            ],
        })
    }
}
