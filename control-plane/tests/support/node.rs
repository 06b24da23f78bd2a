//! A scripted node: it applies messages and checks each hash, and answers only when received to.

use std::collections::HashMap;

use http::Uri;
use serde_json::Value;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming, transport::Channel};
use weir_proto::{
    FORMAT,
    v1::{
        self, nodes_client::NodesClient, subscribe_request::Message as ToControlPlane,
        subscribe_response::Message as ToNode,
    },
};
use weir_snapshot::resource::{ContentHash, Key, Kind, Resources};

use super::{ControlPlane, within};

/// An address without a server: adding it changes the configuration, and a probe of it fails at once.
pub const UNREACHABLE: &str = "http://127.0.0.1:1";

/// One stream of a node.
pub struct Node {
    to: mpsc::Sender<v1::SubscribeRequest>,
    from: Streaming<v1::SubscribeResponse>,
    /// The resources received so far.
    pub resources: Resources,
    /// The key for session cookies.
    pub key: Vec<u8>,
    /// The fleet sizes received.
    pub sizes: Vec<u32>,
    /// The health received, by backend.
    pub found: HashMap<String, v1::Health>,
    /// Number of resources in the last delta.
    pub pieces: usize,
    /// The keys for session tickets.
    pub tickets: v1::TicketKeys,
    /// The private keys received last.
    pub private_keys: Vec<v1::CertificateKey>,
}

/// A received revision, already applied, with a correct hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Push {
    pub revision: u64,
    /// The base revision of a delta; `None`: a snapshot.
    pub from: Option<u64>,
    pub hash: String,
}

/// A received message.
#[derive(Debug)]
pub enum Received {
    Push(Push),
    Health(v1::HealthUpdate),
    Tail(v1::Tail),
}

pub async fn channel(address: std::net::SocketAddr) -> Channel {
    let uri: Uri = format!("http://{address}").parse().unwrap();
    Channel::builder(uri).connect().await.unwrap()
}

/// A client on the local socket, which accepts nodes in every state.
pub async fn client(control_plane: &ControlPlane) -> NodesClient<Channel> {
    let path = control_plane.socket();
    let connect = tower::service_fn(move |_: Uri| {
        let path = path.clone();
        async move { tokio::net::UnixStream::connect(path).await.map(hyper_util::rt::TokioIo::new) }
    });
    let endpoint = Channel::builder(Uri::from_static("http://localhost:1"));
    NodesClient::new(endpoint.connect_with_connector(connect).await.unwrap())
}

/// The first message of a node without a revision.
pub fn hello(id: &str) -> v1::Hello {
    v1::Hello {
        node_id: id.into(),
        boot_id: format!("{id}-boot"),
        version: "1.0".into(),
        address: "127.0.0.1:80".into(),
        workers: 2,
        format: FORMAT,
        ..v1::Hello::default()
    }
}

/// The entry of a node in `/nodes` once it is as wanted.
pub async fn node_is(control_plane: &ControlPlane, id: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    let find = |nodes: &Value| {
        let items = nodes["items"].as_array().unwrap();
        items.iter().find(|node| node["id"] == id).cloned()
    };
    let nodes = control_plane.wait_for("/nodes", |nodes| find(nodes).is_some_and(|node| wanted(&node))).await;
    find(&nodes).unwrap()
}

/// A node with the current revision, and that revision.
pub async fn running(control_plane: &ControlPlane, id: &str) -> (Node, Push) {
    let mut node = Node::connect(control_plane, hello(id)).await;
    let push = node.push().await;
    node.ack(&push).await;
    node_is(control_plane, id, |node| node["active_revision"] == push.revision).await;
    (node, push)
}

/// Waits for the end of the stream and returns its status.
pub async fn end(node: &mut Node) -> Status {
    loop {
        if let Err(status) = node.next().await {
            return status;
        }
    }
}

fn key(key: Option<v1::ResourceKey>) -> Key {
    let key = key.unwrap();
    let kind = match key.kind() {
        v1::ResourceKind::Settings => Kind::Settings,
        v1::ResourceKind::Pool => Kind::Pool,
        v1::ResourceKind::Backend => Kind::Backend,
        v1::ResourceKind::Route => Kind::Route,
        v1::ResourceKind::Certificate => Kind::Certificate,
        other => panic!("{other:?}"),
    };
    Key { kind, name: key.name }
}

fn resource(resource: v1::Resource) -> (Key, String) {
    (key(resource.key), String::from_utf8(resource.spec).unwrap())
}

impl Node {
    pub async fn connect(control_plane: &ControlPlane, hello: v1::Hello) -> Self {
        Self::connect_by(client(control_plane).await, hello).await
    }

    /// Connects without TLS.
    pub async fn connect_in_the_clear(control_plane: &ControlPlane, hello: v1::Hello) -> Self {
        Self::connect_by(NodesClient::new(channel(control_plane.nodes()).await), hello).await
    }

