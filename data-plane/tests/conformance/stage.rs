//! Where a case is played: a proxy of its own for the time being, and the listener that the proxy takes for its
//! backend.

use std::{
    net::TcpListener,
    time::{Duration, Instant},
};

use crate::{
    message::Message,
    peer::{Peer, Verdict},
    target::{Profile, Proxy, Target},
};

/// A proxy between the two sides that a case plays.
pub(crate) struct Stage {
    proxy: Proxy,
    listener: TcpListener,
    pub(crate) patience: Duration,
}

impl Stage {
    /// Starts the program under test in front of a fresh listener.
    pub(crate) fn new(target: &Target, profile: Profile) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        listener.set_nonblocking(true)?;
        let proxy = Proxy::start(target, profile, listener.local_addr()?)?;
        Ok(Self { proxy, listener, patience: target.patience() })
    }

    /// Forgets what the case before has left: connections, and those of attempts that were under way.
    pub(crate) fn clear(&self) {
        let mut quiet = Instant::now();
        while quiet.elapsed() < Duration::from_millis(3) {
            if self.listener.accept().is_ok() {
                quiet = Instant::now();
            }
            pause();
        }
    }

    /// A new client.
    pub(crate) fn client(&self) -> Verdict<Peer> {
        Peer::connect(self.proxy.address, self.patience)
    }

    /// A new client that has sent something.
    pub(crate) fn client_with(&self, bytes: impl AsRef<[u8]>) -> Verdict<Peer> {
        let mut client = self.client()?;
        client.send(bytes)?;
        Ok(client)
    }

    /// The proxy's next connection to its backend.
    pub(crate) fn backend(&self) -> Verdict<Peer> {
        let deadline = Instant::now() + self.patience;
        loop {
            if let Some(peer) = self.try_backend() {
                return Ok(peer);
            }
            if Instant::now() > deadline {
                return Err("nothing reached the backend".into());
            }
            pause();
        }
    }

    /// The proxy's next connection to its backend, if there is one by now.
    pub(crate) fn try_backend(&self) -> Option<Peer> {
        self.listener.accept().ok().map(|(stream, _)| Peer::new(stream, self.patience))
    }

    /// The next request at the backend: on the connection that is open, or on a new one that takes its place.
    pub(crate) fn next_request(&self, upstream: &mut Peer) -> Verdict<Message> {
        self.wait_next(upstream)?;
        upstream.request()
    }

    /// Waits for something on the open connection or for a new one; whether it is a new one.
    pub(crate) fn wait_next(&self, upstream: &mut Peer) -> Verdict<bool> {
        let deadline = Instant::now() + self.patience;
        loop {
            if let Some(peer) = self.try_backend() {
                *upstream = peer;
                return Ok(true);
            }
            if upstream.is_readable() && !upstream.has_ended() {
                return Ok(false);
            }
            if Instant::now() > deadline {
                return Err("the next request did not reach the backend".into());
            }
            pause();
        }
    }

    /// A client and a backend in the middle of an exchange: the request has been read.
    pub(crate) fn meet(&self, request: impl AsRef<[u8]>) -> Verdict<(Peer, Peer, Message)> {
        let client = self.client_with(request)?;
        let mut upstream = self.backend()?;
        let request = upstream.request()?;
        Ok((client, upstream, request))
    }
}

/// Between two looks at what is waited for, which has a deadline of its own.
#[allow(clippy::disallowed_methods)]
pub(crate) fn pause() {
    std::thread::sleep(Duration::from_micros(300));
}
