//! Bytes both ways between a client and a backend that agreed to another protocol (RFC 9110, 7.8).

use std::{
    future::poll_fn,
    task::{Context, Poll},
    time::Duration,
};

use crate::{buffer::Buffer, listener::http1::Client, stream::Stream};

/// A tunnel in which nothing moves for so long is closed.
pub(crate) const IDLE: Duration = Duration::from_secs(3600);

/// One direction.
#[derive(Default)]
struct Flow {
    pending: Vec<u8>,
    written: usize,
    ended: bool,
    bytes: u64,
}

impl Flow {
    /// Moves what it can; `true` when something moved. Half-close is passed on.
    fn turn(
        &mut self,
        cx: &mut Context<'_>,
        from: &Stream,
        to: &Stream,
        buffer: &mut Buffer,
    ) -> Result<bool, ()> {
        let mut moved = false;
        loop {
            while self.written < self.pending.len() {
                match to.poll_write(cx, &self.pending[self.written..]) {
                    Poll::Ready(Ok(n)) => {
                        self.written += n;
                        self.bytes += n as u64;
                        moved = true;
                    }
                    Poll::Ready(Err(_)) => return Err(()),
                    Poll::Pending => return Ok(moved),
                }
            }
            self.pending.clear();
            self.written = 0;
            if self.ended {
                return Ok(moved);
            }
            match from.poll_read(cx, buffer) {
                Poll::Ready(Ok(0)) => {
                    self.ended = true;
                    to.shutdown_write();
                    return Ok(true);
                }
                Poll::Ready(Ok(n)) => {
                    moved = true;
                    self.pending.extend_from_slice(&buffer[..n]);
                }
                Poll::Ready(Err(_)) => return Err(()),
                Poll::Pending => return Ok(moved),
            }
        }
    }
}

/// Runs until both sides have ended or one broke; the bytes from and to the client.
pub(crate) async fn run(client: &Client, upstream: Stream, early: Vec<u8>, idle: Duration) -> (u64, u64) {
    let mut up = Flow { pending: std::mem::take(&mut *client.input.borrow_mut()), ..Flow::default() };
    let mut down = Flow { pending: early, ..Flow::default() };
    client.timer.arm(idle);
    poll_fn(|cx| {
        let mut buffer = client.worker.buffers.take();
        let moved = match (
            up.turn(cx, &client.stream, &upstream, &mut buffer),
            down.turn(cx, &upstream, &client.stream, &mut buffer),
        ) {
            (Ok(up), Ok(down)) => up || down,
            _ => return Poll::Ready(()),
        };
        if up.ended && down.ended && up.pending.is_empty() && down.pending.is_empty() {
            return Poll::Ready(());
        }
        if moved {
            client.timer.arm(idle);
        }
        if client.timer.expired(cx) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    (up.bytes, down.bytes)
}
