//! A connection's byte stream, which one task reads and writes through a shared reference.
//!
//! A request's body is read while its response is written, in the same future. A stream that needs no `&mut` lets both
//! use it without a lock.

use std::{
    cell::RefCell,
    io::{self, IoSlice},
    net::SocketAddr,
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

use crate::{
    failure::Failure,
    wire::{
        buffer::Buffers,
        descriptors::BackendDescriptor,
        socket::read,
        timer::Timer,
        tls::{BackendTls, Session},
    },
};

/// How long a closing connection waits for the next bytes of a client that still sends.
const LINGER_PAUSE: Duration = Duration::from_secs(5);

/// How long a closing connection reads at most.
const LINGER: Duration = Duration::from_secs(15);

/// Bytes that a closing connection reads at most.
const MAX_LINGER_BYTES: usize = 256 << 20;

/// A connected stream, in cleartext or over TLS.
#[derive(Debug)]
pub(crate) struct Stream {
    /// Borrowed for the length of one call.
    tcp: RefCell<TcpStream>,
    /// Boxed: most streams have none, and an idle stream should be small.
    tls: Option<Box<Session>>,
    /// The rest of a partly written interim response. It is written before anything else; almost always empty.
    unsent: RefCell<Vec<u8>>,
    /// Only for a connection to a backend.
    _descriptor: Option<BackendDescriptor>,
}

impl Stream {
    /// A stream of an accepted socket.
    pub(crate) fn accepted(tcp: TcpStream) -> Self {
        Self { tcp: RefCell::new(tcp), tls: None, unsent: RefCell::default(), _descriptor: None }
    }

    /// Performs the TLS handshake with a client; the stream's bytes are plaintext afterwards.
    ///
    /// # Errors
    /// The handshake failed or took longer than `within`.
    pub(crate) async fn accept_tls(
        self,
        config: Arc<rustls::ServerConfig>,
        buffers: Rc<Buffers>,
        timer: &Timer,
        within: Duration,
    ) -> io::Result<Self> {
        let session = Session::accept(&self.tcp, config, buffers, timer, within).await?;
        Ok(Self { tls: Some(Box::new(session)), ..self })
    }

    /// Performs the TLS handshake with a backend, until the timer expires.
    ///
    /// # Errors
    /// The handshake failed.
    pub(crate) async fn connect_tls(
        self,
        secured: &BackendTls,
        buffers: Rc<Buffers>,
        timer: &Timer,
        watch: impl FnMut(&mut Context<'_>) -> Poll<Failure>,
    ) -> Result<Self, Failure> {
        let session = Session::connect(&self.tcp, secured, buffers, timer, watch).await?;
        Ok(Self { tls: Some(Box::new(session)), ..self })
    }

    /// Whether the handshake resumed a session.
    pub(crate) fn is_resumed(&self) -> bool {
        self.tls.as_ref().is_some_and(|session| session.is_resumed())
    }

    /// Whether the stream uses TLS.
    pub(crate) fn is_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// Whether both sides agreed on HTTP/2 (ALPN).
    pub(crate) fn is_http2(&self) -> bool {
        self.tls.as_ref().is_some_and(|session| session.is_http2())
    }

    /// Waits until a read would return bytes, the end, or an error.
    pub(crate) fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &self.tls {
            None => self.tcp.borrow().poll_read_ready(cx),
            Some(session) => session.poll_readable(cx, &self.tcp),
        }
    }

    /// Reads the available bytes; 0 is the end.
    pub(crate) fn poll_read(&self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        if let Some(session) = &self.tls {
            return session.poll_read(cx, &self.tcp, buf);
        }
        read(&self.tcp, cx, buf)
    }

    /// Reads the available bytes into uninitialized memory; no bytes mean the end. To initialize it would cost more
    /// than a read of a few bytes.
    fn poll_read_into(&self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match &self.tls {
            None => Pin::new(&mut *self.tcp.borrow_mut()).poll_read(cx, buf),
            Some(session) => session.poll_read_into(cx, &self.tcp, buf),
        }
    }

    /// Writes as much as possible. After `Pending` the caller must pass the same bytes again.
    pub(crate) fn poll_write(&self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_unsent(cx))?;
        self.write_some(cx, bytes)
    }

    /// Writes as much as possible of two slices in one call.
    pub(crate) fn poll_write_both(
        &self,
        cx: &mut Context<'_>,
        first: &[u8],
        second: &[u8],
    ) -> Poll<io::Result<usize>> {
        if first.is_empty() {
            return self.poll_write(cx, second);
        }
        if second.is_empty() {
            return self.poll_write(cx, first);
        }
        ready!(self.poll_unsent(cx))?;
        if let Some(session) = &self.tls {
            return session.poll_write(cx, &self.tcp, [first, second]);
        }
        let pieces = [IoSlice::new(first), IoSlice::new(second)];
        let written = ready!(Pin::new(&mut *self.tcp.borrow_mut()).poll_write_vectored(cx, &pieces))?;
        Poll::Ready(some_of(written, first))
    }

    /// Writes as much as possible, regardless of an incomplete interim response.
    fn write_some(&self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if let Some(session) = &self.tls {
            return session.poll_write(cx, &self.tcp, [bytes, &[]]);
        }
        let written = ready!(Pin::new(&mut *self.tcp.borrow_mut()).poll_write(cx, bytes))?;
        Poll::Ready(some_of(written, bytes))
    }

    /// Sends an interim response (RFC 9110, 15.2). It may be lost, but never partly: if it cannot begin now it is
    /// dropped, and the rest of one that has begun is written before any other byte.
    pub(crate) fn send_interim(&self, bytes: &[u8]) {
        let mut unsent = self.unsent.borrow_mut();
        if !unsent.is_empty() || self.tls.as_ref().is_some_and(|session| !session.is_flushed()) {
            return;
        }
        let rest = match self.write_some(&mut Context::from_waker(std::task::Waker::noop()), bytes) {
            Poll::Ready(Ok(written)) => &bytes[written..],
            // TLS has encrypted a part of it and needs the same bytes again.
            Poll::Pending if self.is_tls() => bytes,
            // Nothing was written. The next read or write notices a broken connection.
            Poll::Pending | Poll::Ready(Err(_)) => &[],
        };
        unsent.extend_from_slice(rest);
    }

    /// Continues an incomplete interim response; ready when all of it was written.
    pub(crate) fn poll_unsent(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut unsent = self.unsent.borrow_mut();
        if unsent.is_empty() {
            return Poll::Ready(Ok(()));
        }
        while !unsent.is_empty() {
            let written = ready!(self.write_some(cx, &unsent))?;
            unsent.drain(..written);
        }
        *unsent = Vec::new();
        Poll::Ready(Ok(()))
    }

    /// Closes the sending side.
    pub(crate) fn shutdown_write(&self) {
        if let Some(session) = &self.tls {
            session.close_notify(&self.tcp);
        }
        // The peer may have closed the connection already.
        let _ = socket2::SockRef::from(&*self.tcp.borrow()).shutdown(std::net::Shutdown::Write);
    }

    /// Whether an unused connection is still open and silent. There is a system call only after an event on it.
    pub(crate) fn is_quiet(&self) -> bool {
        if let Some(session) = &self.tls {
            return session.is_quiet(&self.tcp);
        }
        let mut cx = Context::from_waker(std::task::Waker::noop());
        read(&self.tcp, &mut cx, &mut [0; 1]).is_pending()
    }

    /// Whether the peer has reset the connection.
    pub(crate) fn is_broken(&self) -> bool {
        !matches!(self.tcp.borrow().take_error(), Ok(None))
    }

    /// Makes the kernel probe a silent connection this often (TCP keep-alive), so that a peer that is gone without a
    /// reset is detected after a few probes.
    pub(crate) fn keep_alive(&self, every: Duration) {
        let keep_alive = socket2::TcpKeepalive::new().with_time(every).with_interval(every).with_retries(3);
        // If the option is not supported, the next write detects the peer's end.
        let _ = socket2::SockRef::from(&*self.tcp.borrow()).set_tcp_keepalive(&keep_alive);
    }

    /// Limits how long written data and probes may stay unacknowledged; zero: the kernel's own limit, about a quarter
    /// of an hour on Linux.
    pub(crate) fn set_user_timeout(&self, within: Duration) {
        #[cfg(target_os = "linux")]
        if !within.is_zero() {
            // If the option is not supported, the kernel's own limit applies.
            let _ = socket2::SockRef::from(&*self.tcp.borrow()).set_tcp_user_timeout(Some(within));
        }
        #[cfg(not(target_os = "linux"))]
        let _ = within;
    }

    /// Resets the connection, so that truncated data does not look complete.
    pub(crate) fn reset(&self) {
        // If this fails, the connection is broken anyway.
        let _ = socket2::SockRef::from(&*self.tcp.borrow()).set_linger(Some(Duration::ZERO));
    }

    /// Closes the connection so that the last written bytes arrive. The kernel resets a connection that is closed with
    /// unread input, and a reset overtakes data. So this reads and drops input until the client closes, pauses for
    /// [`LINGER_PAUSE`], or has had [`LINGER`] or [`MAX_LINGER_BYTES`] (RFC 9112, 9.6). Clients such as curl, Python's
    /// and browsers continue to send for seconds before they read an early response.
    pub(crate) async fn linger(&self, timer: &Timer, buffers: &Rc<Buffers>, is_draining: impl Fn() -> bool) {
        self.shutdown_write();
        let (end, mut left) = (Instant::now() + LINGER, MAX_LINGER_BYTES);
        timer.arm(LINGER_PAUSE);
        std::future::poll_fn(|cx| {
            let mut scratch = None;
            // A fast sender must not keep the worker from its other connections.
            for _ in 0..16 {
                if is_draining() || left == 0 || Instant::now() >= end {
                    return Poll::Ready(());
                }
                if self.poll_readable(cx).is_pending() {
                    return if timer.expired(cx) { Poll::Ready(()) } else { Poll::Pending };
                }
                match self.poll_read(cx, scratch.get_or_insert_with(|| buffers.take())) {
                    Poll::Ready(Ok(read @ 1..)) => {
                        left = left.saturating_sub(read);
                        timer.arm(LINGER_PAUSE);
                    }
                    Poll::Ready(_) => return Poll::Ready(()),
                    Poll::Pending => {}
                }
            }
            cx.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
    }

    /// Opens a connection, unless `watch` gives a reason to give up.
    pub(crate) async fn connect(
        address: SocketAddr,
        descriptor: BackendDescriptor,
        timer: &Timer,
        within: Duration,
        mut watch: impl FnMut(&mut Context<'_>) -> Poll<Failure>,
    ) -> Result<Self, Failure> {
        timer.arm(within);
        let mut connecting = std::pin::pin!(TcpStream::connect(address));
        let tcp = std::future::poll_fn(|cx| {
            if let Poll::Ready(result) = connecting.as_mut().poll(cx) {
                return Poll::Ready(result.map_err(Failure::Connect));
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
        // Small writes are sent at once. On a closed socket this fails, and the first read reports it.
        let _ = tcp.set_nodelay(true);
        Ok(Self { _descriptor: Some(descriptor), ..Self::accepted(tcp) })
    }
}

/// A write of nothing would be repeated forever.
fn some_of(written: usize, bytes: &[u8]) -> io::Result<usize> {
    if written == 0 && !bytes.is_empty() { Err(io::ErrorKind::WriteZero.into()) } else { Ok(written) }
}

/// The holder of a stream that an HTTP/2 connection reads and writes.
pub(crate) trait StreamHolder {
    fn stream(&self) -> &Stream;

    /// Bytes that were read from the stream before, which come first.
    fn early(&self) -> Option<&RefCell<Vec<u8>>> {
        None
    }
}

impl StreamHolder for Rc<Stream> {
    fn stream(&self) -> &Stream {
        self
    }
}

/// A stream as h2 needs it.
pub(crate) struct Io<T>(pub(crate) T);

impl<T: StreamHolder + Unpin> AsyncRead for Io<T> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if let Some(early) = self.0.early() {
            let mut early = early.borrow_mut();
            if !early.is_empty() {
                let taken = early.len().min(buf.remaining());
                buf.put_slice(&early[..taken]);
                early.drain(..taken);
                return Poll::Ready(Ok(()));
            }
        }
        self.0.stream().poll_read_into(cx, buf)
    }
}

impl<T: StreamHolder + Unpin> AsyncWrite for Io<T> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.0.stream().poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut filled = pieces.iter().map(|piece| &**piece).filter(|piece| !piece.is_empty());
        let (first, second) = (filled.next().unwrap_or_default(), filled.next().unwrap_or_default());
        self.0.stream().poll_write_both(cx, first, second)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // poll_write has already written everything.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.stream().shutdown_write();
        Poll::Ready(Ok(()))
    }
}
