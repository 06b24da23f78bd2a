//! `/status`, health, readiness, metrics and the documents about the API.

use std::sync::LazyLock;

use axum::{
    body::Bytes,
    http::{StatusCode, header},
    response::{IntoResponse as _, Response},
};
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{
        counter::{ConstCounter, Counter},
        family::Family,
        gauge::Gauge,
    },
    registry::Registry,
};
use weir_admin_api::{Node, Status, openapi};

use super::{problem::Refusal, serve::Call};
use crate::api::Ports;

pub(super) async fn status(call: Call<(), (), ()>) -> Result<Status, Refusal> {
    Ok(call.app.status()?)
}

pub(super) async fn healthz(_: Call<(), (), ()>) -> Result<Response, Refusal> {
    Ok("ok\n".into_response())
}

/// The control plane is ready as soon as it responds: it opens and reads the database before it opens the port.
pub(super) async fn readyz(_: Call<(), (), ()>) -> Result<Response, Refusal> {
    Ok("ready\n".into_response())
}

/// Needs no token, so the document is built only once.
pub(super) async fn openapi(_: Call<(), (), ()>) -> Result<Response, Refusal> {
    static TEXT: LazyLock<Bytes> = LazyLock::new(|| openapi::document().to_string().into());
    Ok(([(header::CONTENT_TYPE, "application/json")], TEXT.clone()).into_response())
}

/// Needs no token, so the document is built only once.
pub(super) async fn schema(_: Call<(), (), ()>) -> Result<Response, Refusal> {
    static TEXT: LazyLock<Bytes> = LazyLock::new(|| weir_snapshot::schema::text().into());
    Ok(([(header::CONTENT_TYPE, "application/schema+json")], TEXT.clone()).into_response())
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BackendLabels {
    backend: String,
    pool: String,
    url: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PortLabels {
    port: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct NodeLabels {
    node: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CertificateLabels {
    certificate: String,
}

pub(super) async fn metrics(call: Call<(), (), ()>) -> Result<Response, Refusal> {
    let (app, headers) = (call.app, call.head.headers);
    let ports = call.head.extensions.get::<Ports>();
    let Status { revision, backends, nodes, certificates, config_file, .. } = app.status()?;
    let mut registry = Registry::with_prefix("weir");
    let number = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    let current = Gauge::<i64>::default();
    current.set(number(revision));
    registry.register("revision", "Current revision", current);
    if let Some(file) = config_file {
        let drift = Gauge::<i64>::default();
        drift.set(number(file.drift_count));
        registry.register(
            "config_drift",
            "Differences between the current configuration and the configuration file as last applied",
            drift,
        );
    }
    let up = Family::<BackendLabels, Gauge>::default();
    let active = Family::<BackendLabels, Gauge>::default();
    let ejected = Family::<BackendLabels, Gauge>::default();
    for backend in backends {
        let labels = BackendLabels { backend: backend.id, pool: backend.pool, url: backend.url };
        up.get_or_create(&labels).set(i64::from(backend.alive));
        active.get_or_create(&labels).set(number(backend.active_connections));
        ejected.get_or_create(&labels).set(number(backend.ejected_by.len() as u64));
    }
    registry.register("backend_up", "1 if the backend passes its health check", up);
    registry.register("backend_active_requests", "Requests in flight, by backend, over all nodes", active);
    registry.register("backend_ejected_by", "Nodes whose circuit breaker has ejected the backend", ejected);
    let expiry = Family::<CertificateLabels, Gauge>::default();
    for certificate in certificates {
        let labels = CertificateLabels { certificate: certificate.name };
        expiry.get_or_create(&labels).set(certificate.seconds_left);
    }
    registry.register(
        "certificate_expiry_seconds",
        "Seconds until the certificate expires; negative when it has expired",
        expiry,
    );
    if let Some(Ports { admin, nodes, limits }) = ports {
        let open = Family::<PortLabels, Gauge>::default();
        let closed = Family::<PortLabels, Counter>::default();
        for (port, connections) in [("admin", admin), ("nodes", nodes)] {
            let labels = PortLabels { port };
            open.get_or_create(&labels).set(number(connections.connections() as u64));
            closed.get_or_create(&labels).inc_by(connections.closed());
        }
        registry.register("port_connections", "Open connections by port", open);
        registry.register(
            "port_connections_evicted",
            "Connections closed to make room for new ones, by port",
            closed,
        );
        let refused = ConstCounter::new(limits.refused());
        registry.register(
            "admin_calls_refused",
            "Admin calls refused because the caller exceeded its share",
            refused,
        );
    }
    let tail = app.stats().tail();
    let watchers = Gauge::<i64>::default();
    watchers.set(i64::try_from(tail.watchers()).unwrap_or(i64::MAX));
    registry.register("tail_watchers", "Viewers of live requests", watchers);
    registry.register(
        "tail_dropped",
        "Tail events dropped because a queue was full",
        ConstCounter::new(tail.dropped()),
    );
    type Measure = (&'static str, &'static str, fn(&Node) -> u64);
    let gauges: [Measure; 3] = [
        ("fleet_node_connected", "1 while the node's stream is open", |node| u64::from(node.connected)),
        ("fleet_node_revision", "Revision that the node runs", |node| node.active_revision),
        ("fleet_node_connections", "Open client connections", |node| node.connections),
    ];
    // The prefix `weir_node_` is reserved for the nodes' own metrics. The names here differ, so that no sum over both
    // counts a request twice.
    let counters: [Measure; 2] = [
        ("fleet_node_requests", "Requests that have ended since the node started", |node| node.requests),
        (
            "fleet_node_dropped_rows",
            "Rows of counts that the node dropped because its buffer was full",
            |node| node.dropped_rows,
        ),
    ];
    for (name, help, value) in counters {
        let family = Family::<NodeLabels, Counter>::default();
        for node in &nodes {
            family.get_or_create(&NodeLabels { node: node.id.clone() }).inc_by(value(node));
        }
        registry.register(name, help, family);
    }
    for (name, help, value) in gauges {
        let family = Family::<NodeLabels, Gauge>::default();
        for node in &nodes {
            family.get_or_create(&NodeLabels { node: node.id.clone() }).set(number(value(node)));
        }
        registry.register(name, help, family);
    }
    let accept: Vec<&str> =
        headers.get_all(header::ACCEPT).iter().filter_map(|field| field.to_str().ok()).collect();
    let weir_metrics::Encoded { content_type, body } =
        weir_metrics::encode(&registry, Some(&accept.join(",")))
            .map_err(|_| Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "metrics cannot be written"))?;
    Ok(([(header::CONTENT_TYPE, content_type)], body).into_response())
}
