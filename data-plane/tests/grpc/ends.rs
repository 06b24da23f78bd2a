//! A service whose messages are plain bytes, and its client. Messages are compared byte by byte, and no code is
//! generated.

use std::{
    convert::Infallible,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Buf as _, BufMut as _, Bytes};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpListener, sync::mpsc};
use tokio_stream::{
    Stream, StreamExt as _,
    wrappers::{TcpListenerStream, UnboundedReceiverStream},
};
use tonic::{
    Code, Request, Response, Status, Streaming,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    metadata::{MetadataMap, MetadataValue},
    server::NamedService,
    transport::{Channel, Endpoint, Server},
};
use tower::service_fn;
use weir_snapshot::{Config, config::Protocol};

use crate::support::wire::{Kind, Wire, config};

/// Messages are the bytes themselves.
#[derive(Clone, Copy, Default)]
pub(crate) struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        out.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, input: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        let size = input.remaining();
        Ok(Some(input.copy_to_bytes(size)))
    }
}

/// Events of a backend.
#[derive(Debug)]
pub(crate) enum Told {
    /// A call started, with this metadata.
    Began(MetadataMap),
    /// The call was cancelled.
    GivenUp,
}

struct GivenUp(mpsc::UnboundedSender<Told>);

impl Drop for GivenUp {
    fn drop(&mut self) {
        let _ = self.0.send(Told::GivenUp);
    }
}

/// The service.
///
/// - `Unary` gives the message back, with its metadata as metadata and as trailers; `x-fail: CODE` fails with it.
/// - `Many` gives back as many messages as the first one says, `x-size` bytes each; `x-fail` fails after them.
/// - `Sum` answers with the number of messages and of their bytes.
/// - `Each` gives back each message as it comes.
/// - `Hang` never answers; `HangWithin` not after the first message.
#[derive(Clone)]
struct Service(mpsc::UnboundedSender<Told>);

impl NamedService for Service {
    const NAME: &'static str = "weir.test.Bytes";
}

type Answers = Pin<Box<dyn Stream<Item = Result<Bytes, Status>> + Send>>;

fn asked_to_fail(metadata: &MetadataMap) -> Result<(), Status> {
    let Some(code) = metadata.get("x-fail") else { return Ok(()) };
    let code = Code::from(code.to_str().unwrap().parse::<i32>().unwrap());
    let mut trailers = MetadataMap::new();
    trailers.insert("x-why", MetadataValue::from_static("as asked"));
    trailers.insert_bin("x-why-bin", MetadataValue::from_bytes(&[0, 255, 10]));
    Err(Status::with_details_and_metadata(code, "grüße: 100 %\n", Bytes::from_static(&[1, 0, 2]), trailers))
}

fn echoed(metadata: &MetadataMap) -> MetadataMap {
    let mut echoed = MetadataMap::new();
    for name in ["x-text", "grpc-timeout", "te", "content-type", "user-agent"] {
        if let Some(value) = metadata.get(name) {
            echoed.insert(
                format!("x-echo-{name}").parse::<tonic::metadata::MetadataKey<_>>().unwrap(),
                value.clone(),
            );
        }
    }
    if let Some(value) = metadata.get_bin("x-data-bin") {
        echoed.insert_bin("x-echo-data-bin", value.clone());
    }
    echoed
}

impl tower::Service<http::Request<tonic::body::Body>> for Service {
    type Response = http::Response<tonic::body::Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<tonic::body::Body>) -> Self::Future {
        let tell = self.0.clone();
        let began = move |metadata: &MetadataMap| {
            let _ = tell.send(Told::Began(metadata.clone()));
            GivenUp(tell.clone())
        };
        Box::pin(async move {
            let mut grpc = tonic::server::Grpc::new(Raw)
                .max_decoding_message_size(64 << 20)
                .max_encoding_message_size(64 << 20);
            let method = request.uri().path().rsplit('/').next().unwrap().to_owned();
            Ok(match method.as_str() {
                "Unary" => {
                    let unary = move |request: Request<Bytes>| async move {
                        asked_to_fail(request.metadata())?;
                        let mut response = Response::new(request.get_ref().clone());
                        *response.metadata_mut() = echoed(request.metadata());
                        Ok::<_, Status>(response)
                    };
                    grpc.unary(service_fn(unary), request).await
                }
                "Many" => {
                    let many = move |request: Request<Bytes>| async move {
                        let count: usize = std::str::from_utf8(request.get_ref()).unwrap().parse().unwrap();
                        let size =
                            request.metadata().get("x-size").unwrap().to_str().unwrap().parse().unwrap();
                        let failure = asked_to_fail(request.metadata()).err();
                        let messages = (0..count).map(move |n| Ok(Bytes::from(vec![n as u8; size])));
                        let all = messages.chain(failure.map(Err));
                        Ok::<_, Status>(Response::new(Box::pin(tokio_stream::iter(all)) as Answers))
                    };
                    grpc.server_streaming(service_fn(many), request).await
                }
                "Sum" => {
                    let sum = move |request: Request<Streaming<Bytes>>| async move {
                        let mut messages = request.into_inner();
                        let (mut count, mut size) = (0, 0);
                        while let Some(message) = messages.message().await? {
                            count += 1;
                            size += message.len();
                        }
                        Ok::<_, Status>(Response::new(Bytes::from(format!("{count} {size}"))))
                    };
                    grpc.client_streaming(service_fn(sum), request).await
                }
                "Each" => {
                    let each = move |request: Request<Streaming<Bytes>>| async move {
                        Ok::<_, Status>(Response::new(Box::pin(request.into_inner()) as Answers))
                    };
                    grpc.streaming(service_fn(each), request).await
                }
                "Hang" => {
                    let hang = move |request: Request<Bytes>| {
                        let given_up = began(request.metadata());
                        async move {
                            let _given_up = given_up;
                            std::future::pending::<Result<Response<Bytes>, Status>>().await
                        }
                    };
                    grpc.unary(service_fn(hang), request).await
                }
                "HangWithin" => {
                    let hang = move |request: Request<Bytes>| {
                        let given_up = began(request.metadata());
                        async move {
                            let first = tokio_stream::once(Ok(request.get_ref().clone()));
                            let rest = tokio_stream::pending().map(move |message| {
                                let _held = &given_up;
                                message
                            });
                            Ok::<_, Status>(Response::new(Box::pin(first.chain(rest)) as Answers))
                        }
                    };
                    grpc.server_streaming(service_fn(hang), request).await
                }
                _ => Status::unimplemented("no such method").into_http(),
            })
        })
    }
}

