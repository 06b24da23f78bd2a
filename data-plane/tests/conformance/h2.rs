//! A client of HTTP/2 in raw frames (RFC 9113), which can say what no library would: what a suite checks must not be
//! written by the code under test. Field sections are encoded without a table; answers may use HPACK in full.

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

use loona_hpack::Decoder;

use crate::{
    message::{End, Framing, Message, Parse, Side, parse, text},
    peer::{Peer, Verdict},
};

pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Frame types (RFC 9113, 6).
pub(crate) mod kind {
    pub(crate) const DATA: u8 = 0;
    pub(crate) const HEADERS: u8 = 1;
    pub(crate) const PRIORITY: u8 = 2;
    pub(crate) const RST_STREAM: u8 = 3;
    pub(crate) const SETTINGS: u8 = 4;
    pub(crate) const PUSH_PROMISE: u8 = 5;
    pub(crate) const PING: u8 = 6;
    pub(crate) const GOAWAY: u8 = 7;
    pub(crate) const WINDOW_UPDATE: u8 = 8;
    pub(crate) const CONTINUATION: u8 = 9;
}

/// Flags of frames; ACK is END_STREAM's bit.
pub(crate) mod flag {
    pub(crate) const END_STREAM: u8 = 1;
    pub(crate) const ACK: u8 = 1;
    pub(crate) const END_HEADERS: u8 = 4;
    pub(crate) const PADDED: u8 = 8;
    pub(crate) const PRIORITY: u8 = 0x20;
}

/// Error codes (RFC 9113, 7).
pub(crate) mod code {
    pub(crate) const NO_ERROR: u32 = 0;
    pub(crate) const PROTOCOL_ERROR: u32 = 1;
    pub(crate) const FLOW_CONTROL_ERROR: u32 = 3;
    pub(crate) const STREAM_CLOSED: u32 = 5;
    pub(crate) const FRAME_SIZE_ERROR: u32 = 6;
    pub(crate) const REFUSED_STREAM: u32 = 7;
    pub(crate) const CANCEL: u32 = 8;
    pub(crate) const COMPRESSION_ERROR: u32 = 9;
}

/// Settings (RFC 9113, 6.5.2; RFC 8441).
pub(crate) mod setting {
    pub(crate) const ENABLE_PUSH: u16 = 2;
    pub(crate) const MAX_CONCURRENT_STREAMS: u16 = 3;
    pub(crate) const INITIAL_WINDOW_SIZE: u16 = 4;
    pub(crate) const MAX_FRAME_SIZE: u16 = 5;
}

/// One frame as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: impl AsRef<[u8]>) -> Vec<u8> {
    let payload = payload.as_ref();
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX).to_be_bytes();
    let mut bytes = vec![length[1], length[2], length[3], kind, flags];
    bytes.extend_from_slice(&stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

pub(crate) fn settings(list: &[(u16, u32)]) -> Vec<u8> {
    let mut payload = Vec::new();
    for (name, value) in list {
        payload.extend_from_slice(&name.to_be_bytes());
        payload.extend_from_slice(&value.to_be_bytes());
    }
    frame(kind::SETTINGS, 0, 0, payload)
}

pub(crate) fn window_update(stream: u32, increment: u32) -> Vec<u8> {
    frame(kind::WINDOW_UPDATE, 0, stream, increment.to_be_bytes())
}

pub(crate) fn rst_stream(stream: u32, code: u32) -> Vec<u8> {
    frame(kind::RST_STREAM, 0, stream, code.to_be_bytes())
}

pub(crate) fn headers(stream: u32, fields: &[(&str, &str)], end: bool) -> Vec<u8> {
    let end = if end { flag::END_STREAM } else { 0 };
    frame(kind::HEADERS, flag::END_HEADERS | end, stream, block(fields))
}

/// A field section that may be larger than a frame.
pub(crate) fn split_headers(stream: u32, block: &[u8], end: bool) -> Vec<u8> {
    let end = if end { flag::END_STREAM } else { 0 };
    let mut frames = Vec::new();
    let mut pieces = block.chunks(16_384).peekable();
    let mut kind = kind::HEADERS;
    while let Some(piece) = pieces.next() {
        let last = if pieces.peek().is_none() { flag::END_HEADERS } else { 0 };
        let first = if kind == kind::HEADERS { end } else { 0 };
        frames.extend(frame(kind, last | first, stream, piece));
        kind = kind::CONTINUATION;
    }
    frames
}

pub(crate) fn data(stream: u32, bytes: impl AsRef<[u8]>, end: bool) -> Vec<u8> {
    frame(kind::DATA, if end { flag::END_STREAM } else { 0 }, stream, bytes)
}

/// A field section of literals that leave no trace in the table; characters are bytes (Latin-1).
pub(crate) fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in fields {
        out.push(0);
        for part in [name, value] {
            let bytes: Vec<u8> = part.chars().map(|c| u8::try_from(c).unwrap_or(b'?')).collect();
            integer(&mut out, bytes.len());
            out.extend_from_slice(&bytes);
        }
    }
    out
}

