//! Watches whether the client of a request leaves, and sends it the interim responses of backends.

use std::{
    task::{Context, Poll},
    time::Duration,
};

use weir_http::{
    RequestHead, ResponseFraming, ResponseHead, Version, translate::response_fields, write_response,
};

use super::{ClientHandle, Downstream};
use crate::{
    client::{ClientConnection, Presence},
    failure::Failure,
    wire::{timer::Timer, watch::Watch},
};

/// A client that closed its sending side may have left; it is probed after this time.
const PROBE_AFTER: Duration = Duration::from_secs(1);

/// Time in which the host of a client that has left answers a probe with a reset.
const PROBE_EVERY: Duration = Duration::from_millis(100);

/// Most bytes of interim responses queued for an HTTP/2 client, for each attempt. More are dropped.
const MAX_INTERIM_BYTES: usize = 64 << 10;

/// Watches the client until its response arrives, and sends it interim responses.
///
/// Over HTTP/1, when the client closes its sending side, it may have left or only have nothing more to send (a
/// half-closed client is served). To tell them apart, the client gets a `100 Continue` after a moment. Every HTTP/1.1
/// client must accept and ignore it (RFC 9110, 15.2), and the host of a client that has left answers with a reset.
pub(super) struct ClientWatch<'a> {
    client_handle: ClientHandle<'a>,
    /// Bytes of interim responses that may still be queued for an HTTP/2 client.
    interim_left: usize,
    deadline: Option<&'a Timer>,
    version: Version,
    timer: Option<Timer>,
    probed: bool,
}

impl<'a> ClientWatch<'a> {
    pub(super) fn new(client: &Downstream<'a>, head: &RequestHead, deadline: Option<&'a Timer>) -> Self {
        Self {
            client_handle: client.client_handle,
            interim_left: MAX_INTERIM_BYTES,
            deadline,
            version: head.version,
            timer: None,
            probed: false,
        }
    }

    fn probe(&mut self, cx: &mut Context<'_>, client: &ClientConnection) -> Poll<Failure> {
        let timer = self.timer.get_or_insert_with(|| {
            let timer = client.worker.timers.timer();
            timer.arm(PROBE_AFTER);
            timer
        });
        if !timer.expired(cx) {
            return Poll::Pending;
        }
        if !self.probed {
            self.probed = true;
            client.stream.send_interim(b"HTTP/1.1 100 Continue\r\n\r\n");
        } else if client.stream.is_broken() {
            return Poll::Ready(Failure::ClientGone);
        }
        timer.arm(PROBE_EVERY);
        // Registers the waker for the new deadline.
        if timer.expired(cx) { Poll::Ready(Failure::ClientGone) } else { Poll::Pending }
    }
}

impl Watch for ClientWatch<'_> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Failure> {
        if self.deadline.is_some_and(|deadline| deadline.expired(cx)) {
            return Poll::Ready(Failure::Deadline);
        }
        match self.client_handle {
            // The rest of an interim response is written while the final one is awaited.
            ClientHandle::Http1(client) if matches!(client.stream.poll_unsent(cx), Poll::Ready(Err(_))) => {
                Poll::Ready(Failure::ClientGone)
            }
            ClientHandle::Http1(client) => match client.poll_presence(cx) {
                Presence::There => Poll::Pending,
                Presence::Gone => Poll::Ready(Failure::ClientGone),
                // HTTP/1.0 has no interim responses.
                Presence::Silent if self.version == Version::Http11 => self.probe(cx, client),
                Presence::Silent => Poll::Pending,
            },
            ClientHandle::Http2(respond) => respond.borrow_mut().poll_reset(cx).map(|_| Failure::ClientGone),
        }
    }

    fn interim(&mut self, head: &ResponseHead) {
        match self.client_handle {
            // HTTP/1.0 has no interim responses (RFC 9110, 15.2).
            ClientHandle::Http1(_) if self.version == Version::Http10 => {}
            ClientHandle::Http1(client) => {
                let mut out = Vec::new();
                write_response(&mut out, head, ResponseFraming::None, true, Version::Http11, None, false);
                client.stream.send_interim(&out);
            }
            ClientHandle::Http2(respond) => {
                // h2 queues heads without a limit, even if the client does not read.
                let Some(left) = self.interim_left.checked_sub(head.buf.len()) else { return };
                self.interim_left = left;
                let mut answer = http::Response::new(());
                *answer.status_mut() = http::StatusCode::from_u16(head.status).unwrap_or_default();
                *answer.headers_mut() = response_fields(head, None, false);
                // Interim responses may be lost.
                let _ = respond.borrow_mut().send_informational(answer);
            }
        }
    }
}
