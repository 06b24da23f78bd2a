//! The wire contract of Weir: messages and services compiled from `weir/v1/*.proto`.
//!
//! These types stop at one door in each crate: the inside of a plane works with `weir_snapshot` and its own
//! types, never with protobuf.

#![allow(missing_docs, clippy::all)]

/// Package `weir.v1`.
pub mod v1 {
    tonic::include_proto!("weir.v1");

    /// The encoded `FileDescriptorSet` of the package, for server reflection.
    pub const DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/weir_v1.bin"));
}

/// The version of the snapshot and batch formats that this build speaks. A message of another version is
/// refused with a reason, and the stream that carried it goes on.
pub const FORMAT: u32 = 1;

/// What a join token begins with: `weirjoin_SECRET_FINGERPRINT`, each 64 hexadecimal digits; the fingerprint is the SHA-256 of
/// the certificate of the fleet's authority.
pub const JOIN_PREFIX: &str = "weirjoin_";

/// The name in the certificate of the nodes' port, by whatever address it is reached: it is the fleet's own authority that
/// signs, and the name says which of its certificates this is.
pub const SERVER_NAME: &str = "control-plane.weir.internal";
