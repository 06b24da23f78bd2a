//! Who may be a node. A node joins with a token that an operator made, and gets a certificate for a key of its own; with
//! that it comes from then on, and gets the next one in time. The token names the fleet's authority, so that the node knows
//! whom it speaks to before it says anything.

use std::{
    collections::{HashMap, HashSet},
    path::Path,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use anyhow::Context as _;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use weir_proto::JOIN_PREFIX;
use weir_snapshot::{
    Problem,
    units::{HumanDuration, UnitError},
};

use super::{
    AccessError,
    ca::{Ca, CaError, Issued},
    now_ms,
    token::{generate, hex, is_same, is_well_formed, sha256},
};
use crate::{
    secrets::Vault,
    store::{
        Issuing, NodeCertificate, Store, StoreError, StoredCa, StoredNodeAccess, StoredNodeToken, WriteStore,
    },
};

/// Join tokens that are good at a time.
const MOST_TOKENS: usize = 1000;

/// How long a join token is good where nothing is said.
const TTL: Duration = Duration::from_secs(24 * 3600);

/// The kind and name under which the authority's key is sealed.
const SEALED_AS: (&str, &str) = ("fleet_ca", "key");

/// How long a second process may join under a node's id once that was allowed.
const PERMIT: Duration = Duration::from_secs(3600);

/// Node ids that one join token may be bound to.
const MOST_BOUND: usize = 1000;

/// How long a join token that has ended is remembered.
const REMEMBERED_MS: i64 = 30 * 24 * 3600 * 1000;

/// Why a node is not let in.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// The token is none, or not of this fleet.
    #[error("this is no join token of this fleet; make one with `weir node-token create`")]
    NotThere,
    /// The token has ended.
    #[error("join token {0} is {1}; make another one with `weir node-token create`")]
    Ended(i64, &'static str),
    /// The node is revoked.
    #[error("node {0:?} is revoked; `weir node allow` lets it join again")]
    Revoked(String),
    /// The token is for other nodes.
    #[error("join token {0} is not for node {1:?}: it is bound to other node ids")]
    Bound(i64, String),
    /// Another process is that node.
    #[error(
        "another process is connected as node {0:?}; give this one another --node-id, or let it in beside that one with \
         `weir nodes allow {0}`"
    )]
    Taken(String),
    /// What the node sent makes no sense.
    #[error("{0}")]
    Invalid(String),
    /// Not the node's fault.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// No certificate can be made.
    #[error(transparent)]
    Ca(CaError),
}

/// A node by its certificate.
#[derive(Debug)]
pub struct Member {
    /// Its name.
    pub node_id: String,
    /// Until when the certificate is good.
    pub expires_ms: i64,
    /// It is revoked.
    pub ended: CancellationToken,
}

/// A new join token.
#[derive(Debug, Clone, Default)]
pub struct NewNodeToken {
    /// How long it is good; `None`: until it is revoked.
    pub ttl: Option<Duration>,
    /// How many nodes may join with it; `None`: any number.
    pub uses: Option<u32>,
    /// The node ids that it is for; none: any.
    pub node_ids: Vec<String>,
}

/// Whether a text can be a node's id.
fn is_node_id(text: &str) -> bool {
    !text.is_empty() && text.len() <= 253 && weir_snapshot::is_visible(text)
}

/// What an operator allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Allowed {
    /// A revoked node may join again.
    Rejoin,
    /// One more process may join under the id of a node that is connected, until then (milliseconds since the Unix epoch).
    Beside(i64),
}

/// A process that wants to join.
#[derive(Debug, Clone, Copy)]
pub struct Joiner<'a> {
    /// The node that it wants to be.
    pub node_id: &'a str,
    /// The public key that its certificate is to be for.
    pub public_key: &'a [u8],
    /// Another process is connected as that node.
    pub is_taken: bool,
}

