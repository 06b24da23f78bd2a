//! The status port: liveness, readiness and metrics of the node.

mod filter_metrics;
mod hosts;
mod pool_metrics;

use std::{
    collections::VecDeque,
    convert::Infallible,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode, body::Bytes, body::Incoming, header, service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{
        counter::{ConstCounter, Counter},
        family::Family,
        gauge::Gauge,
    },
    registry::Registry,
};
use tokio::{net::TcpListener, task::AbortHandle};

pub(crate) use self::hosts::StatusHosts;
use crate::{control::State, stats::Cut, wire::descriptors};

/// Answers until the node ends, at most `most` connections at once. A new one takes the place of the oldest: a probe
/// must get its answer however many others do not read theirs.
pub(crate) async fn serve(listener: TcpListener, hosts: StatusHosts, state: Arc<State>, most: usize) {
    let mut connections = tokio::task::JoinSet::new();
    let mut oldest = VecDeque::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        while connections.try_join_next().is_some() {}
        oldest.retain(|connection: &AbortHandle| !connection.is_finished());
        while connections.len() >= most {
            // One that has ended meanwhile is aborted without an effect.
            oldest.pop_front().iter().for_each(AbortHandle::abort);
            connections.join_next().await;
        }
        let (state, hosts) = (Arc::clone(&state), hosts.clone());
        let connection = connections.spawn(async move {
            let service = service_fn(|request| {
                let answer = answer(&request, &hosts, &state);
                async move { Ok::<_, Infallible>(answer) }
            });
            // A client that breaks off is no concern of the node's.
            let _ = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(Duration::from_secs(10))
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
        oldest.push_back(connection);
    }
}

fn answer(request: &Request<Incoming>, hosts: &StatusHosts, state: &State) -> Response<Full<Bytes>> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return text(StatusCode::METHOD_NOT_ALLOWED, "only GET\n");
    }
    match request.uri().path() {
        "/healthz" => text(StatusCode::OK, "ok\n"),
        "/readyz" if state.is_draining() => text(StatusCode::SERVICE_UNAVAILABLE, "draining\n"),
        "/readyz" if state.revision() == 0 => text(StatusCode::SERVICE_UNAVAILABLE, "no snapshot yet\n"),
        "/readyz" => text(StatusCode::OK, "ready\n"),
        "/metrics" => match hosts.refuse(request.uri(), request.headers()) {
            Some(why) => text(StatusCode::MISDIRECTED_REQUEST, why),
            None => metrics(state, &accept(request)),
        },
        _ => text(StatusCode::NOT_FOUND, "there are /healthz, /readyz and /metrics\n"),
    }
}

