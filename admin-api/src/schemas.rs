//! Generators of JSON Schemas for OpenAPI documents.
//!
//! A request is described as it is read: fields with a default are optional, and unknown fields are errors. An answer
//! is described as it is written: fields that are always there are required, and clients must expect new ones.

use schemars::{Schema, SchemaGenerator, generate::SchemaSettings, json_schema};
use weir_snapshot::schema::Closed;

/// Where the schemas are in the document.
pub(crate) const PATH: &str = "/components/schemas";

fn settings() -> SchemaSettings {
    SchemaSettings::draft2020_12().with(|settings| {
        settings.definitions_path = PATH.into();
        settings.meta_schema = None;
    })
}

/// Describes types as they are read.
pub(crate) fn requests() -> SchemaGenerator {
    settings().for_deserialize().with_transform(Closed).into_generator()
}

/// Describes types as they are written.
pub(crate) fn answers() -> SchemaGenerator {
    settings().for_serialize().into_generator()
}

/// Any text.
pub(crate) fn text() -> Schema {
    json_schema!({ "type": "string" })
}
