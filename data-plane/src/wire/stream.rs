//! A connection's byte stream, read and written from one task through a shared reference.
//!
//! An exchange reads a request's body while it writes the answer, from the same future; a stream that needs no
//! `&mut` lets both sides hold it without a lock.

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

/// How long a connection that is closing waits for the next bytes of a client that still sends.
const LINGER_PAUSE: Duration = Duration::from_secs(5);

/// How long a closing connection reads what its client still sends, in all.
const LINGER: Duration = Duration::from_secs(15);

/// How many bytes a closing connection reads at most.
const MAX_LINGER_BYTES: usize = 256 << 20;

/// A connected stream, in the clear or protected.
#[derive(Debug)]
pub(crate) struct Stream {
    /// Borrowed for the length of one call.
    tcp: RefCell<TcpStream>,
    /// In a box: most streams have none, and an idle one should be small.
    tls: Option<Box<Session>>,
    /// The rest of an interim answer whose first part has left. It leaves before anything else; nearly always empty.
    unsent: RefCell<Vec<u8>>,
    /// Of a connection to a backend.
    _descriptor: Option<BackendDescriptor>,
}

impl Stream {
    /// Takes over a socket as it was accepted.
    pub(crate) fn accepted(tcp: TcpStream) -> Self {
        Self { tcp: RefCell::new(tcp), tls: None, unsent: RefCell::default(), _descriptor: None }
    }

    /// Has the client prove that it speaks TLS; the stream's bytes are plaintext from then on.
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

    /// Shakes hands with a backend, for as long as the timer is armed.
    ///
    /// # Errors
    /// There is no protected connection to be had.
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

    /// Whether its handshake went on with an earlier session.
    pub(crate) fn is_resumed(&self) -> bool {
        self.tls.as_ref().is_some_and(|session| session.is_resumed())
    }

    /// Whether its bytes are protected on the wire.
    pub(crate) fn is_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// Whether both sides agreed to HTTP/2 as they shook hands.
    pub(crate) fn is_http2(&self) -> bool {
        self.tls.as_ref().is_some_and(|session| session.is_http2())
    }

