//! The gRPC service `Nodes`: opens nodes' streams and accepts their reports.

use std::{pin::Pin, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use prost::Message as _;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};
use weir_proto::{
    FORMAT,
    v1::{self, nodes_server::Nodes, subscribe_request::Message},
};

use super::{
    bounds::Bounds,
    frames::Frames,
    gate::Gate,
    history::{History, Version},
    identity::Whose,
    registry::{Joined, Registry},
    session::Session,
    stream::{End, NodeStream},
    wire,
};
use crate::{
    access::nodes::NodeAccess,
    current::Watch,
    health::Health,
    secrets::Secrets,
    stats::Stats,
    store::{FleetKey, Store},
};

/// Time within which a new stream must send its hello.
const GREETING: Duration = Duration::from_secs(10);

/// Publishes revisions and health to nodes, and passes their counts to the statistics. Cheap to clone.
#[derive(Clone)]
pub struct Publisher {
    pub(super) current: Watch,
    pub(super) health: Health,
    pub(super) registry: Registry,
    pub(super) stats: Stats,
    pub(super) key: Bytes,
    pub(super) ack_timeout: Duration,
    pub(super) secrets: Option<Secrets>,
    pub(super) frames: Frames,
    gate: Gate,
    bounds: Arc<Bounds>,
    nodes: NodeAccess,
    pub(super) stop: CancellationToken,
}

/// Dependencies of a publisher.
pub struct Sources {
    /// The current revision.
    pub current: Watch,
    /// Changes of recent revisions.
    pub history: History,
    /// Health of backends.
    pub health: Health,
    /// Known nodes.
    pub registry: Registry,
    /// Receives counts.
    pub stats: Stats,
    /// Key that session cookies are signed with.
    pub key: FleetKey,
    /// Time within which a node must answer a push.
    pub ack_timeout: Duration,
    /// Private keys; `None` if they must not be sent to nodes.
    pub secrets: Option<Secrets>,
    /// Admission of nodes, and exclusion from reports.
    pub nodes: NodeAccess,
    /// Used to look up names in stored revisions.
    pub store: Store,
    /// Closes every stream.
    pub stop: CancellationToken,
}

pub(super) type Outbound = mpsc::Sender<Result<Bytes, Status>>;

#[tonic::async_trait]
impl Nodes for Publisher {
    type SubscribeStream = Pin<Box<dyn Stream<Item = Result<v1::SubscribeResponse, Status>> + Send>>;

    /// Used only without [`Server`](super::Server), which sends the bytes as they are.
    async fn subscribe(
        &self,
        request: Request<Streaming<v1::SubscribeRequest>>,
    ) -> Result<Response<Self::SubscribeStream>, Status> {
        let decode = |message: Result<Bytes, Status>| {
            let mut message = message?;
            let message = message.split_off(wire::PREFIX.min(message.len()));
            v1::SubscribeResponse::decode(message).map_err(|error| Status::internal(error.to_string()))
        };
        let messages = ReceiverStream::new(self.open(request)?).map(decode);
        Ok(Response::new(Box::pin(messages)))
    }

    async fn report(
        &self,
        request: Request<v1::ReportRequest>,
    ) -> Result<Response<v1::ReportResponse>, Status> {
        let whose = Whose::of(&request);
        let mut batch = request.into_inner();
        whose.check(&batch.node_id)?;
        if whose.is_exclusive()
            && !self.nodes.is_shared(&batch.node_id)
            && self.registry.is_taken(&batch.node_id, &batch.boot_id)
            && !self.registry.is_open(&batch.node_id, &batch.boot_id)
        {
            return Err(taken(&batch.node_id));
        }
        let current = Arc::clone(&self.current.borrow());
        self.bounds.check_names(&batch, &current).await?;
        let cost = self.bounds.take(&batch, self.registry.workers(&batch.node_id)).await?;
        if self.nodes.is_excluded(&batch.node_id) {
            // Stored without its counts, so that the node does not send it again, and reports show the time as
            // incomplete.
            batch.dropped_rows = batch.dropped_rows.saturating_add(batch.rows.len() as u64);
            (batch.rows, batch.hosts) = (Vec::new(), Vec::new());
        }
        let node_id = batch.node_id.clone();
        let stored = self.stats.ingest(batch).await;
        if stored.as_ref().map_or(true, |answer| answer.duplicate) {
            self.bounds.give_back(&node_id, &cost);
        }
        stored.map(Response::new)
    }
}

/// A second process uses the certificate of a connected node.
fn taken(id: &str) -> Status {
    Status::already_exists(format!(
        "another process is connected with the certificate of node {id:?}; give each process a --node-id and a --state-dir of its own"
    ))
}

