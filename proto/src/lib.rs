//! Weir's gRPC contract: messages and services compiled from `weir/v1/*.proto`.
//!
//! Each crate converts these types at one place. The rest of a plane works with `weir_snapshot` and its own types,
//! never with protobuf.

#![allow(missing_docs, clippy::all)]

/// Package `weir.v1`.
pub mod v1 {
    tonic::include_proto!("weir.v1");

    /// The encoded `FileDescriptorSet` of the package, for server reflection.
    pub const DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/weir_v1.bin"));
}

/// Version of the snapshot and batch formats. A message of another version is rejected with a reason; its stream
/// continues.
pub const FORMAT: u32 = 1;

/// Prefix of join tokens: `weirjoin_SECRET_FINGERPRINT`. Both parts are 64 hexadecimal digits; the fingerprint is the
/// SHA-256 of the fleet authority's certificate.
pub const JOIN_PREFIX: &str = "weirjoin_";

/// The name in the certificate of the nodes' port, whatever its address: the fleet's own authority signs it, and the
/// name identifies the control plane's certificate.
pub const SERVER_NAME: &str = "control-plane.weir.internal";
