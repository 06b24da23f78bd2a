//! Where a case is played: a proxy of its own for the time being, and the listener that the proxy takes for its
//! backend.

use std::{
    net::TcpListener,
    time::{Duration, Instant},
};

use crate::{
    h2::{self, Client},
    message::Message,
    peer::{Peer, Verdict},
    target::{Listener, Profile, Proxy, Target},
};

/// A proxy between the two sides that a case plays.
pub(crate) struct Stage {
    pub(crate) proxy: Proxy,
    listener: TcpListener,
    pub(crate) kind: Listener,
    pub(crate) patience: Duration,
}

impl Stage {
    /// Starts the program under test in front of a fresh listener.
    pub(crate) fn new(target: &Target, kind: Listener, profile: Profile) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        listener.set_nonblocking(true)?;
        let proxy = Proxy::start(target, kind, profile, listener.local_addr()?)?;
        Ok(Self { proxy, listener, kind, patience: target.patience() })
    }

    /// Forgets what the case before has left: connections, and those of attempts that were under way.
    pub(crate) fn clear(&self, profile: Profile) {
        // Where requests can be given up before they reach the backend, one that is known to come last says when the
        // others have come.
        if self.kind.is_http2()
            && matches!(profile, Profile::Usual | Profile::Short)
            && self.send_marker().is_ok()
        {
            return;
        }
        self.settle();
    }

    /// Forgets connections until no more come.
    pub(crate) fn settle(&self) {
        let mut quiet = Instant::now();
        while quiet.elapsed() < Duration::from_millis(3) {
            if self.listener.accept().is_ok() {
                quiet = Instant::now();
            }
            pause();
        }
    }

    fn send_marker(&self) -> Verdict {
        let mut client = self.h2()?;
        client.send(h2::headers(1, &h2::request("GET", &[("x-marker", "1")]), true))?;
        loop {
            let mut upstream = self.backend()?;
            if upstream.request().is_ok_and(|request| !request.values("x-marker").is_empty()) {
                upstream.send("HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")?;
                return client.answer(1).map(|_| ());
            }
        }
    }

    /// A new client.
    pub(crate) fn client(&self) -> Verdict<Peer> {
        match self.kind {
            Listener::Http1 | Listener::H2c => Peer::connect(self.proxy.address, self.patience),
            Listener::Http1Tls => Peer::connect_tls(self.proxy.address, b"http/1.1", self.patience),
            Listener::H2 => Peer::connect_tls(self.proxy.address, b"h2", self.patience),
        }
    }

    /// A new client of HTTP/2 that has said nothing yet.
    pub(crate) fn h2_silent(&self) -> Verdict<Client> {
        Ok(Client::new(self.client()?, self.patience))
    }

    /// A new client of HTTP/2 that has greeted with these settings.
    pub(crate) fn h2_with(&self, settings: &[(u16, u32)]) -> Verdict<Client> {
        let mut client = self.h2_silent()?;
        client.greet(settings)?;
        Ok(client)
    }

    /// A new client of HTTP/2 that has greeted.
    pub(crate) fn h2(&self) -> Verdict<Client> {
        self.h2_with(&[])
    }

    /// The client's scheme.
    pub(crate) fn scheme(&self) -> &'static str {
        match self.kind {
            Listener::Http1 | Listener::H2c => "http",
            Listener::Http1Tls | Listener::H2 => "https",
        }
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
