//! WebSocket clients and backends with tungstenite; all bytes are recorded.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::{net::TcpListener, sync::mpsc};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Message,
        protocol::{Role, WebSocketConfig},
    },
};

use crate::support::{
    DEADLINE,
    wire::{BoxIo, Kind, Record, Recorder, Wire, tunnel},
};

pub(crate) type Socket = WebSocketStream<Recorder>;
type Kept = Arc<Mutex<Record>>;

fn limits() -> WebSocketConfig {
    WebSocketConfig::default().max_message_size(None).max_frame_size(None)
}

async fn socket(io: BoxIo, role: Role) -> (Socket, Kept) {
    let (recorder, record) = Recorder::new(io);
    (WebSocketStream::from_raw_socket(recorder, role, Some(limits())).await, record)
}

/// A client after its handshake, over this kind of listener.
pub(crate) async fn connect(wire: &Wire, kind: Kind) -> (Socket, Kept) {
    let io = if kind.is_http2() {
        extended_connect(wire.h2(kind).await, "/chat").await.expect("a tunnel")
    } else {
        over_http1(wire.connect(kind).await).await
    };
    socket(io, Role::Client).await
}

/// A client without a proxy between.
pub(crate) async fn connect_directly(address: SocketAddr) -> (Socket, Kept) {
    let stream = tokio::net::TcpStream::connect(address).await.unwrap();
    socket(over_http1(Box::new(stream)).await, Role::Client).await
}

async fn over_http1(io: BoxIo) -> BoxIo {
    let handshake = tokio_tungstenite::client_async("ws://a.example/chat", io);
    let (socket, answer) = tokio::time::timeout(DEADLINE, handshake).await.unwrap().unwrap();
    assert_eq!(answer.status(), 101);
    socket.into_inner()
}

/// Opens a WebSocket stream (RFC 8441 section 4); an error contains the status.
pub(crate) async fn extended_connect(
    client: h2::client::SendRequest<Bytes>,
    path: &str,
) -> Result<BoxIo, http::StatusCode> {
    let open = async {
        // The server's settings must allow extended CONNECT.
        while !client.is_extended_connect_protocol_enabled() {
            tokio::task::yield_now().await;
        }
        let mut client = client.ready().await.unwrap();
        let request = http::Request::builder()
            .method("CONNECT")
            .uri(format!("http://a.example{path}"))
            .extension(h2::ext::Protocol::from_static("websocket"))
            .header("sec-websocket-version", "13")
            .header("origin", "http://a.example")
            .body(())
            .unwrap();
        let (answer, send) = client.send_request(request, false).unwrap();
        let answer = answer.await.unwrap();
        let status = answer.status();
        if status != 200 {
            return Err(status);
        }
        Ok(Box::new(tunnel(send, answer.into_body())) as BoxIo)
    };
    tokio::time::timeout(DEADLINE, open).await.expect("an answer in time")
}

/// The backend's protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Speaks {
    Http1,
    Http2,
}

/// A backend that echoes each message and records what it received.
pub(crate) struct Echo {
    pub(crate) address: SocketAddr,
    /// The bytes and messages of each finished connection.
    pub(crate) seen: mpsc::UnboundedReceiver<Seen>,
    server: tokio::task::JoinHandle<()>,
}

pub(crate) struct Seen {
    pub(crate) record: Kept,
    pub(crate) messages: Vec<Message>,
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Echo {
    pub(crate) async fn start(speaks: Speaks) -> Self {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = socket.listen(2048).unwrap();
        let address = listener.local_addr().unwrap();
        let (send, seen) = mpsc::unbounded_channel();
        let server = tokio::spawn(serve(listener, speaks, send));
        Self { address, seen, server }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

async fn serve(listener: TcpListener, speaks: Speaks, seen: mpsc::UnboundedSender<Seen>) {
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        stream.set_nodelay(true).unwrap();
        let seen = seen.clone();
        match speaks {
            Speaks::Http1 => connections.spawn(async move {
                if let Ok(socket) = tokio_tungstenite::accept_async(Box::new(stream) as BoxIo).await {
                    echo(socket.into_inner(), seen).await;
                }
            }),
            Speaks::Http2 => connections.spawn(async move {
                let mut builder = h2::server::Builder::new();
                builder.initial_window_size(1 << 20).initial_connection_window_size(8 << 20);
                let mut connection = builder.enable_connect_protocol().handshake(stream).await.unwrap();
                while let Some(Ok((request, mut respond))) = connection.accept().await {
                    let protocol = request.extensions().get::<h2::ext::Protocol>();
                    if protocol.is_none_or(|protocol| protocol.as_str() != "websocket") {
                        let _ = respond.send_response(http::Response::new(()), true);
                        continue;
                    }
                    let send = respond.send_response(http::Response::new(()), false).unwrap();
                    tokio::spawn(echo(Box::new(tunnel(send, request.into_body())), seen.clone()));
                }
            }),
        };
    }
}

async fn echo(io: BoxIo, seen: mpsc::UnboundedSender<Seen>) {
    let (mut socket, record) = socket(io, Role::Server).await;
    let mut messages = Vec::new();
    while let Some(Ok(message)) = socket.next().await {
        let back = matches!(message, Message::Text(_) | Message::Binary(_)).then(|| message.clone());
        messages.push(message);
        if let Some(back) = back
            && socket.send(back).await.is_err()
        {
            break;
        }
    }
    let _ = seen.send(Seen { record, messages });
}
