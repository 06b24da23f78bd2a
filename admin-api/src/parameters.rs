//! The parameters of a path or a query, read from the schema of their type.

use schemars::{JsonSchema, Schema};
use serde_json::{Map, Value};

use crate::{endpoint::SchemaOf, schemas};

/// A parameter.
#[derive(Debug, Clone, PartialEq)]
pub struct Parameter {
    /// Its name.
    pub name: String,
    /// Its effect.
    pub description: String,
    /// The values that it can have.
    pub schema: Value,
    /// True when it can be repeated.
    pub is_list: bool,
}

/// The parameters of a type.
pub fn of<T: JsonSchema>() -> Vec<Parameter> {
    read(T::json_schema)
}

/// The parameters that a declaration names, in their order.
pub(crate) fn read(schema: SchemaOf) -> Vec<Parameter> {
    let mut generator = schemas::requests();
    let schema: Schema = schema(&mut generator);
    let definitions = generator.take_definitions(true);
    let properties = schema.get("properties").and_then(Value::as_object);
    let parameter = |(name, schema): (&String, &Value)| {
        let mut schema = resolved(schema, &definitions);
        let description = match schema.as_object_mut().and_then(|schema| schema.remove("description")) {
            Some(Value::String(text)) => text,
            _ => String::new(),
        };
        let is_list = schema.get("type") == Some(&Value::from("array"));
        Parameter { name: name.clone(), description, schema, is_list }
    };
    properties.into_iter().flatten().map(parameter).collect()
}

/// The schema without references, and without null: a parameter that has no value is absent.
fn resolved(schema: &Value, definitions: &Map<String, Value>) -> Value {
    let mut found = schema.as_object().cloned().unwrap_or_default();
    found.remove("default");
    if let Some(Value::Array(mut any)) = found.remove("anyOf") {
        any.retain(|one| one.get("type") != Some(&Value::from("null")));
        found.extend(any.pop().and_then(|one| one.as_object().cloned()).unwrap_or_default());
    }
    if let Some(Value::Array(types)) = found.get_mut("type") {
        types.retain(|name| name != "null");
        if let [one] = types.as_slice() {
            let one = one.clone();
            found.insert("type".into(), one);
        }
    }
    if let Some(Value::String(name)) = found.remove("$ref")
        && let Some(named) = name.rsplit('/').next().and_then(|name| definitions.get(name)?.as_object())
    {
        let missing: Vec<_> = named.iter().filter(|(key, _)| !found.contains_key(*key)).collect();
        let missing: Vec<_> = missing.into_iter().map(|(key, value)| (key.clone(), value.clone())).collect();
        found.extend(missing);
    }
    // Variants with a description each; the values are enough here.
    if let Some(Value::Array(variants)) = found.remove("oneOf") {
        let values: Vec<Value> =
            variants.iter().filter_map(|variant| variant.get("const").cloned()).collect();
        found.insert("type".into(), "string".into());
        found.insert("enum".into(), values.into());
    }
    found.into()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{ExplainQuery, SummaryQuery};

    #[test]
    fn parameters_are_never_null_and_name_their_values() {
        let all = of::<SummaryQuery>();
        let find = |name: &str| all.iter().find(|one| one.name == name).unwrap();
        assert_eq!(find("from").schema, json!({ "type": "string" }));
        assert_eq!(find("format").schema, json!({ "type": "string", "enum": ["json", "csv"] }));
        assert_eq!(find("compare").schema, json!({ "type": "boolean" }));
        assert!(find("format").description.starts_with("Format of the answer"));
        assert!(of::<ExplainQuery>().iter().any(|one| one.name == "header" && one.is_list));
        assert!(of::<()>().is_empty());
    }
}