fn refuse(hello: &v1::Hello) -> Option<Status> {
    if hello.format < FORMAT {
        return Some(Status::failed_precondition(format!(
            "the node understands snapshot formats up to {}, this control plane sends format {FORMAT}; upgrade the node",
            hello.format
        )));
    }
    let id = &hello.node_id;
    let is_fine = !id.is_empty() && id.len() <= 253 && weir_snapshot::is_visible(id);
    (!is_fine).then(|| Status::invalid_argument("node_id must be 1 to 253 visible characters"))
}

impl Publisher {
    /// Creates a publisher.
    pub fn new(sources: Sources) -> Self {
        let Sources {
            current,
            history,
            health,
            registry,
            stats,
            key,
            ack_timeout,
            secrets,
            nodes,
            store,
            stop,
        } = sources;
        let (key, frames, gate) = (wire::key(&key), Frames::new(history), Gate::default());
        let bounds = Arc::new(Bounds::new(store));
        Self {
            current,
            health,
            registry,
            stats,
            key,
            ack_timeout,
            secrets,
            frames,
            gate,
            bounds,
            nodes,
            stop,
        }
    }

    /// Opens a node's stream, and returns the messages for the node.
    pub(super) fn open(
        &self,
        request: Request<Streaming<v1::SubscribeRequest>>,
    ) -> Result<mpsc::Receiver<Result<Bytes, Status>>, Status> {
        let whose = Whose::of(&request);
        let mut inbound = request.into_inner();
        // Answered before the hello arrives, because a client may wait for the response head before it sends.
        let (outbound, messages) = mpsc::channel(4);
        let this = self.clone();
        tokio::spawn(async move {
            let greeting = tokio::time::timeout(GREETING, inbound.message());
            let ended = match greeting.await {
                Ok(Ok(Some(v1::SubscribeRequest { message: Some(Message::Hello(hello)) }))) => {
                    match refuse(&hello).or_else(|| whose.check(&hello.node_id).err()) {
                        None => this.serve(hello, whose, inbound, &outbound).await,
                        Some(status) => {
                            tracing::warn!(node = %hello.node_id, reason = status.message(), "node rejected");
                            Err(status)
                        }
                    }
                }
                Ok(Ok(_)) => Err(Status::invalid_argument("the first message is not hello")),
                Ok(Err(status)) => Err(status),
                Err(_) => Err(Status::deadline_exceeded("no hello within 10s")),
            };
            if let Err(status) = ended {
                // If the node is gone or does not read, the stream ends without a reason.
                let _ = outbound.try_send(Err(status));
            }
        });
        Ok(messages)
    }

    async fn serve(
        self,
        hello: v1::Hello,
        whose: Whose,
        inbound: Streaming<v1::SubscribeRequest>,
        outbound: &Outbound,
    ) -> Result<(), Status> {
        let joining = self.gate.admit().await;
        let id = hello.node_id.clone();
        let node = id.as_str();
        let active = {
            let current = self.current.borrow();
            let is_current =
                hello.active_revision == current.revision && hello.active_hash == current.hash.to_string();
            let known = || self.frames.history().find(hello.active_revision, &hello.active_hash);
            if is_current { Some(Version::of(&current)) } else { known() }
        };
        let introduction = wire::introduction(hello);
        let (version, address) = (introduction.version.clone(), introduction.address.clone());
        let is_exclusive = whose.is_exclusive() && !self.nodes.is_shared(node);
        let Some(Joined { stream, rejected, stop }) = self.registry.connect(introduction, is_exclusive)
        else {
            let status = taken(node);
            tracing::warn!(node, address, reason = status.message(), "node rejected");
            return Err(status);
        };
        tracing::info!(node, version, address, "node connected");
        let registry = self.registry.clone();
        let session = Session::new(active, rejected);
        let mut driven = NodeStream { publisher: self, node, whose, stream, session, inbound, outbound };
        let end = driven.run(joining, stop).await;
        let wrong = match &end {
            End::Wrong(status) => Some(status.message()),
            End::Gone | End::Done(_) => None,
        };
        registry.disconnect(node, stream, wrong);
        match end {
            End::Gone => {
                tracing::info!(node, "node disconnected");
                Ok(())
            }
            End::Done(status) => {
                tracing::info!(node, reason = status.message(), "stream ended");
                Err(status)
            }
            End::Wrong(status) => {
                tracing::error!(node, reason = status.message(), "stream ended");
                Err(status)
            }
        }
    }
}
