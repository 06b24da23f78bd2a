//! The gRPC services of the admin port.

pub mod reports;
