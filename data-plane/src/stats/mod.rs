//! Exact traffic counts: recorded by each worker, merged by the node, delivered in batches that are kept until
//! they are acknowledged. And requests as they end, for whoever watches.

mod labels;
mod outcome;
mod pending;
mod recorder;
mod refusal;
mod reporter;
mod tail;

pub(crate) use self::{
    outcome::{Cut, ResponseKind},
    recorder::{Described, Recorder, Sample, recorder},
    reporter::{Reporter, channel},
    tail::{Events, Tap, tap},
};