    pub async fn connect_by(mut client: NodesClient<Channel>, hello: v1::Hello) -> Self {
        let (to, requests) = mpsc::channel(16);
        to.send(v1::SubscribeRequest { message: Some(ToControlPlane::Hello(hello)) }).await.unwrap();
        let from = within("the stream", client.subscribe(ReceiverStream::new(requests))).await.unwrap();
        Self {
            to,
            from: from.into_inner(),
            resources: Resources::new(),
            key: Vec::new(),
            sizes: Vec::new(),
            found: HashMap::new(),
            pieces: 0,
            tickets: Default::default(),
            private_keys: Vec::new(),
        }
    }

    pub async fn send(&self, message: ToControlPlane) {
        self.send_raw(Some(message)).await;
    }

    pub async fn send_raw(&self, message: Option<ToControlPlane>) {
        self.to.send(v1::SubscribeRequest { message }).await.unwrap();
    }

    /// Sends a message if the stream is open.
    pub async fn try_send(&self, message: ToControlPlane) -> bool {
        self.to.send(v1::SubscribeRequest { message: Some(message) }).await.is_ok()
    }

    /// The hash of the received resources.
    pub fn push_hash(&self) -> String {
        ContentHash::of(&self.resources).to_string()
    }

    pub async fn ack(&self, push: &Push) {
        let ack = v1::Ack { revision: push.revision, hash: push.hash.clone() };
        self.send(ToControlPlane::Ack(ack)).await;
    }

    pub async fn reject(&self, push: &Push, path: &str) {
        let problem = v1::Problem { path: path.into(), message: "cannot be run".into() };
        let rejection = v1::Rejection { revision: push.revision, problems: vec![problem] };
        self.send(ToControlPlane::Rejection(rejection)).await;
    }

    /// The next message, or the status with which the stream ended.
    pub async fn next(&mut self) -> Result<Received, Status> {
        let message = loop {
            let message = within("a message to the node", self.from.message()).await?;
            match message.ok_or_else(|| Status::cancelled("the stream ended"))?.message.unwrap() {
                ToNode::Key(received) => {
                    assert_eq!(received.key.len(), 32);
                    self.key = received.key;
                }
                ToNode::FleetSize(received) => self.sizes.push(received.nodes),
                ToNode::Tickets(received) => self.tickets = received,
                ToNode::CertificateKeys(received) => self.private_keys = received.keys,
                message => break message,
            }
        };
        Ok(match message {
            ToNode::Key(_) | ToNode::FleetSize(_) | ToNode::Tickets(_) | ToNode::CertificateKeys(_) => {
                unreachable!("passed over above")
            }
            ToNode::Health(health) => {
                if health.complete {
                    self.found.clear();
                }
                let found = health.backends.iter().map(|one| (one.backend_id.clone(), one.health()));
                self.found.extend(found);
                Received::Health(health)
            }
            ToNode::Tail(tail) => Received::Tail(tail),
            ToNode::Snapshot(snapshot) => {
                assert_eq!(snapshot.format, FORMAT);
                self.resources = snapshot.resources.into_iter().map(resource).collect();
                self.came(snapshot.revision, None, snapshot.hash)
            }
            ToNode::Delta(delta) => {
                assert_eq!(delta.format, FORMAT);
                self.pieces = delta.removed.len() + delta.changed.len();
                for gone in delta.removed {
                    assert!(self.resources.remove(&key(Some(gone))).is_some(), "removed what was not there");
                }
                self.resources.extend(delta.changed.into_iter().map(resource));
                self.came(delta.revision, Some(delta.from_revision), delta.hash)
            }
        })
    }

    fn came(&self, revision: u64, from: Option<u64>, hash: String) -> Received {
        assert_eq!(ContentHash::of(&self.resources).to_string(), hash, "revision {revision} from {from:?}");
        Received::Push(Push { revision, from, hash })
    }

    /// Waits until the fleet has this size.
    pub async fn size(&mut self, nodes: u32) {
        while self.sizes.last() != Some(&nodes) {
            let message = within("the number of nodes", self.from.message()).await.unwrap().unwrap();
            if let Some(ToNode::FleetSize(received)) = message.message {
                self.sizes.push(received.nodes);
            }
        }
    }

    /// The next revision; health messages before it are skipped.
    pub async fn push(&mut self) -> Push {
        loop {
            if let Received::Push(push) = self.next().await.unwrap() {
                return push;
            }
        }
    }

    /// Skips messages until a backend has this health, which may have arrived before its revision.
    pub async fn health(&mut self, backend: &str, health: v1::Health) {
        while self.found.get(backend) != Some(&health) {
            self.next().await.unwrap();
        }
    }
}
