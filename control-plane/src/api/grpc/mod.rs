//! The gRPC services of the admin port. Each RPC reads its request, calls one use case, and writes its response: one
//! module per noun. [`service`] lists the RPCs of `Admin`.

mod audit;
mod backends;
mod certificates;
mod config;
mod explain;
mod failure;
mod names;
mod nodes;
mod page;
mod pools;
pub mod reports;
mod revisions;
mod routes;
mod service;
mod status;
mod tail;
mod tokens;
mod values;

pub use self::service::Admin;

/// Returns a text that was given: in protobuf, an empty text and an absent one are the same.
fn given(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}
