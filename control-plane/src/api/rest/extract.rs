//! Reads path and query parameters. axum's own errors name Rust types; these errors name the parameter and the accepted
//! values, and list every invalid parameter.

use axum::{
    extract::{FromRequestParts, path::ErrorKind, rejection::PathRejection},
    http::{StatusCode, Uri, request::Parts},
};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use weir_admin_api::parameters::Parameter;
use weir_snapshot::{Problem, Problems, nearest};

use super::problem::Refusal;

/// Reads a query according to its declared parameters.
pub(super) struct QueryReader(Vec<Parameter>);

impl QueryReader {
    pub(super) fn new(parameters: Vec<Parameter>) -> Self {
        Self(parameters)
    }

    /// Reads the query. An unknown parameter is an error: if it were ignored, the response could answer a different
    /// question.
    pub(super) fn read<Q: DeserializeOwned>(&self, uri: &Uri) -> Result<Q, Refusal> {
        let pairs = axum::extract::Query::<Vec<(String, String)>>::try_from_uri(uri)
            .map_err(|error| Refusal::bad_request(Problem::new("", error.body_text()).into()))?;
        let mut problems = Problems::default();
        let mut object = Map::new();
        for (name, text) in pairs.0 {
            let Some(parameter) = self.0.iter().find(|one| one.name == name) else {
                problems.add(&name, self.unknown(&name));
                continue;
            };
            let value = match value(&parameter.schema, &text) {
                Ok(value) => value,
                Err(message) => {
                    problems.add(&name, message);
                    continue;
                }
            };
            if parameter.is_list {
                match object.entry(name).or_insert_with(|| Value::Array(Vec::new())) {
                    Value::Array(values) => values.push(value),
                    _ => continue,
                }
            } else if object.contains_key(&name) {
                problems.add(&name, "given twice");
            } else {
                object.insert(name, value);
            }
        }
        let object = problems.into_result(object).map_err(Refusal::bad_request)?;
        let value = if self.0.is_empty() { Value::Null } else { Value::Object(object) };
        serde_json::from_value(value)
            .map_err(|error| Refusal::bad_request(Problem::new("", error.to_string()).into()))
    }

    fn unknown(&self, name: &str) -> String {
        let known: Vec<&str> = self.0.iter().map(|one| one.name.as_str()).collect();
        match nearest(name, known.iter().copied()) {
            Some(near) => format!("unknown parameter; did you mean {near:?}?"),
            None if known.is_empty() => "unknown parameter (there are none)".to_owned(),
            None => format!("unknown parameter (known: {})", known.join(", ")),
        }
    }
}

/// Converts a parameter's text to a value.
fn value(schema: &Value, text: &str) -> Result<Value, String> {
    if let Some(Value::Array(known)) = schema.get("enum") {
        if known.iter().any(|value| value == text) {
            return Ok(text.into());
        }
        let known: Vec<&str> = known.iter().filter_map(Value::as_str).collect();
        return Err(format!("{text:?} is not one of {}", known.join(", ")));
    }
    match schema.get("type").and_then(Value::as_str) {
        Some("integer") => {
            let number: i128 = text.parse().map_err(|_| "is not a whole number".to_owned())?;
            let (least, most) = match schema.get("format").and_then(Value::as_str) {
                Some("uint32") => (0, i128::from(u32::MAX)),
                Some("uint64") => (0, i128::from(u64::MAX)),
                _ => (i128::from(i64::MIN), i128::from(i64::MAX)),
            };
            if number < least {
                return Err("is not a whole number".to_owned());
            }
            if number > most {
                return Err("is too large".to_owned());
            }
            Ok(u64::try_from(number)
                .map_or_else(|_| i64::try_from(number).unwrap_or_default().into(), Value::from))
        }
        Some("boolean") => match text {
            "true" => Ok(true.into()),
            "false" => Ok(false.into()),
            _ => Err("is neither true nor false".to_owned()),
        },
        _ => Ok(text.into()),
    }
}

/// The parts of the path that a pattern names.
pub(super) struct Path<T>(pub(super) T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Path<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        match axum::extract::Path::<T>::from_request_parts(parts, state).await {
            Ok(axum::extract::Path(named)) => Ok(Self(named)),
            Err(PathRejection::FailedToDeserializePathParams(error)) => Err(match error.into_kind() {
                ErrorKind::ParseError { value, .. }
                | ErrorKind::ParseErrorAtKey { value, .. }
                | ErrorKind::ParseErrorAtIndex { value, .. } => {
                    Refusal::bad_request(Problem::new("", format!("{value:?} is not a number")).into())
                }
                other => Refusal::bad_request(Problem::new("", other.to_string()).into()),
            }),
            Err(error) => Err(Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, error.body_text())),
        }
    }
}

#[cfg(test)]
mod tests {
    use weir_admin_api::{ApplyQuery, ExplainQuery, RevisionQuery, SummaryQuery, parameters};

    use super::*;

    fn read<Q: DeserializeOwned + schemars::JsonSchema>(query: &str) -> Result<Q, Vec<(String, String)>> {
        let uri: Uri = format!("/a?{query}").parse().unwrap();
        let read = QueryReader::new(parameters::of::<Q>()).read(&uri);
        let problem =
            |refusal: Refusal| refusal.problems.into_iter().map(|one| (one.path, one.message)).collect();
        read.map_err(problem)
    }

    #[test]
    fn mistakes_name_the_parameter_and_what_it_accepts() {
        for (query, path, message) in [
            ("limit=-1", "limit", "is not a whole number"),
            ("limit=", "limit", "is not a whole number"),
            ("limit=99999999999", "limit", "is too large"),
            ("limit=1&limit=2", "limit", "given twice"),
            ("lmit=1", "lmit", "unknown parameter; did you mean \"limit\"?"),
            ("colour=1", "colour", "unknown parameter (known: before, limit, page_token)"),
        ] {
            assert_eq!(read::<RevisionQuery>(query).unwrap_err(), [(path.into(), message.into())], "{query}");
        }
        let wrong = read::<ApplyQuery>("dry_run=yes&wait=5s&x=1").unwrap_err();
        assert_eq!(wrong[0], ("dry_run".into(), "is neither true nor false".into()));
        assert_eq!(wrong.len(), 2, "every mistake is listed");
        assert_eq!(
            read::<SummaryQuery>("format=xml").unwrap_err(),
            [("format".into(), "\"xml\" is not one of json, csv".into())]
        );
        assert_eq!(
            read::<()>("x=1").unwrap_err(),
            [("x".into(), "unknown parameter (there are none)".into())]
        );
    }

    #[test]
    fn values_are_read_by_their_types() {
        let query: RevisionQuery = read("before=18446744073709551615&limit=3").unwrap();
        assert_eq!((query.before, query.limit, query.page_token), (Some(u64::MAX), Some(3), None));
        let query: ExplainQuery = read("url=http%3A%2F%2Fa%2F%3Fb&header=a:+1&header=b:%202").unwrap();
        assert_eq!((query.url.as_str(), query.header), ("http://a/?b", vec!["a: 1".into(), "b: 2".into()]));
        assert_eq!(read(""), Ok(ApplyQuery::default()));
        assert_eq!(read(""), Ok(()));
    }
}
