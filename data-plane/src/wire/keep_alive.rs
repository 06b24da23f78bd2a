//! Finds out that the other side of an HTTP/2 connection is gone: a PING that has no answer in time (RFC 9113, 6.7).

use std::{
    task::{Context, Poll},
    time::Duration,
};

use h2::{Ping, PingPong};

use crate::wire::timer::Timer;

/// Towards clients: from one PING to the next, and how long its answer may take.
const CLIENT: Duration = Duration::from_secs(20);

/// Sends a PING now and then.
pub(crate) struct KeepAlive {
    /// h2 gives it once a connection.
    pings: Option<PingPong>,
    timer: Timer,
    every: Duration,
    within: Duration,
    waiting: bool,
}

impl KeepAlive {
    /// Towards a client.
    pub(crate) fn of_client(pings: Option<PingPong>, timer: Timer) -> Self {
        Self::new(pings, timer, CLIENT, CLIENT)
    }

    /// Sends a PING no sooner than `every` after the answer to the last one, and waits for its answer for `within`.
    pub(crate) fn new(pings: Option<PingPong>, timer: Timer, every: Duration, within: Duration) -> Self {
        timer.arm(every);
        Self { pings, timer, every, within, waiting: false }
    }

    /// Ready when the other side is gone. To be polled with its connection. While nothing runs there (`busy`), no
    /// PING is sent: servers of gRPC close connections for that.
    pub(crate) fn poll_dead(&mut self, cx: &mut Context<'_>, busy: bool) -> Poll<()> {
        let Some(pings) = &mut self.pings else { return Poll::Pending };
        loop {
            // An error is the connection's, which says so itself.
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
