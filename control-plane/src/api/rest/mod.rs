//! REST: JSON over HTTP.

pub mod reports;
