//! Whether nodes may connect without TLS.
//!
//! A loopback address proves nothing, because every local process can connect. While there is nothing to protect this
//! does no harm, and a first try needs no setup: the admin port is open to the same processes. Once there is an admin
//! token, a join token, or a certificate with its private key, nodes must authenticate on loopback too.

use std::sync::Arc;

use crate::{
    access::{Access, nodes::NodeAccess},
    current::{Current, Watch},
};

/// When nodes may connect without TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// Never: the port is reachable from other machines, or `--nodes-tls` was given.
    Never,
    /// On a loopback port, while there is nothing to protect.
    WhileOpen,
    /// Always: `--insecure` was given.
    Always,
}

/// Decides whether nodes may connect without TLS, and observes changes. Cheap to clone.
#[derive(Clone)]
pub struct Cleartext {
    shared: Arc<Shared>,
}

struct Shared {
    rule: Rule,
    access: Access,
    nodes: NodeAccess,
    current: Watch,
    /// Instructions for a node that is rejected.
    instead: String,
}

impl std::fmt::Debug for Cleartext {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Cleartext").field(&self.shared.rule).finish()
    }
}

impl Cleartext {
    /// Creates the check for a rule. `socket` is the `--control-plane` value of the local socket, if it is open.
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

    /// Returns why a node may not connect without TLS; `None` if it may.
    pub fn refusal(&self) -> Option<String> {
        let current = Arc::clone(&self.shared.current.borrow());
        self.refusal_with(&current)
    }

    /// Like [`refusal`](Self::refusal), for the time when this revision is current.
    pub(super) fn refusal_with(&self, current: &Current) -> Option<String> {
        let Shared { rule, access, nodes, instead, .. } = &*self.shared;
        let reason = match rule {
            Rule::Always => return None,
            Rule::Never => "this port accepts nodes over TLS only",
            Rule::WhileOpen if access.is_needed() => "there are admin tokens, so nodes must authenticate",
            Rule::WhileOpen if nodes.has_members() => "there are join tokens, so nodes must authenticate",
            Rule::WhileOpen if !current.config.certificates.is_empty() => {
                "there are certificates with private keys, so nodes must authenticate"
            }
            Rule::WhileOpen => return None,
        };
        Some(format!("{reason}: {instead}"))
    }

    /// Waits until nodes may no longer connect without TLS.
    pub async fn closed(self) {
        let mut current = self.shared.current.clone();
        let (mut access, mut nodes) = (self.shared.access.needed(), self.shared.nodes.members());
        while self.refusal().is_none() {
            let changed = tokio::select! {
                changed = current.changed() => changed,
                changed = access.changed() => changed,
                changed = nodes.changed() => changed,
            };
            // The control plane is shutting down and closes every stream itself.
            if changed.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }
}
