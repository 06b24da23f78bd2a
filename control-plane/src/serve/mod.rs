//! The two ports: the admin port (REST, gRPC and dashboard) and the nodes' port.

mod body;
mod enrollment;
mod http;
mod nodes;
mod socket;
mod tls;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use weir_proto::v1::DESCRIPTOR_SET;

pub(crate) use self::{
    nodes::{NodesGate, nodes},
    socket::LocalSocket,
    tls::AdminTls,
};
use crate::{
    api::{
        Ports,
        access::{self, CallerLimits, Gate},
        dashboard,
        grpc::{Admin, reports::Reports},
        rest,
    },
    app::App,
    connections::Connections,
};

/// Reflection (the current version, and v1alpha, which most tools still use) and health.
async fn common(routes: Routes, services: &[&str]) -> anyhow::Result<Routes> {
    let builder = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let (reporter, health) = tonic_health::server::health_reporter();
    for service in services {
        reporter.set_service_status(*service, tonic_health::ServingStatus::Serving).await;
    }
    let (v1, v1alpha) = (builder().build_v1()?, builder().build_v1alpha()?);
    Ok(routes.add_service(v1).add_service(v1alpha).add_service(health))
}

/// The ports while no connection is open.
pub(crate) fn ports() -> Ports {
    Ports {
        admin: Connections::new(http::LIMITS),
        nodes: Connections::new(nodes::LIMITS),
        limits: CallerLimits::default(),
    }
}

/// The router of the admin port, behind its gate.
pub(crate) async fn admin_router(app: App, gate: Gate, ports: Ports) -> anyhow::Result<axum::Router> {
    let routes = Routes::new(Admin::service(app.clone())).add_service(Reports::service(app.stats().clone()));
    let routes = common(routes, &["weir.v1.Admin", "weir.v1.Reports"]).await?;
    // gRPC paths are few and known; all other paths, including unknown ones, belong to REST.
    let grpc = routes.prepare().into_axum_router().reset_fallback();
    let router = rest::router(app.clone()).merge(dashboard::router(app)).merge(access::login(gate.clone()));
    // The layer added last runs first, for every request.
    let router = router.merge(grpc).layer(axum::Extension(ports));
    Ok(router.layer(axum::middleware::from_fn_with_state(gate, access::gate)))
}

/// Serves the admin port until `stop`.
pub(crate) async fn admin(
    listener: TcpListener,
    tls: Option<AdminTls>,
    router: axum::Router,
    connections: Connections,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    http::serve(listener, tls.map(|tls| tls.config()), router, connections, stop).await;
    Ok(())
}
