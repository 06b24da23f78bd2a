//! How an answer ended, and which kind it was: an answer with an end of its own, a tunnel, or a stream.
//!
//! Tunnels and streams last as long as both sides like, so their duration says nothing about how fast a backend is. They
//! are counted apart from the latency of answers.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use weir_http::{GrpcMessages, ResponseHead};
use weir_proto::v1;

/// A call whose answer stays open for so long after its first message is a stream, whatever it sends later.
const UNARY_TAIL: Duration = Duration::from_secs(1);

/// Which side cut an answer before its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cut {
    /// The client left or stopped reading.
    Client,
    /// The backend broke off or stalled.
    Backend,
    /// Weir: a timeout of the whole request or of a silent tunnel passed, or the node stopped.
    Node,
}

impl Cut {
    /// Each with its name in metrics.
    pub(crate) const ALL: [(Self, &'static str); 3] =
        [(Self::Client, "client"), (Self::Backend, "backend"), (Self::Node, "node")];

    pub(crate) fn outcome(cut: Option<Self>) -> v1::Outcome {
        match cut {
            None => v1::Outcome::Finished,
            Some(Self::Client) => v1::Outcome::CutByClient,
            Some(Self::Backend) => v1::Outcome::CutByBackend,
            Some(Self::Node) => v1::Outcome::CutByNode,
        }
    }
}

/// A request that is no plain answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StreamKind {
    Tunnel,
    Events,
    Grpc,
}

impl StreamKind {
    pub(crate) fn kind(streamed: Option<Self>) -> v1::AnswerKind {
        match streamed {
            None => v1::AnswerKind::Answer,
            Some(Self::Tunnel) => v1::AnswerKind::Tunnel,
            Some(Self::Events) => v1::AnswerKind::EventStream,
            Some(Self::Grpc) => v1::AnswerKind::GrpcStream,
        }
    }
}

/// The kind of a response, as far as it is known while it passes.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) enum ResponseKind {
    #[default]
    Answer,
    Tunnel,
    Events,
    /// A stream or not: that shows in its messages.
    Grpc {
        messages: GrpcMessages,
        first: Option<Instant>,
    },
}

impl ResponseKind {
    pub(crate) fn of(head: &ResponseHead) -> Self {
        let content_type = head.get_named(b"content-type").unwrap_or_default();
        let is = |media: &[u8]| {
            content_type.get(..media.len()).is_some_and(|start| start.eq_ignore_ascii_case(media))
        };
        if is(b"text/event-stream") || is(b"multipart/x-mixed-replace") {
            Self::Events
        } else if is(b"application/grpc") && !is(b"application/grpc-web-text") {
            Self::Grpc { messages: GrpcMessages::default(), first: None }
        } else {
            Self::Answer
        }
    }

    /// A piece of the body.
    #[inline]
    pub(crate) fn read(&mut self, piece: &[u8]) {
        if let Self::Grpc { messages, first } = self {
            messages.read(piece);
            if first.is_none() && messages.whole() > 0 {
                *first = Some(Instant::now());
            }
        }
    }

    /// The kind of a response that has ended.
    pub(crate) fn ended(&self, is_cut: bool) -> Option<StreamKind> {
        match self {
            Self::Answer => None,
            Self::Tunnel => Some(StreamKind::Tunnel),
            Self::Events => Some(StreamKind::Events),
            Self::Grpc { messages, first } => {
                // A unary answer is one message, and ends with it.
                let stayed = is_cut && messages.is_between()
                    || first.is_some_and(|first| messages.is_between() && first.elapsed() > UNARY_TAIL);
                (messages.whole() > 1 || stayed).then_some(StreamKind::Grpc)
            }
        }
    }
}

/// How many answers were cut, by side. Most rows have none, and so have no more than a null pointer.
#[derive(Debug, Clone, Default)]
pub(crate) struct Cuts(Option<Box<v1::Cut>>);

impl Cuts {
    #[cold]
    pub(crate) fn count(&mut self, cut: Cut) {
        let cuts = self.0.get_or_insert_default();
        *match cut {
            Cut::Client => &mut cuts.client,
            Cut::Backend => &mut cuts.backend,
            Cut::Node => &mut cuts.node,
        } += 1;
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        let Some(other) = &other.0 else { return };
        let sum = self.0.get_or_insert_default();
        let v1::Cut { client, backend, node } = **other;
        sum.client += client;
        sum.backend += backend;
        sum.node += node;
    }

    pub(crate) fn to_wire(&self) -> Option<v1::Cut> {
        self.0.as_deref().copied()
    }

    pub(crate) fn from_wire(cut: Option<v1::Cut>) -> Self {
        Self(cut.map(Box::new))
    }
}

/// How long tunnels and streams lasted. Most rows have none.
#[derive(Debug, Clone, Default)]
pub(crate) struct Durations(Option<Box<(Histogram<u64>, u64)>>);

impl Durations {
    #[cold]
    pub(crate) fn record(&mut self, micros: u64) {
        let (histogram, max) =
            &mut **self.0.get_or_insert_with(|| Box::new((super::recorder::histogram(), 0)));
        let _ = histogram.record(micros);
        *max = micros.max(*max);
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        match (&mut self.0, &other.0) {
            (Some(sum), Some(other)) => {
                let _ = sum.0.add(&other.0);
                sum.1 = sum.1.max(other.1);
            }
            (sum @ None, Some(other)) => *sum = Some(other.clone()),
            (_, None) => {}
        }
    }

    /// The histogram, and the longest in microseconds.
    pub(crate) fn get(&self) -> Option<(&Histogram<u64>, u64)> {
        self.0.as_deref().map(|(histogram, max)| (histogram, *max))
    }

    pub(crate) fn new(histogram: Histogram<u64>, max: u64) -> Self {
        Self(Some(Box::new((histogram, max))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_side_is_counted_by_itself_and_sums_are_sums() {
        let mut sum = Cuts::default();
        assert!(sum.to_wire().is_none());
        for (times, (cut, _)) in (1..).zip(Cut::ALL) {
            let mut some = Cuts::default();
            (0..times).for_each(|_| some.count(cut));
            sum.merge(&Cuts::from_wire(some.to_wire()));
        }
        assert_eq!(sum.to_wire(), Some(v1::Cut { client: 1, backend: 2, node: 3 }));
    }

    fn grpc(pieces: &[&[u8]], first_is_old: bool, is_cut: bool) -> Option<StreamKind> {
        let mut kind = ResponseKind::Grpc { messages: GrpcMessages::default(), first: None };
        pieces.iter().for_each(|piece| kind.read(piece));
        if first_is_old && let ResponseKind::Grpc { first: Some(first), .. } = &mut kind {
            *first = first.checked_sub(UNARY_TAIL * 2).unwrap();
        }
        kind.ended(is_cut)
    }

    #[test]
    fn a_grpc_answer_is_a_stream_by_its_messages_or_by_staying_open() {
        const ONE: &[u8] = b"\0\0\0\0\x02ab";
        let stream = Some(StreamKind::Grpc);
        // Unary: an answer, an error without a message, and an answer that broke off in its message.
        assert_eq!(grpc(&[ONE], false, false), None);
        assert_eq!(grpc(&[], false, false), None);
        assert_eq!(grpc(&[b"\0\0\0\0\x02a"], false, true), None);
        // A stream: two messages; one and then a long silence; one or none and then a cut.
        assert_eq!(grpc(&[ONE, ONE], false, false), stream);
        assert_eq!(grpc(&[ONE], true, false), stream);
        assert_eq!(grpc(&[ONE], false, true), stream);
        assert_eq!(grpc(&[], false, true), stream);
    }
}
