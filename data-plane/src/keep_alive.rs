//! Finds out that the other side of an HTTP/2 connection is gone: a PING that has no answer in time (RFC 9113, 6.7).
//!
//! The first answer says more: what the other side had to say at the start, its SETTINGS among it, has come (3.4).

use std::{
    task::{Context, Poll},
    time::Duration,
};

use h2::{Ping, PingPong};

use crate::timer::Timer;

/// From one PING to the next, and how long its answer may take.
const EVERY: Duration = Duration::from_secs(20);

/// Asks now and then.
pub(crate) struct KeepAlive {
    /// h2 gives it once a connection.
    pings: Option<PingPong>,
    timer: Timer,
    asked: bool,
    answered: bool,
}

impl KeepAlive {
    pub(crate) fn new(pings: Option<PingPong>, timer: Timer) -> Self {
        timer.arm(EVERY);
        Self { pings, timer, asked: false, answered: false }
    }

    /// Asks at once.
    pub(crate) fn ask(&mut self) {
        self.asked = self.pings.as_mut().is_some_and(|pings| pings.send_ping(Ping::opaque()).is_ok());
    }

    /// Whether the other side has answered once.
    pub(crate) fn is_answered(&self) -> bool {
        self.answered
    }

    /// Ready when the other side is gone. To be polled with its connection.
    pub(crate) fn poll_dead(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(pings) = &mut self.pings else { return Poll::Pending };
        if self.asked && pings.poll_pong(cx).is_ready() {
            // An error is the connection's, which says so itself.
            self.asked = false;
            self.answered = true;
        }
        while self.timer.expired(cx) {
            if self.asked {
                return Poll::Ready(());
            }
            self.asked = pings.send_ping(Ping::opaque()).is_ok();
            self.timer.arm(EVERY);
            if self.asked && pings.poll_pong(cx).is_ready() {
                self.asked = false;
            }
        }
        Poll::Pending
    }
}
