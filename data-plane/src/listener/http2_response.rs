//! Sends the response to a request of an HTTP/2 stream while it arrives.

use std::{
    cell::RefCell,
    future::poll_fn,
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use h2::{Reason, RecvStream, SendStream, server::SendResponse};
use http::{HeaderValue, Response as HttpResponse, StatusCode, header};
use weir_http::{
    RequestHead, ResponseHead,
    translate::{read_trailers, response_fields},
};

use super::http2::Streams;
use crate::{
    answer::{Local, Media},
    client::ClientConnection,
    failure::Failure,
    proxy::Exchange,
    stats::Cut,
    upstream::{Progress, Response},
    wire::{
        timer::Timer,
        tunnel::{self, End, Http2End},
    },
};

/// How long a stream stays open after its response for the rest of its request. After an immediate reset clients lose
/// the response (curl 7.88, httpx).
const LINGER: Duration = Duration::from_secs(5);

/// Most such streams of a connection; others are reset at once.
const MAX_LINGERING: usize = 32;

/// The stream was reset, or its connection has ended.
struct Gone;

/// The response of a stream, and the state that it needs until it has ended.
pub(super) struct Answering {
    pub(super) client: Rc<ClientConnection>,
    pub(super) exchange: Exchange,
    pub(super) timer: Timer,
    pub(super) respond: RefCell<SendResponse<Bytes>>,
    pub(super) streams: Rc<Streams>,
    /// The request's body.
    pub(super) rest: Option<Rc<RefCell<RecvStream>>>,
}

/// Adds the fields of a response of the node itself.
fn insert_own(fields: &mut http::HeaderMap, local: &Local) {
    for (name, value) in local.fields() {
        if let Ok(value) = HeaderValue::from_str(value) {
            fields.insert(header::HeaderName::from_static(name), value);
        }
    }
    for (name, value) in local.extra.iter().flat_map(|extra| &extra.lines) {
        let name = header::HeaderName::from_bytes(name.as_bytes());
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(value)) {
            fields.append(name, value);
        }
    }
}

