//! Who a node is, as far as its connection proves it. What it says of itself has to agree.

use std::sync::Arc;

use tonic::{Request, Status};

use crate::access::nodes::Member;

/// Who is at the other end of a connection to the nodes' port.
#[derive(Debug, Clone)]
pub enum NodeIdentity {
    /// It showed a certificate.
    Member(Arc<Member>),
    /// It came in the clear, where that is allowed, and is what it says.
    Plain,
    /// It has shown nothing, and may join.
    Nobody,
}

/// Whose a call is.
#[derive(Debug, Clone)]
pub(super) struct Whose(Option<Arc<Member>>);

impl Whose {
    /// By the connection that a call came over.
    pub(super) fn of<T>(request: &Request<T>) -> Self {
        match request.extensions().get::<NodeIdentity>() {
            Some(NodeIdentity::Member(member)) => Self(Some(Arc::clone(member))),
            _ => Self(None),
        }
    }

    /// Whether a node is who it says.
    pub(super) fn check(&self, node_id: &str) -> Result<(), Status> {
        match &self.0 {
            Some(member) if member.node_id != node_id => Err(Status::permission_denied(format!(
                "the certificate is that of node {:?}, not of {node_id:?}",
                member.node_id
            ))),
            _ => Ok(()),
        }
    }
}
