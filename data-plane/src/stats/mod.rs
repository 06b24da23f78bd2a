//! Exact traffic counts: recorded by each worker, merged by the node, delivered in batches that are kept until
//! they are acknowledged.

mod recorder;
mod reporter;

pub(crate) use self::{
    recorder::{Recorder, Sample, recorder},
    reporter::{Reporter, channel},
};