/// A gRPC backend; dropping it closes its connections.
pub(crate) struct Backend {
    pub(crate) address: SocketAddr,
    pub(crate) told: mpsc::UnboundedReceiver<Told>,
    /// Dropping this ends the thread.
    _stop: tokio::sync::oneshot::Sender<()>,
}

impl Backend {
    pub(crate) async fn start() -> Self {
        let (tell, told) = mpsc::unbounded_channel();
        let (send, address) = tokio::sync::oneshot::channel();
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        // A separate thread, whose end closes every connection.
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.spawn(async move {
                let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
                let _ = send.send(listener.local_addr().unwrap());
                Server::builder()
                    .add_service(Service(tell))
                    .serve_with_incoming(TcpListenerStream::new(listener))
                    .await
                    .unwrap();
            });
            let _ = runtime.block_on(stopped);
        });
        Self { address: address.await.unwrap(), told, _stop: stop }
    }

    /// A configuration with this backend.
    pub(crate) fn config(&self) -> Config {
        config_of(self.address)
    }

    pub(crate) async fn began(&mut self) -> MetadataMap {
        match crate::support::within(self.told.recv()).await {
            Some(Told::Began(metadata)) => metadata,
            other => panic!("no call began: {other:?}"),
        }
    }

    pub(crate) async fn given_up(&mut self) {
        let told = crate::support::within(self.told.recv()).await;
        assert!(matches!(told, Some(Told::GivenUp)), "{told:?}");
    }
}

pub(crate) fn config_of(address: SocketAddr) -> Config {
    let mut config = config(&[format!("http://{address}")]);
    config.pools[0].protocol = Protocol::Http2;
    config
}

/// A tonic client.
pub(crate) struct Client(tonic::client::Grpc<Channel>);

impl Client {
    pub(crate) async fn connect(wire: &Wire, kind: Kind) -> Self {
        let io = std::sync::Mutex::new(Some(wire.connect(kind).await));
        let connector = service_fn(move |_: http::Uri| {
            let io = io.lock().unwrap().take().map(TokioIo::new);
            async move { io.ok_or(std::io::ErrorKind::NotConnected).map_err(std::io::Error::from) }
        });
        let endpoint = Endpoint::from_static("http://a.example").initial_stream_window_size(1 << 20);
        let channel = endpoint.connect_with_connector(connector).await.unwrap();
        let grpc = tonic::client::Grpc::new(channel);
        Self(grpc.max_decoding_message_size(64 << 20).max_encoding_message_size(64 << 20))
    }

    fn path(method: &str) -> http::uri::PathAndQuery {
        format!("/{}/{method}", Service::NAME).parse().unwrap()
    }

    pub(crate) async fn unary(
        &self,
        method: &str,
        request: Request<Bytes>,
    ) -> Result<Response<Bytes>, Status> {
        let mut grpc = self.0.clone();
        grpc.ready().await.map_err(|error| Status::unknown(error.to_string()))?;
        grpc.unary(request, Self::path(method), Raw).await
    }

    pub(crate) async fn server_streaming(
        &self,
        method: &str,
        request: Request<Bytes>,
    ) -> Result<Streaming<Bytes>, Status> {
        let mut grpc = self.0.clone();
        grpc.ready().await.map_err(|error| Status::unknown(error.to_string()))?;
        grpc.server_streaming(request, Self::path(method), Raw).await.map(Response::into_inner)
    }

    pub(crate) async fn client_streaming(
        &self,
        method: &str,
        messages: impl Stream<Item = Bytes> + Send + 'static,
    ) -> Result<Response<Bytes>, Status> {
        let mut grpc = self.0.clone();
        grpc.ready().await.map_err(|error| Status::unknown(error.to_string()))?;
        grpc.client_streaming(Request::new(messages), Self::path(method), Raw).await
    }

    /// A bidirectional call: the sender and the receiver of messages.
    pub(crate) async fn both(
        &self,
        method: &str,
    ) -> Result<(mpsc::UnboundedSender<Bytes>, Streaming<Bytes>), Status> {
        let mut grpc = self.0.clone();
        grpc.ready().await.map_err(|error| Status::unknown(error.to_string()))?;
        let (send, messages) = mpsc::unbounded_channel();
        let request = Request::new(UnboundedReceiverStream::new(messages));
        let answer = grpc.streaming(request, Self::path(method), Raw).await?;
        Ok((send, answer.into_inner()))
    }
}

/// A request with metadata.
pub(crate) fn request(message: impl Into<Bytes>, metadata: &[(&'static str, &str)]) -> Request<Bytes> {
    let mut request = Request::new(message.into());
    for (name, value) in metadata {
        request.metadata_mut().insert(*name, value.parse().unwrap());
    }
    request
}

/// The same request with a deadline.
pub(crate) fn within_time(mut request: Request<Bytes>, time: Duration) -> Request<Bytes> {
    request.set_timeout(time);
    request
}