impl NewNodeToken {
    /// As it is asked for: a day where nothing is said, `never` for ever.
    ///
    /// # Errors
    /// It is no duration, or no node could use it.
    pub fn read(ttl: Option<&str>, uses: Option<u32>, node_ids: Vec<String>) -> Result<Self, Problem> {
        let ttl = match ttl.filter(|text| !text.is_empty()) {
            None => Some(TTL),
            Some("never") => None,
            Some(text) => {
                let given: HumanDuration =
                    text.parse().map_err(|error: UnitError| Problem::new("ttl", error.to_string()))?;
                if given.0 < Duration::from_secs(1) {
                    return Err(Problem::new("ttl", "is less than a second; never: until it is revoked"));
                }
                Some(given.0)
            }
        };
        if uses == Some(0) {
            return Err(Problem::new("uses", "is 0: nobody could use it"));
        }
        if let Some(at) = node_ids.iter().position(|id| !is_node_id(id)) {
            return Err(Problem::new(
                format!("node_ids[{at}]"),
                "is not a node id: 1 to 253 visible characters",
            ));
        }
        if node_ids.len() > MOST_BOUND {
            return Err(Problem::new(
                "node_ids",
                format!("has {} ids, the limit is {MOST_BOUND}", node_ids.len()),
            ));
        }
        Ok(Self { ttl, uses, node_ids })
    }
}

/// Who may be a node. Cheap to clone.
#[derive(Clone)]
pub struct NodeAccess(Arc<Inner>);

struct Inner {
    store: Store,
    ca: Arc<Ca>,
    /// How long nodes' certificates last.
    lasts: Duration,
    book: RwLock<Book>,
    changing: tokio::sync::Mutex<()>,
    /// Whether there is a join token or a member, for those who wait for it.
    members: watch::Sender<bool>,
}

#[derive(Default)]
struct Book {
    certificates: HashMap<[u8; 32], Arc<Member>>,
    revoked: HashSet<String>,
    tokens: Vec<StoredNodeToken>,
    /// Ids under which one more process may join, and until when.
    permits: HashMap<String, i64>,
    /// Ids that several processes may use at a time.
    shared: HashSet<String>,
    /// Nodes whose counts are left out of reports.
    excluded: HashSet<String>,
}

/// What is known of a certificate.
#[derive(Debug, Clone)]
pub enum Known {
    /// It is this node's.
    Member(Arc<Member>),
    /// It was this node's, which is revoked.
    Revoked(String),
    /// It is nobody's: the database is another one than it was, or the node was revoked and allowed again.
    Nobody,
}

/// Why a join token is good for nothing any more.
pub fn ended(token: &StoredNodeToken, now_ms: i64) -> Option<&'static str> {
    if token.revoked_ms.is_some() {
        Some("revoked")
    } else if token.expires_ms.is_some_and(|at| at <= now_ms) {
        Some("expired")
    } else if token.uses_left.is_some_and(|left| left <= 0) {
        Some("used up")
    } else {
        None
    }
}

