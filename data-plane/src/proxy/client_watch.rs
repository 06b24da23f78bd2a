//! Watches the client of a request for its leaving, and sends it the interim answers of backends.

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

/// A client that said it sends no more may have left: after this long it is asked.
const PROBE_AFTER: Duration = Duration::from_secs(1);

/// How soon after it was asked a client that left has answered with a reset.
const PROBE_EVERY: Duration = Duration::from_millis(100);

/// The most bytes of interim answers that wait for a client of HTTP/2, for each attempt. More are dropped.
const MAX_INTERIM_BYTES: usize = 64 << 10;

/// Watches the client while its answer is awaited, and sends it interim answers.
///
/// Over HTTP/1 the end of its sending may mean that it left, or that it only has nothing more to say (a half-closed
/// client is served). The two look the same until something is sent: after a moment it gets a `100 Continue`, which
/// every HTTP/1.1 client must accept and ignore (RFC 9110, 15.2), and who has left answers with a reset.
pub(super) struct ClientWatch<'a> {
    client_handle: ClientHandle<'a>,
    /// How many bytes of interim answers an HTTP/2 client may still be sent.
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
            // An interim answer that the client takes slowly goes on while the final one is awaited.
            ClientHandle::Http1(client) if matches!(client.stream.poll_unsent(cx), Poll::Ready(Err(_))) => {
                Poll::Ready(Failure::ClientGone)
            }
            ClientHandle::Http1(client) => match client.poll_presence(cx) {
                Presence::There => Poll::Pending,
                Presence::Gone => Poll::Ready(Failure::ClientGone),
                // A client of HTTP/1.0 knows no interim answers.
                Presence::Silent if self.version == Version::Http11 => self.probe(cx, client),
                Presence::Silent => Poll::Pending,
            },
            ClientHandle::Http2(respond) => respond.borrow_mut().poll_reset(cx).map(|_| Failure::ClientGone),
        }
    }

    fn interim(&mut self, head: &ResponseHead) {
        match self.client_handle {
            // They do not know them (RFC 9110, 15.2).
            ClientHandle::Http1(_) if self.version == Version::Http10 => {}
            ClientHandle::Http1(client) => {
                let mut out = Vec::new();
                write_response(&mut out, head, ResponseFraming::None, true, Version::Http11, None, false);
                client.stream.send_interim(&out);
            }
            ClientHandle::Http2(respond) => {
                // h2 queues heads without a bound, whether the client reads or not.
                let Some(left) = self.interim_left.checked_sub(head.buf.len()) else { return };
                self.interim_left = left;
                let mut answer = http::Response::new(());
                *answer.status_mut() = http::StatusCode::from_u16(head.status).unwrap_or_default();
                *answer.headers_mut() = response_fields(head, None, false);
                // An interim answer may be lost.
                let _ = respond.borrow_mut().send_informational(answer);
            }
        }
    }
}
