//! The service `Nodes`: one task per stream drives its [`Session`].

use std::{pin::Pin, sync::Arc};

use futures_util::Stream;
use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};
use weir_proto::{
    FORMAT,
    v1::{self, nodes_server::Nodes, subscribe_request::Message},
};

use super::{
    fleet_size::Teller,
    registry::{Registry, now_ms},
    session::{Next, Session},
    wire,
};
use crate::{
    current::Watch,
    health::Health,
    stats::Stats,
    store::{FleetKey, SeenNode, Store},
};

/// Carries revisions and health to the nodes, and their counts to the statistics. Cheap to clone.
#[derive(Clone)]
pub struct Publisher {
    /// Tells of each revision.
    pub current: Watch,
    /// Tells of each change of health.
    pub health: Health,
    /// Who is there.
    pub registry: Registry,
    /// Remembers who was there.
    pub store: Store,
    /// Takes the counts.
    pub stats: Stats,
    /// What the fleet signs sessions with.
    pub key: FleetKey,
    /// Ends every stream.
    pub stop: CancellationToken,
}

#[tonic::async_trait]
impl Nodes for Publisher {
    type SubscribeStream = Pin<Box<dyn Stream<Item = Result<v1::SubscribeResponse, Status>> + Send>>;

    async fn subscribe(
        &self,
        request: Request<Streaming<v1::SubscribeRequest>>,
    ) -> Result<Response<Self::SubscribeStream>, Status> {
        let mut inbound = request.into_inner();
        // Answered before Hello came: a client that waits for the head before it writes must not wait for ever.
        let (outbound, stream) = mpsc::channel(4);
        let this = self.clone();
        tokio::spawn(async move {
            let greeting = tokio::time::timeout(std::time::Duration::from_secs(10), inbound.message());
            let ended = match greeting.await {
                Ok(Ok(Some(v1::SubscribeRequest { message: Some(Message::Hello(hello)) }))) => {
                    match refuse(&hello) {
                        None => this.serve(hello, inbound, &outbound).await,
                        Some(status) => {
                            tracing::warn!(node = %hello.node_id, reason = status.message(), "node refused");
                            Err(status)
                        }
                    }
                }
                Ok(Ok(_)) => Err(Status::invalid_argument("the first message is not hello")),
                Ok(Err(status)) => Err(status),
                Err(_) => Err(Status::deadline_exceeded("no hello within 10s")),
            };
            if let Err(status) = ended {
                // The node may be gone already.
                let _ = outbound.send(Err(status)).await;
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }

    async fn report(
        &self,
        request: Request<v1::ReportRequest>,
    ) -> Result<Response<v1::ReportResponse>, Status> {
        self.stats.ingest(request.into_inner()).await.map(Response::new)
    }
}

fn refuse(hello: &v1::Hello) -> Option<Status> {
    if hello.format < FORMAT {
        return Some(Status::failed_precondition(format!(
            "the node understands snapshot formats up to {}, this control plane sends format {FORMAT}; upgrade the node",
            hello.format
        )));
    }
    let id = &hello.node_id;
    let is_fine = !id.is_empty() && id.len() <= 253 && id.chars().all(|c| !c.is_control());
    (!is_fine).then(|| Status::invalid_argument("node_id is 1 to 253 visible characters"))
}

type Outbound = mpsc::Sender<Result<v1::SubscribeResponse, Status>>;

impl Publisher {
    async fn serve(
        mut self,
        hello: v1::Hello,
        mut inbound: Streaming<v1::SubscribeRequest>,
        outbound: &Outbound,
    ) -> Result<(), Status> {
        let (stream, rejected) = self.registry.connect(wire::introduction(&hello));
        let node = hello.node_id.as_str();
        tracing::info!(node, version = %hello.version, address = %hello.address, "node connected");
        self.remember(&hello).await;
        let first = Arc::clone(&self.current.borrow());
        let mut session = Session::new(hello.active_revision, &hello.active_hash, &first, rejected);
        let mut health = self.health.watch();
        if outbound.send(Ok(wire::key(&self.key))).await.is_err() {
            self.registry.disconnect(node, stream);
            return Ok(());
        }
        let mut watched = self.stats.tail().filters();
        let mut is_watched = false;
        let mut size = Teller::new(self.registry.size());
        let result = loop {
            if let Some(nodes) = size.due(Instant::now())
                && outbound.send(Ok(wire::fleet_size(nodes))).await.is_err()
            {
                break Ok(());
            }
            if let Err(Gone) = self.send_due(&mut session, &mut health, outbound).await {
                break Ok(());
            }
            let filters = Arc::clone(&watched.borrow_and_update());
            // A stream begins with nobody watching; that needs no message.
            if is_watched || !filters.is_empty() {
                is_watched = !filters.is_empty();
                if outbound.send(Ok(wire::tail(&filters))).await.is_err() {
                    break Ok(());
                }
            }
            let current = Arc::clone(&self.current.borrow_and_update());
            let due = match session.next(&current, Instant::now()) {
                Next::Send(push) => {
                    if outbound.send(Ok(wire::push(&push))).await.is_err() {
                        break Ok(());
                    }
                    tracing::debug!(node, revision = current.revision, "revision sent");
                    continue;
                }
                Next::Wait(at) => Some(at),
                Next::Nothing => None,
            };
            tokio::select! {
                message = inbound.message() => match message {
                    Ok(Some(message)) => self.take(node, stream, &mut session, message),
                    Ok(None) => break Ok(()),
                    Err(status) => {
                        tracing::debug!(node, %status, "stream broke");
                        break Ok(());
                    }
                },
                changed = self.current.changed() => if changed.is_err() { break Ok(()) },
                changed = size.changed() => if !changed { break Ok(()) },
                changed = watched.changed() => if changed.is_err() { break Ok(()) },
                changed = health.changed() => if changed.is_err() { break Ok(()) },
                () = sleep_until(due) => {}
                () = self.stop.cancelled() => break Err(Status::unavailable("the control plane stops")),
            }
        };
        self.registry.disconnect(node, stream);
        tracing::info!(node, "node disconnected");
        self.remember(&hello).await;
        result
    }

    async fn send_due(
        &self,
        session: &mut Session,
        health: &mut watch::Receiver<Arc<crate::health::States>>,
        outbound: &Outbound,
    ) -> Result<(), Gone> {
        let states = Arc::clone(&health.borrow_and_update());
        if let Some((complete, states)) = session.health(&states) {
            outbound.send(Ok(wire::health(complete, &states))).await.map_err(|_| Gone)?;
        }
        Ok(())
    }

    /// One message of the node. What makes no sense is logged and changes nothing.
    fn take(&self, node: &str, stream: u64, session: &mut Session, message: v1::SubscribeRequest) {
        match message.message {
            Some(Message::Ack(ack)) => match session.acknowledged(ack.revision, &ack.hash) {
                Ok(()) => {
                    self.registry.acknowledged(node, stream, ack.revision);
                    tracing::debug!(node, revision = ack.revision, "revision active");
                }
                Err(_) => tracing::warn!(
                    node,
                    revision = ack.revision,
                    "acknowledgement of what is not open ignored"
                ),
            },
            Some(Message::Rejection(rejection)) => {
                let revision = rejection.revision;
                let problems = wire::problems(rejection.problems);
                match session.rejected(revision, problems.0.iter().any(|problem| problem.path == "hash")) {
                    Ok(Some(rejected)) => {
                        tracing::error!(node, revision, %problems, "node rejected the revision and keeps what it had");
                        self.registry.rejected(node, stream, rejected, problems);
                    }
                    Ok(None) => tracing::warn!(node, revision, "delta did not fit; the whole follows"),
                    Err(_) => tracing::warn!(node, revision, "rejection of what is not open ignored"),
                }
            }
            Some(Message::Load(load)) => self.registry.load(node, stream, wire::load(load)),
            Some(Message::Tail(seen)) => self.stats.tail().take(node, seen),
            Some(Message::Hello(_)) => tracing::warn!(node, "second hello ignored"),
            None => tracing::warn!(node, "unknown message ignored"),
        }
    }

    async fn remember(&self, hello: &v1::Hello) {
        let seen = SeenNode {
            id: hello.node_id.clone(),
            version: hello.version.clone(),
            address: hello.address.clone(),
            last_seen_ms: now_ms(),
        };
        if let Err(error) = self.store.node_seen(&seen).await {
            tracing::error!(node = %seen.id, %error, "cannot remember the node");
        }
    }
}

/// The node's end of the stream is closed.
struct Gone;

async fn sleep_until(due: Option<Instant>) {
    match due {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
