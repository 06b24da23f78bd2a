//! Generates the configuration reference from the schema: one table per object, breadth first.

use std::fmt::Write as _;

use serde_json::Value;

/// Returns the tables as Markdown.
pub(crate) fn markdown(schema: &Value) -> String {
    let mut out = String::new();
    let mut queue = vec![("The file".to_owned(), schema.clone())];
    let mut done = vec!["The file".to_owned()];
    while !queue.is_empty() {
        let (name, object) = queue.remove(0);
        let _ = writeln!(out, "\n### {name}\n");
        let _ = writeln!(out, "{}\n", text(&object, "description"));
        let _ = writeln!(out, "| key | value | default | meaning |\n|---|---|---|---|");
        let required: Vec<&str> =
            object["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        for (key, field) in object["properties"].as_object().into_iter().flatten() {
            let (kind, inner) = kind(schema, field);
            for (name, object) in inner {
                if !done.contains(&name) {
                    done.push(name.clone());
                    queue.push((name, object));
                }
            }
            let default = match &field["default"] {
                _ if required.contains(&key.as_str()) => "required".to_owned(),
                Value::Null | Value::Object(_) => String::new(),
                Value::Array(items) if items.is_empty() => String::new(),
                default => format!("`{}`", default.to_string().trim_matches('"').replace('"', "")),
            };
            let _ = writeln!(out, "| `{key}` | {kind} | {default} | {} |", text(field, "description"));
        }
    }
    out
}

fn text(schema: &Value, field: &str) -> String {
    schema[field].as_str().unwrap_or_default().replace('\n', " ").replace('|', "\\|")
}

/// The allowed values in words, and the objects that the value contains.
fn kind(root: &Value, schema: &Value) -> (String, Vec<(String, Value)>) {
    if let Some(reference) = schema["$ref"].as_str() {
        let name = reference.rsplit('/').next().unwrap_or_default();
        let target = root.pointer(reference.trim_start_matches('#')).cloned().unwrap_or_default();
        let is_object = target.get("properties").is_some();
        return match name {
            "Duration" => ("duration".into(), Vec::new()),
            "ByteSize" => ("size".into(), Vec::new()),
            "Fraction" => ("share, 0 to 1".into(), Vec::new()),
            name if is_object => {
                // Schema names differ from those of the API, where both describe a backend.
                let name = name.strip_prefix("Config").unwrap_or(name);
                let anchor = name.to_lowercase();
                (format!("[{name}](#{anchor})"), vec![(name.to_owned(), target)])
            }
            _ => kind(root, &target),
        };
    }
    for alternatives in ["anyOf", "oneOf"] {
        if let Some(list) = schema[alternatives].as_array() {
            let list: Vec<_> = list.iter().filter(|one| one["type"] != "null").collect();
            let (words, inner): (Vec<String>, Vec<Vec<_>>) = list.iter().map(|one| kind(root, one)).unzip();
            return (words.join(", "), inner.into_iter().flatten().collect());
        }
    }
    if let Some(value) = schema.get("const") {
        return (format!("`{}`", value.to_string().trim_matches('"')), Vec::new());
    }
    if let Some(values) = schema["enum"].as_array() {
        let values: Vec<String> =
            values.iter().map(|one| format!("`{}`", one.to_string().trim_matches('"'))).collect();
        return (values.join(", "), Vec::new());
    }
    if let Some(items) = schema.get("items") {
        let (kind, inner) = kind(root, items);
        return (format!("list of {kind}"), inner);
    }
    if let Some(properties) = schema["properties"].as_object() {
        let fields: Vec<String> =
            properties.iter().map(|(key, field)| format!("{key}: {}", kind(root, field).0)).collect();
        return (format!("{{ {} }}", fields.join(", ")), Vec::new());
    }
    if let Some(values) = schema.get("additionalProperties").filter(|values| values.is_object()) {
        let (kind, inner) = kind(root, values);
        return (format!("names to {kind}"), inner);
    }
    let types: Vec<&str> = match &schema["type"] {
        Value::Array(types) => types.iter().filter_map(Value::as_str).filter(|one| *one != "null").collect(),
        one => one.as_str().into_iter().collect(),
    };
    let words: Vec<String> = types
        .iter()
        .map(|one| match (*one, schema["minimum"].as_i64(), schema["maximum"].as_i64()) {
            ("integer", Some(least), Some(most)) => format!("{least} to {most}"),
            ("integer", ..) => "number".to_owned(),
            ("string", ..) => "text".to_owned(),
            ("boolean", ..) => "`true`, `false`".to_owned(),
            (other, ..) => other.to_owned(),
        })
        .collect();
    (words.join(" or "), Vec::new())
}
