//! Sets fields of a resource by path: `health_check.interval=5s`, `backends[0].weight=2`, `retry.on=[reset, 502]`.
//!
//! The value is YAML. The control plane checks that the field exists and that the value is valid.

use anyhow::{Context as _, bail};
use serde_json::{Map, Value};

/// Sets fields, each given as `PATH=VALUE`.
pub(crate) fn set_all(value: &mut Value, fields: &[String]) -> anyhow::Result<()> {
    fields.iter().try_for_each(|field| set(value, field))
}

fn set(value: &mut Value, field: &str) -> anyhow::Result<()> {
    let steps = field.find(['=', '"']).context("write FIELD=VALUE").and_then(|_| parse(field));
    let (steps, text) = steps.with_context(|| format!("{field:?} is not FIELD=VALUE"))?;
    let new: Value = serde_saphyr::from_str(text)
        .map_err(|_| anyhow::anyhow!("{field:?}: the value is not YAML; quote it, such as '\"*\"'"))?;
    insert(value, &steps, new).with_context(|| format!("{field:?}"))
}

#[derive(Debug, PartialEq, Eq)]
enum Step {
    Name(String),
    Index(usize),
}

/// Returns the path and the text of the value.
fn parse(field: &str) -> anyhow::Result<(Vec<Step>, &str)> {
    let mut steps = Vec::new();
    let mut rest = field;
    loop {
        if let Some(inner) = rest.strip_prefix('[') {
            let (index, after) = match inner.strip_prefix('"') {
                Some(quoted) => quoted.split_once("\"]").context("a quote is not closed")?,
                None => inner.split_once(']').context("a bracket is not closed")?,
            };
            steps.push(match inner.starts_with('"') {
                true => Step::Name(index.to_owned()),
                false => Step::Index(index.parse().with_context(|| format!("[{index}] is not a number"))?),
            });
            rest = after;
        } else {
            let end = rest.find(['.', '[', '=']).context("there is no =")?;
            let (name, after) = rest.split_at(end);
            if name.is_empty() {
                bail!("a name is empty");
            }
            steps.push(Step::Name(name.to_owned()));
            rest = after;
        }
        if let Some(text) = rest.strip_prefix('=') {
            return Ok((steps, text));
        }
        rest = match rest.strip_prefix('.') {
            Some(more) => more,
            None if rest.starts_with('[') => rest,
            None => bail!("there is no ="),
        };
    }
}

fn insert(value: &mut Value, steps: &[Step], new: Value) -> anyhow::Result<()> {
    let Some((step, rest)) = steps.split_first() else {
        *value = new;
        return Ok(());
    };
    match step {
        Step::Name(name) => {
            if value.is_null() {
                *value = Value::Object(Map::new());
            }
            let Value::Object(fields) = value else {
                bail!("{name} is a field of something that has no fields")
            };
            // A missing field has its default, so null removes it.
            if rest.is_empty() && new.is_null() {
                fields.remove(name);
                return Ok(());
            }
            insert(fields.entry(name.clone()).or_insert(Value::Null), rest, new)
        }
        Step::Index(index) => {
            if value.is_null() {
                *value = Value::Array(Vec::new());
            }
            let Value::Array(items) = value else {
                bail!("[{index}] is an item of something that is no list")
            };
            if rest.is_empty() && new.is_null() && *index < items.len() {
                items.remove(*index);
                return Ok(());
            }
            if *index == items.len() {
                items.push(Value::Null);
            }
            let count = items.len();
            let item =
                items.get_mut(*index).with_context(|| format!("[{index}]: the list has {count} items"))?;
            insert(item, rest, new)
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn set(value: Value, fields: &[&str]) -> anyhow::Result<Value> {
        let mut value = value;
        let fields: Vec<String> = fields.iter().map(|field| (*field).to_owned()).collect();
        set_all(&mut value, &fields).map(|()| value)
    }

    #[test]
    fn fields_are_set_by_path_and_their_values_are_yaml() {
        let pool = json!({ "name": "books", "strategy": "random", "backends": [{ "url": "http://a:1" }] });
        let changed = set(
            pool,
            &[
                "strategy=least_connections",
                "health_check.interval=5s",
                "backends[0].weight=2",
                "backends[1].url=http://b:2",
                "retry.on=[reset, 502]",
                "breaker.enabled=false",
                "tls.server_name='10'",
                r#"headers["x.y"].set=a=b"#,
            ],
        );
        assert_eq!(
            changed.unwrap(),
            json!({
                "name": "books", "strategy": "least_connections", "health_check": { "interval": "5s" },
                "backends": [{ "url": "http://a:1", "weight": 2 }, { "url": "http://b:2" }],
                "retry": { "on": ["reset", 502] }, "breaker": { "enabled": false }, "tls": { "server_name": "10" },
                "headers": { "x.y": { "set": "a=b" } },
            })
        );
    }

    #[test]
    fn null_returns_to_the_default() {
        let pool = json!({ "sticky": { "cookie": "a" }, "list": [1, 2], "limits": { "a": 1, "b": 2 } });
        let changed = set(pool, &["sticky=null", "list[0]=null", "limits.a=", "not_there=null"]);
        assert_eq!(changed.unwrap(), json!({ "list": [2], "limits": { "b": 2 } }));
    }

    #[test]
    fn a_wrong_path_or_value_is_named() {
        for (field, says) in [
            ("strategy", "FIELD=VALUE"),
            ("=x", "FIELD=VALUE"),
            (".a=x", "FIELD=VALUE"),
            ("a[x]=1", "[x] is not a number"),
            ("a[0=1", "not closed"),
            ("name.a=1", "no fields"),
            ("name[0]=1", "no list"),
            ("list[7]=1", "the list has 1 items"),
            ("hosts=[*.example.com]", "not YAML"),
        ] {
            let error = format!("{:#}", set(json!({ "name": "x", "list": [1] }), &[field]).unwrap_err());
            assert!(error.contains(says) && error.contains(field.trim_matches('"')), "{field}: {error}");
        }
    }
}
