//! The gRPC services of the admin port.

mod access;
pub mod admin;
mod explain;
pub mod reports;
