//! Request bodies: JSON whatever the content type says (`curl -d` says form), unknown fields refused by name.

use axum::{body::Body, extract::Request, http::StatusCode};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use weir_snapshot::{Problem, Problems, file};

use super::problem::Refusal;

/// The largest body of a single object.
const MAX_OBJECT: usize = 1 << 20;

/// Reads a body whole, bounded.
pub(super) async fn bytes(body: Body, max: usize) -> Result<Vec<u8>, Refusal> {
    let bytes = axum::body::to_bytes(body, max).await.map_err(|_| {
        Refusal::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("the body did not arrive whole, or is larger than {max} bytes"),
        )
    })?;
    Ok(bytes.into())
}

/// Reads the configuration's text.
pub(super) async fn text(request: Request) -> Result<String, Refusal> {
    let bytes = bytes(request.into_body(), file::MAX_BYTES).await?;
    String::from_utf8(bytes).map_err(|_| Refusal::new(StatusCode::BAD_REQUEST, "the body is not UTF-8"))
}

/// Reads one object that a configuration has none of.
pub(super) async fn object<T: DeserializeOwned>(request: Request) -> Result<T, Refusal> {
    typed(None, json(request).await?)
}

/// Reads one object as a configuration has it at `like`. Its name is the path's; the body may say it again.
pub(super) async fn named<T: DeserializeOwned>(
    like: &str,
    name: &str,
    request: Request,
) -> Result<T, Refusal> {
    let mut object = json(request).await?;
    let given = object.entry("name").or_insert_with(|| name.into());
    if given != name {
        let message = format!("the body names {given}, the path {name:?}");
        return Err(Refusal::bad_request(Problem::new("name", message).into()));
    }
    typed(Some(like), object)
}

async fn json(request: Request) -> Result<Map<String, Value>, Refusal> {
    let bytes = bytes(request.into_body(), MAX_OBJECT).await?;
    file::text(&bytes).and_then(file::json_object).map_err(Refusal::bad_request)
}

fn typed<T: DeserializeOwned>(like: Option<&str>, object: Map<String, Value>) -> Result<T, Refusal> {
    let mut problems = Problems::default();
    match file::read(like, Value::Object(object), &mut problems) {
        Some(read) if problems.0.is_empty() => Ok(read),
        _ => Err(Refusal::bad_request(problems)),
    }
}
