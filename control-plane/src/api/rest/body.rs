//! Request bodies: JSON whatever the content type says (`curl -d` says form), unknown fields refused by name.

use axum::{body::Body, extract::Request, http::StatusCode};
use serde::de::DeserializeOwned;
use weir_snapshot::{Problems, file};

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
    read(request, None).await
}

/// Reads one object as a configuration has it at `like`.
pub(super) async fn object_like<T: DeserializeOwned>(like: &str, request: Request) -> Result<T, Refusal> {
    read(request, Some(like)).await
}

async fn read<T: DeserializeOwned>(request: Request, like: Option<&str>) -> Result<T, Refusal> {
    let bytes = bytes(request.into_body(), MAX_OBJECT).await?;
    let text = file::text(&bytes).map_err(Refusal::bad_request)?;
    let mut problems = Problems::default();
    let read = file::read_json(like, text, &mut problems).map_err(Refusal::bad_request)?;
    match read {
        Some(read) if problems.0.is_empty() => Ok(read),
        _ => Err(Refusal::bad_request(problems)),
    }
}