impl NodeAccess {
    /// Reads who may be a node, and makes the authority where there is none.
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
                store.fleet_ca().await?.context("the database does not keep the fleet's authority")?
            }
        };
        let key = vault.open(kind, name, &stored.sealed_key).context(
            "the key of the fleet's authority cannot be opened: is it the right --secrets-key-file or WEIR_SECRETS_KEY?",
        )?;
        let ca =
            Ca::read(stored.certificate, &key).context("the fleet's authority in the database is broken")?;
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
            let fingerprint = fingerprint.as_slice().try_into().context("a node's certificate is broken")?;
            let ended = CancellationToken::new();
            book.certificates.insert(fingerprint, Arc::new(Member { node_id, expires_ms, ended }));
        }
        let changing = tokio::sync::Mutex::default();
        let members = watch::Sender::new(!book.tokens.is_empty() || !book.certificates.is_empty());
        let (ca, book) = (Arc::new(ca), RwLock::new(book));
        Ok(Self(Arc::new(Inner { store, ca, lasts, book, changing, members })))
    }

    /// The fleet's authority.
    pub fn ca(&self) -> &Arc<Ca> {
        &self.0.ca
    }

    fn book<T>(&self, look: impl FnOnce(&Book) -> T) -> T {
        look(&self.0.book.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn edit<T>(&self, edit: impl FnOnce(&mut Book) -> T) -> T {
        edit(&mut self.0.book.write().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether nodes join: there is or was a join token, or a node that joined with one.
    pub fn has_members(&self) -> bool {
        *self.0.members.borrow()
    }

    /// Tells when the first join token is made.
    pub(crate) fn members(&self) -> watch::Receiver<bool> {
        self.0.members.subscribe()
    }

    /// Every join token that is remembered.
    pub fn tokens(&self) -> Vec<StoredNodeToken> {
        self.book(|book| book.tokens.clone())
    }

    /// Makes a join token; it is in the answer, and nowhere else from then on.
    ///
    /// # Errors
    /// There are too many, or the database failed.
    pub async fn create_token(
        &self,
        new: NewNodeToken,
        by: &str,
    ) -> Result<(String, StoredNodeToken), AccessError> {
        let (this, by) = (self.clone(), by.to_owned());
        self.0.store.change(|db| async move { this.create_token_with(&db, new, &by).await }).await
    }

    async fn create_token_with(
        &self,
        db: &WriteStore,
        new: NewNodeToken,
        by: &str,
    ) -> Result<(String, StoredNodeToken), AccessError> {
        let _one = self.0.changing.lock().await;
        let created_ms = now_ms();
        if self.book(|book| book.tokens.iter().filter(|token| ended(token, created_ms).is_none()).count())
            >= MOST_TOKENS
        {
            return Err(AccessError::Conflict(format!(
                "there are {MOST_TOKENS} join tokens; revoke some first"
            )));
        }
        let secret = generate(JOIN_PREFIX)?;
        let lasts =
            |ttl: Duration| created_ms.saturating_add(i64::try_from(ttl.as_millis()).unwrap_or(i64::MAX));
        let mut token = StoredNodeToken {
            id: 0,
            hash: sha256(secret.as_bytes()).to_vec(),
            created_ms,
            created_by: by.to_owned(),
            expires_ms: new.ttl.map(lasts),
            uses_left: new.uses.map(i64::from),
            used: 0,
            revoked_ms: None,
            node_ids: new.node_ids,
        };
        token.id = db.add_node_token(&token).await?;
        self.edit(|book| book.tokens.push(token.clone()));
        self.0.members.send_replace(true);
        tracing::info!(id = token.id, by, "join token made");
        Ok((format!("{secret}_{}", hex(&self.0.ca.fingerprint())), token))
    }

    /// Leaves a join token in a file for its owner alone, good until it is revoked; one that is there and good stays.
    ///
    /// # Errors
    /// The file cannot be written, or the database failed.
    pub async fn leave_token(&self, file: &Path) -> anyhow::Result<()> {
        let now = now_ms();
        let text = crate::private_file::token_to_replace(file, JOIN_PREFIX)?;
        let secret = self.secret(&text).map(str::to_owned);
        let is_good = |secret: String| {
            let hash = sha256(secret.as_bytes());
            self.book(|book| {
                book.tokens.iter().any(|token| is_same(&token.hash, &hash) && ended(token, now).is_none())
            })
        };
        if secret.is_some_and(is_good) {
            return Ok(());
        }
        let (text, token) = self.create_token(NewNodeToken::default(), "control-plane").await?;
        if let Err(error) = crate::private_file::write(file, &format!("{text}\n")) {
            self.revoke_token(token.id).await?;
            return Err(error.into());
        }
        Ok(())
    }

    /// The secret of a join token of this fleet.
    fn secret<'a>(&self, text: &'a str) -> Option<&'a str> {
        let (secret, fleet) = text.rsplit_once('_')?;
        let ours = hex(&self.0.ca.fingerprint());
        (is_well_formed(secret, JOIN_PREFIX) && is_same(fleet.as_bytes(), ours.as_bytes())).then_some(secret)
    }

    /// Ends a join token. Nodes that joined with it stay.
    ///
    /// # Errors
    /// No such token.
    pub async fn revoke_token(&self, id: i64) -> Result<(), AccessError> {
        let this = self.clone();
        self.0.store.change(|db| async move { this.revoke_token_with(&db, id).await }).await
    }

    async fn revoke_token_with(&self, db: &WriteStore, id: i64) -> Result<(), AccessError> {
        let _one = self.0.changing.lock().await;
        let now = now_ms();
        if !db.revoke_node_token(id, now).await? {
            return Err(AccessError::NotFound("join token", id.to_string()));
        }
        self.edit(|book| {
            book.tokens
                .iter_mut()
                .filter(|token| token.id == id)
                .for_each(|token| token.revoked_ms = Some(now))
        });
        Ok(())
    }

    /// Lets a node in: a certificate for its key.
    ///
    /// # Errors
    /// The token is good for nothing or for other nodes, the node is revoked, another process is that node, or what it
    /// sent makes no sense.
    pub async fn join(&self, text: &str, joiner: Joiner<'_>) -> Result<Issued, JoinError> {
        let Joiner { node_id, public_key, is_taken } = joiner;
        let secret = self.secret(text).ok_or(JoinError::NotThere)?;
        let hash = sha256(secret.as_bytes());
        let (this, node_id, public_key) = (self.clone(), node_id.to_owned(), public_key.to_vec());
        let joined = self
            .0
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
        let _one = self.0.changing.lock().await;
        let found = self.book(|book| book.tokens.iter().find(|token| is_same(&token.hash, hash)).cloned());
        let token = found.ok_or(JoinError::NotThere)?;
        if let Some(why) = ended(&token, now_ms()) {
            return Err(JoinError::Ended(token.id, why));
        }
        if !token.node_ids.is_empty() && !token.node_ids.iter().any(|id| id == node_id) {
            return Err(JoinError::Bound(token.id, node_id.to_owned()));
        }
        let mut issuing = Issuing { token: Some(token.id), uses_permit: false };
        if is_taken {
            let until = self.book(|book| book.permits.get(node_id).copied());
            issuing.uses_permit = until.is_some_and(|until| until > now_ms());
            // Said last of all: it tells that there is such a node.
            if !issuing.uses_permit && !self.is_revoked(node_id) {
                return Err(JoinError::Taken(node_id.to_owned()));
            }
        }
        self.issue(db, node_id, public_key, issuing).await
    }

    /// The next certificate of a node that has one.
    ///
    /// # Errors
    /// The node is revoked, or what it sent makes no sense.
    pub async fn renew(&self, member: &Member, public_key: &[u8]) -> Result<Issued, JoinError> {
        let (this, node_id, public_key) = (self.clone(), member.node_id.clone(), public_key.to_vec());
        let renewed = self.0.store.change(|db| async move {
            let _one = this.0.changing.lock().await;
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
            return Err(JoinError::Invalid("node_id is 1 to 253 visible characters".into()));
        }
        if self.book(|book| book.revoked.contains(node_id)) {
            return Err(JoinError::Revoked(node_id.to_owned()));
        }
        let issued = self.0.ca.issue(node_id, public_key, self.0.lasts).map_err(|error| match error {
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
            return Err(JoinError::Ended(token.unwrap_or_default(), "used up"));
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

    /// Whose certificate it is.
    pub fn known(&self, fingerprint: &[u8; 32]) -> Known {
        self.book(|book| match book.certificates.get(fingerprint) {
            Some(member) if book.revoked.contains(&member.node_id) => Known::Revoked(member.node_id.clone()),
            Some(member) => Known::Member(Arc::clone(member)),
            None => Known::Nobody,
        })
    }

    /// Ends a node's membership, and its streams with it.
    ///
    /// # Errors
    /// The database failed.
    pub async fn revoke(&self, node_id: &str, by: &str) -> Result<(), AccessError> {
        let (this, node_id, by) = (self.clone(), node_id.to_owned(), by.to_owned());
        self.0.store.change(|db| async move { this.revoke_with(&db, &node_id, &by).await }).await
    }

    async fn revoke_with(&self, db: &WriteStore, node_id: &str, by: &str) -> Result<(), AccessError> {
        let _one = self.0.changing.lock().await;
        db.revoke_node(node_id, by, now_ms()).await?;
        self.edit(|book| {
            book.revoked.insert(node_id.to_owned());
            book.permits.remove(node_id);
            book.shared.remove(node_id);
            book.certificates
                .values()
                .filter(|member| member.node_id == node_id)
                .for_each(|member| member.ended.cancel());
        });
        tracing::warn!(node = node_id, by, "node revoked");
        Ok(())
    }

    /// Whether a node is revoked.
    pub fn is_revoked(&self, node_id: &str) -> bool {
        self.book(|book| book.revoked.contains(node_id))
    }

    /// Whether several processes may be connected as this node.
    pub fn is_shared(&self, node_id: &str) -> bool {
        self.book(|book| book.shared.contains(node_id))
    }

    /// Whether a node's counts are left out of reports.
    pub fn is_excluded(&self, node_id: &str) -> bool {
        self.book(|book| book.excluded.contains(node_id))
    }

    /// Leaves a node's counts out of reports from now on, or counts them again.
    ///
    /// # Errors
    /// The database failed.
    pub async fn exclude(&self, node_id: &str, is_excluded: bool, by: &str) -> Result<(), AccessError> {
        let (this, node_id, by) = (self.clone(), node_id.to_owned(), by.to_owned());
        let excluded =
            self.0.store.change(|db| async move { this.exclude_with(&db, &node_id, is_excluded, &by).await });
        excluded.await
    }

    async fn exclude_with(
        &self,
        db: &WriteStore,
        node_id: &str,
        is_excluded: bool,
        by: &str,
    ) -> Result<(), AccessError> {
        let _one = self.0.changing.lock().await;
        db.exclude_node(node_id, by, now_ms(), is_excluded).await?;
        self.edit(|book| match is_excluded {
            true => drop(book.excluded.insert(node_id.to_owned())),
            false => drop(book.excluded.remove(node_id)),
        });
        tracing::warn!(
            node = node_id,
            by,
            is_excluded,
            "whether the node's counts are left out of reports has changed"
        );
        Ok(())
    }

    /// Lets a revoked node join again, by a token; or, where it is not revoked, one more process join under the id of a
    /// node that is known.
    ///
    /// # Errors
    /// It is neither revoked nor known.
    pub async fn allow(&self, node_id: &str, is_known: bool, by: &str) -> Result<Allowed, AccessError> {
        let (this, node_id, by) = (self.clone(), node_id.to_owned(), by.to_owned());
        self.0.store.change(|db| async move { this.allow_with(&db, &node_id, is_known, &by).await }).await
    }

    async fn allow_with(
        &self,
        db: &WriteStore,
        node_id: &str,
        is_known: bool,
        by: &str,
    ) -> Result<Allowed, AccessError> {
        let _one = self.0.changing.lock().await;
        if db.allow_node(node_id).await? {
            self.edit(|book| {
                book.revoked.remove(node_id);
                book.certificates.retain(|_, member| member.node_id != node_id);
            });
            return Ok(Allowed::Rejoin);
        }
        if !is_known {
            return Err(AccessError::NotFound("node", node_id.to_owned()));
        }
        let until = now_ms().saturating_add(i64::try_from(PERMIT.as_millis()).unwrap_or(i64::MAX));
        db.permit_node(node_id, by, until).await?;
        self.edit(|book| book.permits.insert(node_id.to_owned(), until));
        Ok(Allowed::Beside(until))
    }

    /// Forgets what has ended.
    pub(super) async fn keep_once(&self) {
        let (now, forgotten) = (now_ms(), now_ms() - REMEMBERED_MS);
        let kept = self.0.store.change(|db| async move { db.keep_node_access(now, forgotten).await });
        if let Err(error) = kept.await {
            tracing::error!(%error, "join tokens and certificates cannot be kept");
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

#[cfg(test)]
mod tests {
    use std::task::Poll;

    use super::*;

    #[tokio::test]
    async fn a_node_that_hangs_up_while_it_joins_or_renews_leaves_memory_and_file_the_same() {
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
        // Each call that was dropped was made all the same.
        assert_eq!(stored.len(), dropped + 2);
        for certificate in &stored {
            let fingerprint = certificate.fingerprint.as_slice().try_into().unwrap();
            assert!(matches!(nodes.known(&fingerprint), Known::Member(_)), "{}", certificate.node_id);
        }
        assert_eq!(store.node_tokens().await.unwrap(), nodes.tokens());
    }
}
