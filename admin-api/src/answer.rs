//! Answers of operations that succeed.

use std::marker::PhantomData;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use weir_snapshot::config::Config;

use crate::{Applied, schemas};

/// The declaration of an answer.
#[derive(Debug, Clone)]
pub struct Response {
    /// Its status.
    pub status: u16,
    /// When it is sent.
    pub description: &'static str,
    /// Whether `Location` names what was created.
    pub has_location: bool,
    /// Its media types and their schemas.
    pub content: Vec<(&'static str, Schema)>,
}

/// A kind of answer.
pub trait Answer {
    /// The type that a client reads.
    type Value;

    /// Declares it.
    fn declare(generator: &mut SchemaGenerator) -> Vec<Response>;
}

fn ok(description: &'static str, content: Vec<(&'static str, Schema)>) -> Response {
    Response { status: 200, description, has_location: false, content }
}

fn json<T: JsonSchema>(generator: &mut SchemaGenerator) -> (&'static str, Schema) {
    ("application/json", generator.subschema_for::<T>())
}

/// 200 with a JSON object.
pub struct Json<T>(PhantomData<T>);

impl<T: JsonSchema> Answer for Json<T> {
    type Value = T;

    fn declare(generator: &mut SchemaGenerator) -> Vec<Response> {
        vec![ok("Done.", vec![json::<T>(generator)])]
    }
}

/// 201 with the JSON object that was created, and its path in `Location`.
pub struct Created<T>(PhantomData<T>);

impl<T: JsonSchema> Answer for Created<T> {
    type Value = T;

    fn declare(generator: &mut SchemaGenerator) -> Vec<Response> {
        let created = ok("Created.", vec![json::<T>(generator)]);
        vec![Response { status: 201, has_location: true, ..created }]
    }
}

/// 200 with the JSON object that was replaced, or 201 and `Location` when it is new.
pub struct Saved<T>(PhantomData<T>);

impl<T: JsonSchema> Answer for Saved<T> {
    type Value = T;

    fn declare(generator: &mut SchemaGenerator) -> Vec<Response> {
        let replaced = ok("Replaced.", vec![json::<T>(generator)]);
        let created = Created::<T>::declare(generator);
        [replaced].into_iter().chain(created).collect()
    }
}

/// 200 with what changed, or 504 when `wait` passed and not all nodes run the revision.
pub struct RolledOut;

impl Answer for RolledOut {
    type Value = Applied;

    fn declare(generator: &mut SchemaGenerator) -> Vec<Response> {
        let done = ok("Done.", vec![json::<Applied>(generator)]);
        let late = Response {
            status: 504,
            description: "The revision is stored, but `wait` passed before all connected nodes ran it.",
            ..done.clone()
        };
        vec![done, late]
    }
}

/// A report: JSON, or CSV with `format=csv`.
pub struct Reported<T>(PhantomData<T>);

impl<T: JsonSchema> Answer for Reported<T> {
    type Value = T;

    fn declare(generator: &mut SchemaGenerator) -> Vec<Response> {
        vec![ok("Done.", vec![json::<T>(generator), ("text/csv", schemas::text())])]
    }
}

/// The configuration: YAML, or JSON when `Accept` names JSON.
pub struct ConfigFileText;

impl Answer for ConfigFileText {
    type Value = Config;

    fn declare(generator: &mut SchemaGenerator) -> Vec<Response> {
        let config = json::<Config>(generator);
        vec![ok("Done.", vec![("application/yaml", config.1.clone()), config])]
    }
}

/// Plain text.
pub struct Text;

impl Answer for Text {
    type Value = String;

    fn declare(_: &mut SchemaGenerator) -> Vec<Response> {
        vec![ok("Done.", vec![("text/plain", schemas::text())])]
    }
}

/// Prometheus metrics: the text format, or OpenMetrics when `Accept` prefers it.
pub struct Metrics;

impl Answer for Metrics {
    type Value = String;

    fn declare(_: &mut SchemaGenerator) -> Vec<Response> {
        let content =
            vec![("text/plain", schemas::text()), ("application/openmetrics-text", schemas::text())];
        vec![ok("Done.", content)]
    }
}

/// Server-sent events whose data are `T`.
pub struct Events<T>(PhantomData<T>);

impl<T: JsonSchema> Answer for Events<T> {
    type Value = T;

    fn declare(generator: &mut SchemaGenerator) -> Vec<Response> {
        // OpenAPI 3.1 has no schema of an event stream; the type of the data is listed among the schemas.
        generator.subschema_for::<T>();
        vec![ok(
            "A stream that ends when the caller closes it.",
            vec![("text/event-stream", schemas::text())],
        )]
    }
}

/// The OpenAPI document.
pub struct OpenApi;

impl Answer for OpenApi {
    type Value = serde_json::Value;

    fn declare(_: &mut SchemaGenerator) -> Vec<Response> {
        vec![ok("Done.", vec![("application/json", json_schema!({ "type": "object" }))])]
    }
}

/// A JSON Schema.
pub struct SchemaDocument;

impl Answer for SchemaDocument {
    type Value = serde_json::Value;

    fn declare(_: &mut SchemaGenerator) -> Vec<Response> {
        vec![ok("Done.", vec![("application/schema+json", json_schema!({ "type": "object" }))])]
    }
}
