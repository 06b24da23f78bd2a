//! Reads request bodies as JSON, whatever their content type (`curl -d` declares a form). Unknown fields are errors
//! that name the field.

use std::future::Future;

use axum::{body::Body, http::StatusCode};
use schemars::JsonSchema;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};
use weir_admin_api::{
    NewCertificate, Pool, Route,
    answer::Json,
    body::{self as declared, ConfigText, Named, OptionalJson},
};
use weir_snapshot::{Problem, Problems, file};

use super::problem::Refusal;

/// The largest body of a single object.
const MAX_OBJECT: usize = 1 << 20;

/// A kind of body that can be read.
pub(super) trait ReadBody: declared::Body<Value: Send> {
    /// Reads the body; `path` holds the parameters of the path.
    fn read<P: Serialize + Sync>(
        path: &P,
        body: Body,
    ) -> impl Future<Output = Result<Self::Value, Refusal>> + Send;
}

/// A resource whose name is in the path.
pub(super) trait Resource: DeserializeOwned + JsonSchema + Send {
    /// The path of such an object in a configuration, so that an error about an unknown field lists the known ones.
    const LIKE: &'static str;
}

impl Resource for Pool {
    const LIKE: &'static str = "pools[0]";
}

impl Resource for Route {
    const LIKE: &'static str = "routes[0]";
}

impl Resource for NewCertificate {
    const LIKE: &'static str = "certificates[0]";
}

impl ReadBody for () {
    async fn read<P: Serialize + Sync>(_: &P, _: Body) -> Result<(), Refusal> {
        Ok(())
    }
}

impl<T: DeserializeOwned + JsonSchema + Send> ReadBody for Json<T> {
    async fn read<P: Serialize + Sync>(_: &P, body: Body) -> Result<T, Refusal> {
        typed(None, object(&bytes(body, MAX_OBJECT).await?)?)
    }
}

impl<T: DeserializeOwned + JsonSchema + Send> ReadBody for OptionalJson<T> {
    async fn read<P: Serialize + Sync>(_: &P, body: Body) -> Result<Option<T>, Refusal> {
        let bytes = bytes(body, MAX_OBJECT).await?;
        if bytes.is_empty() {
            return Ok(None);
        }
        typed(None, object(&bytes)?).map(Some)
    }
}

impl<T: Resource> ReadBody for Named<T> {
    async fn read<P: Serialize + Sync>(path: &P, body: Body) -> Result<T, Refusal> {
        let name = serde_json::to_value(path).unwrap_or_default()["name"].take();
        let mut object = object(&bytes(body, MAX_OBJECT).await?)?;
        let given = object.entry("name").or_insert_with(|| name.clone());
        if *given != name {
            let message = format!("the body has {given}, the path {name}");
            return Err(Refusal::bad_request(Problem::new("name", message).into()));
        }
        typed(Some(T::LIKE), object)
    }
}

impl ReadBody for ConfigText {
    async fn read<P: Serialize + Sync>(_: &P, body: Body) -> Result<String, Refusal> {
        String::from_utf8(bytes(body, file::MAX_BYTES).await?)
            .map_err(|_| Refusal::new(StatusCode::BAD_REQUEST, "the body is not UTF-8"))
    }
}

/// Reads a whole body of at most `max` bytes.
pub(super) async fn bytes(body: Body, max: usize) -> Result<Vec<u8>, Refusal> {
    let bytes = axum::body::to_bytes(body, max).await.map_err(|_| {
        Refusal::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("the body did not arrive whole, or is larger than {max} bytes"),
        )
    })?;
    Ok(bytes.into())
}

fn object(bytes: &[u8]) -> Result<Map<String, Value>, Refusal> {
    file::text(bytes).and_then(file::json_object).map_err(Refusal::bad_request)
}

fn typed<T: DeserializeOwned>(like: Option<&str>, object: Map<String, Value>) -> Result<T, Refusal> {
    let mut problems = Problems::default();
    match file::read(like, Value::Object(object), &mut problems) {
        Some(read) if problems.0.is_empty() => Ok(read),
        _ => {
            problems.0.iter_mut().for_each(name_the_field);
            Err(Refusal::bad_request(problems))
        }
    }
}

/// serde's message calls enum values variants: ``unknown variant `x`, expected one of `a`, `b` ``.
fn name_the_field(problem: &mut Problem) {
    let Some(values) = problem.message.strip_prefix("unknown variant ") else { return };
    let Some((given, known)) = values.split_once(", expected one of ") else { return };
    let field = problem.path.rsplit(['.', ']']).next().unwrap_or_default();
    let (known, hint) = known.split_once("; ").unwrap_or((known, ""));
    let (separator, given) = (if hint.is_empty() { "" } else { "; " }, given.trim_matches('`'));
    problem.message =
        format!("unknown {field} {given:?} (known: {}){separator}{hint}", known.replace('`', ""));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_value_is_called_by_its_field() {
        for (path, message, expected) in [
            ("state", "unknown variant `on`, expected one of `a`, `b`", "unknown state \"on\" (known: a, b)"),
            (
                "a[0].strategy",
                "unknown variant `rnadom`, expected one of `random`; did you mean random?",
                "unknown strategy \"rnadom\" (known: random); did you mean random?",
            ),
            ("weight", "is not a number", "is not a number"),
        ] {
            let mut problem = Problem::new(path, message);
            name_the_field(&mut problem);
            assert_eq!(problem.message, expected);
        }
    }
}
