//! Admission of nodes. A node joins with a token that an operator created, and receives a certificate for its own key.
//! It connects with that certificate and renews it before it expires. The token contains the fingerprint of the fleet's
//! certificate authority, so that the node can verify the control plane before it sends anything.

mod join;
mod join_token;
mod revocation;

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use anyhow::Context as _;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub use self::{
    join::{JoinError, Joiner},
    join_token::{NewNodeToken, state},
    revocation::Allowed,
};
use super::ca::Ca;
use crate::{
    secrets::Vault,
    store::{NodeCertificate, Store, StoredCa, StoredNodeAccess, StoredNodeToken},
    time::now_ms,
};

/// Kind and name of the authority's sealed key.
const SEALED_AS: (&str, &str) = ("fleet_ca", "key");

/// How long an ended join token is kept.
const KEPT_MS: i64 = 30 * 24 * 3600 * 1000;

/// A node, authenticated by its certificate.
#[derive(Debug)]
pub struct Member {
    /// Node id.
    pub node_id: String,
    /// Expiry time of the certificate, milliseconds since the Unix epoch.
    pub expires_ms: i64,
    /// Cancelled when the node is revoked.
    pub ended: CancellationToken,
}

/// Whether a text is a valid node id.
fn is_node_id(text: &str) -> bool {
    !text.is_empty() && text.len() <= 253 && weir_snapshot::is_visible(text)
}

/// The certificate authority, join tokens and members. Cheap to clone.
#[derive(Clone)]
pub struct NodeAccess {
    shared: Arc<Shared>,
}

struct Shared {
    store: Store,
    ca: Arc<Ca>,
    /// Validity of nodes' certificates.
    lasts: Duration,
    book: RwLock<Book>,
    changing: tokio::sync::Mutex<()>,
    /// Whether there is or was a join token or a member, for subscribers.
    members: watch::Sender<bool>,
}

#[derive(Default)]
struct Book {
    certificates: HashMap<[u8; 32], Arc<Member>>,
    revoked: HashSet<String>,
    tokens: Vec<StoredNodeToken>,
    /// Ids with which one more process may join, and until when.
    permits: HashMap<String, i64>,
    /// Ids that several processes may use at the same time.
    shared: HashSet<String>,
    /// Nodes whose counts are excluded from reports.
    excluded: HashSet<String>,
}

/// The owner of a certificate.
#[derive(Debug, Clone)]
pub enum Known {
    /// A member.
    Member(Arc<Member>),
    /// A revoked node.
    Revoked(String),
    /// Unknown: the database is another one, or the node was revoked and allowed again.
    Unknown,
}

impl NodeAccess {
    /// Reads admission data, and creates the certificate authority if there is none.
    ///
    /// # Errors
    /// The database failed, or the authority's key cannot be opened.
    pub async fn open(store: Store, vault: &Vault, lasts: Duration) -> anyhow::Result<Self> {
        let (kind, name) = SEALED_AS;
        let stored = match store.fleet_ca().await? {
            Some(stored) => stored,
            None => {
                let ca = Ca::new()?;
                let sealed_key = vault.seal(kind, name, ca.key())?;
                let new = StoredCa { certificate: ca.certificate().to_vec(), sealed_key };
                store.change(|db| async move { db.add_fleet_ca(&new).await }).await?;
                store
                    .fleet_ca()
                    .await?
                    .context("the database did not store the fleet's certificate authority")?
            }
        };
        let key = vault.open(kind, name, &stored.sealed_key).context(
            "the key of the fleet's certificate authority cannot be decrypted; check --secrets-key-file or WEIR_SECRETS_KEY",
        )?;
        let ca = Ca::read(stored.certificate, &key)
            .context("the fleet's certificate authority in the database is invalid")?;
        let now = now_ms();
        let StoredNodeAccess { certificates, revoked, permits, excluded } = store.node_access(now).await?;
        let mut book = Book {
            tokens: store.node_tokens().await?,
            revoked: revoked.into_iter().collect(),
            excluded: excluded.into_iter().collect(),
            ..Book::default()
        };
        for permit in permits {
            if let Some(expires_ms) = permit.expires_ms {
                book.permits.insert(permit.node_id.clone(), expires_ms);
            }
            if permit.is_shared {
                book.shared.insert(permit.node_id);
            }
        }
        for NodeCertificate { fingerprint, node_id, expires_ms, .. } in certificates {
            let fingerprint = fingerprint
                .as_slice()
                .try_into()
                .context("the database contains an invalid node certificate")?;
            let ended = CancellationToken::new();
            book.certificates.insert(fingerprint, Arc::new(Member { node_id, expires_ms, ended }));
        }
        let changing = tokio::sync::Mutex::default();
        let members = watch::Sender::new(!book.tokens.is_empty() || !book.certificates.is_empty());
        let (ca, book) = (Arc::new(ca), RwLock::new(book));
        Ok(Self { shared: Arc::new(Shared { store, ca, lasts, book, changing, members }) })
    }

    /// The fleet's certificate authority.
    pub fn ca(&self) -> &Arc<Ca> {
        &self.shared.ca
    }

    fn book<T>(&self, look: impl FnOnce(&Book) -> T) -> T {
        look(&self.shared.book.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn edit<T>(&self, edit: impl FnOnce(&mut Book) -> T) -> T {
        edit(&mut self.shared.book.write().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether nodes join with tokens: there is or was a join token or a member.
    pub fn has_members(&self) -> bool {
        *self.shared.members.borrow()
    }

    /// Receives a change when the first join token is created.
    pub(crate) fn members(&self) -> watch::Receiver<bool> {
        self.shared.members.subscribe()
    }

    /// Returns all stored join tokens.
    pub fn tokens(&self) -> Vec<StoredNodeToken> {
        self.book(|book| book.tokens.clone())
    }

    /// Returns the owner of a certificate.
    pub fn known(&self, fingerprint: &[u8; 32]) -> Known {
        self.book(|book| match book.certificates.get(fingerprint) {
            Some(member) if book.revoked.contains(&member.node_id) => Known::Revoked(member.node_id.clone()),
            Some(member) => Known::Member(Arc::clone(member)),
            None => Known::Unknown,
        })
    }

    /// Whether a node is revoked.
    pub fn is_revoked(&self, node_id: &str) -> bool {
        self.book(|book| book.revoked.contains(node_id))
    }

    /// Whether several processes may be connected with this node id.
    pub fn is_shared(&self, node_id: &str) -> bool {
        self.book(|book| book.shared.contains(node_id))
    }

    /// Whether a node's counts are excluded from reports.
    pub fn is_excluded(&self, node_id: &str) -> bool {
        self.book(|book| book.excluded.contains(node_id))
    }

    /// Deletes expired tokens and certificates.
    pub(super) async fn keep_once(&self) {
        let (now, forgotten) = (now_ms(), now_ms() - KEPT_MS);
        let kept = self.shared.store.change(|db| async move { db.keep_node_access(now, forgotten).await });
        if let Err(error) = kept.await {
            tracing::error!(%error, "cannot delete expired join tokens and certificates");
            return;
        }
        self.edit(|book| {
            book.certificates.retain(|_, member| member.expires_ms > now);
            book.permits.retain(|_, until| *until > now);
            book.tokens
                .retain(|token| token.revoked_ms.or(token.expires_ms).is_none_or(|ended| ended >= forgotten));
        });
    }
}
