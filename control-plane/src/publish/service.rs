//! One task per stream drives its [`Session`].

use std::{pin::Pin, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use prost::Message as _;
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
    bounds::Bounds,
    fleet_size::Teller,
    frames::Frames,
    gate::{Allowance, Gate, Joining},
    history::{History, Version},
    identity::Whose,
    registry::{Joined, Registry},
    secrets::Confided,
    session::{Next, Session},
    wire,
};
use crate::{
    access::nodes::NodeAccess,
    current::{Current, Watch},
    health::{self, Health},
    secrets::Secrets,
    stats::Stats,
    store::{FleetKey, Store},
};

/// A stream says who it is within this time.
const GREETING: Duration = Duration::from_secs(10);

/// A node that is slow to run what it was sent first keeps others from joining no longer than this.
const JOINING: Duration = Duration::from_secs(3);

/// A node that does not take what is sent for so long is not there any more.
const STUCK: Duration = Duration::from_secs(30);

/// Carries revisions and health to the nodes, and their counts to the statistics. Cheap to clone.
#[derive(Clone)]
pub struct Publisher {
    current: Watch,
    health: Health,
    registry: Registry,
    stats: Stats,
    key: Bytes,
    ack_timeout: Duration,
    secrets: Option<Secrets>,
    frames: Frames,
    gate: Gate,
    bounds: Arc<Bounds>,
    nodes: NodeAccess,
    stop: CancellationToken,
}

/// What a publisher works with.
pub struct Sources {
    /// Tells of each revision.
    pub current: Watch,
    /// What led to it.
    pub history: History,
    /// Tells of each change of health.
    pub health: Health,
    /// Who is there.
    pub registry: Registry,
    /// Takes the counts.
    pub stats: Stats,
    /// What the fleet signs sessions with.
    pub key: FleetKey,
    /// A node answers a push within this time.
    pub ack_timeout: Duration,
    /// Private keys; `None`: the nodes' channel may not carry them.
    pub secrets: Option<Secrets>,
    /// Who may be a node, and whose counts are left out.
    pub nodes: NodeAccess,
    /// Knows which names the kept revisions had.
    pub store: Store,
    /// Ends every stream.
    pub stop: CancellationToken,
}

type Outbound = mpsc::Sender<Result<Bytes, Status>>;

#[tonic::async_trait]
impl Nodes for Publisher {
    type SubscribeStream = Pin<Box<dyn Stream<Item = Result<v1::SubscribeResponse, Status>> + Send>>;

    /// Only where this is served without [`Server`](super::Server), which sends the bytes as they are.
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
            // Stored without its counts: the node is done with them, and their time is not complete.
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

/// A second process shows the certificate of a node that is connected.
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
    (!is_fine).then(|| Status::invalid_argument("node_id is 1 to 253 visible characters"))
}

/// How a stream ended.
enum End {
    /// The node has gone, or its connection.
    Gone,
    /// The control plane stops, or the node has another stream.
    Done(Status),
    /// The node did what it must not, or not what it must: it is shown with the node.
    Wrong(Status),
}

impl Publisher {
    /// Joins the sources.
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

