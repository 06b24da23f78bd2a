//! Drives one node's stream: sends what is due and processes the node's messages.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};
use weir_proto::v1::{self, subscribe_request::Message};

use super::{
    fleet_size::FleetSizeUpdates,
    gate::{Allowance, Joining},
    history::Version,
    identity::Whose,
    secrets::SentSecrets,
    service::{Outbound, Publisher},
    session::{Next, Session},
    wire,
};
use crate::{current::Current, health};

/// How long a node that is slow to apply its first revision can delay the admission of others.
const JOINING: Duration = Duration::from_secs(3);

/// How long a send may block before the node is considered gone.
const STUCK: Duration = Duration::from_secs(30);

/// How a stream ended.
pub(super) enum End {
    /// The node or its connection is gone.
    Gone,
    /// The control plane shuts down, or the node opened another stream.
    Done(Status),
    /// The node violated the protocol or did not answer in time; the error is shown with the node.
    Wrong(Status),
}

/// An open stream of a node.
pub(super) struct NodeStream<'a> {
    pub(super) publisher: Publisher,
    pub(super) node: &'a str,
    pub(super) whose: Whose,
    pub(super) stream: u64,
    pub(super) session: Session,
    pub(super) inbound: Streaming<v1::SubscribeRequest>,
    pub(super) outbound: &'a Outbound,
}