/// An integer with a prefix of seven bits (RFC 7541, 5.1).
fn integer(out: &mut Vec<u8>, mut value: usize) {
    if value < 127 {
        out.push(value as u8);
        return;
    }
    out.push(127);
    value -= 127;
    while value >= 128 {
        out.push((value % 128) as u8 | 128);
        value /= 128;
    }
    out.push(value as u8);
}

/// The request that clients send where it does not matter, with more fields behind.
pub(crate) fn request<'a>(method: &'a str, more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let mut fields =
        vec![(":method", method), (":scheme", "http"), (":authority", "a.example"), (":path", "/")];
    fields.extend_from_slice(more);
    fields
}

/// How a stream went.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// It ended with END_STREAM.
    Answer(Message),
    /// RST_STREAM, and what had come before.
    Reset(u32, Message),
    /// GOAWAY with an error, or the connection ended.
    Lost(Option<u32>, End),
}

#[derive(Default)]
struct Stream {
    message: Option<Message>,
    interims: Vec<Message>,
    ended: bool,
    reset: Option<u32>,
}

/// The client's side of a connection.
pub(crate) struct Client {
    pub(crate) peer: Peer,
    decoder: Decoder<'static>,
    streams: BTreeMap<u32, Stream>,
    /// HEADERS whose CONTINUATION is awaited.
    unfinished: Option<(u32, bool, Vec<u8>)>,
    /// The other side's settings.
    pub(crate) settings: BTreeMap<u16, u32>,
    pub(crate) settings_acked: usize,
    pub(crate) pongs: VecDeque<Vec<u8>>,
    /// The last GOAWAY: the last stream taken, and the code.
    pub(crate) goaway: Option<(u32, u32)>,
    pub(crate) goaways: usize,
    /// DATA bytes that have come, over all streams.
    pub(crate) received: usize,
    /// Windows opened by the other side: connection at 0, and each stream.
    pub(crate) opened: BTreeMap<u32, u64>,
    /// Bytes of the windows that uploads have used.
    used: BTreeMap<u32, u64>,
    /// Whether what was received is granted again at once.
    pub(crate) generous: bool,
    /// Bytes of the other side that are not HTTP/2.
    pub(crate) broken: Option<String>,
    patience: Duration,
}

impl Client {
    /// A connection on which nothing was said yet.
    pub(crate) fn new(peer: Peer, patience: Duration) -> Self {
        Self {
            peer,
            decoder: Decoder::new(),
            streams: BTreeMap::new(),
            unfinished: None,
            settings: BTreeMap::new(),
            settings_acked: 0,
            pongs: VecDeque::new(),
            goaway: None,
            goaways: 0,
            received: 0,
            opened: BTreeMap::new(),
            used: BTreeMap::new(),
            generous: true,
            broken: None,
            patience,
        }
    }

    /// Says hello with these settings and hears the other side's.
    pub(crate) fn greet(&mut self, list: &[(u16, u32)]) -> Verdict {
        self.send(PREFACE)?;
        self.greet_without_preface(list)
    }

