//! Admits nodes and renews their certificates.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use weir_admin_api::NodeTokenState;

use super::{Member, NodeAccess, is_node_id, state};
use crate::{
    access::{
        ca::{CaError, Issued},
        token::{is_same, sha256},
    },
    store::{Issuing, NodeCertificate, StoreError, WriteStore},
    time::now_ms,
};

/// Why a node is not admitted.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// The token is invalid or belongs to another fleet.
    #[error("not a join token of this fleet; create one with `weir node-tokens create`")]
    NotThere,
    /// The token has expired, was revoked, or was used up.
    #[error("join token {0} is {1}; create another one with `weir node-tokens create`")]
    Ended(i64, NodeTokenState),
    /// The node is revoked.
    #[error("node {0:?} is revoked; `weir nodes allow` lets it join again")]
    Revoked(String),
    /// The token is bound to other node ids.
    #[error("join token {0} is not for node {1:?}: it is bound to other node ids")]
    Bound(i64, String),
    /// Another process is connected with the node's id.
    #[error(
        "another process is connected as node {0:?}; use another --node-id, or permit this process with \
         `weir nodes allow {0}`"
    )]
    Taken(String),
    /// The request is invalid.
    #[error("{0}")]
    Invalid(String),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The certificate cannot be created.
    #[error(transparent)]
    Ca(CaError),
}

/// A process that wants to join.
#[derive(Debug, Clone, Copy)]
pub struct Joiner<'a> {
    /// Node id that it requests.
    pub node_id: &'a str,
    /// Public key for the certificate.
    pub public_key: &'a [u8],
    /// Whether another process is connected with this id.
    pub is_taken: bool,
}

impl NodeAccess {
    /// Admits a node and issues a certificate for its key.
    ///
    /// # Errors
    /// The token is not valid for this node, the node is revoked, another process uses the id, or the request is
    /// invalid.
    pub async fn join(&self, text: &str, joiner: Joiner<'_>) -> Result<Issued, JoinError> {
        let Joiner { node_id, public_key, is_taken } = joiner;
        let secret = self.secret(text).ok_or(JoinError::NotThere)?;
        let hash = sha256(secret.as_bytes());
        let (this, node_id, public_key) = (self.clone(), node_id.to_owned(), public_key.to_vec());
        let joined = self
            .shared
            .store
            .change(|db| async move { this.join_with(&db, &hash, &node_id, &public_key, is_taken).await });
        joined.await
    }

    async fn join_with(
        &self,
        db: &WriteStore,
        hash: &[u8; 32],
        node_id: &str,
        public_key: &[u8],
        is_taken: bool,
    ) -> Result<Issued, JoinError> {
        let _one = self.shared.changing.lock().await;
        let found = self.book(|book| book.tokens.iter().find(|token| is_same(&token.hash, hash)).cloned());
        let token = found.ok_or(JoinError::NotThere)?;
        let state = state(&token, now_ms());
        if state != NodeTokenState::Active {
            return Err(JoinError::Ended(token.id, state));
        }
        if !token.node_ids.is_empty() && !token.node_ids.iter().any(|id| id == node_id) {
            return Err(JoinError::Bound(token.id, node_id.to_owned()));
        }
        let mut issuing = Issuing { token: Some(token.id), uses_permit: false };
        if is_taken {
            let until = self.book(|book| book.permits.get(node_id).copied());
            issuing.uses_permit = until.is_some_and(|until| until > now_ms());
            // Checked last, because this error reveals that the node exists.
            if !issuing.uses_permit && !self.is_revoked(node_id) {
                return Err(JoinError::Taken(node_id.to_owned()));
            }
        }
        self.issue(db, node_id, public_key, issuing).await
    }

    /// Issues the next certificate of a member.
    ///
    /// # Errors
    /// The node is revoked, or the request is invalid.
    pub async fn renew(&self, member: &Member, public_key: &[u8]) -> Result<Issued, JoinError> {
        let (this, node_id, public_key) = (self.clone(), member.node_id.clone(), public_key.to_vec());
        let renewed = self.shared.store.change(|db| async move {
            let _one = this.shared.changing.lock().await;
            this.issue(&db, &node_id, &public_key, Issuing::default()).await
        });
        renewed.await
    }

