//! The nodes' port: TLS with the fleet's own certificate authority, and cleartext where that is allowed
//! ([`Cleartext`]). The first byte of a connection tells which. The TLS handshake requests a client certificate but
//! does not require it, because a node that joins has none yet. A layer in front of all calls decides which calls
//! require one.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use anyhow::Context as _;
use axum::{
    body::Body,
    extract::{Request, State},
    middleware::Next,
    response::Response,
};
use rustls::ServerConfig;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream, UnixStream},
    sync::mpsc,
    time::Instant,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};
use tonic::{
    Status,
    service::Routes,
    transport::{Server, server::Connected},
};
use weir_proto::v1::enrollment_server::EnrollmentServer;

use super::{body::CallBody, enrollment::Enrollment, socket::LocalSocket};
use crate::{
    access::{
        Access, Outcome,
        nodes::{Known, NodeAccess},
        sha256,
    },
    connections::{Admission, Connection, ConnectionLimits, Connections},
    publish::{self, Cleartext, NodeIdentity, Publisher, Registry},
    store::AuditEntry,
};

/// Time limit for the first byte and the TLS handshake.
const GREETING: Duration = Duration::from_secs(10);

/// Time after which a connection is closed if no node's call was admitted on it, whatever else was called.
const FIRST_CALL: Duration = Duration::from_secs(60);

/// A whole fleet may connect from one address. Its nodes are unauthenticated only until their first call, so the limit
/// for unauthenticated connections allows for all of them at once, for example after a restart.
pub(super) const LIMITS: ConnectionLimits =
    ConnectionLimits { total: 8192, per_address: 2048, reserved: 512 };

/// First byte of a TLS connection: a handshake record.
const TLS: u8 = 0x16;

/// Guards the nodes' port. Cheap to clone.
#[derive(Clone)]
pub(crate) struct NodesGate {
    /// Writes the audit log.
    pub(crate) access: Access,
    /// Admission of nodes.
    pub(crate) nodes: NodeAccess,
    /// Connected nodes.
    pub(crate) registry: Registry,
    /// Whether nodes may connect without TLS, in which case their id is not verified.
    pub(crate) cleartext: Cleartext,
}

/// The peer of a connection.
#[derive(Debug, Clone)]
pub(super) struct NodePeer {
    pub(super) address: SocketAddr,
    is_tls: bool,
    /// Connected through the local socket, whose peer was checked.
    is_local: bool,
    /// Owner of the client certificate when the connection was opened.
    shown: Option<Known>,
    /// The connection's slot at this port.
    connection: Arc<Connection>,
}

enum NodeStream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
    Local(UnixStream),
}

/// An accepted connection and its peer.
pub(super) struct Accepted {
    stream: NodeStream,
    peer: NodePeer,
    /// Completes with the reason why the connection must end.
    ended: Pin<Box<dyn Future<Output = io::Error> + Send>>,
}

