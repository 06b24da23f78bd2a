//! A small HTTP client: one connection a request.

use std::time::Duration;

use anyhow::Context as _;
use http_body_util::{BodyExt as _, Full};
use hyper::{Request, body::Bytes, client::conn::http1};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// What came back.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// Header fields.
    pub headers: hyper::HeaderMap,
    /// The body.
    pub body: Bytes,
}

impl Answer {
    /// The body as JSON.
    ///
    /// # Errors
    /// It is none.
    pub fn json(&self) -> anyhow::Result<serde_json::Value> {
        serde_json::from_slice(&self.body).with_context(|| format!("not JSON: {:?}", self.body))
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The mock that answered.
    pub fn backend(&self) -> &str {
        self.headers.get("x-backend").and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

/// GET.
///
/// # Errors
/// As [`send`].
pub async fn get(address: &str, path: &str) -> anyhow::Result<Answer> {
    send("GET", address, path, "").await
}

/// One request on a connection of its own, with a deadline of 30 s.
///
/// # Errors
/// No connection, no answer, or a broken one.
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
    tokio::time::timeout(Duration::from_secs(30), exchange).await.context("no answer within 30 s")?
}
