//! The gRPC services of the admin port.

pub mod admin;
pub mod reports;