    async fn issue(
        &self,
        db: &WriteStore,
        node_id: &str,
        public_key: &[u8],
        issuing: Issuing,
    ) -> Result<Issued, JoinError> {
        let token = issuing.token;
        if !is_node_id(node_id) {
            return Err(JoinError::Invalid("node_id must be 1 to 253 visible characters".into()));
        }
        if self.book(|book| book.revoked.contains(node_id)) {
            return Err(JoinError::Revoked(node_id.to_owned()));
        }
        let issued =
            self.shared.ca.issue(node_id, public_key, self.shared.lasts).map_err(|error| match error {
                CaError::NoKey => JoinError::Invalid(error.to_string()),
                error => JoinError::Ca(error),
            })?;
        let fingerprint = sha256(&issued.certificate);
        let certificate = NodeCertificate {
            fingerprint: fingerprint.to_vec(),
            node_id: node_id.to_owned(),
            issued_ms: issued.issued_ms,
            expires_ms: issued.expires_ms,
        };
        if !db.add_node_certificate(&certificate, issuing).await? {
            return Err(JoinError::Ended(token.unwrap_or_default(), NodeTokenState::UsedUp));
        }
        let ended = CancellationToken::new();
        let member = Member { node_id: node_id.to_owned(), expires_ms: issued.expires_ms, ended };
        self.edit(|book| {
            book.certificates.insert(fingerprint, Arc::new(member));
            if issuing.uses_permit {
                book.permits.remove(node_id);
                book.shared.insert(node_id.to_owned());
            }
            for used in book.tokens.iter_mut().filter(|used| Some(used.id) == token) {
                used.used += 1;
                used.uses_left = used.uses_left.map(|left| left - 1);
            }
        });
        Ok(issued)
    }
}

#[cfg(test)]
mod tests {
    use std::task::Poll;

    use super::*;
    use crate::{
        access::nodes::{Known, NewNodeToken},
        secrets::Vault,
        store::Store,
    };
    use std::time::Duration;

    #[tokio::test]
    async fn memory_and_database_agree_when_a_node_disconnects_during_join_or_renewal() {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}", folder.path().join("weir.db").display());
        let store = Store::open(&url).await.unwrap();
        let vault = Vault::new(&[1; 32]).unwrap();
        let day = Duration::from_secs(86_400);
        let nodes = NodeAccess::open(store.clone(), &vault, day).await.unwrap();
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        let key = key.public_key_raw();
        let (text, _) = nodes.create_token(NewNodeToken::default(), "test").await.unwrap();
        let member = Member { node_id: "renewing".into(), expires_ms: 0, ended: CancellationToken::new() };
        let mut dropped = 0;
        for renews in [false, true] {
            for polls in 1.. {
                let node_id = format!("node-{polls}");
                let mut call: std::pin::Pin<Box<dyn Future<Output = Result<Issued, JoinError>> + Send>> =
                    if renews {
                        Box::pin(nodes.renew(&member, key))
                    } else {
                        Box::pin(
                            nodes.join(&text, Joiner { node_id: &node_id, public_key: key, is_taken: false }),
                        )
                    };
                let mut left = polls;
                let done = std::future::poll_fn(|context| match call.as_mut().poll(context) {
                    Poll::Ready(done) => Poll::Ready(Some(done)),
                    Poll::Pending => {
                        left -= 1;
                        if left == 0 { Poll::Ready(None) } else { Poll::Pending }
                    }
                })
                .await;
                drop(call);
                if let Some(done) = done {
                    done.unwrap();
                    break;
                }
                dropped += 1;
            }
        }
        assert!(dropped >= 2, "{dropped}");
        store.close().await;
        let store = Store::open(&url).await.unwrap();
        let stored = store.node_access(now_ms()).await.unwrap().certificates;
        // Every call took effect, although its caller was dropped.
        assert_eq!(stored.len(), dropped + 2);
        for certificate in &stored {
            let fingerprint = certificate.fingerprint.as_slice().try_into().unwrap();
            assert!(matches!(nodes.known(&fingerprint), Known::Member(_)), "{}", certificate.node_id);
        }
        assert_eq!(store.node_tokens().await.unwrap(), nodes.tokens());
    }
}