    /// Waits until a read would find something (bytes, the end, or an error).
    pub(crate) fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &self.tls {
            None => self.tcp.borrow().poll_read_ready(cx),
            Some(session) => session.poll_readable(cx, &self.tcp),
        }
    }

    /// Reads what is there; 0 is the end.
    pub(crate) fn poll_read(&self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        if let Some(session) = &self.tls {
            return session.poll_read(cx, &self.tcp, buf);
        }
        read(&self.tcp, cx, buf)
    }

    /// Reads what is there into memory that nothing was written to yet; nothing more is the end. To make that memory
    /// a slice would mean to clear all of it for a few bytes.
    fn poll_read_into(&self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match &self.tls {
            None => Pin::new(&mut *self.tcp.borrow_mut()).poll_read(cx, buf),
            Some(session) => session.poll_read_into(cx, &self.tcp, buf),
        }
    }

    /// Writes what fits. A caller that gets `Pending` calls again with the same bytes.
    pub(crate) fn poll_write(&self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_unsent(cx))?;
        self.write_some(cx, bytes)
    }

    /// Writes what fits of two pieces in one call.
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

    /// Writes what fits, without regard to an interim answer that is not complete yet.
    fn write_some(&self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if let Some(session) = &self.tls {
            return session.poll_write(cx, &self.tcp, [bytes, &[]]);
        }
        let written = ready!(Pin::new(&mut *self.tcp.borrow_mut()).poll_write(cx, bytes))?;
        Poll::Ready(some_of(written, bytes))
    }

    /// Sends an interim answer (RFC 9110, 15.2). The client may miss it, but never gets a part of it: an answer that
    /// cannot begin now is dropped; of one that has begun, the rest is kept and leaves before any other byte.
    pub(crate) fn send_interim(&self, bytes: &[u8]) {
        let mut unsent = self.unsent.borrow_mut();
        if !unsent.is_empty() || self.tls.as_ref().is_some_and(|session| !session.is_flushed()) {
            return;
        }
        let rest = match self.write_some(&mut Context::from_waker(std::task::Waker::noop()), bytes) {
            Poll::Ready(Ok(written)) => &bytes[written..],
            // TLS has encrypted a part of it, and expects the same bytes again.
            Poll::Pending if self.is_tls() => bytes,
            // Nothing has left. A broken connection is noticed by the next read or write.
            Poll::Pending | Poll::Ready(Err(_)) => &[],
        };
        unsent.extend_from_slice(rest);
    }

    /// Goes on with an interim answer that was cut short; ready when all of it has left.
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

    /// Says that nothing more will be written.
    pub(crate) fn shutdown_write(&self) {
        if let Some(session) = &self.tls {
            session.close_notify(&self.tcp);
        }
        // The peer may have gone already, which is just as well.
        let _ = socket2::SockRef::from(&*self.tcp.borrow()).shutdown(std::net::Shutdown::Write);
    }

    /// Whether an unused connection is still open and silent; costs no system call unless something happened on it.
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

    /// Has the kernel probe the peer of a silent connection this often (TCP keep-alive): one that is gone without a
    /// reset is found out after a few probes.
    pub(crate) fn keep_alive(&self, every: Duration) {
        let keep_alive = socket2::TcpKeepalive::new().with_time(every).with_interval(every).with_retries(3);
        // Where the option is refused the peer is found out at the next write.
        let _ = socket2::SockRef::from(&*self.tcp.borrow()).set_tcp_keepalive(&keep_alive);
    }

    /// Bounds how long written data and probes may go without an acknowledgement; zero: the kernel's own time, which
    /// is a quarter of an hour on Linux.
    pub(crate) fn set_user_timeout(&self, within: Duration) {
        #[cfg(target_os = "linux")]
        if !within.is_zero() {
            // Where the option is refused the kernel's own time holds.
            let _ = socket2::SockRef::from(&*self.tcp.borrow()).set_tcp_user_timeout(Some(within));
        }
        #[cfg(not(target_os = "linux"))]
        let _ = within;
    }

    /// Makes the closing visible as a reset, so that what was cut off is not taken for a whole.
    pub(crate) fn reset(&self) {
        // Where the option is refused the connection is broken anyway.
        let _ = socket2::SockRef::from(&*self.tcp.borrow()).set_linger(Some(Duration::ZERO));
    }

    /// Closes so that what was written last still arrives: the kernel resets a connection that is closed with unread
    /// input, and a reset overtakes data. Reads and drops what the client still sends, until it closes, pauses for
    /// [`LINGER_PAUSE`], or has had [`LINGER`] or [`MAX_LINGER_BYTES`] (RFC 9112, 9.6). Clients such as curl, Python's and browsers send on
    /// for seconds before they read an early answer.
    pub(crate) async fn linger(&self, timer: &Timer, buffers: &Rc<Buffers>, is_draining: impl Fn() -> bool) {
        self.shutdown_write();
        let (end, mut left) = (Instant::now() + LINGER, MAX_LINGER_BYTES);
        timer.arm(LINGER_PAUSE);
        std::future::poll_fn(|cx| {
            let mut scratch = None;
            // A sender that is faster than this loop must not keep the worker from its other connections.
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

    /// Opens a connection; `watch` may have a reason not to wait for it.
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
        // Small writes leave at once. A socket that is already gone refuses the option; its first read will say so.
        let _ = tcp.set_nodelay(true);
        Ok(Self { _descriptor: Some(descriptor), ..Self::accepted(tcp) })
    }
}

/// A write that takes nothing would be tried for ever.
fn some_of(written: usize, bytes: &[u8]) -> io::Result<usize> {
    if written == 0 && !bytes.is_empty() { Err(io::ErrorKind::WriteZero.into()) } else { Ok(written) }
}

/// Whoever owns a stream that HTTP/2's connection reads and writes.
pub(crate) trait StreamHolder {
    /// The stream.
    fn stream(&self) -> &Stream;

    /// What was read of it before, which comes first.
    fn early(&self) -> Option<&RefCell<Vec<u8>>> {
        None
    }
}

impl StreamHolder for Rc<Stream> {
    fn stream(&self) -> &Stream {
        self
    }
}

/// A stream as h2 wants it.
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
        // What poll_write said was written has left.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.stream().shutdown_write();
        Poll::Ready(Ok(()))
    }
}
