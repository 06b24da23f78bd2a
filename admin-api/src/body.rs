//! Request bodies.

use std::marker::PhantomData;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::Value;
use weir_snapshot::config::Config;

use crate::answer::Json;

/// The declaration of a request body.
#[derive(Debug, Clone)]
pub struct RequestBody {
    /// Whether a request without it is an error.
    pub required: bool,
    /// A description of the body, when the schema has none.
    pub description: &'static str,
    /// Its media types and their schemas.
    pub content: Vec<(&'static str, Schema)>,
}

/// A kind of request body.
pub trait Body {
    /// The type that the server's handler receives.
    type Value;

    /// Declares it; `None`: the operation has no body.
    fn declare(generator: &mut SchemaGenerator) -> Option<RequestBody>;
}

/// No body.
impl Body for () {
    type Value = ();

    fn declare(_: &mut SchemaGenerator) -> Option<RequestBody> {
        None
    }
}

/// A JSON object, whatever `Content-Type` says.
impl<T: JsonSchema> Body for Json<T> {
    type Value = T;

    fn declare(generator: &mut SchemaGenerator) -> Option<RequestBody> {
        let content = vec![("application/json", generator.subschema_for::<T>())];
        Some(RequestBody { required: true, description: "", content })
    }
}

/// A JSON object that may be absent.
pub struct OptionalJson<T>(PhantomData<T>);

impl<T: JsonSchema> Body for OptionalJson<T> {
    type Value = Option<T>;

    fn declare(generator: &mut SchemaGenerator) -> Option<RequestBody> {
        Json::<T>::declare(generator).map(|body| RequestBody { required: false, ..body })
    }
}

/// A JSON object whose `name` is in the path; the body may repeat it.
pub struct Named<T>(PhantomData<T>);

impl<T: JsonSchema> Body for Named<T> {
    type Value = T;

    fn declare(generator: &mut SchemaGenerator) -> Option<RequestBody> {
        let content = vec![("application/json", generator.subschema_for::<Unnamed<T>>())];
        Some(RequestBody { required: true, description: "The name may be absent: the path has it.", content })
    }
}

/// The schema of `T`, except that `name` is optional.
struct Unnamed<T>(PhantomData<T>);

impl<T: JsonSchema> JsonSchema for Unnamed<T> {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        format!("Put{}", T::schema_name().trim_start_matches("New")).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut schema = T::json_schema(generator);
        if let Some(Value::Array(required)) = schema.get_mut("required") {
            required.retain(|name| name != "name");
        }
        schema
    }
}

/// A whole configuration, YAML or JSON, whatever `Content-Type` says.
pub struct ConfigText;

impl Body for ConfigText {
    type Value = String;

    fn declare(generator: &mut SchemaGenerator) -> Option<RequestBody> {
        let json = generator.subschema_for::<Config>();
        let content = vec![("application/yaml", json.clone()), ("application/json", json)];
        Some(RequestBody { required: true, description: "A whole configuration, YAML or JSON.", content })
    }
}
