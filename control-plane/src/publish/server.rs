//! The gRPC service `Nodes` on the wire.
//!
//! Everything except the answer to `Subscribe` uses tonic's generated code. The messages of `Subscribe` are already
//! encoded and shared by all streams, so they are sent as they are. Tonic's encoder would copy them into a buffer per
//! stream, which stays as large as the largest message ever sent: gigabytes with a thousand nodes and a large
//! configuration.

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

/// Maximum size of a batch of counts.
const MAX_BATCH: usize = 64 << 20;

/// Maximum size of a message on a node's stream. A load report for ten thousand backends is under 1 MiB.
const MAX_MESSAGE: usize = 4 << 20;

/// The mounted service. Cheap to clone.
#[derive(Clone)]
pub struct Server {
    publisher: Publisher,
    others: NodesServer<Publisher>,
}

impl Server {
    /// Creates the service.
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

/// The body of a stream: framed messages and the final status.
struct Messages {
    /// `None` when the end was sent.
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
