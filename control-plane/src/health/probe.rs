//! A single probe of a backend.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tonic::transport::Endpoint;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use weir_snapshot::{
    BackendUrl, ExpectedStatus, HealthProbe, Host, Scheme,
    backend_address::{self, OwnPort},
    config::Protocol,
    units::HumanDuration,
};

use super::{Target, names::LookUp};

/// Maximum number of bytes of a response body that are searched for a match.
const MAX_BODY: usize = 1 << 20;

/// Result of a probe.
#[derive(Debug, Clone)]
pub struct Finding {
    /// Whether the probe succeeded.
    pub ok: bool,
    /// Description: `status 503`, `connection refused`.
    pub detail: String,
    /// Duration of the probe.
    pub latency: Duration,
}

/// Settings for opening connections that are the same for all backends.
pub(super) struct Connector {
    pub(super) look_up: Arc<LookUp>,
    /// Ports of this fleet, which backends must not use.
    pub(super) own_ports: Arc<[OwnPort]>,
}

/// Runs one probe, within the health check's timeout.
pub(super) async fn probe(target: &Target, connector: &Connector) -> Finding {
    let (begun, check) = (Instant::now(), &target.check);
    let result = match &check.probe {
        None => Ok("not probed".to_owned()),
        Some(probe) => tokio::time::timeout(check.timeout, run(target, probe, connector))
            .await
            .unwrap_or_else(|_| Err(format!("no answer within {}", HumanDuration(check.timeout)))),
    };
    let ok = result.is_ok();
    Finding { ok, detail: result.unwrap_or_else(|error| error), latency: begun.elapsed() }
}

async fn run(target: &Target, probe: &HealthProbe, connector: &Connector) -> Result<String, String> {
    let url = &target.url;
    let stream = open(target, connector).await?;
    match probe {
        HealthProbe::Tcp => Ok("connected".into()),
        HealthProbe::Http { path, expect, body, host } => {
            let host = host.clone().unwrap_or_else(|| authority(url));
            let request = request(target, &host, path)?;
            match target.protocol {
                Protocol::Http1 => get(stream, request, expect, body.as_deref()).await,
                Protocol::Http2 => get_http2(stream, request, expect, body.as_deref()).await,
            }
        }
        HealthProbe::Grpc { service, host } => serving(stream, url, host.as_deref(), service).await,
    }
}

