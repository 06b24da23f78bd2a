//! What stands in the URL, and what is wrong with it in words of ours: axum tells the types of Rust.

use axum::{
    extract::{FromRequestParts, path::ErrorKind, rejection::PathRejection},
    http::{StatusCode, request::Parts},
};
use serde::de::DeserializeOwned;
use weir_snapshot::Problem;

use super::problem::Refusal;

/// The parameters behind the question mark.
pub(super) struct Query<T>(pub(super) T);

/// The parts of the path that a pattern names.
pub(super) struct Path<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refusal> {
        match axum::extract::Query::<T>::try_from_uri(&parts.uri) {
            Ok(axum::extract::Query(asked)) => Ok(Self(asked)),
            Err(error) => Err(Refusal::bad_request(parameter(&error.body_text()).into())),
        }
    }
}

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

/// What is wrong with a parameter, from what serde says of it.
fn parameter(said: &str) -> Problem {
    let said = said.strip_prefix("Failed to deserialize query string: ").unwrap_or(said);
    if let Some((_, unknown)) = said.split_once("unknown field `") {
        let mut quoted = unknown.split('`').step_by(2);
        let name = quoted.next().unwrap_or_default().to_owned();
        let known: Vec<&str> = quoted.filter(|name| !name.is_empty()).collect();
        let known = if known.is_empty() { "there are none".to_owned() } else { known.join(", ") };
        return Problem::new(name, format!("unknown parameter (known: {known})"));
    }
    let (name, message) = said.split_once(": ").unwrap_or(("", said));
    let message = match message {
        "invalid digit found in string" | "cannot parse integer from empty string" => "is not a whole number",
        "number too large to fit in target type" => "is too large",
        "provided string was not `true` or `false`" => "is neither true nor false",
        other => other,
    };
    Problem::new(name, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code, reason = "only read")]
    struct Page {
        limit: Option<u32>,
        dry_run: Option<bool>,
    }

    #[test]
    fn parameters_are_told_by_name_and_without_types_of_rust() {
        for (query, path, message) in [
            ("limit=-1", "limit", "is not a whole number"),
            ("limit=", "limit", "is not a whole number"),
            ("limit=99999999999", "limit", "is too large"),
            ("dry_run=yes", "dry_run", "is neither true nor false"),
            ("x=1", "x", "unknown parameter (known: limit, dry_run)"),
        ] {
            let uri: axum::http::Uri = format!("/a?{query}").parse().unwrap();
            let error = axum::extract::Query::<Page>::try_from_uri(&uri).unwrap_err();
            let problem = parameter(&error.body_text());
            assert_eq!((problem.path.as_str(), problem.message.as_str()), (path, message), "{query}");
        }
    }
}
