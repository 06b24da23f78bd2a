//! The admin port: REST and gRPC translate, nothing is decided here.

pub mod dashboard;
pub mod grpc;
pub mod rest;
