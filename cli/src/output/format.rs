//! Output for programs: formats JSON responses of the admin API as YAML and CSV.

use std::fmt::Write as _;

use serde_json::{Map, Value};

use super::json_string;

/// Formats a value as block-style YAML. Text that YAML could read as another type is quoted as in JSON, which is also
/// valid YAML.
///
/// No library is used because it would leave non-printable characters in the output.
pub(crate) fn yaml(value: &Value) -> String {
    let mut text = String::new();
    write_yaml(&mut text, value, 0);
    text
}

fn write_yaml(text: &mut String, value: &Value, depth: usize) {
    let indent = "  ".repeat(depth);
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            for (name, value) in fields {
                let _ = write!(text, "{indent}{}:", yaml_string(name));
                write_nested(text, value, depth);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for item in items {
                let _ = write!(text, "{indent}-");
                match item {
                    // The first field is on the same line as the dash.
                    Value::Object(fields) if !fields.is_empty() => {
                        let mut inner = String::new();
                        write_yaml(&mut inner, item, depth + 1);
                        let _ = write!(text, " {}", inner.trim_start());
                    }
                    _ => write_nested(text, item, depth),
                }
            }
        }
        _ => {
            let _ = writeln!(text, "{indent}{}", scalar(value));
        }
    }
}

fn write_nested(text: &mut String, value: &Value, depth: usize) {
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            text.push('\n');
            write_yaml(text, value, depth + 1);
        }
        Value::Array(items) if !items.is_empty() => {
            text.push('\n');
            write_yaml(text, value, depth + 1);
        }
        _ => {
            let _ = writeln!(text, " {}", scalar(value));
        }
    }
}

fn scalar(value: &Value) -> String {
    match value {
        Value::String(string) => yaml_string(string),
        Value::Object(_) => "{}".to_owned(),
        Value::Array(_) => "[]".to_owned(),
        other => other.to_string(),
    }
}

/// Formats a string without quotes if YAML cannot read it as another type.
fn yaml_string(string: &str) -> String {
    let is_word = |c: char| c.is_ascii_alphanumeric() || "_-./".contains(c);
    let is_plain =
        string.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/') && string.chars().all(is_word);
    let means_other = ["null", "true", "false", "yes", "no", "on", "off", "y", "n"];
    if is_plain && !means_other.contains(&string.to_ascii_lowercase().as_str()) {
        string.to_owned()
    } else {
        json_string(string)
    }
}

/// Formats one line for each item of a list, or one line for an object, below a header of field names. Names of nested
/// fields are joined with a dot.
pub(crate) fn csv(value: &Value) -> String {
    let items = ["items", "periods"].iter().find_map(|name| value.get(name)).unwrap_or(value);
    let items = match items {
        Value::Array(items) => items.iter().collect(),
        one => vec![one],
    };
    let rows: Vec<Vec<(String, String)>> = items.iter().map(|item| flat(item)).collect();
    let mut names: Vec<&str> = Vec::new();
    for (name, _) in rows.iter().flatten() {
        if !names.contains(&name.as_str()) {
            names.push(name);
        }
    }
    let line = |cells: Vec<&str>| cells.into_iter().map(quoted).collect::<Vec<_>>().join(",") + "\n";
    let mut text = line(names.clone());
    for row in &rows {
        let cell = |name: &&str| row.iter().find(|(known, _)| known == name).map_or("", |(_, cell)| cell);
        text.push_str(&line(names.iter().map(cell).collect()));
    }
    text
}

fn flat(item: &Value) -> Vec<(String, String)> {
    let mut cells = Vec::new();
    match item {
        Value::Object(fields) => flatten(&mut cells, "", fields),
        other => cells.push(("value".to_owned(), csv_cell(other))),
    }
    cells
}

fn flatten(cells: &mut Vec<(String, String)>, prefix: &str, fields: &Map<String, Value>) {
    for (name, value) in fields {
        let name = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
        match value {
            Value::Object(fields) => flatten(cells, &name, fields),
            other => cells.push((name, csv_cell(other))),
        }
    }
}

fn csv_cell(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(csv_cell).collect::<Vec<_>>().join(";"),
        other => other.to_string(),
    }
}

/// Quotes a cell as in RFC 4180.
fn quoted(cell: &str) -> String {
    match cell.contains([',', '"', '\n', '\r']) {
        true => format!("\"{}\"", cell.replace('"', "\"\"")),
        false => cell.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn yaml_reads_back_as_the_same_value() {
        let value = json!({
            "items": [
                { "id": "b1", "url": "http://a:1", "weight": 2, "alive": true, "ejected_by": [], "more": {} },
                { "id": "no", "none": null, "list": [1, "two", { "deep": [{ "a": "x: y" }] }, [3, [4]]] },
            ],
            "text": "a\nb\u{1b}[2J\u{202e} \"quoted\" # no comment",
            "number": "12", "time": "10s", "tilde": "~", "empty": "", "a key": 0.5,
        });
        let text = yaml(&value);
        assert_eq!(serde_saphyr::from_str::<Value>(&text).unwrap(), value, "{text}");
        assert!(text.lines().all(weir_snapshot::is_visible), "{text}");
        assert!(
            text.starts_with("items:\n") && text.contains("  - id: b1\n") || text.contains("id: b1"),
            "{text}"
        );
        for value in [json!([]), json!({}), json!("x"), json!(null)] {
            assert_eq!(serde_saphyr::from_str::<Value>(&yaml(&value)).unwrap(), value);
        }
    }

    #[test]
    fn csv_has_a_column_for_each_field() {
        let list = json!({ "items": [
            { "id": "a", "latency_ms": { "p50": 1.5 }, "names": ["x", "y"], "none": null },
            { "id": "b, \"c\"", "more": 3 },
        ]});
        assert_eq!(csv(&list), "id,latency_ms.p50,names,none,more\na,1.5,x;y,,\n\"b, \"\"c\"\"\",,,,3\n");
        assert_eq!(csv(&json!({ "revision": 7 })), "revision\n7\n");
    }
}
