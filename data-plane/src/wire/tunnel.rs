//! Forwards bytes in both directions between a client and a backend that agreed on another protocol (RFC 9110, 7.8; RFC
//! 8441).

use std::{
    any::Any,
    future::poll_fn,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf as _, Bytes};
use h2::{Reason, RecvStream, SendStream};

use crate::{
    stats::Cut,
    wire::{
        buffer::{Buffer, Buffers},
        stream::Stream,
        timer::Timer,
    },
};

/// One side of a tunnel.
pub(crate) enum End<'a> {
    /// A client's connection, and bytes that were read from it already.
    Client { stream: &'a Stream, early: Vec<u8> },
    /// A backend's connection, and bytes that were read from it already.
    Owned { stream: Stream, early: Vec<u8> },
    /// A stream of an HTTP/2 connection.
    Http2(Box<Http2End>),
}

pub(crate) struct Http2End {
    send: SendStream<Bytes>,
    recv: RecvStream,
    chunk: Bytes,
    closed: bool,
    /// A value that must live as long as the stream.
    _held: Box<dyn Any>,
}

impl Http2End {
    pub(crate) fn new(send: SendStream<Bytes>, recv: RecvStream, held: impl Any) -> Self {
        Self { send, recv, chunk: Bytes::new(), closed: false, _held: Box::new(held) }
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, into: &mut [u8]) -> Poll<Result<usize, ()>> {
        while self.chunk.is_empty() {
            match ready!(self.recv.poll_data(cx)) {
                Some(Ok(data)) => self.chunk = data,
                Some(Err(_)) => return Poll::Ready(Err(())),
                None => return Poll::Ready(Ok(0)),
            }
        }
        let taken = self.chunk.len().min(into.len());
        self.chunk.copy_to_slice(&mut into[..taken]);
        // Forwarded bytes make room for as many new ones.
        self.recv.flow_control().release_capacity(taken).map_err(|_| ())?;
        Poll::Ready(Ok(taken))
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize, ()>> {
        if self.send.poll_reset(cx).is_ready() {
            return Poll::Ready(Err(()));
        }
        self.send.reserve_capacity(bytes.len());
        loop {
            let room = self.send.capacity().min(bytes.len());
            if room > 0 {
                self.send.send_data(Bytes::copy_from_slice(&bytes[..room]), false).map_err(|_| ())?;
                return Poll::Ready(Ok(room));
            }
            match ready!(self.send.poll_capacity(cx)) {
                Some(Ok(_)) => {}
                _ => return Poll::Ready(Err(())),
            }
        }
    }
}

impl End<'_> {
    fn poll_read(&mut self, cx: &mut Context<'_>, into: &mut [u8]) -> Poll<Result<usize, ()>> {
        let (stream, early) = match self {
            Self::Http2(end) => return end.poll_read(cx, into),
            Self::Client { stream, early } => (*stream, early),
            Self::Owned { stream, early } => (&*stream, early),
        };
        if !early.is_empty() {
            let taken = early.len().min(into.len());
            into[..taken].copy_from_slice(&early[..taken]);
            early.drain(..taken);
            return Poll::Ready(Ok(taken));
        }
        stream.poll_read(cx, into).map_err(|_| ())
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize, ()>> {
        match self {
            Self::Http2(end) => end.poll_write(cx, bytes),
            Self::Client { stream, .. } => stream.poll_write(cx, bytes).map_err(|_| ()),
            Self::Owned { stream, .. } => stream.poll_write(cx, bytes).map_err(|_| ()),
        }
    }

    /// Closes the sending side.
    fn shutdown(&mut self) {
        match self {
            Self::Http2(end) => {
                end.closed = true;
                // A closed stream needs no end.
                let _ = end.send.send_data(Bytes::new(), true);
            }
            Self::Client { stream, .. } => stream.shutdown_write(),
            Self::Owned { stream, .. } => stream.shutdown_write(),
        }
    }

    /// Resets the side, so that the tunnel does not look complete.
    fn abort(&mut self) {
        match self {
            Self::Http2(end) if !end.closed => end.send.send_reset(Reason::CANCEL),
            Self::Http2(_) => {}
            Self::Client { stream, .. } => stream.reset(),
            Self::Owned { stream, .. } => stream.reset(),
        }
    }
}

/// The side at which a direction broke.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Broken {
    From,
    To,
}

/// One direction.
#[derive(Default)]
struct Flow {
    /// Bytes that were read and not yet written to the other side.
    pending: Vec<u8>,
    written: usize,
    ended: bool,
    bytes: u64,
}

impl Flow {
    /// Moves as many bytes as possible; `true` if something moved. A half-close is forwarded.
    fn turn(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut End<'_>,
        to: &mut End<'_>,
        buffer: &mut Buffer,
    ) -> Result<bool, Broken> {
        let mut moved = false;
        loop {
            while self.written < self.pending.len() {
                match to.poll_write(cx, &self.pending[self.written..]) {
                    Poll::Ready(written) => {
                        self.written += written.map_err(|()| Broken::To)?;
                        moved = true;
                    }
                    Poll::Pending => return Ok(moved),
                }
            }
            // An idle tunnel holds no memory.
            self.bytes += self.pending.len() as u64;
            self.pending = Vec::new();
            self.written = 0;
            if self.ended {
                return Ok(moved);
            }
            match from.poll_read(cx, buffer) {
                Poll::Ready(Ok(0)) => {
                    self.ended = true;
                    to.shutdown();
                    return Ok(true);
                }
                Poll::Ready(Ok(read)) => {
                    moved = true;
                    self.pending.extend_from_slice(&buffer[..read]);
                }
                Poll::Ready(Err(())) => return Err(Broken::From),
                Poll::Pending => return Ok(moved),
            }
        }
    }

    fn is_over(&self) -> bool {
        self.ended && self.pending.is_empty()
    }
}

/// Runs until both sides have ended, one broke, or nothing moved for `idle`. Returns what cut it. `passed` gets the
/// bytes from and to the client after each move, so that they are known if the tunnel's task is dropped.
pub(crate) async fn run(
    mut client: End<'_>,
    mut backend: End<'_>,
    buffers: &std::rc::Rc<Buffers>,
    timer: &Timer,
    idle: Duration,
    mut passed: impl FnMut(u64, u64),
) -> Option<Cut> {
    let (mut up, mut down) = (Flow::default(), Flow::default());
    timer.arm(idle);
    poll_fn(|cx| {
        let mut buffer = buffers.take();
        let turns = (
            up.turn(cx, &mut client, &mut backend, &mut buffer),
            down.turn(cx, &mut backend, &mut client, &mut buffer),
        );
        passed(up.bytes, down.bytes);
        let (moved_up, moved_down) = match turns {
            (Ok(up), Ok(down)) => (up, down),
            (up, down) => {
                let by_client = up == Err(Broken::From) || down == Err(Broken::To);
                client.abort();
                backend.abort();
                return Poll::Ready(Some(if by_client { Cut::Client } else { Cut::Backend }));
            }
        };
        if up.is_over() && down.is_over() {
            return Poll::Ready(None);
        }
        if moved_up || moved_down {
            timer.arm(idle);
        }
        if timer.expired(cx) {
            return Poll::Ready(Some(Cut::Node));
        }
        Poll::Pending
    })
    .await
}
