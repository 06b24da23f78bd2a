//! One worker's connections to one backend: unused HTTP/1 connections and shared HTTP/2 connections.

pub(crate) mod frames;
mod idle;
pub(crate) mod shared;

use self::{idle::Idle, shared::Shared};

/// All that a worker has open to a backend and that no request owns.
#[derive(Default)]
pub(crate) struct Connections {
    pub(crate) idle: Idle,
    pub(crate) shared: Shared,
}
