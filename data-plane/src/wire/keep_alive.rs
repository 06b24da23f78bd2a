//! Detects that the other side of an HTTP/2 connection is gone: a PING is not answered in time (RFC 9113, 6.7).

use std::{
    task::{Context, Poll},
    time::Duration,
};

use h2::{Ping, PingPong};

use crate::wire::timer::Timer;

/// For clients: the interval of PINGs, and the time for an answer.
const CLIENT: Duration = Duration::from_secs(20);

/// Sends PINGs.
pub(crate) struct KeepAlive {
    /// h2 provides it once for each connection.
    pings: Option<PingPong>,
    timer: Timer,
    every: Duration,
    within: Duration,
    waiting: bool,
}

impl KeepAlive {
    /// The PINGs for a client.
    pub(crate) fn of_client(pings: Option<PingPong>, timer: Timer) -> Self {
        Self::new(pings, timer, CLIENT, CLIENT)
    }

    /// Sends a PING `every` after the last answer, and waits `within` for its answer.
    pub(crate) fn new(pings: Option<PingPong>, timer: Timer, every: Duration, within: Duration) -> Self {
        timer.arm(every);
        Self { pings, timer, every, within, waiting: false }
    }

    /// Ready when the other side is gone. It is polled together with its connection. While the connection is not
    /// `busy`, no PING is sent, because gRPC servers close connections for that.
    pub(crate) fn poll_dead(&mut self, cx: &mut Context<'_>, busy: bool) -> Poll<()> {
        let Some(pings) = &mut self.pings else { return Poll::Pending };
        loop {
            // The connection reports the error itself.
            if self.waiting && pings.poll_pong(cx).is_ready() {
                self.waiting = false;
                self.timer.arm(self.every);
            }
            if !self.timer.expired(cx) {
                return Poll::Pending;
            }
            if self.waiting {
                return Poll::Ready(());
            }
            self.waiting = busy && pings.send_ping(Ping::opaque()).is_ok();
            self.timer.arm(if self.waiting { self.within } else { self.every });
        }
    }
}
