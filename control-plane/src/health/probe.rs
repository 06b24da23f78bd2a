//! One probe: does the backend answer now?

use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::Empty;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use weir_snapshot::{BackendUrl, Expectation, HealthCheck, HealthProbe, Host, units::HumanDuration};

/// What a probe found.
#[derive(Debug, Clone)]
pub struct Finding {
    /// Whether it was good.
    pub ok: bool,
    /// In words: `status 503`, `connection refused`.
    pub detail: String,
    /// How long it took.
    pub latency: Duration,
}

/// Probes once, within the check's timeout.
pub(super) async fn probe(url: &BackendUrl, check: &HealthCheck) -> Finding {
    let begun = Instant::now();
    let result = match &check.probe {
        None => Ok("not probed".to_owned()),
        Some(probe) => tokio::time::timeout(check.timeout, ask(url, probe))
            .await
            .unwrap_or_else(|_| Err(format!("no answer within {}", HumanDuration(check.timeout)))),
    };
    let ok = result.is_ok();
    Finding { ok, detail: result.unwrap_or_else(|error| error), latency: begun.elapsed() }
}

async fn ask(url: &BackendUrl, probe: &HealthProbe) -> Result<String, String> {
    let stream = match &url.host {
        Host::Address(address) => TcpStream::connect((*address, url.port)).await,
        Host::Name(name) => TcpStream::connect((name.as_str(), url.port)).await,
    }
    .map_err(|error| explain(&error))?;
    match probe {
        HealthProbe::Tcp => Ok("connected".into()),
        HealthProbe::Http { path, expect } => get(stream, url, path, expect).await,
    }
}

async fn get(
    stream: TcpStream,
    url: &BackendUrl,
    path: &str,
    expect: &Expectation,
) -> Result<String, String> {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| error.to_string())?;
    let request = http::Request::get(path)
        .header(http::header::HOST, format!("{}:{}", url.host, url.port))
        .header(http::header::USER_AGENT, concat!("weir-health/", env!("CARGO_PKG_VERSION")))
        .header(http::header::CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|error| error.to_string())?;
    // The connection is driven here and not in a task of its own: it ends with this probe, whatever the backend does.
    let mut response = std::pin::pin!(sender.send_request(request));
    let mut connection = std::pin::pin!(connection);
    let response = tokio::select! {
        biased;
        response = &mut response => response,
        // The connection may end with the answer's last byte, and the answer is there all the same.
        _ = &mut connection => response.await,
    }
    .map_err(|error| no_answer(&error))?;
    let status = response.status().as_u16();
    if expect.accepts(status) { Ok(format!("status {status}")) } else { Err(format!("status {status}")) }
}

fn no_answer(error: &hyper::Error) -> String {
    if error.is_canceled() || error.is_incomplete_message() {
        return "connection closed without an answer".into();
    }
    if error.is_parse() {
        return "the answer is not HTTP/1.1".into();
    }
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        if let Some(error) = inner.downcast_ref::<std::io::Error>() {
            return explain(error);
        }
        source = inner.source();
    }
    error.to_string()
}

fn explain(error: &std::io::Error) -> String {
    use std::io::ErrorKind;
    match error.kind() {
        ErrorKind::ConnectionRefused => "connection refused".into(),
        ErrorKind::ConnectionReset => "connection reset".into(),
        _ => error.to_string(),
    }
}