impl NodeStream<'_> {
    pub(super) async fn run(&mut self, joining: Option<Joining>, stop: CancellationToken) -> End {
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
        let mut sent_secrets = self.publisher.secrets.clone().map(SentSecrets::new);
        let mut size = FleetSizeUpdates::new(self.publisher.registry.size());
        let mut closed = std::pin::pin!(self.whose.closed());
        self.may_be_sent(&Arc::clone(&current.borrow()))?;
        self.send(self.publisher.key.clone()).await?;
        loop {
            if let Some(nodes) = size.due(Instant::now()) {
                self.send(wire::fleet_size(nodes)).await?;
            }
            let filters = Arc::clone(&watched.borrow_and_update());
            // A stream starts without tail filters, so an empty list needs no message.
            if is_watched || !filters.is_empty() {
                is_watched = !filters.is_empty();
                self.send(wire::tail(&filters)).await?;
            }
            let newest = Arc::clone(&current.borrow_and_update());
            self.may_be_sent(&newest)?;
            if let Some(sent_secrets) = &mut sent_secrets {
                for due in sent_secrets.due(&newest) {
                    self.send(wire::frame(due)).await?;
                }
            }
            let due = self.push_due(&newest).await?;
            self.health_due(&mut health).await?;
            let open = self.session.open();
            if open.is_none() {
                // The node uses the current revision, or rejected it: another stream may be admitted.
                joining = None;
            }
            drop(newest);
            let yields = joining.as_ref().map(|_| joined + JOINING);
            let overdue = open.map(|(_, since)| since + self.publisher.ack_timeout);
            tokio::select! {
                message = self.inbound.message() => match message {
                    Ok(Some(message)) => {
                        if !allowance.take(Instant::now()) {
                            let why = "the node sends too many messages: over 200 per second";
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
                () = secrets_changed(&mut sent_secrets) => {}
                // The check at the start of the loop reports the reason.
                () = &mut closed => self.may_be_sent(&Arc::clone(&current.borrow()))?,
                () = sleep_until(yields) => joining = None,
                () = sleep_until(overdue) => {
                    let why = format!(
                        "revision {} was neither acknowledged nor rejected within {}",
                        open.map_or(0, |(revision, _)| revision),
                        weir_snapshot::units::HumanDuration(self.publisher.ack_timeout)
                    );
                    return Err(End::Wrong(Status::deadline_exceeded(why)));
                }
                () = stop.cancelled() => {
                    return Err(End::Done(Status::aborted("the node has opened another stream")));
                }
                () = self.publisher.stop.cancelled() => {
                    return Err(End::Done(Status::unavailable("the control plane is shutting down")));
                }
            }
        }
    }

    /// Ends a stream without TLS once there is something to protect.
    fn may_be_sent(&self, current: &Current) -> Result<(), End> {
        self.whose.refusal(current).map_or(Ok(()), |status| Err(End::Wrong(status)))
    }

    /// Sends the newest revision if it is due; otherwise returns when to check again.
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

    async fn health_due(
        &mut self,
        health: &mut watch::Receiver<Arc<health::PublishedHealth>>,
    ) -> Result<(), End> {
        let published = Arc::clone(&health.borrow_and_update());
        if !self.session.has_begun() || self.session.health == Some(published.version) {
            return Ok(());
        }
        let message = self.publisher.frames.health(self.session.health, &published);
        self.session.health = Some(published.version);
        self.send(message).await
    }

    async fn send(&self, message: Bytes) -> Result<(), End> {
        match self.outbound.send_timeout(Ok(message), STUCK).await {
            Ok(()) => Ok(()),
            Err(mpsc::error::SendTimeoutError::Closed(_)) => Err(End::Gone),
            Err(mpsc::error::SendTimeoutError::Timeout(_)) => {
                Err(End::Wrong(Status::deadline_exceeded("the node does not read its messages")))
            }
        }
    }

    /// Processes one message. An unexpected message is shown with the node and has no other effect.
    fn take(&mut self, message: v1::SubscribeRequest) {
        let (node, stream, registry) = (self.node, self.stream, &self.publisher.registry);
        match message.message {
            Some(Message::Ack(ack)) => match self.session.acknowledged(ack.revision, &ack.hash) {
                Ok(()) => {
                    registry.acknowledged(node, stream, ack.revision);
                    tracing::debug!(node, revision = ack.revision, "revision active");
                }
                Err(_) => {
                    let text =
                        format!("the node acknowledged revision {}, which was not pending", ack.revision);
                    registry.protocol_error(node, stream, text);
                }
            },
            Some(Message::Rejection(rejection)) => {
                let revision = rejection.revision;
                let problems = wire::problems(rejection.problems);
                let is_hash = problems.0.iter().any(|problem| problem.path == "hash");
                match self.session.rejected(revision, is_hash) {
                    Ok(Some(rejected)) => {
                        tracing::error!(node, revision, %problems, "node rejected the revision and keeps its previous one");
                        registry.rejected(node, stream, rejected, problems);
                    }
                    Ok(None) => {
                        tracing::warn!(node, revision, "delta did not match; sending the complete revision")
                    }
                    Err(_) => {
                        let text = format!("the node rejected revision {revision}, which was not pending");
                        registry.protocol_error(node, stream, text);
                    }
                }
            }
            Some(Message::Load(load)) => registry.load(node, stream, wire::load(load)),
            Some(Message::Tail(seen)) => self.publisher.stats.tail().take(node, seen),
            Some(Message::Hello(_)) => {
                registry.protocol_error(node, stream, "the node sent hello twice".into())
            }
            None => {
                registry.protocol_error(node, stream, "the node sent a message of an unknown kind".into())
            }
        }
    }
}

/// Classifies a broken stream: whether the node caused it.
fn broken(status: &Status) -> End {
    use std::error::Error as _;
    use tonic::Code::{Internal, InvalidArgument, OutOfRange, ResourceExhausted};
    // An I/O error of the connection has a source; a decoding error of tonic or prost has none.
    let is_unreadable = matches!(status.code(), Internal | InvalidArgument | OutOfRange | ResourceExhausted);
    if is_unreadable && status.source().is_none() {
        let status =
            Status::invalid_argument(format!("the node's message cannot be read: {}", status.message()));
        return End::Wrong(status);
    }
    End::Gone
}

/// Waits until secrets may have to be sent again.
async fn secrets_changed(sent_secrets: &mut Option<SentSecrets>) {
    match sent_secrets {
        Some(sent_secrets) => sent_secrets.changed().await,
        None => std::future::pending().await,
    }
}

async fn sleep_until(due: Option<Instant>) {
    match due {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