    pub(crate) fn greet_without_preface(&mut self, list: &[(u16, u32)]) -> Verdict {
        self.send(settings(list))?;
        let first =
            self.next(Instant::now() + self.patience).map_err(|end| format!("no SETTINGS: {end:?}"))?;
        if first.kind != kind::SETTINGS || first.flags & flag::ACK != 0 {
            return Err(format!("the first frame is {first:?}"));
        }
        Ok(())
    }

    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) -> Verdict {
        self.peer.send(bytes)
    }

    pub(crate) fn try_send(&mut self, bytes: impl AsRef<[u8]>) {
        self.peer.try_send(bytes);
    }

    /// The next frame, heeded: settings and pings are answered, windows are kept open.
    pub(crate) fn next(&mut self, deadline: Instant) -> Verdict<Frame, End> {
        let frame = self.read(deadline)?;
        if let Err(why) = self.heed(&frame) {
            self.broken = Some(format!("{why}: {frame:?}"));
            return Err(End::Closed);
        }
        Ok(frame)
    }

    fn read(&mut self, deadline: Instant) -> Verdict<Frame, End> {
        let head = self.peer.take(9, deadline)?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]) & (u32::MAX >> 1);
        let payload = self.peer.take(length, Instant::now() + self.patience)?;
        Ok(Frame { kind: head[3], flags: head[4], stream, payload })
    }

    fn heed(&mut self, frame: &Frame) -> Verdict {
        let number = |at: usize| {
            frame.payload.get(at..at + 4).map_or(0, |b| u32::from_be_bytes([b[0], b[1], b[2], b[3]]))
        };
        match frame.kind {
            kind::SETTINGS if frame.flags & flag::ACK != 0 => self.settings_acked += 1,
            kind::SETTINGS => {
                for one in frame.payload.as_chunks::<6>().0 {
                    let value = u32::from_be_bytes([one[2], one[3], one[4], one[5]]);
                    self.settings.insert(u16::from_be_bytes([one[0], one[1]]), value);
                }
                self.try_send(self::frame(kind::SETTINGS, flag::ACK, 0, []));
            }
            kind::PING if frame.flags & flag::ACK != 0 => self.pongs.push_back(frame.payload.clone()),
            kind::PING => self.try_send(self::frame(kind::PING, flag::ACK, 0, &frame.payload)),
            kind::GOAWAY => {
                self.goaway = Some((number(0), number(4)));
                self.goaways += 1;
            }
            kind::WINDOW_UPDATE => *self.opened.entry(frame.stream).or_default() += u64::from(number(0)),
            kind::RST_STREAM => self.streams.entry(frame.stream).or_default().reset = Some(number(0)),
            kind::DATA => self.take_data(frame)?,
            kind::HEADERS | kind::CONTINUATION => self.take_headers(frame)?,
            _ => {}
        }
        Ok(())
    }

    fn take_data(&mut self, frame: &Frame) -> Verdict {
        let (padding, start) = match frame.payload.first() {
            Some(padding) if frame.flags & flag::PADDED != 0 => (usize::from(*padding), 1),
            _ => (0, 0),
        };
        let end = frame.payload.len().checked_sub(padding).ok_or("padding beyond the frame")?;
        let bytes = frame.payload.get(start..end).ok_or("padding beyond the frame")?;
        self.received += bytes.len();
        let stream = self.streams.entry(frame.stream).or_default();
        let message = stream.message.as_mut().ok_or("DATA before HEADERS")?;
        message.body.extend_from_slice(bytes);
        stream.ended |= frame.flags & flag::END_STREAM != 0;
        let size = u32::try_from(frame.payload.len()).unwrap_or(0);
        if self.generous && size > 0 {
            self.try_send([window_update(0, size), window_update(frame.stream, size)].concat());
        }
        Ok(())
    }

    fn take_headers(&mut self, frame: &Frame) -> Verdict {
        let (stream, end, mut block) = match (frame.kind, self.unfinished.take()) {
            (kind::HEADERS, None) => {
                let mut at = 0;
                let mut end = frame.payload.len();
                if frame.flags & flag::PADDED != 0 {
                    end -= usize::from(frame.payload[0]);
                    at += 1;
                }
                if frame.flags & flag::PRIORITY != 0 {
                    at += 5;
                }
                let block = frame.payload.get(at..end).ok_or("HEADERS too short")?.to_vec();
                (frame.stream, frame.flags & flag::END_STREAM != 0, block)
            }
            (kind::CONTINUATION, Some((stream, end, block))) if stream == frame.stream => {
                (stream, end, [block, frame.payload.clone()].concat())
            }
            _ => return Err("HEADERS and CONTINUATION out of order".into()),
        };
        if frame.flags & flag::END_HEADERS == 0 {
            self.unfinished = Some((stream, end, std::mem::take(&mut block)));
            return Ok(());
        }
        let fields = self.decoder.decode(&block).map_err(|error| format!("HPACK: {error:?}"))?;
        let fields: Vec<(String, String)> =
            fields.into_iter().map(|(name, value)| (text(&name), text(&value))).collect();
        let at = self.streams.entry(stream).or_default();
        at.ended |= end;
        if let Some(message) = &mut at.message {
            message.trailers = fields;
            return Ok(());
        }
        let status = fields.iter().find(|field| field.0 == ":status").map(|field| field.1.clone());
        let status = status.ok_or("an answer without :status")?;
        let message = Message {
            line: format!("HTTP/2 {status}"),
            fields: fields.into_iter().filter(|field| field.0 != ":status").collect(),
            body: Vec::new(),
            trailers: Vec::new(),
            framing: Framing::None,
            interims: Vec::new(),
        };
        if status.starts_with('1') && !end {
            at.interims.push(message);
        } else {
            at.message = Some(message);
        }
        Ok(())
    }

    /// Hears until `done`; an error says how the connection ended before, or that it did not.
    pub(crate) fn hear(&mut self, mut done: impl FnMut(&Self) -> bool) -> Verdict<(), End> {
        let deadline = Instant::now() + self.patience;
        while !done(self) {
            self.next(deadline)?;
        }
        Ok(())
    }

    /// How the stream goes.
    pub(crate) fn outcome(&mut self, stream: u32) -> Outcome {
        let decided = |this: &Self| {
            this.streams.get(&stream).is_some_and(|s| s.ended || s.reset.is_some())
                || this.goaway.is_some_and(|(last, code)| code != code::NO_ERROR || last < stream)
        };
        let heard = self.hear(decided);
        let at = self.streams.remove(&stream).unwrap_or_default();
        let mut message = at.message.unwrap_or_else(|| Message {
            line: "HTTP/2 0".into(),
            fields: Vec::new(),
            body: Vec::new(),
            trailers: Vec::new(),
            framing: Framing::None,
            interims: Vec::new(),
        });
        message.interims = at.interims;
        match (at.ended, at.reset) {
            (true, _) => Outcome::Answer(message),
            (false, Some(code)) => Outcome::Reset(code, message),
            (false, None) => {
                Outcome::Lost(self.goaway.map(|(_, code)| code), heard.err().unwrap_or(End::StillOpen))
            }
        }
    }

    /// The stream's answer, whole.
    pub(crate) fn answer(&mut self, stream: u32) -> Verdict<Message> {
        match self.outcome(stream) {
            Outcome::Answer(message) => Ok(message),
            other => Err(format!("client: no answer: {other:?} {:?}", self.broken)),
        }
    }

    /// Waits for the head of the stream's answer.
    pub(crate) fn head(&mut self, stream: u32) -> Verdict<Message> {
        let heard = self
            .hear(|this| this.streams.get(&stream).is_some_and(|s| s.message.is_some() || s.reset.is_some()));
        let message = self.streams.get(&stream).and_then(|s| s.message.clone());
        message.ok_or_else(|| format!("client: no head: {heard:?}, GOAWAY {:?}", self.goaway))
    }

    /// Waits for an interim answer.
    pub(crate) fn interim(&mut self, stream: u32) -> Verdict<Message> {
        let heard = self.hear(|this| this.streams.get(&stream).is_some_and(|s| !s.interims.is_empty()));
        let interim = self.streams.get_mut(&stream).filter(|s| !s.interims.is_empty());
        interim.map(|s| s.interims.remove(0)).ok_or_else(|| format!("client: no interim answer: {heard:?}"))
    }

    /// The stream's body as far as it has arrived.
    pub(crate) fn body(&self, stream: u32) -> &[u8] {
        self.streams.get(&stream).and_then(|s| s.message.as_ref()).map_or(&[], |message| &message.body)
    }

    /// Waits until the stream's body is this.
    pub(crate) fn until(&mut self, stream: u32, body: &[u8]) -> Verdict {
        let heard = self.hear(|this| this.body(stream) == body);
        heard.map_err(|end| format!("{:?} did not come: {end:?}, {:?}", text(body), text(self.body(stream))))
    }

    /// Sends a body within the windows that the other side opens.
    pub(crate) fn upload(&mut self, stream: u32, body: &[u8], end: bool) -> Verdict {
        let mut rest = body;
        while !rest.is_empty() {
            self.hear(|this| this.room(stream) > 0)
                .map_err(|end| format!("the window stays shut: {end:?}"))?;
            let size = rest.len().min(self.room(stream)).min(16_384);
            self.put(stream, &rest[..size], end && size == rest.len())?;
            rest = &rest[size..];
        }
        Ok(())
    }

    /// Sends up to so many bytes as long as the windows are opened; how many were sent.
    pub(crate) fn upload_while_open(&mut self, stream: u32, limit: usize) -> Verdict<usize> {
        let mut sent = 0;
        while sent < limit {
            let deadline = Instant::now() + Duration::from_millis(100);
            while self.room(stream) == 0 && self.next(deadline).is_ok() {}
            let size = self.room(stream).min(16_384).min(limit - sent);
            if size == 0 {
                break;
            }
            self.put(stream, &vec![b'x'; size], false)?;
            sent += size;
        }
        Ok(sent)
    }

    fn put(&mut self, stream: u32, bytes: &[u8], end: bool) -> Verdict {
        self.spend(stream, bytes.len());
        self.send(data(stream, bytes, end))
    }

    /// Notes what was sent of the windows.
    pub(crate) fn spend(&mut self, stream: u32, size: usize) {
        for at in [0, stream] {
            *self.used.entry(at).or_default() += size as u64;
        }
    }

    /// Bytes that may be sent on the stream now.
    pub(crate) fn room(&self, stream: u32) -> usize {
        let initial = u64::from(self.settings.get(&setting::INITIAL_WINDOW_SIZE).copied().unwrap_or(65_535));
        let left = |at: u32, initial: u64| {
            let opened = self.opened.get(&at).copied().unwrap_or(0);
            (initial + opened).saturating_sub(self.used.get(&at).copied().unwrap_or(0))
        };
        usize::try_from(left(0, 65_535).min(left(stream, initial))).unwrap_or(0)
    }

    pub(crate) fn patience(&self) -> Duration {
        self.patience
    }

    /// Hears for this time, or until the connection ends.
    pub(crate) fn hear_for(&mut self, time: Duration) -> End {
        let deadline = Instant::now() + time;
        loop {
            if let Err(end) = self.next(deadline) {
                return end;
            }
        }
    }

    /// Asks for an answer to PING: everything before it has been read by then.
    pub(crate) fn sync(&mut self) -> Verdict {
        self.send(frame(kind::PING, 0, 0, b"in order"))?;
        let heard = self.hear(|this| this.pongs.iter().any(|pong| pong == b"in order"));
        self.pongs.clear();
        heard.map_err(|end| format!("PING was not answered: {end:?}, GOAWAY {:?}", self.goaway))
    }
}

/// Whether an answer of HTTP/1 ends with its connection.
pub(crate) fn until_close(answer: &[u8]) -> bool {
    matches!(
        parse(answer, Side::Answer { to_head: false }, Some(End::Closed)),
        Parse::Whole(message, _) if message.framing == Framing::Close
    )
}
