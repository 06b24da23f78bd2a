//! The gRPC services of the admin port.

mod access;
pub mod admin;
pub mod reports;
