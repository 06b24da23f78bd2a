//! `docs/reference/api.md`, made from the OpenAPI document.

use std::fmt::Write as _;

use serde_json::{Map, Value};

use crate::{
    openapi,
    operations::{ALL, TAGS},
    schemas,
};

const HEAD: &str = "\
# Admin API

<!-- Generated from admin-api/src/; WEIR_UPDATE=1 cargo test -p weir-admin-api writes it. -->

The control plane serves this API as JSON over HTTP on its admin port. `GET /openapi.json` returns the same description
as OpenAPI 3.1; it is in the repository as [openapi.json](openapi.json).

- **Authentication.** `Authorization: Bearer TOKEN`. On loopback no token is needed until the first one is created. Each
  operation names the role that its token needs; a role allows all that the roles before it allow: viewer, operator,
  admin. See [access](access.md).
- **Errors** are `application/problem+json` ([Error](#error)) and list every mistake in the request. A call that fails
  changes nothing.
- **`ETag` and `If-Match`.** The tag is the number of the current revision. Every operation that changes something takes
  `If-Match`; it fails with 412 when another revision is current.
- **Lists** are `{\"items\": [...]}`. With `limit` the answer is one page, and `next_page_token` is the `page_token` of the
  next one. A token belongs to one list with the same filters; any other token is an error (400).
- **Unknown parameters and fields** are errors.
- **Common errors.** Every operation can answer 400, 401, 403, 421, 429, 500 and 503. Only other errors are listed below.
";

/// The page.
pub fn text() -> String {
    let document = openapi::document();
    let mut page = HEAD.to_owned();
    for tag in TAGS {
        let _ = write!(page, "\n## {}\n\n{}\n", tag.name, tag.description);
        for operation in ALL.iter().filter(|operation| operation.tag == tag) {
            let method = operation.method.as_str();
            let described = &document["paths"][operation.path][method.to_ascii_lowercase()];
            push_operation(&mut page, operation.path, method, described);
        }
    }
    page.push_str("\n## Types\n");
    page.push_str("\nTypes of the configuration (such as Pool and Route) are in [the configuration](configuration.md).\n");
    let configuration = weir_snapshot::schema::definitions(schemas::PATH);
    for (name, schema) in document["components"]["schemas"].as_object().into_iter().flatten() {
        // The body of a PUT is a configuration type, except that of a certificate, which includes its key.
        let is_configuration = name.starts_with("Put") && name != "PutCertificate";
        if !configuration.contains_key(name) && !is_configuration {
            push_type(&mut page, name, schema);
        }
    }
    page
}

fn push_operation(page: &mut String, path: &str, method: &str, operation: &Value) {
    let text = |name: &str| operation[name].as_str().unwrap_or_default();
    let _ = write!(page, "\n### {method} {path}\n\n{}.", text("summary"));
    if !text("description").is_empty() {
        let _ = write!(page, " {}", text("description"));
    }
    let need = match text("x-weir-role") {
        "" => "no token",
        role => role,
    };
    let _ = write!(page, "\n\nOperation `{}`; role: {need}.\n\n", text("operationId"));
    let parameters = operation["parameters"].as_array().map(Vec::as_slice).unwrap_or_default();
    let in_place = |place: &'static str| parameters.iter().filter(move |one| one["in"] == place);
    if in_place("query").next().is_some() {
        page.push_str("| query parameter | type | meaning |\n|---|---|---|\n");
        for parameter in in_place("query") {
            let name = parameter["name"].as_str().unwrap_or_default();
            let meaning = cell(parameter["description"].as_str().unwrap_or_default());
            let _ = writeln!(page, "| `{name}` | {} | {meaning} |", type_of(&parameter["schema"]));
        }
        page.push('\n');
    }
    if let Some(body) = operation.get("requestBody") {
        let optional = if body["required"] == true { "" } else { ", optional" };
        let _ = writeln!(page, "- Body{optional}: {}", media(&body["content"]));
    }
    let mut errors = Vec::new();
    for (status, response) in operation["responses"].as_object().into_iter().flatten() {
        if let Some(content) = response.get("content") {
            let headers = response["headers"].as_object().into_iter().flatten();
            let headers: Vec<String> = headers.map(|(name, _)| format!("`{name}`")).collect();
            let headers =
                if headers.is_empty() { String::new() } else { format!("; headers {}", headers.join(", ")) };
            let _ = writeln!(page, "- {status}: {}{headers}", media(content));
        } else if !["400", "401", "403", "421", "429", "500", "503"].contains(&status.as_str()) {
            errors.push(status.as_str());
        }
    }
    if !errors.is_empty() {
        let _ = writeln!(page, "- Errors: {}", errors.join(", "));
    }
}

fn media(content: &Value) -> String {
    let kinds = content.as_object().into_iter().flatten();
    let one = |(kind, media): (&String, &Value)| match kind.as_str() {
        "application/json" => match type_of(&media["schema"]) {
            object if object == "object" => "JSON".to_owned(),
            name => name,
        },
        kind => format!("`{kind}`"),
    };
    kinds.map(one).collect::<Vec<_>>().join(" or ")
}

fn push_type(page: &mut String, name: &str, schema: &Value) {
    let description = schema["description"].as_str().unwrap_or_default();
    let _ = write!(page, "\n### {name}\n\n{description}\n\n");
    if let Some(Value::Array(variants)) = schema.get("oneOf") {
        page.push_str("| value | meaning |\n|---|---|\n");
        for variant in variants {
            let meaning = cell(variant["description"].as_str().unwrap_or_default());
            let _ = writeln!(page, "| `{}` | {meaning} |", variant["const"].as_str().unwrap_or_default());
        }
    } else if let Some(Value::Object(properties)) = schema.get("properties") {
        let empty = Vec::new();
        let required = schema["required"].as_array().unwrap_or(&empty);
        page.push_str("| field | type | meaning |\n|---|---|---|\n");
        for (field, schema) in properties {
            let optional = if required.iter().any(|name| name == field) { "" } else { ", optional" };
            let meaning = cell(schema["description"].as_str().unwrap_or_default());
            let _ = writeln!(page, "| `{field}` | {}{optional} | {meaning} |", type_of(schema));
        }
    }
}

/// A text as a cell of a table.
fn cell(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|")
}

/// The name of a schema's type.
fn type_of(schema: &Value) -> String {
    let Some(schema) = schema.as_object() else { return "any".to_owned() };
    if let Some(name) = schema.get("$ref").and_then(Value::as_str).and_then(|name| name.rsplit('/').next()) {
        return named(name);
    }
    if let Some(Value::Array(values)) = schema.get("enum") {
        let values: Vec<String> = values.iter().map(|value| format!("`{}`", text_of(value))).collect();
        return values.join(", ");
    }
    if let Some(Value::Array(any)) = schema.get("anyOf") {
        return any.iter().map(type_of).collect::<Vec<_>>().join(" or ");
    }
    match schema.get("type") {
        Some(Value::String(name)) => simple(name, schema),
        Some(Value::Array(names)) => {
            names.iter().map(|name| simple(&text_of(name), schema)).collect::<Vec<_>>().join(" or ")
        }
        _ => "any".to_owned(),
    }
}

fn simple(name: &str, schema: &Map<String, Value>) -> String {
    let values = schema.get("additionalProperties").filter(|values| values.is_object());
    let values = values.or_else(|| schema.get("patternProperties")?.as_object()?.values().next());
    match name {
        "array" => format!("list of {}", schema.get("items").map_or("any".to_owned(), type_of)),
        "object" => values.map_or("object".to_owned(), |values| format!("map to {}", type_of(values))),
        name => name.to_owned(),
    }
}

fn named(name: &str) -> String {
    let configuration = weir_snapshot::schema::definitions(schemas::PATH);
    match name.strip_prefix("Put").filter(|name| configuration.contains_key(*name)) {
        _ if configuration.contains_key(name) => format!("[{name}](configuration.md)"),
        Some(name) => format!("[{name}](configuration.md)"),
        None => format!("[{name}](#{})", name.to_ascii_lowercase()),
    }
}

fn text_of(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
