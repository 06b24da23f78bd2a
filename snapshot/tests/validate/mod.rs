//! A validator for the part of JSON Schema that the generated schema uses. Unknown keywords fail, so that none is
//! ignored.

use serde_json::Value;

/// Returns each violation with its path.
#[allow(dead_code, reason = "each test uses its part")]
pub(crate) fn errors(schema: &Value, value: &Value) -> Vec<String> {
    errors_in(schema, schema, value)
}

/// The same for a schema whose references lead into `root`.
pub(crate) fn errors_in(root: &Value, schema: &Value, value: &Value) -> Vec<String> {
    let mut errors = Vec::new();
    validate(root, schema, value, "", &mut errors);
    errors
}

fn fits(root: &Value, schema: &Value, value: &Value) -> bool {
    let mut errors = Vec::new();
    validate(root, schema, value, "", &mut errors);
    errors.is_empty()
}

fn validate(root: &Value, schema: &Value, value: &Value, at: &str, errors: &mut Vec<String>) {
    let keywords = match schema {
        Value::Bool(true) => return,
        Value::Bool(false) => return errors.push(format!("{at}: no value is allowed here")),
        schema => schema.as_object().unwrap(),
    };
    let mut demand = |fine: bool, what: &dyn Fn() -> String| {
        if !fine {
            errors.push(format!("{at}: {}", what()));
        }
    };
    for (keyword, says) in keywords {
        let list = || says.as_array().unwrap().iter();
        let number = || says.as_f64().unwrap();
        match keyword.as_str() {
            "$schema" | "$defs" | "$id" | "title" | "description" | "default" | "examples" | "format"
            | "writeOnly" => {}
            "type" => {
                let is = |name: &Value| match name.as_str().unwrap() {
                    "object" => value.is_object(),
                    "array" => value.is_array(),
                    "string" => value.is_string(),
                    "boolean" => value.is_boolean(),
                    "number" => value.is_number(),
                    "integer" => value.is_i64() || value.is_u64(),
                    "null" => value.is_null(),
                    other => panic!("unknown type {other}"),
                };
                let fine = says.as_array().map_or_else(|| is(says), |names| names.iter().any(is));
                demand(fine, &|| format!("{value} is not of type {says}"));
            }
            "const" => demand(value == says, &|| format!("{value} is not {says}")),
            "enum" => demand(list().any(|one| one == value), &|| format!("{value} is not one of {says}")),
            "minimum" => {
                demand(value.as_f64().is_none_or(|n| n >= number()), &|| format!("{value} < {says}"))
            }
            "maximum" => {
                demand(value.as_f64().is_none_or(|n| n <= number()), &|| format!("{value} > {says}"))
            }
            "minItems" => {
                demand(value.as_array().is_none_or(|v| v.len() as f64 >= number()), &|| "few".into())
            }
            "maxItems" => {
                demand(value.as_array().is_none_or(|v| v.len() as f64 <= number()), &|| "many".into())
            }
            "uniqueItems" => {}
            "minLength" => {
                demand(value.as_str().is_none_or(|v| v.chars().count() as f64 >= number()), &|| {
                    "short".into()
                });
            }
            "maxLength" => {
                demand(value.as_str().is_none_or(|v| v.chars().count() as f64 <= number()), &|| {
                    "long".into()
                });
            }
            "pattern" => {
                let pattern = regex::Regex::new(says.as_str().unwrap()).unwrap();
                demand(value.as_str().is_none_or(|text| pattern.is_match(text)), &|| {
                    format!("{value} !~ {says}")
                });
            }
            "$ref" => {
                let pointer = says.as_str().unwrap().strip_prefix('#').unwrap();
                let referred = root.pointer(pointer).unwrap_or_else(|| panic!("{says} does not exist"));
                let mut inner = Vec::new();
                validate(root, referred, value, at, &mut inner);
                inner.into_iter().for_each(|error| demand(false, &|| error.clone()));
            }
            "allOf" => demand(list().all(|one| fits(root, one, value)), &|| "not all schemas match".into()),
            "anyOf" => {
                demand(list().any(|one| fits(root, one, value)), &|| format!("{value}: no schema matches"))
            }
            "oneOf" => {
                let fitting = list().filter(|one| fits(root, one, value)).count();
                demand(fitting == 1, &|| format!("{value}: {fitting} alternatives match"));
            }
            "required" => {
                for name in list() {
                    let there =
                        value.as_object().is_none_or(|object| object.contains_key(name.as_str().unwrap()));
                    demand(there, &|| format!("{name} is missing"));
                }
            }
            "properties" | "patternProperties" | "additionalProperties" | "items" => {}
            other => panic!("the validator does not know {other}"),
        }
    }
    look_inside(root, keywords, value, at, errors);
}

/// Validates the items and properties of the value.
fn look_inside(
    root: &Value,
    keywords: &serde_json::Map<String, Value>,
    value: &Value,
    at: &str,
    errors: &mut Vec<String>,
) {
    let properties = keywords.get("properties").and_then(Value::as_object);
    for (key, inner) in value.as_object().into_iter().flatten() {
        let at = format!("{at}/{key}");
        let known = properties.and_then(|properties| properties.get(key));
        let mut patterns = keywords.get("patternProperties").and_then(Value::as_object).into_iter().flatten();
        let mut named = || patterns.find(|(name, _)| regex::Regex::new(name).unwrap().is_match(key));
        let known = known.or_else(|| named().map(|(_, schema)| schema));
        if let Some(schema) = known.or(keywords.get("additionalProperties")) {
            validate(root, schema, inner, &at, errors);
        }
    }
    if let Some(schema) = keywords.get("items") {
        for (i, item) in value.as_array().into_iter().flatten().enumerate() {
            validate(root, schema, item, &format!("{at}/{i}"), errors);
        }
    }
}
