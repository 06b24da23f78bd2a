//! A small HTTP client: one connection per request.

use std::time::Duration;

use anyhow::Context as _;
use http_body_util::{BodyExt as _, Full};
use hyper::{Request, body::Bytes, client::conn::http1};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// A response.
#[derive(Debug)]
pub struct Answer {
    /// Status code.
    pub status: u16,
    /// Header fields.
    pub headers: hyper::HeaderMap,
    /// Body.
    pub body: Bytes,
}

impl Answer {
    /// Parses the body as JSON.
    ///
    /// # Errors
    /// The body is not JSON.
    pub fn json(&self) -> anyhow::Result<serde_json::Value> {
        serde_json::from_slice(&self.body).with_context(|| format!("not JSON: {:?}", self.body))
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Name of the mock that answered.
    pub fn backend(&self) -> &str {
        self.headers.get("x-backend").and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

/// Sends a GET.
///
/// # Errors
/// As [`send`].
pub async fn get(address: &str, path: &str) -> anyhow::Result<Answer> {
    send("GET", address, path, "").await
}

/// Sends one request on a new connection, with a timeout of 30 s.
///
/// # Errors
/// No connection, no response, or an invalid one.
pub async fn send(method: &str, address: &str, path: &str, body: &str) -> anyhow::Result<Answer> {
    let exchange = async {
        let stream =
            TcpStream::connect(address).await.with_context(|| format!("cannot connect to {address}"))?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let connection = tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", address)
            .header("connection", "close")
            .body(Full::new(Bytes::copy_from_slice(body.as_bytes())))?;
        let (parts, body) = sender.send_request(request).await?.into_parts();
        let body = body.collect().await?.to_bytes();
        connection.abort();
        Ok(Answer { status: parts.status.as_u16(), headers: parts.headers, body })
    };
    tokio::time::timeout(Duration::from_secs(30), exchange).await.context("no response within 30 s")?
}
