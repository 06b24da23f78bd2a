//! The TLS session of one connection, to a client or to a backend: rustls does the protocol, this file moves its bytes.
//!
//! A [`Session`] reads and writes through a shared reference to its socket, like everything on a connection. It reads
//! all that the kernel has received in one large read and decrypts it in parts: rustls itself would read only 4 KiB at
//! a time.

use std::{
    cell::{Cell, RefCell},
    io::{self, IoSlice, Read as _, Write as _},
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use rustls::{ClientConnection, Connection, HandshakeKind, ServerConfig, ServerConnection};
use tokio::{io::ReadBuf, net::TcpStream};

use super::{BackendTls, H2};
use crate::{
    failure::Failure,
    wire::{buffer::Buffers, socket::read, timer::Timer},
};

/// The TLS state of one connection.
pub(crate) struct Session {
    tls: RefCell<Connection>,
    /// Ciphertext that was read and did not fit yet; almost always empty.
    raw: RefCell<Vec<u8>>,
    /// Plaintext that rustls has taken and the kernel has not, of the write that is under way.
    taken: Cell<usize>,
    buffers: std::rc::Rc<Buffers>,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Session")
    }
}

/// The socket as rustls wants it.
struct Socket<'a>(&'a RefCell<TcpStream>);

impl io::Write for Socket<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.borrow().try_write(bytes)
    }

    fn write_vectored(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.borrow().try_write_vectored(pieces)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn would_block<T>(result: &io::Result<T>) -> bool {
    result.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
}

impl Session {
    /// Runs the server's side of a handshake.
    ///
    /// # Errors
    /// The client does not speak TLS, has no common parameters, or took too long.
    pub(crate) async fn accept(
        tcp: &RefCell<TcpStream>,
        config: Arc<ServerConfig>,
        buffers: std::rc::Rc<Buffers>,
        timer: &Timer,
        within: Duration,
    ) -> io::Result<Self> {
        let session = Self::new(ServerConnection::new(config).map_err(io::Error::other)?.into(), buffers);
        timer.arm(within);
        std::future::poll_fn(|cx| match session.poll_handshake(cx, tcp) {
            Poll::Pending if timer.expired(cx) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            result => result,
        })
        .await?;
        Ok(session)
    }

    /// Runs the client's side of a handshake, for as long as the timer is armed; `watch` may have a reason not to wait.
    ///
    /// # Errors
    /// The backend speaks no TLS, shows a certificate that is not good, or wants one that it was not shown.
    pub(crate) async fn connect(
        tcp: &RefCell<TcpStream>,
        secured: &BackendTls,
        buffers: std::rc::Rc<Buffers>,
        timer: &Timer,
        mut watch: impl FnMut(&mut Context<'_>) -> Poll<Failure>,
    ) -> Result<Self, Failure> {
        let failed = |error| Failure::Handshake(io::Error::other(error));
        let tls = ClientConnection::new(Arc::clone(&secured.config), secured.name.clone()).map_err(failed)?;
        let session = Self::new(tls.into(), buffers);
        std::future::poll_fn(|cx| {
            if let Poll::Ready(result) = session.poll_handshake(cx, tcp) {
                return Poll::Ready(result.map_err(|error| match error.kind() {
                    io::ErrorKind::UnexpectedEof => Failure::Handshake(io::Error::new(
                        error.kind(),
                        "the backend closed the connection within the handshake",
                    )),
                    kind if weir_tls::speaks_no_tls(&error) => Failure::Handshake(io::Error::new(
                        kind,
                        "the backend answered the handshake with something that is not TLS: if its port is without TLS, its URL begins with http://",
                    )),
                    _ => Failure::Handshake(error),
                }));
            }
            if let Poll::Ready(reason) = watch(cx) {
                return Poll::Ready(Err(reason));
            }
            if timer.expired(cx) {
                return Poll::Ready(Err(Failure::Connect(io::ErrorKind::TimedOut.into())));
            }
            Poll::Pending
        })
        .await?;
        Ok(session)
    }

    fn new(tls: Connection, buffers: std::rc::Rc<Buffers>) -> Self {
        Self { tls: RefCell::new(tls), raw: RefCell::default(), taken: Cell::new(0), buffers }
    }

    fn poll_handshake(&self, cx: &mut Context<'_>, tcp: &RefCell<TcpStream>) -> Poll<io::Result<()>> {
        loop {
            ready!(self.poll_flush(cx, tcp))?;
            if !self.tls.borrow().is_handshaking() {
                return Poll::Ready(Ok(()));
            }
            ready!(self.poll_fill(cx, tcp, &mut []))?;
        }
    }

    /// Whether the handshake went on with an earlier session.
    pub(crate) fn is_resumed(&self) -> bool {
        self.tls.borrow().handshake_kind() == Some(HandshakeKind::Resumed)
    }

    /// Whether an unused connection is still open, and the peer has said nothing but what is TLS's own: a ticket for
    /// the next session comes after the handshake, at any time.
    pub(crate) fn is_quiet(&self, tcp: &RefCell<TcpStream>) -> bool {
        let mut cx = Context::from_waker(std::task::Waker::noop());
        loop {
            if !self.raw.borrow().is_empty() || !self.tls.borrow().wants_read() {
                return false;
            }
            match self.poll_fill(&mut cx, tcp, &mut []) {
                Poll::Pending => return true,
                Poll::Ready(Ok(0)) if self.tls.borrow().wants_read() => {}
                Poll::Ready(_) => return false,
            }
        }
    }

    /// Whether both sides agreed to HTTP/2.
    pub(crate) fn is_http2(&self) -> bool {
        self.tls.borrow().alpn_protocol() == Some(H2)
    }

    /// Takes what the kernel has and decrypts it into `out`; gives the length of the plaintext.
    fn poll_fill(
        &self,
        cx: &mut Context<'_>,
        tcp: &RefCell<TcpStream>,
        out: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let mut raw = self.raw.borrow_mut();
        if !raw.is_empty() {
            let (used, filled) = self.decrypt(tcp, &raw, out)?;
            raw.drain(..used);
            return Poll::Ready(Ok(filled));
        }
        let mut buffer = self.buffers.take();
        // Not more than `out` has room for, but for a record or so.
        let most = out.len().clamp(4096, buffer.len());
        let read = ready!(read(tcp, cx, &mut buffer[..most]))?;
        if read == 0 {
            if self.tls.borrow().is_handshaking() {
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
            // rustls tells a clean end from a cut by what came before it.
            self.tls.borrow_mut().read_tls(&mut io::empty())?;
            return Poll::Ready(Ok(0));
        }
        let (used, filled) = self.decrypt(tcp, &buffer[..read], out)?;
        raw.extend_from_slice(&buffer[used..read]);
        Poll::Ready(Ok(filled))
    }

    /// Decrypts input. Returns the number of input bytes used and of plaintext bytes in `out`. It stops while there is
    /// plaintext that was not taken.
    fn decrypt(
        &self,
        tcp: &RefCell<TcpStream>,
        mut input: &[u8],
        out: &mut [u8],
    ) -> io::Result<(usize, usize)> {
        let (whole, mut filled) = (input.len(), 0);
        let mut tls = self.tls.borrow_mut();
        while !input.is_empty() {
            match tls.read_tls(&mut input) {
                Ok(_) => {}
                // Its buffer of plaintext is full.
                Err(error) if error.kind() == io::ErrorKind::Other => break,
                Err(error) => return Err(error),
            }
            if let Err(error) = tls.process_new_packets() {
                // The alert says why; whether it still arrives is of no matter.
                let _ = tls.write_tls(&mut Socket(tcp));
                return Err(io::Error::new(io::ErrorKind::InvalidData, error));
            }
            while filled < out.len() {
                match tls.reader().read(&mut out[filled..]) {
                    Ok(read @ 1..) => filled += read,
                    // Nothing more for now; an end is said by the next read.
                    _ => break,
                }
            }
        }
        Ok((whole - input.len(), filled))
    }

    /// Whether a read would find something.
    pub(crate) fn poll_readable(
        &self,
        cx: &mut Context<'_>,
        tcp: &RefCell<TcpStream>,
    ) -> Poll<io::Result<()>> {
        if !self.tls.borrow().wants_read() || !self.raw.borrow().is_empty() {
            return Poll::Ready(Ok(()));
        }
        tcp.borrow().poll_read_ready(cx)
    }

    /// Reads plaintext; 0 is an end that the peer has announced.
    pub(crate) fn poll_read(
        &self,
        cx: &mut Context<'_>,
        tcp: &RefCell<TcpStream>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        loop {
            let result = self.tls.borrow_mut().reader().read(buf);
            if !would_block(&result) {
                return Poll::Ready(result);
            }
            let filled = ready!(self.poll_fill(cx, tcp, buf))?;
            // An answer to what came (an alert, a new key) leaves with the next write, or now if it can.
            if self.tls.borrow().wants_write() && self.taken.get() == 0 {
                let _ = self.poll_flush(cx, tcp)?;
            }
            if filled > 0 {
                return Poll::Ready(Ok(filled));
            }
        }
    }

    /// Reads plaintext by way of a buffer of the worker's; nothing more is an end that the peer has announced.
    pub(crate) fn poll_read_into(
        &self,
        cx: &mut Context<'_>,
        tcp: &RefCell<TcpStream>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut buffer = self.buffers.take();
        let most = buf.remaining().min(buffer.len());
        let read = ready!(self.poll_read(cx, tcp, &mut buffer[..most]))?;
        buf.put_slice(&buffer[..read]);
        Poll::Ready(Ok(()))
    }

    /// Encrypts and writes; ready when the kernel has all of the bytes that were taken. After `Pending` the caller must
    /// pass the same bytes again.
    pub(crate) fn poll_write(
        &self,
        cx: &mut Context<'_>,
        tcp: &RefCell<TcpStream>,
        pieces: [&[u8]; 2],
    ) -> Poll<io::Result<usize>> {
        if self.taken.get() == 0 {
            let [first, second] = pieces.map(IoSlice::new);
            self.taken.set(self.tls.borrow_mut().writer().write_vectored(&[first, second])?);
        }
        ready!(self.poll_flush(cx, tcp))?;
        Poll::Ready(Ok(self.taken.replace(0)))
    }

    /// Whether the kernel has everything that was written so far.
    pub(crate) fn is_flushed(&self) -> bool {
        self.taken.get() == 0 && !self.tls.borrow().wants_write()
    }

    fn poll_flush(&self, cx: &mut Context<'_>, tcp: &RefCell<TcpStream>) -> Poll<io::Result<()>> {
        let mut tls = self.tls.borrow_mut();
        while tls.wants_write() {
            match tls.write_tls(&mut Socket(tcp)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    ready!(tcp.borrow().poll_write_ready(cx))?;
                }
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Ok(_) => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Tells the peer that nothing more comes, so that it can tell the end from a cut (RFC 8446, 6.1).
    pub(crate) fn close_notify(&self, tcp: &RefCell<TcpStream>) {
        self.tls.borrow_mut().send_close_notify();
        // A peer that no longer reads cannot be notified.
        let _ = self.poll_flush(&mut Context::from_waker(std::task::Waker::noop()), tcp);
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use tokio::io::AsyncWriteExt as _;

    use super::{
        super::{Certificates, own_certificate, server_config},
        *,
    };
    use crate::wire::timer::Timers;

    fn config() -> Arc<ServerConfig> {
        let folder = tempfile::tempdir().unwrap();
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let (certificate, key) = (folder.path().join("crt"), folder.path().join("key"));
        std::fs::write(&certificate, made.cert.pem()).unwrap();
        std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        let own = own_certificate(&certificate, &key).unwrap();
        server_config(&Arc::new(Certificates::new(Some(own))), &Arc::default()).unwrap()
    }

    #[tokio::test]
    async fn a_client_that_leaves_within_its_handshake_ends_it() {
        let hello = {
            // The start of any ClientHello: a record header that announces more bytes than follow.
            let mut hello = vec![0x16, 3, 1, 1, 0, 1, 0, 0, 0xfc, 3, 3];
            hello.resize(100, 7);
            hello
        };
        for cut in [0, 1, 5, 50, 100] {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
            let (tcp, _) = listener.accept().await.unwrap();
            client.write_all(&hello[..cut]).await.unwrap();
            drop(client);
            let (timers, tcp) = (Timers::new(), RefCell::new(tcp));
            let timer = timers.timer();
            let accept =
                Session::accept(&tcp, config(), Rc::<Buffers>::default(), &timer, Duration::from_secs(60));
            let result = tokio::time::timeout(Duration::from_secs(20), accept).await.expect("it ends");
            assert!(result.is_err(), "cut at {cut}");
        }
    }
}