impl Answering {
    /// Sends a response of the node itself.
    pub(super) fn local(mut self, local: Local, media: Media, head: Option<&RequestHead>) {
        self.exchange.status = local.status;
        let id = head.map_or_else(|| self.exchange.request_id(), |head| self.exchange.id_of(head));
        let (content_type, body) = local.page(media, &id);
        let mut answer = HttpResponse::new(());
        *answer.status_mut() =
            StatusCode::from_u16(local.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let fields = answer.headers_mut();
        fields.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        fields.insert(header::CONTENT_LENGTH, body.len().into());
        if let Some(date) = self.client.worker.date_value() {
            fields.insert(header::DATE, date);
        }
        if !local.sends("content-type") {
            fields.remove(header::CONTENT_TYPE);
        }
        insert_own(fields, &local);
        // On a closed stream the response is dropped.
        if let Ok(mut stream) = self.respond.borrow_mut().send_response(answer, false) {
            self.exchange.bytes_out = body.len() as u64;
            // The body is small, so it may wait in the connection for the client's window.
            if stream.send_data(Bytes::from(body), true).is_ok() {
                self.exchange.finish();
            }
        }
        self.linger();
        self.exchange.cut(Cut::Client);
    }

    /// Reads and drops the rest of the request after its response. A reset would lose the response, and some clients
    /// send everything before they read.
    fn linger(&mut self) {
        let Some(rest) = self.rest.take().filter(|rest| !rest.borrow().is_end_stream()) else { return };
        let streams = Rc::clone(&self.streams);
        if streams.lingering.get() >= MAX_LINGERING || self.client.worker.draining.get() {
            return;
        }
        streams.lingering.set(streams.lingering.get() + 1);
        let timer = self.client.worker.timers.timer();
        timer.arm_idle(LINGER);
        tokio::task::spawn_local(async move {
            poll_fn(|cx| {
                let mut rest = rest.borrow_mut();
                loop {
                    let used = rest.flow_control().used_capacity();
                    let _ = rest.flow_control().release_capacity(used);
                    match rest.poll_data(cx) {
                        Poll::Ready(Some(Ok(_))) if timer.expired(cx) => return Poll::Ready(()),
                        Poll::Ready(Some(Ok(_))) => {}
                        Poll::Pending if !timer.expired(cx) => return Poll::Pending,
                        _ => return Poll::Ready(()),
                    }
                }
            })
            .await;
            streams.lingering.set(streams.lingering.get() - 1);
        });
    }

    /// Sends a response of the node itself to a gRPC client: a status without messages.
    pub(super) fn grpc_status(mut self, local: Local) {
        self.exchange.status = local.status;
        let (code, message) = local.grpc();
        let mut answer = HttpResponse::new(());
        let fields = answer.headers_mut();
        insert_own(fields, &local);
        // Without these the response would have no gRPC status, whatever the route's header rules say.
        fields.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        fields.insert("grpc-status", code.into());
        fields.insert("grpc-message", HeaderValue::from_static(message));
        // On a closed stream the response is dropped.
        match self.respond.borrow_mut().send_response(answer, true) {
            Ok(_) => self.exchange.finish(),
            Err(_) => self.exchange.cut(Cut::Client),
        }
    }

    fn send_head(&mut self, head: &ResponseHead, status: u16, ends: bool) -> Result<SendStream<Bytes>, Gone> {
        self.exchange.answers(head, head.status);
        let mut answer = HttpResponse::new(());
        *answer.status_mut() = StatusCode::from_u16(status).map_err(|_| Gone)?;
        *answer.headers_mut() =
            response_fields(head, self.client.worker.date_value().as_ref(), head.status == 101);
        self.respond.borrow_mut().send_response(answer, ends).map_err(|_| {
            self.exchange.cut(Cut::Client);
            Gone
        })
    }

    /// Forwards a backend's response.
    pub(super) async fn upstream(&mut self, response: &mut Response) {
        let (ends, is_grpc) = (response.head.framing.is_empty(), response.head.is_grpc());
        let status = response.head.status;
        let Ok(mut stream) = self.send_head(&response.head, status, ends) else { return };
        self.client.worker.heads.put(std::mem::take(&mut response.head));
        if ends {
            // The backend's connection is free for the next request, and the rest of this one is still sent.
            self.exchange.finish();
            let _ = poll_fn(|cx| response.body.poll_data(cx, &self.timer)).await;
            self.exchange.bytes_in = response.body.uploaded();
            return;
        }
        let result = self.body(&mut stream, response).await;
        self.exchange.bytes_in = response.body.uploaded();
        if result.is_ok() {
            self.exchange.finish();
            self.linger();
        }
        if let Err(failure) = result {
            tracing::debug!(%failure, "answer broke off");
            self.exchange.broke_off(&failure);
            if matches!(failure, Failure::ClientGone) {
                stream.send_reset(Reason::CANCEL);
                return;
            }
            // A reset overtakes queued data, so the connection's task may send that first.
            tokio::task::yield_now().await;
            if is_grpc {
                // gRPC maps the code to a status, and CANCEL would be the client's own.
                stream.send_reset(Reason::INTERNAL_ERROR);
            }
            // Otherwise the stream is reset when it is dropped (CANCEL), which h2 does after a head that a slow client
            // has not read yet.
        }
    }

    async fn body(&mut self, stream: &mut SendStream<Bytes>, response: &mut Response) -> Result<(), Failure> {
        let mut ahead = None;
        loop {
            let progress = match ahead.take() {
                Some(progress) => progress,
                None => {
                    poll_fn(|cx| match response.body.poll_data(cx, &self.timer) {
                        Poll::Pending => self.poll_given_up(cx, stream).map(Err),
                        poll => poll,
                    })
                    .await
                }
            };
            match progress? {
                Progress::Data(range) => {
                    let bytes = Bytes::copy_from_slice(response.body.data(range));
                    self.exchange.sends(&bytes);
                    // The last part carries END_STREAM, if it is known to be the last.
                    ahead = poll_fn(|cx| {
                        Poll::Ready(match response.body.poll_data(cx, &self.timer) {
                            Poll::Ready(result) => Some(result),
                            Poll::Pending => None,
                        })
                    })
                    .await;
                    let last =
                        matches!(ahead, Some(Ok(Progress::End))) && response.body.trailers().is_empty();
                    self.piece(stream, response, bytes, last).await?;
                    if last {
                        return Ok(());
                    }
                    response.body.arm(&self.timer);
                }
                Progress::Waiting => {}
                Progress::End => {
                    let trailers = read_trailers(response.body.trailers());
                    let sent = if trailers.is_empty() {
                        stream.send_data(Bytes::new(), true)
                    } else {
                        stream.send_trailers(trailers)
                    };
                    return sent.map_err(|_| Failure::ClientGone);
                }
            }
        }
    }

    /// Sends a part as the client's window allows.
    async fn piece(
        &mut self,
        stream: &mut SendStream<Bytes>,
        response: &mut Response,
        mut bytes: Bytes,
        last: bool,
    ) -> Result<(), Failure> {
        while !bytes.is_empty() {
            stream.reserve_capacity(bytes.len());
            let room = poll_fn(|cx| {
                loop {
                    let room = stream.capacity().min(bytes.len());
                    if room > 0 {
                        return Poll::Ready(Ok(room));
                    }
                    match stream.poll_capacity(cx) {
                        Poll::Ready(Some(Ok(_))) => {}
                        Poll::Ready(_) => return Poll::Ready(Err(Failure::ClientGone)),
                        Poll::Pending => {
                            self.exchange.taking.wait(&self.timer);
                            response.body.poll_upload(cx);
                            return self.poll_given_up(cx, stream).map(|failure| {
                                // The client does not read.
                                let stalled = matches!(failure, Failure::Timeout);
                                Err(if stalled { Failure::ClientStalled } else { failure })
                            });
                        }
                    }
                }
            });
            let room = room.await?;
            self.exchange.taking.moved(room, &self.timer);
            let piece = bytes.split_to(room);
            let end = last && bytes.is_empty();
            stream.send_data(piece, end).map_err(|_| Failure::ClientGone)?;
        }
        Ok(())
    }

    /// Whether to give up while nothing moves.
    fn poll_given_up(&self, cx: &mut Context<'_>, stream: &mut SendStream<Bytes>) -> Poll<Failure> {
        if stream.poll_reset(cx).is_ready() {
            return Poll::Ready(Failure::ClientGone);
        }
        if self.exchange.is_late(cx) {
            return Poll::Ready(Failure::Deadline);
        }
        if self.timer.expired(cx) {
            return Poll::Ready(Failure::Timeout);
        }
        Poll::Pending
    }

    /// The backend accepted a WebSocket: forwards bytes in both directions (RFC 8441, 5).
    pub(super) async fn tunnel(mut self, response: Response, recv: RecvStream) {
        let Ok(stream) = self.send_head(&response.head, 200, false) else { return };
        let Some(backend) = response.body.into_tunnel() else { return self.exchange.cut(Cut::Node) };
        let client = End::Http2(Box::new(Http2End::new(stream, recv, ())));
        let idle = self.exchange.tunnel_timeout();
        let buffers = Rc::clone(&self.client.worker.buffers);
        let before = self.exchange.bytes_in;
        let exchange = &mut self.exchange;
        let passed = |bytes_in, bytes_out| {
            (exchange.bytes_in, exchange.bytes_out) = (before + bytes_in, bytes_out);
        };
        let cut = tunnel::run(client, backend, &buffers, &self.timer, idle, passed).await;
        self.exchange.ends(cut);
    }
}
