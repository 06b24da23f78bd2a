//! Reads the frames of an HTTP/2 backend for facts that the h2 library does not report: SETTINGS that limit the size of
//! a request's head, and GOAWAY (RFC 9113, 6.5 and 6.8).
//!
//! It changes nothing; h2 parses the same bytes and checks whether they are valid.

use std::{
    cell::Cell,
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll},
};

use h2::Reason;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

const SETTINGS: u8 = 0x4;
const GOAWAY: u8 = 0x7;
const SETTINGS_MAX_HEADER_LIST_SIZE: u16 = 0x6;

/// The flag of an acknowledgement, which has no settings.
const ACK: u8 = 0x1;

const HEADER: usize = 9;

/// The SETTINGS and GOAWAY that a backend has sent on a connection.
#[derive(Debug, Default)]
pub(crate) struct PeerNotices {
    /// Whether its SETTINGS have arrived.
    settled: Cell<bool>,
    /// The largest head of a request that it accepts, as RFC 9113, 6.5.2 counts it, if it announces one.
    max_head: Cell<Option<u32>>,
    go_away: Cell<Option<Reason>>,
    /// Whether any of these has changed since the last check.
    changed: Cell<bool>,
}

impl PeerNotices {
    pub(crate) fn is_settled(&self) -> bool {
        self.settled.get()
    }

    pub(crate) fn max_head(&self) -> Option<usize> {
        self.max_head.get().and_then(|most| usize::try_from(most).ok())
    }

    /// The reason of the GOAWAY, if there was one. The connection takes no new requests after it.
    pub(crate) fn go_away(&self) -> Option<Reason> {
        self.go_away.get()
    }

    pub(crate) fn take_changed(&self) -> bool {
        self.changed.replace(false)
    }
}

/// Finds the frames in a stream of bytes.
#[derive(Debug, Default)]
struct Scanner {
    header: [u8; HEADER],
    /// Number of bytes in `header`.
    filled: usize,
    /// Payload bytes that are still to come.
    left: usize,
    /// The beginning of a GOAWAY, or one setting.
    part: [u8; 8],
    parted: usize,
}

impl Scanner {
    fn scan(&mut self, mut bytes: &[u8], notices: &PeerNotices) {
        while !bytes.is_empty() {
            if self.filled < HEADER {
                let taken = bytes.len().min(HEADER - self.filled);
                self.header[self.filled..self.filled + taken].copy_from_slice(&bytes[..taken]);
                self.filled += taken;
                bytes = &bytes[taken..];
                if self.filled < HEADER {
                    return;
                }
                let [a, b, c, ..] = self.header;
                self.left = u32::from_be_bytes([0, a, b, c]) as usize;
                self.parted = 0;
                if self.header[3] == SETTINGS && self.header[4] & ACK == 0 {
                    notices.settled.set(true);
                    notices.changed.set(true);
                }
            }
            let taken = bytes.len().min(self.left);
            match self.header[3] {
                SETTINGS => self.collect(&bytes[..taken], 6, notices),
                GOAWAY => self.collect(&bytes[..taken], 8, notices),
                _ => {}
            }
            self.left -= taken;
            bytes = &bytes[taken..];
            if self.left == 0 {
                self.filled = 0;
            }
        }
    }

    /// Collects parts of `size` bytes and reads each.
    fn collect(&mut self, payload: &[u8], size: usize, notices: &PeerNotices) {
        for byte in payload {
            // Only the first part of a GOAWAY is read; the rest is debug data.
            if self.parted == size {
                return;
            }
            self.part[self.parted] = *byte;
            self.parted += 1;
            if self.parted < size {
                continue;
            }
            let [a, b, c, d, e, f, g, h] = self.part;
            if size == 8 {
                notices.go_away.set(Some(Reason::from(u32::from_be_bytes([e, f, g, h]))));
                notices.changed.set(true);
                return;
            }
            if u16::from_be_bytes([a, b]) == SETTINGS_MAX_HEADER_LIST_SIZE {
                notices.max_head.set(Some(u32::from_be_bytes([c, d, e, f])));
            }
            self.parted = 0;
        }
    }
}

/// Passes a connection's bytes through and reads their frames.
pub(crate) struct FrameObserver<T> {
    io: T,
    scanner: Scanner,
    notices: std::rc::Rc<PeerNotices>,
}

impl<T> FrameObserver<T> {
    pub(crate) fn new(io: T, notices: std::rc::Rc<PeerNotices>) -> Self {
        Self { io, scanner: Scanner::default(), notices }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for FrameObserver<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.io).poll_read(cx, buf);
        let Self { scanner, notices, .. } = &mut *self;
        scanner.scan(&buf.filled()[before..], notices);
        polled
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for FrameObserver<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
        frame.extend_from_slice(&[kind, flags, 0, 0, 0, 0]);
        frame.extend_from_slice(payload);
        frame
    }

    #[test]
    fn settings_and_goaway_are_found_however_the_bytes_are_cut() {
        let bytes = [
            frame(SETTINGS, 0, &[0, 3, 0, 0, 0, 4, 0, 6, 0, 0, 0x20, 0, 0, 4, 0, 0, 1, 0]),
            frame(SETTINGS, ACK, &[]),
            // Payload that looks like frames is not parsed.
            frame(0, 0, &frame(GOAWAY, 0, &[0, 0, 0, 0, 0, 0, 0, 2])),
            frame(0, 1, &[]),
            frame(GOAWAY, 0, b"\x7f\xff\xff\xff\0\0\0\x0bcalm down, you there"),
        ]
        .concat();
        for piece in 1..=bytes.len() {
            let (mut scanner, notices) = (Scanner::default(), PeerNotices::default());
            assert!(!notices.is_settled() && notices.max_head().is_none());
            bytes.chunks(piece).for_each(|bytes| scanner.scan(bytes, &notices));
            assert!(notices.is_settled() && notices.take_changed() && !notices.take_changed());
            assert_eq!(notices.max_head(), Some(0x2000), "{piece}");
            assert_eq!(notices.go_away(), Some(Reason::ENHANCE_YOUR_CALM), "{piece}");
        }
    }

    #[test]
    fn an_acknowledgement_is_no_settings_and_later_settings_count() {
        let (mut scanner, notices) = (Scanner::default(), PeerNotices::default());
        scanner.scan(&frame(SETTINGS, ACK, &[]), &notices);
        assert!(!notices.is_settled());
        scanner.scan(&frame(SETTINGS, 0, &[0, 6, 0, 0, 0, 9]), &notices);
        scanner.scan(&frame(SETTINGS, 0, &[0, 6, 0, 0, 0, 7]), &notices);
        assert!(notices.is_settled() && notices.max_head() == Some(7) && notices.go_away().is_none());
    }
}