/// A bidirectional byte stream.
trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// Opens a connection as nodes do: tries the addresses in order, and gives each a share of the timeout.
async fn open(target: &Target, connector: &Connector) -> Result<Box<dyn Io>, String> {
    let deadline = Instant::now() + target.check.timeout;
    let addresses = addresses(target, connector).await?;
    let mut last = "the name has no address".to_owned();
    for (tried, address) in addresses.iter().enumerate() {
        let left = deadline.saturating_duration_since(Instant::now());
        let within = backend_address::time_per_address(left, addresses.len() - tried);
        match tokio::time::timeout(within, open_to(target, *address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => last = error,
            Err(_) => last = format!("no connection within {}", HumanDuration(target.check.timeout)),
        }
    }
    Err(last)
}

async fn open_to(target: &Target, address: SocketAddr) -> Result<Box<dyn Io>, String> {
    let stream = TcpStream::connect(address).await.map_err(|error| explain(&error))?;
    Ok(match &target.tls {
        None => Box::new(stream),
        Some(tls) => Box::new(target.secured.connect(tls, &target.url, stream).await?),
    })
}

/// Returns the addresses to try; never empty.
async fn addresses(target: &Target, connector: &Connector) -> Result<Vec<SocketAddr>, String> {
    let url = &target.url;
    let mut addresses = match &url.host {
        Host::Address(address) => vec![SocketAddr::new(*address, url.port)],
        Host::Name(name) => {
            let found = target.names.addresses(&*connector.look_up, name, url.port).await;
            found.map_err(|error| explain(&error))?
        }
    };
    let mut refused = None;
    addresses.retain(|address| {
        let own = &connector.own_ports;
        let why = backend_address::why_forbidden(*address, &target.allow, own, super::is_local);
        let is_allowed = why.is_none();
        refused = refused.take().or(why);
        is_allowed
    });
    match refused {
        Some(why) if addresses.is_empty() => Err(why),
        _ => Ok(addresses),
    }
}

fn authority(url: &BackendUrl) -> String {
    format!("{}:{}", url.host, url.port)
}

/// Sends a gRPC health check over an HTTP/2 connection.
async fn serving(
    stream: Box<dyn Io>,
    url: &BackendUrl,
    host: Option<&str>,
    service: &str,
) -> Result<String, String> {
    // The connection is already open, so the endpoint only provides the name.
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

/// Returns the innermost error of a chain, which is the most specific one.
fn deepest(error: &(dyn std::error::Error + 'static)) -> String {
    let mut deepest = error;
    while let Some(source) = deepest.source() {
        deepest = source;
    }
    deepest.downcast_ref::<std::io::Error>().map_or_else(|| deepest.to_string(), explain)
}

/// Builds the request of an HTTP probe in the pool's protocol.
fn request(target: &Target, host: &str, path: &str) -> Result<http::Request<Empty<Bytes>>, String> {
    let agent = concat!("weir-health/", env!("CARGO_PKG_VERSION"));
    let request = http::Request::builder().header(http::header::USER_AGENT, agent);
    let request = match target.protocol {
        Protocol::Http1 => {
            let request = request.uri(path).header(http::header::HOST, host);
            request.header(http::header::CONNECTION, "close")
        }
        // The target's authority contains the host (RFC 9113, 8.3.1).
        Protocol::Http2 => {
            request.version(http::Version::HTTP_2).uri(format!("{}://{host}{path}", target.url.scheme))
        }
    };
    request.body(Empty::new()).map_err(|error| error.to_string())
}

async fn get(
    stream: Box<dyn Io>,
    request: http::Request<Empty<Bytes>>,
    expect: &ExpectedStatus,
    body: Option<&str>,
) -> Result<String, String> {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| error.to_string())?;
    let exchange = async {
        let response = sender.send_request(request).await.map_err(|error| no_answer(&error, "HTTP/1.1"))?;
        judge(response, expect, body).await
    };
    drive(exchange, connection).await
}

/// Cleartext with prior knowledge, or TLS with ALPN.
async fn get_http2(
    stream: Box<dyn Io>,
    request: http::Request<Empty<Bytes>>,
    expect: &ExpectedStatus,
    body: Option<&str>,
) -> Result<String, String> {
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .map_err(|error| no_answer(&error, "HTTP/2"))?;
    let exchange = async {
        let response = sender.send_request(request).await.map_err(|error| no_answer(&error, "HTTP/2"))?;
        judge(response, expect, body).await
    };
    drive(exchange, connection).await
}

/// Drives the connection here and not in a separate task, so that it ends with this probe in any case.
async fn drive(
    exchange: impl Future<Output = Result<String, String>>,
    connection: impl Future<Output = hyper::Result<()>>,
) -> Result<String, String> {
    let (mut exchange, mut connection) = (std::pin::pin!(exchange), std::pin::pin!(connection));
    tokio::select! {
        biased;
        found = &mut exchange => found,
        // The connection may end with the last byte of the response, which is still delivered.
        _ = &mut connection => exchange.await,
    }
}

/// Checks a response against the health check.
async fn judge(
    response: http::Response<hyper::body::Incoming>,
    expect: &ExpectedStatus,
    body: Option<&str>,
) -> Result<String, String> {
    let status = response.status().as_u16();
    if !expect.accepts(status) {
        return Err(format!("status {status}"));
    }
    let Some(body) = body else { return Ok(format!("status {status}")) };
    let read = Limited::new(response.into_body(), MAX_BODY).collect().await;
    let read = read.map_err(|error| format!("status {status}, but its body broke off: {error}"))?.to_bytes();
    let has_it = body.is_empty() || read.windows(body.len()).any(|part| part == body.as_bytes());
    if has_it {
        Ok(format!("status {status}, body as expected"))
    } else {
        Err(format!("status {status}, but {body:?} is not in its body"))
    }
}

fn no_answer(error: &hyper::Error, protocol: &str) -> String {
    if error.is_canceled() || error.is_incomplete_message() {
        return "connection closed without an answer".into();
    }
    if error.is_parse() {
        return format!("the answer is not {protocol}");
    }
    let mut source = std::error::Error::source(error);
    let mut deepest = error.to_string();
    while let Some(inner) = source {
        if let Some(error) = inner.downcast_ref::<std::io::Error>() {
            return explain(error);
        }
        deepest = inner.to_string();
        source = inner.source();
    }
    format!("no {protocol} answer: {deepest}")
}

fn explain(error: &std::io::Error) -> String {
    use std::io::ErrorKind;
    match error.kind() {
        ErrorKind::ConnectionRefused => "connection refused".into(),
        ErrorKind::ConnectionReset => "connection reset".into(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;
    use weir_snapshot::config::{AllowBackends, Config};

    use super::{super::secured::Secured, *};

    fn target(url: &str, allow: AllowBackends) -> Target {
        let pool = weir_snapshot::check(&Config::default()).unwrap().pools.remove(0);
        Target {
            id: "b1".into(),
            pool: "default".into(),
            url: url.parse().unwrap(),
            check: pool.health_check,
            protocol: pool.protocol,
            tls: None,
            allow,
            secured: Secured::default(),
            names: Arc::default(),
        }
    }

    fn connector(answer: &[SocketAddr], own: &[OwnPort]) -> Connector {
        let answer = answer.to_vec();
        let look_up: Arc<LookUp> = Arc::new(move |_, _| {
            let answer = answer.clone();
            Box::pin(async move { Ok(answer) })
        });
        Connector { look_up, own_ports: own.into() }
    }

    #[tokio::test]
    async fn the_next_address_of_a_name_is_tried_when_one_accepts_no_connection() {
        let (dead, live) = (TcpListener::bind("127.0.0.1:0"), TcpListener::bind("127.0.0.2:0"));
        let (dead, live) = (dead.await.unwrap(), live.await.unwrap());
        let (gone, there) = (dead.local_addr().unwrap(), live.local_addr().unwrap());
        drop(dead);
        let target = target("http://books.internal:80", AllowBackends::default());
        let found = probe(&target, &connector(&[there, gone], &[])).await;
        assert!(found.ok, "{}", found.detail);
        let other = self::target("http://books.internal:80", AllowBackends::default());
        let found = probe(&other, &connector(&[gone], &[])).await;
        assert_eq!((found.ok, &*found.detail), (false, "connection refused"));
    }

    #[tokio::test]
    async fn forbidden_addresses_are_not_connected_to_under_any_name() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let own = listener.local_addr().unwrap();
        let ports = [OwnPort::new(own, "the admin port")];
        let link_local: SocketAddr = "169.254.169.254:80".parse().unwrap();
        let metadata: SocketAddr = "[fd00:ec2::254]:80".parse().unwrap();
        let none = AllowBackends::default();
        for (url, answer, says) in [
            (format!("http://{own}"), own, "the admin port of this fleet"),
            (format!("http://0.0.0.0:{}", own.port()), own, "the admin port of this fleet"),
            ("http://name.internal".into(), own, "the admin port of this fleet"),
            ("http://name.internal".into(), link_local, "169.254.169.254:80 is a link-local"),
            ("http://name.internal".into(), metadata, "[fd00:ec2::254]:80 is a link-local"),
            ("http://169.254.169.254".into(), link_local, "169.254.169.254:80 is a link-local"),
            ("http://[fe80::1]".into(), link_local, "[fe80::1]:80 is a link-local"),
            ("http://[::ffff:169.254.0.1]".into(), link_local, "is a link-local"),
        ] {
            let found = probe(&target(&url, none), &connector(&[answer], &ports)).await;
            assert!(!found.ok && found.detail.contains(says), "{url}: {}", found.detail);
        }
        // A name with both kinds of addresses uses the allowed ones.
        let live = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let both = connector(&[link_local, live.local_addr().unwrap()], &ports);
        assert!(probe(&target("http://name.internal", none), &both).await.ok);
        let allow = AllowBackends { own_ports: true, ..none };
        assert!(probe(&target(&format!("http://{own}"), allow), &connector(&[], &ports)).await.ok);
    }
}
