//! The admin port: REST and gRPC translate, nothing is decided here but who may ask (`access`).

pub(crate) mod access;
pub mod dashboard;
pub mod grpc;
mod ports;
pub mod rest;

pub(crate) use self::ports::Ports;