/// All `Accept` fields as one.
fn accept(request: &Request<Incoming>) -> String {
    let fields = request.headers().get_all(header::ACCEPT);
    fields.iter().filter_map(|field| field.to_str().ok()).collect::<Vec<_>>().join(",")
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, header::HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BackendLabels {
    backend: String,
    url: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CutLabels {
    by: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CertificateLabels {
    certificate: String,
}

/// Made anew for each scrape from what the node counts anyway: nothing is kept twice.
fn metrics(state: &State, accept: &str) -> Response<Full<Bytes>> {
    let mut registry = Registry::with_prefix("weir_node");
    let (handshakes, resumed) = state.workers.handshakes();
    let counters: [(&str, &str, u64); 13] = [
        (
            "streams",
            "Tunnels, event streams and gRPC streams that have ended, among the requests",
            state.workers.streams(),
        ),
        ("requests", "Requests that have ended", state.workers.requests()),
        (
            "batches_acknowledged",
            "Batches of counts that the control plane acknowledged",
            state.reporter.acknowledged(),
        ),
        ("batches_refused", "Batches of counts that the control plane rejected", state.reporter.refused()),
        (
            "tls_handshakes_failed",
            "TLS handshakes with clients that failed",
            state.workers.failed_handshakes(),
        ),
        ("tls_handshakes", "TLS handshakes with clients that succeeded", handshakes),
        ("tls_handshakes_resumed", "Successful TLS handshakes that resumed a session", resumed),
        (
            "tls_handshakes_without_certificate",
            "TLS handshakes for a server name without a certificate",
            state.workers.without_certificate(),
        ),
        ("dropped_rows", "Rows of counts dropped because the buffer was full", state.reporter.dropped()),
        ("tail_dropped", "Tail events dropped because a queue was full", state.tap.dropped()),
        (
            "connections_closed_for_room",
            "Idle client connections closed to make room for others under the limit of open files",
            state.workers.closed_for_room(),
        ),
        (
            "requests_over_client_limit",
            "Requests answered with 429 because their client address had max_requests_per_ip in flight",
            state.workers.refused_per_client(),
        ),
        ("snapshots_rejected", "Snapshots that this node rejected", state.rejections()),
    ];
    for (name, help, value) in counters {
        registry.register(name, help, ConstCounter::new(value));
    }
    let gauges: [(&str, &str, u64); 5] = [
        ("connections", "Open client connections", state.workers.connections()),
        (
            "connections_max",
            "Client connections that fit into the limit of open files",
            descriptors::max_clients(),
        ),
        ("revision", "Revision in use", state.revision()),
        (
            "control_plane_connected",
            "1 while the stream to the control plane is open",
            u64::from(state.is_connected()),
        ),
        ("workers", "Worker threads", state.workers.count() as u64),
    ];
    for (name, help, value) in gauges {
        let gauge = Gauge::<i64>::default();
        gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        registry.register(name, help, gauge);
    }
    if let Some(keeper) = &state.keeper {
        let revision = Gauge::<i64>::default();
        revision.set(i64::try_from(keeper.revision()).unwrap_or(i64::MAX));
        registry.register(
            "state_revision",
            "Last revision that this run has written to --state-dir; 0 before the first",
            revision,
        );
        let failures = ConstCounter::new(keeper.failures());
        registry.register("state_write_failures", "Writes to --state-dir that failed", failures);
    }
    let cuts = Family::<CutLabels, Counter>::default();
    for (cut, by) in Cut::ALL {
        cuts.get_or_create(&CutLabels { by }).inc_by(state.workers.cut(cut));
    }
    registry.register("requests_cut", "Requests whose answer was cut before its end, by side", cuts);
    let in_flight = Family::<BackendLabels, Gauge>::default();
    let usable = Family::<BackendLabels, Gauge>::default();
    for backend in state.fleet.backends() {
        let labels = BackendLabels { backend: backend.id.to_string(), url: backend.url.to_string() };
        in_flight.get_or_create(&labels).set(i64::from(backend.in_flight()));
        usable.get_or_create(&labels).set(i64::from(backend.is_usable()));
    }
    let expiry = Family::<CertificateLabels, Gauge>::default();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs().cast_signed();
    for certificate in state.fleet.active().iter().flat_map(|active| &active.snapshot.certificates) {
        let labels = CertificateLabels { certificate: certificate.name.to_string() };
        expiry.get_or_create(&labels).set(certificate.chain.seconds_left(now));
    }
    registry.register(
        "certificate_expiry_seconds",
        "Seconds until the certificate expires; negative when it has expired",
        expiry,
    );
    pool_metrics::register(&mut registry, &state.fleet);
    filter_metrics::register(&mut registry, &state.fleet);
    registry.register("backend_active_requests", "Requests in flight", in_flight);
    registry.register(
        "backend_usable",
        "1 unless the health check or the circuit breaker excludes the backend",
        usable,
    );
    let Ok(weir_metrics::Encoded { content_type, body }) = weir_metrics::encode(&registry, Some(accept))
    else {
        return text(StatusCode::INTERNAL_SERVER_ERROR, "metrics cannot be written\n");
    };
    let mut response = text(StatusCode::OK, body);
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(content_type));
    response
}
