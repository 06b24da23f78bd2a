//! A control plane that gives each node the configuration prepared under its id, and acknowledges its reports.

use std::{
    collections::HashMap,
    net::SocketAddr,
    pin::Pin,
    sync::{LazyLock, Mutex, PoisonError},
};

use tokio_stream::{Stream, StreamExt as _, wrappers::TcpListenerStream};
use tonic::{Request, Response, Status, Streaming};
use weir_proto::v1::{
    ReportRequest, ReportResponse, Resource, ResourceKey, ResourceKind, Snapshot, SubscribeRequest,
    SubscribeResponse,
    nodes_server::{Nodes, NodesServer},
    subscribe_request, subscribe_response,
};
use weir_snapshot::{
    Config, Kind,
    resource::{ContentHash, to_resources},
};

static CONFIGURATIONS: LazyLock<Mutex<HashMap<String, Config>>> = LazyLock::new(Mutex::default);

static ADDRESS: LazyLock<SocketAddr> = LazyLock::new(|| {
    let (send, address) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.map(|runtime| {
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
                let _ = send.send(listener.local_addr()?);
                tonic::transport::Server::builder()
                    .add_service(NodesServer::new(Fake))
                    .serve_with_incoming(TcpListenerStream::new(listener))
                    .await
                    .map_err(std::io::Error::other)
            })
        })
    });
    address.recv().expect("a loopback port for the control plane")
});

/// Prepares the node's configuration; answers where it gets it.
pub(crate) fn prepare(node_id: &str, config: Config) -> String {
    let mut configurations = CONFIGURATIONS.lock().unwrap_or_else(PoisonError::into_inner);
    configurations.insert(node_id.to_owned(), config);
    format!("http://{}", *ADDRESS)
}

struct Fake;

#[tonic::async_trait]
impl Nodes for Fake {
    type SubscribeStream = Pin<Box<dyn Stream<Item = Result<SubscribeResponse, Status>> + Send>>;

    async fn subscribe(
        &self,
        request: Request<Streaming<SubscribeRequest>>,
    ) -> Result<Response<Self::SubscribeStream>, Status> {
        let mut from_node = request.into_inner();
        let Some(subscribe_request::Message::Hello(hello)) =
            from_node.message().await?.and_then(|first| first.message)
        else {
            return Err(Status::invalid_argument("the first message is no hello"));
        };
        let config = {
            let configurations = CONFIGURATIONS.lock().unwrap_or_else(PoisonError::into_inner);
            configurations.get(&hello.node_id).cloned()
        };
        let config = config.ok_or_else(|| Status::not_found("no such node"))?;
        let first =
            SubscribeResponse { message: Some(subscribe_response::Message::Snapshot(snapshot(&config))) };
        // The stream lives as long as the node's own side; what the node says is read and not needed.
        let listening = from_node.filter_map(|message| message.err().map(Err));
        Ok(Response::new(Box::pin(tokio_stream::once(Ok(first)).chain(listening))))
    }

    async fn report(&self, request: Request<ReportRequest>) -> Result<Response<ReportResponse>, Status> {
        let sequence = request.into_inner().sequence;
        Ok(Response::new(ReportResponse { sequence, duplicate: false }))
    }
}

fn snapshot(config: &Config) -> Snapshot {
    let resources = to_resources(config);
    let hash = ContentHash::of(&resources).to_string();
    let resources = resources.into_iter().map(|(key, spec)| {
        let kind = match key.kind {
            Kind::Settings => ResourceKind::Settings,
            Kind::Pool => ResourceKind::Pool,
            Kind::Backend => ResourceKind::Backend,
            Kind::Route => ResourceKind::Route,
            Kind::Certificate => ResourceKind::Certificate,
        };
        Resource { key: Some(ResourceKey { kind: kind.into(), name: key.name }), spec: spec.into_bytes() }
    });
    Snapshot { format: weir_proto::FORMAT, revision: 1, resources: resources.collect(), hash }
}
