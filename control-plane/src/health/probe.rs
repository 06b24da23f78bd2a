//! One probe: does the backend answer now?

use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tonic::transport::Endpoint;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use weir_snapshot::{
    BackendUrl, Expectation, HealthCheck, HealthProbe, Host, Scheme, UpstreamTls, units::HumanDuration,
};

use super::secured::Secured;

/// So much of an answer's body is read for a match.
const MAX_BODY: usize = 1 << 20;

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
pub(super) async fn probe(
    url: &BackendUrl,
    check: &HealthCheck,
    tls: Option<(&UpstreamTls, &Secured)>,
) -> Finding {
    let begun = Instant::now();
    let result = match &check.probe {
        None => Ok("not probed".to_owned()),
        Some(probe) => tokio::time::timeout(check.timeout, ask(url, probe, tls))
            .await
            .unwrap_or_else(|_| Err(format!("no answer within {}", HumanDuration(check.timeout)))),
    };
    let ok = result.is_ok();
    Finding { ok, detail: result.unwrap_or_else(|error| error), latency: begun.elapsed() }
}

async fn ask(
    url: &BackendUrl,
    probe: &HealthProbe,
    tls: Option<(&UpstreamTls, &Secured)>,
) -> Result<String, String> {
    match probe {
        HealthProbe::Tcp => open(url, tls).await.map(|_| "connected".into()),
        HealthProbe::Http { path, expect, body, host } => {
            let host = host.clone().unwrap_or_else(|| authority(url));
            get(open(url, tls).await?, &host, path, expect, body.as_deref()).await
        }
        HealthProbe::Grpc { service, host } => {
            serving(open(url, tls).await?, url, host.as_deref(), service).await
        }
    }
}

/// Anything that carries bytes both ways.
trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

async fn open(url: &BackendUrl, tls: Option<(&UpstreamTls, &Secured)>) -> Result<Box<dyn Io>, String> {
    let stream = connect(url).await?;
    Ok(match tls {
        None => Box::new(stream),
        Some((tls, secured)) => Box::new(secured.connect(tls, url, stream).await?),
    })
}

fn authority(url: &BackendUrl) -> String {
    format!("{}:{}", url.host, url.port)
}

async fn connect(url: &BackendUrl) -> Result<TcpStream, String> {
    let stream = match &url.host {
        Host::Address(address) => TcpStream::connect((*address, url.port)).await,
        Host::Name(name) => TcpStream::connect((name.as_str(), url.port)).await,
    };
    stream.map_err(|error| explain(&error))
}

/// Asks by gRPC's health protocol over a connection that speaks HTTP/2.
async fn serving(
    stream: Box<dyn Io>,
    url: &BackendUrl,
    host: Option<&str>,
    service: &str,
) -> Result<String, String> {
    // The connection is there already: the endpoint only names it.
    let endpoint = Endpoint::from_shared(format!("http://{}", authority(url)));
    let endpoint = endpoint.map_err(|error| error.to_string())?;
    let endpoint = endpoint.user_agent(concat!("weir-health/", env!("CARGO_PKG_VERSION")));
    let mut endpoint = endpoint.map_err(|error| error.to_string())?;
    if host.is_some() || url.scheme == Scheme::Https {
        let host = host.map_or_else(|| authority(url), str::to_owned);
        let origin =
            format!("{}://{host}", url.scheme).parse().map_err(|_| format!("{host:?} is not a host"))?;
        endpoint = endpoint.origin(origin);
    }
    let mut stream = Some(stream);
    let connector = tower::service_fn(move |_: http::Uri| {
        let stream = stream.take().map(TokioIo::new);
        async move { stream.ok_or_else(|| std::io::Error::other("the connection broke")) }
    });
    let channel = endpoint.connect_with_connector(connector).await.map_err(|error| deepest(&error))?;
    let request = HealthCheckRequest { service: service.to_owned() };
    let answer = HealthClient::new(channel).check(request).await;
    match answer.map(|answer| answer.into_inner().status()) {
        Ok(ServingStatus::Serving) => Ok("serving".into()),
        Ok(ServingStatus::NotServing) => Err("not serving".into()),
        Ok(ServingStatus::Unknown) => Err("its state is unknown".into()),
        Ok(ServingStatus::ServiceUnknown) => Err(format!("unknown service {service:?}")),
        Err(status) if status.code() == tonic::Code::NotFound => Err(format!("unknown service {service:?}")),
        Err(status) => Err(format!("gRPC status {:?}: {}", status.code(), status.message())),
    }
}

/// The last error of a chain: what really happened.
fn deepest(error: &(dyn std::error::Error + 'static)) -> String {
    let mut deepest = error;
    while let Some(source) = deepest.source() {
        deepest = source;
    }
    deepest.downcast_ref::<std::io::Error>().map_or_else(|| deepest.to_string(), explain)
}

async fn get(
    stream: Box<dyn Io>,
    host: &str,
    path: &str,
    expect: &Expectation,
    body: Option<&str>,
) -> Result<String, String> {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| error.to_string())?;
    let request = http::Request::get(path)
        .header(http::header::HOST, host)
        .header(http::header::USER_AGENT, concat!("weir-health/", env!("CARGO_PKG_VERSION")))
        .header(http::header::CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|error| error.to_string())?;
    // The connection is driven here and not in a task of its own: it ends with this probe, whatever the backend does.
    let exchange = async {
        let response = sender.send_request(request).await.map_err(|error| no_answer(&error))?;
        let status = response.status().as_u16();
        if !expect.accepts(status) {
            return Err(format!("status {status}"));
        }
        let Some(body) = body else { return Ok(format!("status {status}")) };
        let read = Limited::new(response.into_body(), MAX_BODY).collect().await;
        let read =
            read.map_err(|error| format!("status {status}, but its body broke off: {error}"))?.to_bytes();
        let has_it = body.is_empty() || read.windows(body.len()).any(|part| part == body.as_bytes());
        if has_it {
            Ok(format!("status {status}, body as expected"))
        } else {
            Err(format!("status {status}, but {body:?} is not in its body"))
        }
    };
    let (mut exchange, mut connection) = (std::pin::pin!(exchange), std::pin::pin!(connection));
    tokio::select! {
        biased;
        found = &mut exchange => found,
        // The connection may end with the answer's last byte, and the answer is there all the same.
        _ = &mut connection => exchange.await,
    }
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
