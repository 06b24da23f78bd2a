//! The admin port. REST and gRPC translate between the protocol and the use cases; only access control (`access`) is
//! decided here.

pub(crate) mod access;
pub mod dashboard;
pub mod grpc;
mod ports;
pub mod rest;

pub(crate) use self::ports::Ports;
