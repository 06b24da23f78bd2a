//! The admin port: REST and gRPC translate, nothing is decided here.

pub mod grpc;
pub mod rest;

/// What the handlers work with.
#[derive(Clone)]
pub struct AppState {
    /// The statistics.
    pub stats: crate::stats::Stats,
}