/// Returns when another connection takes the slot, or when the first call or a node's first call did not arrive in
/// time.
async fn ended(admission: Admission, begun: Instant) -> io::Error {
    let connection = Arc::clone(&admission.connection);
    let overdue = async {
        tokio::time::sleep_until(begun + GREETING).await;
        // The first call may still be running.
        if connection.quiet().is_none_or(|(_, any)| any) {
            tokio::time::sleep_until(begun + FIRST_CALL).await;
        }
        if connection.is_authenticated() {
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        () = admission.closed() => io::Error::new(io::ErrorKind::ConnectionAborted, "closed to make room"),
        () = overdue => io::Error::new(io::ErrorKind::TimedOut, "no call of a node arrived in time"),
    }
}

impl Accepted {
    /// A node on this machine, connected through the local socket.
    pub(super) fn local(stream: UnixStream) -> Self {
        let address = SocketAddr::from((std::net::Ipv4Addr::LOCALHOST, 0));
        // The peer's user id was checked before, so the connection is authenticated and needs no slot.
        let connection = Arc::new(Connection::default());
        connection.mark_authenticated();
        let peer = NodePeer { address, is_tls: false, is_local: true, shown: None, connection };
        Self { stream: NodeStream::Local(stream), peer, ended: Box::pin(std::future::pending()) }
    }
}

impl Connected for Accepted {
    type ConnectInfo = NodePeer;

    fn connect_info(&self) -> NodePeer {
        self.peer.clone()
    }
}

impl AsyncRead for Accepted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // HTTP/2 always reads, so this is noticed at once.
        if let Poll::Ready(error) = self.ended.as_mut().poll(cx) {
            self.ended = Box::pin(std::future::ready(io::ErrorKind::ConnectionAborted.into()));
            return Poll::Ready(Err(error));
        }
        match &mut self.stream {
            NodeStream::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            NodeStream::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
            NodeStream::Local(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Accepted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.stream {
            NodeStream::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            NodeStream::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
            NodeStream::Local(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            NodeStream::Plain(stream) => Pin::new(stream).poll_flush(cx),
            NodeStream::Tls(stream) => Pin::new(stream).poll_flush(cx),
            NodeStream::Local(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            NodeStream::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            NodeStream::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
            NodeStream::Local(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

/// Serves the nodes' port until `stop`.
pub(crate) async fn nodes(
    listener: TcpListener,
    socket: Option<LocalSocket>,
    publisher: Publisher,
    gate: NodesGate,
    connections: Connections,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let tls = Arc::new(crate::access::ca::server_config(gate.nodes.ca())?);
    let enrollment = EnrollmentServer::new(Enrollment::new(gate.clone()));
    let routes = Routes::new(publish::Server::new(publisher)).add_service(enrollment);
    let routes = super::common(routes, &["weir.v1.Nodes", "weir.v1.Enrollment"]).await?;
    let router = routes.prepare().into_axum_router();
    let router = router.layer(axum::middleware::from_fn_with_state(gate.clone(), guard));
    let (send, incoming) = mpsc::channel(64);
    let local = socket.map(|socket| {
        let accepting = stop.clone().run_until_cancelled_owned(socket.accept(send.clone()));
        AbortOnDropHandle::new(tokio::spawn(accepting))
    });
    let accepting =
        tokio::spawn(stop.clone().run_until_cancelled_owned(accept(listener, tls, gate, connections, send)));
    let accepting = AbortOnDropHandle::new(accepting);
    let served = Server::builder()
        .http2_keepalive_interval(Some(Duration::from_secs(10)))
        .http2_keepalive_timeout(Some(Duration::from_secs(10)))
        .add_routes(Routes::from(router))
        .serve_with_incoming_shutdown(ReceiverStream::new(incoming), stop.cancelled_owned())
        .await
        .context("the nodes' port failed");
    drop((accepting, local));
    served
}

async fn accept(
    listener: TcpListener,
    tls: Arc<ServerConfig>,
    gate: NodesGate,
    connections: Connections,
    send: mpsc::Sender<Result<Accepted, io::Error>>,
) {
    loop {
        let (stream, address) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "cannot accept connections on the nodes' port");
                connections.close_unauthenticated();
                tokio::time::sleep(Duration::from_millis(20)).await;
                continue;
            }
        };
        let (tls, gate, send) = (Arc::clone(&tls), gate.clone(), send.clone());
        let (admission, begun) = (connections.admit(address.ip()), Instant::now());
        tokio::spawn(async move {
            // Revisions are small, and the whole fleet waits for them.
            let _ = stream.set_nodelay(true);
            let connection = Arc::clone(&admission.connection);
            let greeting =
                tokio::time::timeout(GREETING, greet(stream, address, tls, &gate.nodes, connection));
            let greeted = tokio::select! {
                greeted = greeting => greeted,
                () = admission.closed() => return tracing::debug!(%address, "connection to the nodes' port closed to make room"),
            };
            match greeted {
                Ok(Ok((stream, peer))) => {
                    let accepted = Accepted { stream, peer, ended: Box::pin(ended(admission, begun)) };
                    // The server may have stopped.
                    let _ = send.send(Ok(accepted)).await;
                }
                Ok(Err(error)) if error.kind() == io::ErrorKind::InvalidData => {
                    let entry = entry(address, "connect", format!("TLS: {error}"));
                    gate.access.record_refusal(entry).await;
                }
                Ok(Err(error)) => tracing::debug!(%error, %address, "connection to the nodes' port ended"),
                Err(_) => tracing::debug!(%address, "connection to the nodes' port sent nothing in time"),
            }
        });
    }
}

async fn greet(
    stream: TcpStream,
    address: SocketAddr,
    tls: Arc<ServerConfig>,
    nodes: &NodeAccess,
    connection: Arc<Connection>,
) -> io::Result<(NodeStream, NodePeer)> {
    let mut first = [0];
    if stream.peek(&mut first).await? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    if first != [TLS] {
        let peer = NodePeer { address, is_tls: false, is_local: false, shown: None, connection };
        return Ok((NodeStream::Plain(stream), peer));
    }
    let stream = TlsAcceptor::from(tls).accept(stream).await?;
    let shown = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
    let shown = shown.map(|certificate| nodes.known(&sha256(certificate)));
    let peer = NodePeer { address, is_tls: true, is_local: false, shown, connection };
    Ok((NodeStream::Tls(Box::new(stream)), peer))
}

/// Creates an audit entry for an event at this port.
pub(super) fn entry(address: SocketAddr, action: &str, detail: String) -> AuditEntry {
    AuditEntry {
        actor: format!("anonymous@{}", address.ip().to_canonical()),
        source: "nodes".into(),
        action: action.to_owned(),
        detail,
        ..AuditEntry::default()
    }
}

/// Admits or rejects a call, and ends it when its node is revoked.
async fn guard(State(gate): State<NodesGate>, mut request: Request, next: Next) -> Response {
    let Some(peer) = request.extensions().get::<NodePeer>().cloned() else {
        return Status::internal("the peer of this connection is unknown").into_http();
    };
    let call = peer.connection.call();
    let path = request.uri().path().to_owned();
    let identity = match gate.decide(&peer, &path) {
        Ok(identity) => identity,
        Err((actor, status)) => {
            let action = path.trim_start_matches('/');
            let mut entry = entry(peer.address, action, status.message().to_owned());
            if let Some(actor) = actor {
                entry.actor = actor;
            }
            gate.access.record_refusal(entry).await;
            return status.into_http();
        }
    };
    if !matches!(identity, NodeIdentity::Unauthenticated) {
        peer.connection.mark_authenticated();
    }
    request.extensions_mut().insert(identity.clone());
    let answer = next.run(request).await.map(|body| Body::new(CallBody::new(body, call)));
    match identity {
        NodeIdentity::Member(member) => {
            crate::api::access::until(answer, async move { member.ended.cancelled().await })
        }
        // The publisher ends cleartext streams itself, and reports the reason to the node.
        NodeIdentity::Plain(_) | NodeIdentity::Local | NodeIdentity::Unauthenticated => answer,
    }
}

impl NodesGate {
    /// Identifies the caller. Otherwise returns the owner of the certificate, if known, and why it is not accepted.
    fn decide(&self, peer: &NodePeer, path: &str) -> Result<NodeIdentity, (Option<String>, Status)> {
        if !peer.is_tls {
            if path.starts_with("/weir.v1.Enrollment/") {
                let why = "nodes must join over TLS: use --control-plane https://…";
                return Err((None, Status::failed_precondition(why)));
            }
            if peer.is_local {
                return Ok(NodeIdentity::Local);
            }
            return match self.cleartext.refusal() {
                None => Ok(NodeIdentity::Plain(self.cleartext.clone())),
                Some(why) => Err((None, Status::unauthenticated(why))),
            };
        }
        let node_id = match &peer.shown {
            // The certificate was valid when the connection was opened, and counts for its lifetime unless the node is
            // revoked.
            Some(Known::Member(member)) if !member.ended.is_cancelled() => {
                return Ok(NodeIdentity::Member(Arc::clone(member)));
            }
            Some(Known::Member(member)) => Some(&member.node_id),
            Some(Known::Revoked(node_id)) => Some(node_id),
            Some(Known::Unknown) | None => None,
        };
        if let Some(node_id) = node_id.filter(|node_id| self.nodes.is_revoked(node_id)) {
            let why = format!("node {node_id:?} is revoked");
            return Err((Some(node_id.clone()), Status::permission_denied(why)));
        }
        let is_open = path == "/grpc.health.v1.Health/Check" || path.starts_with("/grpc.reflection.");
        if path == "/weir.v1.Enrollment/Join" || (is_open && peer.shown.is_none()) {
            return Ok(NodeIdentity::Unauthenticated);
        }
        Err((
            None,
            Status::unauthenticated(match peer.shown {
                Some(_) => "this certificate is no longer known; join again",
                None => "a node certificate is required; join first",
            }),
        ))
    }

    /// Records in the audit log that a node joined, or why it did not.
    pub(super) async fn joined(&self, address: SocketAddr, node_id: &str, why_not: Option<&Status>) {
        let action = format!("join as {node_id:?}");
        match why_not {
            Some(status) => {
                self.access.record_refusal(entry(address, &action, status.message().to_owned())).await
            }
            None => {
                let entry = entry(address, &action, String::new());
                self.access.record(AuditEntry { outcome: Outcome::Ok.as_str().into(), ..entry }).await;
            }
        }
    }
}
