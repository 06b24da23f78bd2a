//! One client connection, and the body of a request as it is read from it.

mod request_body;

use std::{
    cell::{Cell, RefCell},
    net::IpAddr,
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

pub(crate) use self::request_body::RequestBody;
use crate::{
    origin::Peer,
    wire::{
        buffer,
        stream::{Stream, StreamHolder},
        timer::Timer,
    },
    worker::Worker,
};

/// Interval of the kernel's probes of a half-closed client, which may have left.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// A client connection.
pub(crate) struct ClientConnection {
    pub(crate) worker: Rc<Worker>,
    pub(crate) stream: Stream,
    pub(crate) timer: Timer,
    /// Address of the peer, canonical.
    pub(crate) ip: IpAddr,
    /// The same as text.
    pub(crate) address: String,
    /// Bytes read beyond the current head, or the part of a head that has arrived so far.
    pub(crate) input: RefCell<Vec<u8>>,
    /// Whether the current request's body has been read to its end.
    pub(crate) body_done: Cell<bool>,
    /// Whether the client has closed its sending side.
    pub(crate) half_closed: Cell<bool>,
}

impl ClientConnection {
    /// The other end of the connection.
    pub(crate) fn peer(&self) -> Peer<'_> {
        Peer { ip: self.ip, text: &self.address }
    }

    /// The scheme that the client used.
    pub(crate) fn scheme(&self) -> &'static [u8] {
        if self.stream.is_tls() { b"https" } else { b"http" }
    }

    /// Closes the connection so that the last written bytes still arrive.
    pub(crate) async fn linger(&self) {
        self.stream.linger(&self.timer, &self.worker.buffers, || self.worker.draining.get()).await;
    }

    /// Sends close_notify over TLS, so that the client can distinguish the end from a cut (RFC 8446, 6.1).
    pub(crate) fn send_close_notify(&self) {
        if self.stream.is_tls() {
            self.stream.shutdown_write();
        }
    }

    /// Whether the client has closed its side, and everything that it sent was read.
    pub(crate) fn is_exhausted(&self) -> bool {
        self.half_closed.get() && self.input.borrow().is_empty()
    }
}

/// Whether a client is still connected while it waits for its response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Presence {
    /// The connection works, as far as can be known.
    There,
    /// The client has closed its sending side.
    Silent,
    /// Its connection is broken.
    Gone,
}

impl ClientConnection {
    /// Checks whether the client still sends. Bytes that arrive early belong to the next request; a bounded number of
    /// them is read.
    pub(crate) fn poll_presence(&self, cx: &mut Context<'_>) -> Presence {
        if self.half_closed.get() {
            return Presence::Silent;
        }
        // A body that is still arriving is read by the upload.
        while self.body_done.get() && self.input.borrow().len() < buffer::SIZE {
            if self.stream.poll_readable(cx).is_pending() {
                break;
            }
            let mut buffer = self.worker.buffers.take();
            match self.stream.poll_read(cx, &mut buffer) {
                Poll::Ready(Ok(0)) => {
                    self.half_closed.set(true);
                    self.stream.keep_alive(KEEP_ALIVE);
                    return Presence::Silent;
                }
                Poll::Ready(Ok(read)) => self.input.borrow_mut().extend_from_slice(&buffer[..read]),
                Poll::Ready(Err(_)) => return Presence::Gone,
                Poll::Pending => break,
            }
        }
        Presence::There
    }
}

impl StreamHolder for Rc<ClientConnection> {
    fn stream(&self) -> &Stream {
        &self.stream
    }

    fn early(&self) -> Option<&RefCell<Vec<u8>>> {
        Some(&self.input)
    }
}
