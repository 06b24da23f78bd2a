//! Reads of a socket through a shared reference.

use std::{
    cell::RefCell,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncRead as _, ReadBuf},
    net::TcpStream,
};

/// Reads what is there. A read that does not fill the buffer has found all there was: readiness is taken back without
/// asking the kernel again.
pub(crate) fn read(
    tcp: &RefCell<TcpStream>,
    cx: &mut Context<'_>,
    buf: &mut [u8],
) -> Poll<io::Result<usize>> {
    let mut buf = ReadBuf::new(buf);
    ready!(Pin::new(&mut *tcp.borrow_mut()).poll_read(cx, &mut buf))?;
    Poll::Ready(Ok(buf.filled().len()))
}