    /// Opens a node's stream; what comes out of it goes to the node as it is.
    pub(super) fn open(
        &self,
        request: Request<Streaming<v1::SubscribeRequest>>,
    ) -> Result<mpsc::Receiver<Result<Bytes, Status>>, Status> {
        let whose = Whose::of(&request);
        let mut inbound = request.into_inner();
        // Answered before Hello came: a client that waits for the head before it writes must not wait for ever.
        let (outbound, messages) = mpsc::channel(4);
        let this = self.clone();
        tokio::spawn(async move {
            let greeting = tokio::time::timeout(GREETING, inbound.message());
            let ended = match greeting.await {
                Ok(Ok(Some(v1::SubscribeRequest { message: Some(Message::Hello(hello)) }))) => {
                    match refuse(&hello).or_else(|| whose.check(&hello.node_id).err()) {
                        None => this.serve(hello, whose, inbound, &outbound).await,
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
                // The node may be gone already, or not read: then it finds the stream ended without a reason.
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
            tracing::warn!(node, address, reason = status.message(), "node refused");
            return Err(status);
        };
        tracing::info!(node, version, address, "node connected");
        let registry = self.registry.clone();
        let session = Session::new(active, rejected);
        let mut driven = Driven { publisher: self, node, whose, stream, session, inbound, outbound };
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

/// A node's stream, while it is open.
struct Driven<'a> {
    publisher: Publisher,
    node: &'a str,
    whose: Whose,
    stream: u64,
    session: Session,
    inbound: Streaming<v1::SubscribeRequest>,
    outbound: &'a Outbound,
}

impl Driven<'_> {
    async fn run(&mut self, joining: Option<Joining>, stop: CancellationToken) -> End {
        let ended = self.talk(joining, stop).await;
        ended.err().unwrap_or(End::Gone)
    }

    async fn talk(&mut self, joining: Option<Joining>, stop: CancellationToken) -> Result<(), End> {
        let (mut joining, joined) = (joining, Instant::now());
        let mut health = self.publisher.health.watch();
        let mut watched = self.publisher.stats.tail().filters();
        let mut current = self.publisher.current.clone();
        let mut allowance = Allowance::new(Instant::now());
        let mut is_watched = false;
        let mut confided = self.publisher.secrets.clone().map(Confided::new);
        let mut size = Teller::new(self.publisher.registry.size());
        let mut closed = std::pin::pin!(self.whose.closed());
        self.may_be_sent(&Arc::clone(&current.borrow()))?;
        self.send(self.publisher.key.clone()).await?;
        loop {
            if let Some(nodes) = size.due(Instant::now()) {
                self.send(wire::fleet_size(nodes)).await?;
            }
            let filters = Arc::clone(&watched.borrow_and_update());
            // A stream begins with nobody watching; that needs no message.
            if is_watched || !filters.is_empty() {
                is_watched = !filters.is_empty();
                self.send(wire::tail(&filters)).await?;
            }
            let newest = Arc::clone(&current.borrow_and_update());
            self.may_be_sent(&newest)?;
            if let Some(confided) = &mut confided {
                for due in confided.due(&newest) {
                    self.send(wire::frame(due)).await?;
                }
            }
            let due = self.push_due(&newest).await?;
            self.health_due(&mut health).await?;
            let open = self.session.open();
            if open.is_none() {
                // It runs what there is, or refused it: others may come.
                joining = None;
            }
            drop(newest);
            let yields = joining.as_ref().map(|_| joined + JOINING);
            let overdue = open.map(|(_, since)| since + self.publisher.ack_timeout);
            tokio::select! {
                message = self.inbound.message() => match message {
                    Ok(Some(message)) => {
                        if !allowance.take(Instant::now()) {
                            let why = "the node says more than it may: over 200 messages a second";
                            return Err(End::Wrong(Status::resource_exhausted(why)));
                        }
                        self.take(message);
                    }
                    Ok(None) => return Ok(()),
                    Err(status) => {
                        tracing::debug!(node = self.node, %status, "stream broke");
                        return Err(broken(&status));
                    }
                },
                changed = current.changed() => if changed.is_err() { return Ok(()) },
                changed = size.changed() => if !changed { return Ok(()) },
                changed = watched.changed() => if changed.is_err() { return Ok(()) },
                changed = health.changed() => if changed.is_err() { return Ok(()) },
                () = sleep_until(due) => {}
                () = confidence(&mut confided) => {}
                // Said at the top of the loop.
                () = &mut closed => self.may_be_sent(&Arc::clone(&current.borrow()))?,
                () = sleep_until(yields) => joining = None,
                () = sleep_until(overdue) => {
                    let why = format!(
                        "revision {} was neither acknowledged nor refused within {}",
                        open.map_or(0, |(revision, _)| revision),
                        weir_snapshot::units::HumanDuration(self.publisher.ack_timeout)
                    );
                    return Err(End::Wrong(Status::deadline_exceeded(why)));
                }
                () = stop.cancelled() => {
                    return Err(End::Done(Status::aborted("the node has opened another stream")));
                }
                () = self.publisher.stop.cancelled() => {
                    return Err(End::Done(Status::unavailable("the control plane stops")));
                }
            }
        }
    }

    /// Ends the stream of a node that came in the clear, once there is something to protect.
    fn may_be_sent(&self, current: &Current) -> Result<(), End> {
        self.whose.refusal(current).map_or(Ok(()), |status| Err(End::Wrong(status)))
    }

    /// Sends the newest revision if it is the time; when to look again, if it is not yet.
    async fn push_due(&mut self, current: &Current) -> Result<Option<Instant>, End> {
        let version = Version::of(current);
        let from = match self.session.next(version, Instant::now()) {
            Next::Send(from) => from,
            Next::Wait(at) => return Ok(Some(at)),
            Next::Nothing => return Ok(None),
        };
        let delta = from.and_then(|from| self.publisher.frames.delta(from, current));
        let is_whole = delta.is_none();
        let message = delta.unwrap_or_else(|| self.publisher.frames.whole(current));
        tracing::debug!(
            node = self.node,
            revision = current.revision,
            bytes = message.len(),
            is_whole,
            "sent"
        );
        self.session.sent(version, is_whole, Instant::now());
        self.send(message).await?;
        Ok(None)
    }

    async fn health_due(&mut self, health: &mut watch::Receiver<Arc<health::Told>>) -> Result<(), End> {
        let told = Arc::clone(&health.borrow_and_update());
        if !self.session.has_begun() || self.session.health == Some(told.version) {
            return Ok(());
        }
        let message = self.publisher.frames.health(self.session.health, &told);
        self.session.health = Some(told.version);
        self.send(message).await
    }

    async fn send(&self, message: Bytes) -> Result<(), End> {
        match self.outbound.send_timeout(Ok(message), STUCK).await {
            Ok(()) => Ok(()),
            Err(mpsc::error::SendTimeoutError::Closed(_)) => Err(End::Gone),
            Err(mpsc::error::SendTimeoutError::Timeout(_)) => {
                Err(End::Wrong(Status::deadline_exceeded("the node does not read what it is sent")))
            }
        }
    }

    /// One message of the node. What makes no sense is shown with the node and changes nothing else.
    fn take(&mut self, message: v1::SubscribeRequest) {
        let (node, stream, registry) = (self.node, self.stream, &self.publisher.registry);
        match message.message {
            Some(Message::Ack(ack)) => match self.session.acknowledged(ack.revision, &ack.hash) {
                Ok(()) => {
                    registry.acknowledged(node, stream, ack.revision);
                    tracing::debug!(node, revision = ack.revision, "revision active");
                }
                Err(_) => {
                    let text = format!("it acknowledged revision {}, which was not open", ack.revision);
                    registry.strange(node, stream, text);
                }
            },
            Some(Message::Rejection(rejection)) => {
                let revision = rejection.revision;
                let problems = wire::problems(rejection.problems);
                let is_hash = problems.0.iter().any(|problem| problem.path == "hash");
                match self.session.rejected(revision, is_hash) {
                    Ok(Some(rejected)) => {
                        tracing::error!(node, revision, %problems, "node rejected the revision and keeps what it had");
                        registry.rejected(node, stream, rejected, problems);
                    }
                    Ok(None) => tracing::warn!(node, revision, "delta did not fit; the whole follows"),
                    Err(_) => {
                        let text = format!("it refused revision {revision}, which was not open");
                        registry.strange(node, stream, text);
                    }
                }
            }
            Some(Message::Load(load)) => registry.load(node, stream, wire::load(load)),
            Some(Message::Tail(seen)) => self.publisher.stats.tail().take(node, seen),
            Some(Message::Hello(_)) => registry.strange(node, stream, "it said hello twice".into()),
            None => registry.strange(node, stream, "it sent a message of an unknown kind".into()),
        }
    }
}

/// Whether a stream that broke was the node's fault.
fn broken(status: &Status) -> End {
    use std::error::Error as _;
    use tonic::Code::{Internal, InvalidArgument, OutOfRange, ResourceExhausted};
    // What came from the connection has a source; what tonic or prost could not read has none.
    let is_unreadable = matches!(status.code(), Internal | InvalidArgument | OutOfRange | ResourceExhausted);
    if is_unreadable && status.source().is_none() {
        let status =
            Status::invalid_argument(format!("the node's message cannot be read: {}", status.message()));
        return End::Wrong(status);
    }
    End::Gone
}

/// What no revision holds may have to be told again.
async fn confidence(confided: &mut Option<Confided>) {
    match confided {
        Some(confided) => confided.changed().await,
        None => std::future::pending().await,
    }
}

async fn sleep_until(due: Option<Instant>) {
    match due {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
