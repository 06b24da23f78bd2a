//! Whether nodes may connect in the clear.
//!
//! A loopback address proves nothing: every local process has one. So long as there is nothing to protect, that does no
//! harm and a first try needs nothing: the admin port is open to the same processes. Once there is a token (an admin's, or
//! one to join with) or a certificate with its private key, nodes prove who they are on loopback too.

use std::sync::Arc;

use crate::{
    access::{Access, nodes::NodeAccess},
    current::{Current, Watch},
};

/// Where nodes may connect in the clear.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// Nowhere: the port is reachable from other machines, or `--nodes-tls` was given.
    Never,
    /// On a loopback port, while there is nothing to protect.
    WhileOpen,
    /// Everywhere: `--insecure` was given.
    Always,
}

/// Whether nodes may connect in the clear, now and from now on. Cheap to clone.
#[derive(Clone)]
pub struct Cleartext {
    shared: Arc<Shared>,
}

struct Shared {
    rule: Rule,
    access: Access,
    nodes: NodeAccess,
    current: Watch,
    /// What a node is told to do instead.
    instead: String,
}

impl std::fmt::Debug for Cleartext {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Cleartext").field(&self.shared.rule).finish()
    }
}

impl Cleartext {
    /// By the rule; `socket` is the `--control-plane` value of the local socket, where there is one.
    pub fn new(rule: Rule, access: Access, nodes: NodeAccess, current: Watch, socket: Option<&str>) -> Self {
        let join = "use --control-plane https://HOST:PORT with a join token (weir node-tokens create)";
        let instead = match socket {
            Some(socket) => {
                format!("on this machine and as the same user use --control-plane {socket}; elsewhere {join}")
            }
            None => join.to_owned(),
        };
        Self { shared: Arc::new(Shared { rule, access, nodes, current, instead }) }
    }

    /// Why a node may not connect in the clear; `None`: it may.
    pub fn refusal(&self) -> Option<String> {
        let current = Arc::clone(&self.shared.current.borrow());
        self.refusal_with(&current)
    }

    /// As [`refusal`](Self::refusal), once this revision is current.
    pub(super) fn refusal_with(&self, current: &Current) -> Option<String> {
        let Shared { rule, access, nodes, instead, .. } = &*self.shared;
        let reason = match rule {
            Rule::Always => return None,
            Rule::Never => "this port takes nodes over TLS only",
            Rule::WhileOpen if access.is_needed() => "there are admin tokens, so nodes must authenticate",
            Rule::WhileOpen if nodes.has_members() => "there are join tokens, so nodes must authenticate",
            Rule::WhileOpen if !current.config.certificates.is_empty() => {
                "there are certificates with private keys, so nodes must authenticate"
            }
            Rule::WhileOpen => return None,
        };
        Some(format!("{reason}: {instead}"))
    }

    /// Waits until a node may not connect in the clear any more.
    pub async fn closed(self) {
        let mut current = self.shared.current.clone();
        let (mut access, mut nodes) = (self.shared.access.needed(), self.shared.nodes.members());
        while self.refusal().is_none() {
            let changed = tokio::select! {
                changed = current.changed() => changed,
                changed = access.changed() => changed,
                changed = nodes.changed() => changed,
            };
            // The control plane stops, and ends every stream by itself.
            if changed.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }
}
