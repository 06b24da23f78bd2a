//! One end of a connection, played by a case: the client, or the backend.

use std::{
    io::{ErrorKind, Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use rustls::{ClientConnection, Stream};

use crate::{
    message::{End, Message, Parse, Side, find, parse, text},
    tls,
};

/// The result of a case; an error says what broke the rule.
pub(crate) type Verdict<T = (), E = String> = Result<T, E>;

/// A connection, and what was read from it and not used yet.
pub(crate) struct Peer {
    stream: TcpStream,
    tls: Option<Box<ClientConnection>>,
    input: Vec<u8>,
    end: Option<End>,
    patience: Duration,
}

impl Peer {
    pub(crate) fn connect(address: SocketAddr, patience: Duration) -> Verdict<Self> {
        let stream = TcpStream::connect(address).map_err(|error| format!("cannot connect: {error}"))?;
        Ok(Self::new(stream, patience))
    }

    /// Connects over TLS, and agrees on the protocol named.
    pub(crate) fn connect_tls(address: SocketAddr, alpn: &[u8], patience: Duration) -> Verdict<Self> {
        let mut peer = Self::connect(address, patience)?;
        let mut tls = tls::client(alpn).map_err(|error| format!("cannot offer TLS: {error}"))?;
        let _ = peer.stream.set_read_timeout(Some(patience));
        while tls.is_handshaking() {
            tls.complete_io(&mut peer.stream).map_err(|error| format!("no TLS: {error}"))?;
        }
        if tls.alpn_protocol().is_some_and(|agreed| agreed != alpn) {
            return Err(format!("agreed on {:?}", tls.alpn_protocol().map(text)));
        }
        peer.tls = Some(Box::new(tls));
        Ok(peer)
    }

    pub(crate) fn new(stream: TcpStream, patience: Duration) -> Self {
        let _ = stream.set_nonblocking(false);
        let _ = stream.set_nodelay(true);
        let _ = stream.set_write_timeout(Some(patience));
        Self { stream, tls: None, input: Vec::new(), end: None, patience }
    }

    pub(crate) fn stream(&self) -> &TcpStream {
        &self.stream
    }

    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) -> Verdict {
        self.write_all(bytes.as_ref()).map_err(|error| format!("cannot send: {error}"))
    }

    /// Sends what the other side may refuse to read: that it has closed is no failure.
    pub(crate) fn try_send(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = self.write_all(bytes.as_ref());
    }

    fn write_all(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        match &mut self.tls {
            None => self.stream.write_all(bytes),
            Some(tls) => {
                let mut stream = Stream::new(&mut **tls, &mut self.stream);
                stream.write_all(bytes)?;
                stream.flush()
            }
        }
    }

    /// Sends as much as is taken within the time.
    pub(crate) fn write_within(&mut self, bytes: &[u8], time: Duration) -> std::io::Result<usize> {
        let _ = self.stream.set_write_timeout(Some(time));
        match &mut self.tls {
            None => self.stream.write(bytes),
            // By hand: the library's stream would wait for something to read while it cannot write.
            Some(tls) => {
                while tls.wants_write() {
                    tls.write_tls(&mut self.stream)?;
                }
                let written = tls.writer().write(bytes)?;
                let _ = tls.write_tls(&mut self.stream);
                Ok(written)
            }
        }
    }

    /// Sends all of the bytes and reads `count` of them meanwhile.
    pub(crate) fn swap(&mut self, mut bytes: &[u8], count: usize) -> Vec<u8> {
        let deadline = Instant::now() + self.patience;
        while !bytes.is_empty() && Instant::now() < deadline {
            match self.write_within(&bytes[..bytes.len().min(1 << 14)], Duration::from_millis(1)) {
                Ok(written) => bytes = &bytes[written..],
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(_) => break,
            }
            self.fill(Instant::now());
        }
        let _ = self.stream.set_write_timeout(Some(self.patience));
        self.exactly(count)
    }

    /// Says that nothing more will be sent.
    pub(crate) fn finish(&mut self) {
        if let Some(tls) = &mut self.tls {
            tls.send_close_notify();
            while tls.wants_write() && tls.write_tls(&mut self.stream).is_ok() {}
        }
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// Closes with a reset.
    pub(crate) fn reset(self) {
        let _ = socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
    }

    /// Reads what comes next, until `deadline`.
    fn fill(&mut self, deadline: Instant) -> Option<End> {
        if self.end.is_some() {
            return self.end;
        }
        let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        let _ = self.stream.set_read_timeout(Some(left));
        let mut buffer = [0; 1 << 16];
        let read = match &mut self.tls {
            None => self.stream.read(&mut buffer),
            Some(tls) => Stream::new(&mut **tls, &mut self.stream).read(&mut buffer),
        };
        // The end of TLS without its word for it is a cut like a reset: that is how it comes out below.
        match read {
            Ok(0) => self.end = Some(End::Closed),
            Ok(read) => self.input.extend_from_slice(&buffer[..read]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                return Some(End::StillOpen);
            }
            Err(_) => self.end = Some(End::Reset),
        }
        self.end
    }

    /// The next message, whole.
    fn message(&mut self, side: Side) -> Verdict<Message> {
        let deadline = Instant::now() + self.patience;
        let mut end = None;
        loop {
            match parse(&self.input, side, end) {
                Parse::Whole(message, used) => {
                    self.input.drain(..used);
                    return Ok(message);
                }
                Parse::Bad(why) => return Err(why),
                Parse::Partial => {}
            }
            if let Some(end) = end {
                return Err(format!("{end:?} after {:?}", brief(&self.input)));
            }
            end = self.fill(deadline);
        }
    }

    /// The next request.
    pub(crate) fn request(&mut self) -> Verdict<Message> {
        self.message(Side::Request).map_err(|why| format!("backend: {why}"))
    }

    /// The next final answer, with the interim ones before it.
    pub(crate) fn answer(&mut self) -> Verdict<Message> {
        self.answer_to("GET")
    }

    /// The next final answer to a request of this method.
    pub(crate) fn answer_to(&mut self, method: &str) -> Verdict<Message> {
        let mut interims = Vec::new();
        loop {
            let answer = self.message(Side::Answer { to_head: method == "HEAD" });
            let mut answer = answer.map_err(|why| format!("client: {why}"))?;
            if !matches!(answer.status(), 100 | 102..=199) {
                answer.interims = interims;
                return Ok(answer);
            }
            interims.push(answer);
        }
    }

    /// Reads until `what` has come, and answers everything up to its end.
    pub(crate) fn until(&mut self, what: &str) -> Verdict<String> {
        let deadline = Instant::now() + self.patience;
        loop {
            if let Some(at) = find(&self.input, what.as_bytes()) {
                return Ok(text(&self.input.drain(..at + what.len()).collect::<Vec<_>>()));
            }
            if let Some(end) = self.fill(deadline) {
                return Err(format!("{what:?} did not come: {end:?} after {:?}", brief(&self.input)));
            }
        }
    }

    /// Reads this number of bytes, or as many as arrive.
    pub(crate) fn exactly(&mut self, count: usize) -> Vec<u8> {
        let deadline = Instant::now() + self.patience;
        while self.input.len() < count && self.fill(deadline).is_none() {}
        self.input.drain(..count.min(self.input.len())).collect()
    }

    /// Reads this number of bytes; an error says how the connection ended instead.
    pub(crate) fn take(&mut self, count: usize, deadline: Instant) -> Verdict<Vec<u8>, End> {
        while self.input.len() < count {
            if let Some(end) = self.fill(deadline) {
                return Err(end);
            }
        }
        Ok(self.input.drain(..count).collect())
    }

    /// One head.
    pub(crate) fn head(&mut self) -> Verdict<String> {
        self.until("\r\n\r\n")
    }

    /// Everything up to the end of the connection.
    pub(crate) fn rest(&mut self) -> (Vec<u8>, End) {
        self.rest_within(self.patience)
    }

    /// Everything up to the end of the connection or of the time.
    pub(crate) fn rest_within(&mut self, time: Duration) -> (Vec<u8>, End) {
        let deadline = Instant::now() + time;
        loop {
            if let Some(end) = self.fill(deadline) {
                return (std::mem::take(&mut self.input), end);
            }
        }
    }

    /// The other side closes, in whatever way, and sends nothing more.
    pub(crate) fn expect_closed(&mut self) -> Verdict {
        match self.rest() {
            (_, End::StillOpen) => Err("the connection stays open".into()),
            (bytes, _) if bytes.is_empty() => Ok(()),
            (bytes, _) => Err(format!("more came: {:?}", brief(&bytes))),
        }
    }

    /// Whether something can be read or the connection has ended.
    pub(crate) fn is_readable(&mut self) -> bool {
        if !self.input.is_empty() {
            return true;
        }
        if self.tls.is_some() {
            // Readable bytes are not always a response: a session ticket is not.
            return self.fill(Instant::now()) != Some(End::StillOpen);
        }
        let _ = self.stream.set_nonblocking(true);
        let peeked = self.stream.peek(&mut [0]);
        let _ = self.stream.set_nonblocking(false);
        !peeked.is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
    }

    /// Whether the connection has ended and everything was read.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.input.is_empty()
            && self.is_readable()
            && self.fill(Instant::now()).is_some_and(|end| end != End::StillOpen)
    }
}

/// The start of what came, for messages.
pub(crate) fn brief(bytes: &[u8]) -> String {
    let shown = text(&bytes[..bytes.len().min(300)]);
    if bytes.len() > 300 { format!("{shown}... ({} bytes)", bytes.len()) } else { shown }
}
