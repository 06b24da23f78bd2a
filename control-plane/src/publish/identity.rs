//! Who a node is, as far as its connection proves it. What it says of itself has to agree.

use std::sync::Arc;

use tonic::{Request, Status};

use super::cleartext::Cleartext;
use crate::{access::nodes::Member, current::Current};

/// Who is at the other end of a connection to the nodes' port.
#[derive(Debug, Clone)]
pub enum NodeIdentity {
    /// It showed a certificate.
    Member(Arc<Member>),
    /// It came in the clear, and is what it says for as long as that is allowed.
    Plain(Cleartext),
    /// It runs on this machine as the same user, and is what it says.
    Local,
    /// It has shown nothing, and may join.
    Nobody,
}

/// Whose a call is.
#[derive(Debug, Clone)]
pub(super) struct Whose {
    member: Option<Arc<Member>>,
    cleartext: Option<Cleartext>,
}

impl Whose {
    /// By the connection that a call came over.
    pub(super) fn of<T>(request: &Request<T>) -> Self {
        match request.extensions().get::<NodeIdentity>() {
            Some(NodeIdentity::Member(member)) => Self { member: Some(Arc::clone(member)), cleartext: None },
            Some(NodeIdentity::Plain(cleartext)) => Self { member: None, cleartext: Some(cleartext.clone()) },
            _ => Self { member: None, cleartext: None },
        }
    }

    /// Why the node may not be sent what this revision needs; `None`: it may. Asked before anything is sent, so that no
    /// key goes to a node that connected in the clear before there was one.
    pub(super) fn refusal(&self, current: &Current) -> Option<Status> {
        let reason = self.cleartext.as_ref()?.refusal_with(current)?;
        Some(Status::unauthenticated(reason))
    }

    /// Waits until there is a refusal.
    pub(super) fn closed(&self) -> impl Future<Output = ()> + Send + 'static {
        let cleartext = self.cleartext.clone();
        async move {
            match cleartext {
                Some(cleartext) => cleartext.closed().await,
                None => std::future::pending().await,
            }
        }
    }

    /// Whether the node's id is proved, so that one process at a time may use it.
    pub(super) fn is_exclusive(&self) -> bool {
        self.member.is_some()
    }

    /// Whether a node is who it says.
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
