//! A scripted control plane that records the messages of nodes.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard},
};

use tokio::sync::{mpsc, watch};
use tokio_stream::{
    Stream,
    wrappers::{TcpListenerStream, UnboundedReceiverStream},
};
use tonic::{Request, Response, Status, Streaming};
use weir_proto::{
    FORMAT,
    v1::{
        Ack, BackendHealth, Delta, Health, HealthUpdate, Hello, Load, Rejection, ReportRequest,
        ReportResponse, Resource, ResourceKey, ResourceKind, Snapshot, SubscribeRequest, SubscribeResponse,
        nodes_server::{Nodes, NodesServer},
        subscribe_request,
        subscribe_response::Message,
    },
};
use weir_snapshot::{
    Config, Kind,
    resource::{ContentHash, Key, to_resources},
};

use super::DEADLINE;

/// The scripted control plane. Dropping it ends it, as after `kill -9`.
pub struct FakeControlPlane {
    pub address: SocketAddr,
    shared: Arc<Shared>,
    server: tokio::task::JoinHandle<()>,
}

/// Messages of nodes so far.
#[derive(Default)]
pub struct Heard {
    pub hellos: Vec<Hello>,
    pub acks: Vec<Ack>,
    pub rejections: Vec<Rejection>,
    pub loads: Vec<Load>,
    pub seen: Vec<weir_proto::v1::TailEvent>,
    /// Every delivery, including those answered with an error.
    pub batches: Vec<ReportRequest>,
}

#[derive(Default)]
struct Inner {
    heard: Heard,
    greeting: Option<Message>,
    streams: Vec<mpsc::UnboundedSender<Result<SubscribeResponse, Status>>>,
    answers: VecDeque<Status>,
}

struct Shared {
    inner: Mutex<Inner>,
    changed: watch::Sender<u64>,
}

impl FakeControlPlane {
    /// Starts it; each new node gets the configuration as revision 1.
    pub async fn start(config: Config) -> Self {
        Self::start_at(SocketAddr::from(([127, 0, 0, 1], 0)), config).await
    }

    /// The same on a given address.
    pub async fn start_at(address: SocketAddr, config: Config) -> Self {
        let listener = tokio::net::TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let greeting = Some(Message::Snapshot(snapshot(1, &config)));
        let inner = Mutex::new(Inner { greeting, ..Inner::default() });
        let shared = Arc::new(Shared { inner, changed: watch::Sender::new(0) });
        let service = NodesServer::new(Service(Arc::clone(&shared)));
        let server = tokio::spawn(async move {
            let incoming = TcpListenerStream::new(listener);
            tonic::transport::Server::builder()
                .add_service(service)
                .serve_with_incoming(incoming)
                .await
                .unwrap();
        });
        Self { address, shared, server }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Sends a message to every connected node.
    pub fn push(&self, message: Message) {
        let response = SubscribeResponse { message: Some(message) };
        self.shared.lock().streams.retain(|stream| stream.send(Ok(response.clone())).is_ok());
    }

    pub fn push_health(&self, complete: bool, backends: &[(&str, Health)]) {
        let backends = backends
            .iter()
            .map(|(id, health)| BackendHealth { backend_id: (*id).to_owned(), health: (*health).into() })
            .collect();
        self.push(Message::Health(HealthUpdate { complete, backends }));
    }

    /// The first message to a node; none if `None`.
    pub fn greet_with(&self, greeting: Option<Message>) {
        self.shared.lock().greeting = greeting;
    }

    /// Ends all streams.
    pub fn hang_up(&self) {
        self.shared.lock().streams.clear();
    }

    /// Records the next reports and answers them with these errors, one each.
    pub fn fail_reports(&self, errors: impl IntoIterator<Item = Status>) {
        self.shared.lock().answers.extend(errors);
    }

    pub fn heard<T>(&self, look: impl FnOnce(&Heard) -> T) -> T {
        look(&self.shared.lock().heard)
    }

    /// Waits until `look` finds a value in the recorded messages.
    ///
    /// # Panics
    /// The deadline passed.
    pub async fn wait<T>(&self, what: &str, mut look: impl FnMut(&Heard) -> Option<T>) -> T {
        let mut changes = self.shared.changed.subscribe();
        let found = async {
            loop {
                changes.borrow_and_update();
                if let Some(found) = self.heard(&mut look) {
                    return found;
                }
                changes.changed().await.unwrap();
            }
        };
        tokio::time::timeout(DEADLINE, found).await.unwrap_or_else(|_| panic!("in vain: {what}"))
    }

    pub async fn acked(&self, revision: u64) -> Ack {
        let find = |heard: &Heard| heard.acks.iter().find(|ack| ack.revision == revision).cloned();
        self.wait(&format!("acknowledgement of {revision}"), find).await
    }

    pub async fn rejected(&self, revision: u64) -> Rejection {
        let find = |heard: &Heard| heard.rejections.iter().find(|said| said.revision == revision).cloned();
        self.wait(&format!("rejection of {revision}"), find).await
    }
}

impl Drop for FakeControlPlane {
    fn drop(&mut self) {
        self.server.abort();
        self.hang_up();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap()
    }

