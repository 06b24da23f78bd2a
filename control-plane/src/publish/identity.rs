//! A node's identity, as proven by its connection. The id in its messages must match.

use std::sync::Arc;

use tonic::{Request, Status};

use super::cleartext::Cleartext;
use crate::{access::nodes::Member, current::Current};

/// Identity of the peer at the nodes' port.
#[derive(Debug, Clone)]
pub enum NodeIdentity {
    /// Authenticated by its certificate.
    Member(Arc<Member>),
    /// Connected without TLS; its node id is trusted while that is allowed.
    Plain(Cleartext),
    /// Runs on this machine as the same user; its node id is trusted.
    Local,
    /// Not authenticated; it may only join.
    Unauthenticated,
}

/// The caller of an RPC.
#[derive(Debug, Clone)]
pub(super) struct Whose {
    member: Option<Arc<Member>>,
    cleartext: Option<Cleartext>,
}

impl Whose {
    /// From the connection of a request.
    pub(super) fn of<T>(request: &Request<T>) -> Self {
        match request.extensions().get::<NodeIdentity>() {
            Some(NodeIdentity::Member(member)) => Self { member: Some(Arc::clone(member)), cleartext: None },
            Some(NodeIdentity::Plain(cleartext)) => Self { member: None, cleartext: Some(cleartext.clone()) },
            _ => Self { member: None, cleartext: None },
        }
    }

    /// Returns why this revision may not be sent to the node; `None` if it may. Checked before anything is sent, so
    /// that a node that connected without TLS receives no private key that was added later.
    pub(super) fn refusal(&self, current: &Current) -> Option<Status> {
        let reason = self.cleartext.as_ref()?.refusal_with(current)?;
        Some(Status::unauthenticated(reason))
    }

    /// Waits until the node must be rejected.
    pub(super) fn closed(&self) -> impl Future<Output = ()> + Send + 'static {
        let cleartext = self.cleartext.clone();
        async move {
            match cleartext {
                Some(cleartext) => cleartext.closed().await,
                None => std::future::pending().await,
            }
        }
    }

    /// Whether the node's id is proven, so that only one process may use it at a time.
    pub(super) fn is_exclusive(&self) -> bool {
        self.member.is_some()
    }

    /// Checks that the node's id matches its certificate.
    pub(super) fn check(&self, node_id: &str) -> Result<(), Status> {
        match &self.member {
            Some(member) if member.node_id != node_id => Err(Status::permission_denied(format!(
                "the certificate is that of node {:?}, not of {node_id:?}",
                member.node_id
            ))),
            _ => Ok(()),
        }
    }
}
