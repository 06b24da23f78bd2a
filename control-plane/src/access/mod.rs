//! Access to the admin API: tokens with roles, dashboard sessions, and the audit log.
//!
//! There are few tokens and every call needs one, so all are kept in memory; changes are written to the database first.
//! The module [`table`] lists what each call requires. The gate in front of the admin port (`api::access`)
//! authenticates callers; unlike this module, it knows HTTP.

mod audit;
pub mod ca;
mod error;
mod first_token;
pub mod nodes;
mod session;
pub mod table;
mod token;
mod tokens;
pub mod trail;

use std::{
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicI64, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub use weir_admin_api::{Outcome, Role, TokenState, UnknownRole, endpoint::Need};

use self::{audit::Refusals, nodes::NodeAccess, session::Sessions, token::is_same};
pub use self::{
    error::{AccessError, Unknown},
    session::LASTS_MS as SESSION_LASTS_MS,
    token::{PREFIX, Token, hex, sha256},
    tokens::NewToken,
};
use crate::{
    store::{Detached, Store, StoreError, StoredToken},
    time::now_ms,
};

/// How long an ended token is kept, so that the audit log can name its owner.
const KEPT_MS: i64 = 90 * 24 * 3600 * 1000;

/// How often buffered data is written and old data is deleted.
const KEEP_EVERY: Duration = Duration::from_secs(60);

/// Tokens, sessions and the audit log. Cheap to clone.
#[derive(Clone)]
pub struct Access {
    shared: Arc<Shared>,
}

struct Shared {
    store: Store,
    book: RwLock<Book>,
    /// Serializes changes of the tokens.
    changing: tokio::sync::Mutex<()>,
    sessions: Sessions,
    refusals: Refusals,
    nodes: NodeAccess,
    /// Whether each call requires a token, for subscribers.
    needed: watch::Sender<bool>,
}

/// The tokens in memory.
struct Book {
    tokens: Vec<Arc<Token>>,
    /// Whether a token was ever created: from then on each call requires one.
    needed: bool,
}

fn read(stored: StoredToken) -> Result<Token, StoreError> {
    let broken = |why: String| StoreError::Broken("token", format!("{:?}: {why}", stored.name));
    let hash = stored.hash.as_slice().try_into().map_err(|_| broken("its hash has a wrong length".into()))?;
    let role = stored.role.parse().map_err(|error: UnknownRole| broken(error.to_string()))?;
    let ended = CancellationToken::new();
    if stored.revoked_ms.is_some() {
        ended.cancel();
    }
    Ok(Token {
        id: stored.id,
        name: stored.name,
        role,
        hash,
        created_ms: stored.created_ms,
        created_by: stored.created_by,
        expires_ms: stored.expires_ms,
        revoked_ms: AtomicI64::new(stored.revoked_ms.unwrap_or_default()),
        last_used_ms: AtomicI64::new(stored.last_used_ms.unwrap_or_default()),
        ended,
    })
}

impl Access {
    /// Reads the tokens from the database.
    ///
    /// # Errors
    /// The database failed or contains an invalid token.
    pub async fn open(store: Store, nodes: NodeAccess) -> Result<Self, StoreError> {
        let (stored, needed) = store.tokens().await?;
        let tokens = stored.into_iter().map(|one| read(one).map(Arc::new)).collect::<Result<_, _>>()?;
        Ok(Self {
            shared: Arc::new(Shared {
                store,
                book: RwLock::new(Book { tokens, needed }),
                needed: watch::Sender::new(needed),
                changing: tokio::sync::Mutex::default(),
                sessions: Sessions::default(),
                refusals: Refusals::default(),
                nodes,
            }),
        })
    }

    /// Admission of nodes.
    pub fn nodes(&self) -> &NodeAccess {
        &self.shared.nodes
    }

    /// Runs changes to completion even if the client closes its connection.
    pub(crate) fn detached(&self) -> &Detached {
        self.shared.store.detached()
    }

    fn book<T>(&self, look: impl FnOnce(&Book) -> T) -> T {
        look(&self.shared.book.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether each call requires a token.
    pub fn is_needed(&self) -> bool {
        self.book(|book| book.needed)
    }

    /// Receives whether each call requires a token.
    pub(crate) fn needed(&self) -> watch::Receiver<bool> {
        self.shared.needed.subscribe()
    }

    /// Requires a token for each call from now on, even if none was created.
    pub fn demand(&self) {
        self.shared.book.write().unwrap_or_else(PoisonError::into_inner).needed = true;
        self.shared.needed.send_replace(true);
    }

    /// Returns all stored tokens, including ended ones, oldest first.
    pub fn tokens(&self) -> Vec<Arc<Token>> {
        self.book(|book| book.tokens.clone())
    }

    /// Returns the token with this name. Revoked tokens can share a name: returns the valid one, or else the newest.
    pub fn token(&self, name: &str) -> Option<Arc<Token>> {
        let named = self.tokens().into_iter().filter(|token| token.name == name);
        named.max_by_key(|token| (token.state(now_ms()) == TokenState::Active, token.id))
    }

    /// Returns the token with this text.
    ///
    /// # Errors
    /// The token is unknown or has ended.
    pub fn authenticate(&self, text: &str) -> Result<Arc<Token>, Unknown> {
        if !token::is_well_formed(text, PREFIX) {
            return Err(Unknown::Malformed);
        }
        let hash = sha256(text.as_bytes());
        let found = self.book(|book| book.tokens.iter().find(|token| is_same(&token.hash, &hash)).cloned());
        let token = found.ok_or(Unknown::NotThere)?;
        Self::used(token)
    }

    fn used(token: Arc<Token>) -> Result<Arc<Token>, Unknown> {
        let now = now_ms();
        match token.state(now) {
            TokenState::Revoked => Err(Unknown::Revoked(token.name.clone())),
            TokenState::Expired => Err(Unknown::Expired(token.name.clone())),
            TokenState::Active => {
                token.last_used_ms.store(now, Relaxed);
                Ok(token)
            }
        }
    }

    /// Begins a dashboard session and returns its secret.
    ///
    /// # Errors
    /// The token is unknown or has ended; or the system returned no random numbers.
    pub fn log_in(&self, text: &str) -> Result<Result<(String, Arc<Token>), Unknown>, AccessError> {
        let token = match self.authenticate(text) {
            Ok(token) => token,
            Err(unknown) => return Ok(Err(unknown)),
        };
        Ok(Ok((self.shared.sessions.begin(token.id, now_ms())?, token)))
    }

    /// Returns the token of a session, while both are valid.
    pub fn session(&self, secret: &str) -> Option<Arc<Token>> {
        let id = self.shared.sessions.token(secret, now_ms())?;
        let token = self.book(|book| book.tokens.iter().find(|token| token.id == id).cloned())?;
        Self::used(token).ok()
    }

    /// Ends a session.
    pub fn log_out(&self, secret: &str) {
        self.shared.sessions.end(secret);
    }

    /// Periodically deletes old data and writes buffered data, until `stop`.
    pub async fn keep(self, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = tokio::time::sleep(KEEP_EVERY) => {}
                () = stop.cancelled() => {
                    self.keep_once().await;
                    return;
                }
            }
            self.keep_once().await;
        }
    }

    async fn keep_once(&self) {
        let now = now_ms();
        let over = self.shared.refusals.over(now);
        if over > 0 {
            self.record(audit::left_out(over, now)).await;
        }
        let used: Vec<(i64, i64)> = self.book(|book| {
            book.tokens.iter().filter_map(|token| Some((token.id, token.last_used_ms()?))).collect()
        });
        let forgotten = now - KEPT_MS;
        let kept = self.shared.store.change(|db| async move {
            db.keep_tokens(&used, forgotten).await?;
            db.trim_audit(now - audit::KEPT_MS, audit::LIMITS).await
        });
        if let Err(error) = kept.await {
            tracing::error!(%error, "cannot write tokens and audit log");
            return;
        }
        self.shared.nodes.keep_once().await;
        let mut book = self.shared.book.write().unwrap_or_else(PoisonError::into_inner);
        book.tokens.retain(|token| {
            let revoked = Some(token.revoked_ms.load(Relaxed)).filter(|at| *at != 0);
            revoked.or(token.expires_ms).is_none_or(|ended| ended >= forgotten)
        });
    }
}