    fn note(&self, note: impl FnOnce(&mut Heard)) {
        note(&mut self.lock().heard);
        self.changed.send_modify(|version| *version += 1);
    }
}

struct Service(Arc<Shared>);

#[tonic::async_trait]
impl Nodes for Service {
    type SubscribeStream = Pin<Box<dyn Stream<Item = Result<SubscribeResponse, Status>> + Send>>;

    async fn subscribe(
        &self,
        request: Request<Streaming<SubscribeRequest>>,
    ) -> Result<Response<Self::SubscribeStream>, Status> {
        let (say, stream) = mpsc::unbounded_channel();
        {
            let mut inner = self.0.lock();
            if let Some(greeting) = inner.greeting.clone() {
                let _ = say.send(Ok(SubscribeResponse { message: Some(greeting) }));
            }
            inner.streams.push(say);
        }
        let shared = Arc::clone(&self.0);
        tokio::spawn(async move {
            let mut from_node = request.into_inner();
            while let Ok(Some(SubscribeRequest { message: Some(message) })) = from_node.message().await {
                shared.note(|heard| match message {
                    subscribe_request::Message::Hello(hello) => heard.hellos.push(hello),
                    subscribe_request::Message::Ack(ack) => heard.acks.push(ack),
                    subscribe_request::Message::Rejection(rejection) => heard.rejections.push(rejection),
                    subscribe_request::Message::Load(load) => heard.loads.push(load),
                    subscribe_request::Message::Tail(seen) => heard.seen.extend(seen.events),
                });
            }
        });
        Ok(Response::new(Box::pin(UnboundedReceiverStream::new(stream))))
    }

    async fn report(&self, request: Request<ReportRequest>) -> Result<Response<ReportResponse>, Status> {
        let batch = request.into_inner();
        let sequence = batch.sequence;
        let answer = self.0.lock().answers.pop_front();
        self.0.note(|heard| heard.batches.push(batch));
        match answer {
            Some(error) => Err(error),
            None => Ok(Response::new(ReportResponse { sequence, duplicate: false })),
        }
    }
}

/// The whole configuration, as a control plane sends it.
pub fn snapshot(revision: u64, config: &Config) -> Snapshot {
    let resources = to_resources(config);
    Snapshot {
        format: FORMAT,
        revision,
        hash: ContentHash::of(&resources).to_string(),
        resources: resources.iter().map(|(key, spec)| resource(key, spec)).collect(),
    }
}

/// The difference between two configurations, as a control plane sends it.
pub fn delta(from_revision: u64, before: &Config, revision: u64, after: &Config) -> Delta {
    let (before, after) = (to_resources(before), to_resources(after));
    Delta {
        format: FORMAT,
        from_revision,
        revision,
        changed: after
            .iter()
            .filter(|(key, spec)| before.get(*key) != Some(*spec))
            .map(|(key, spec)| resource(key, spec))
            .collect(),
        removed: before.keys().filter(|key| !after.contains_key(*key)).map(wire_key).collect(),
        hash: ContentHash::of(&after).to_string(),
    }
}

fn resource(key: &Key, spec: &str) -> Resource {
    Resource { key: Some(wire_key(key)), spec: spec.as_bytes().to_vec() }
}

fn wire_key(key: &Key) -> ResourceKey {
    let kind = match key.kind {
        Kind::Settings => ResourceKind::Settings,
        Kind::Pool => ResourceKind::Pool,
        Kind::Backend => ResourceKind::Backend,
        Kind::Route => ResourceKind::Route,
        Kind::Certificate => ResourceKind::Certificate,
    };
    ResourceKey { kind: kind.into(), name: key.name.clone() }
}
