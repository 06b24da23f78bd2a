//! The service `Nodes` on the wire.
//!
//! Everything is as tonic generates it, but the answer to `Subscribe`: there the messages are encoded already and shared
//! by all streams, so they go out as they are. Through tonic's encoder each stream would copy them into a buffer of its
//! own, which then stays as large as the largest message ever was: with a thousand nodes and a large configuration, that
//! is gigabytes.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, header::CONTENT_TYPE};
use http_body::Frame;
use tokio::sync::mpsc;
use tonic::{
    Code, Status, Streaming, body::Body, codec::Codec as _, metadata::MetadataMap, server::NamedService,
};
use tonic_prost::ProstCodec;
use tower::Service;
use weir_proto::v1::{self, nodes_server::NodesServer};

use super::service::Publisher;

/// The largest batch of counts.
const MAX_BATCH: usize = 64 << 20;

/// The largest message on a node's stream: what it does at ten thousand backends is under one MiB.
const MAX_MESSAGE: usize = 4 << 20;

/// The service as it is mounted. Cheap to clone.
#[derive(Clone)]
pub struct Server {
    publisher: Publisher,
    others: NodesServer<Publisher>,
}

impl Server {
    /// Serves nodes.
    pub fn new(publisher: Publisher) -> Self {
        let others = NodesServer::new(publisher.clone()).max_decoding_message_size(MAX_BATCH);
        Self { publisher, others }
    }
}

impl NamedService for Server {
    const NAME: &'static str = <NodesServer<Publisher> as NamedService>::NAME;
}

impl Service<Request<Body>> for Server {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Service::<Request<Body>>::poll_ready(&mut self.others, cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        if request.uri().path() != "/weir.v1.Nodes/Subscribe" {
            return Box::pin(self.others.call(request));
        }
        let (parts, body) = request.into_parts();
        let decoder = ProstCodec::<v1::SubscribeResponse, v1::SubscribeRequest>::default().decoder();
        let inbound = Streaming::new_request(decoder, body, None, Some(MAX_MESSAGE));
        let metadata = MetadataMap::from_headers(parts.headers);
        let request = tonic::Request::from_parts(metadata, parts.extensions, inbound);
        let answer = match self.publisher.open(request) {
            Ok(messages) => {
                let mut answer = Response::new(Body::new(Messages { from: Some(messages) }));
                answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
                answer
            }
            Err(status) => status.into_http(),
        };
        Box::pin(std::future::ready(Ok(answer)))
    }
}

/// What a stream is sent: messages in their frames, and how it ended.
struct Messages {
    /// `None`: the end was told.
    from: Option<mpsc::Receiver<Result<Bytes, Status>>>,
}

impl http_body::Body for Messages {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let Some(from) = &mut self.from else { return Poll::Ready(None) };
        let status = match ready!(from.poll_recv(cx)) {
            Some(Ok(message)) => return Poll::Ready(Some(Ok(Frame::data(message)))),
            Some(Err(status)) => status,
            None => Status::new(Code::Ok, ""),
        };
        self.from = None;
        let mut trailers = HeaderMap::new();
        if status.add_header(&mut trailers).is_err() {
            trailers.insert("grpc-status", HeaderValue::from_static("13"));
        }
        Poll::Ready(Some(Ok(Frame::trailers(trailers))))
    }
}
