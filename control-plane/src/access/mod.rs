//! Who may use the controls: tokens with roles, the dashboard's sessions, and the audit of what was done and refused.
//!
//! The tokens are few and asked for with each call, so all of them are in memory; the database is written first and the
//! memory after. What a call needs stands in [`table`]; who asks for it is found out by the gate in front of the admin port
//! (`api::access`), which knows HTTP, as this module does not.

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

/// How long a token that has ended is remembered, so that the audit can say whose it was.
const REMEMBERED_MS: i64 = 90 * 24 * 3600 * 1000;

/// How often what was only counted is written, and what is old is forgotten.
const KEEP_EVERY: Duration = Duration::from_secs(60);

/// Access to the controls. Cheap to clone.
#[derive(Clone)]
pub struct Access {
    shared: Arc<Shared>,
}

struct Shared {
    store: Store,
    book: RwLock<Book>,
    /// One change of the tokens at a time.
    changing: tokio::sync::Mutex<()>,
    sessions: Sessions,
    refusals: Refusals,
    nodes: NodeAccess,
    /// Whether each call needs a token, for those who wait for it.
    needed: watch::Sender<bool>,
}

/// The tokens in memory.
struct Book {
    tokens: Vec<Arc<Token>>,
    /// One was made once: each call needs one.
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
    /// Reads the tokens.
    ///
    /// # Errors
    /// The database failed, or holds what is no token.
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

    /// Who may be a node.
    pub fn nodes(&self) -> &NodeAccess {
        &self.shared.nodes
    }

    /// Where calls run that change something, so that a client that hangs up does not stop them halfway.
    pub(crate) fn detached(&self) -> &Detached {
        self.shared.store.detached()
    }

    fn book<T>(&self, look: impl FnOnce(&Book) -> T) -> T {
        look(&self.shared.book.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether each call needs a token.
    pub fn is_needed(&self) -> bool {
        self.book(|book| book.needed)
    }

    /// Tells when tokens are needed.
    pub(crate) fn needed(&self) -> watch::Receiver<bool> {
        self.shared.needed.subscribe()
    }

    /// From now on each call needs a token, also while none was made.
    pub fn demand(&self) {
        self.shared.book.write().unwrap_or_else(PoisonError::into_inner).needed = true;
        self.shared.needed.send_replace(true);
    }

    /// Every token that is remembered, also those that have ended; the oldest first.
    pub fn tokens(&self) -> Vec<Arc<Token>> {
        self.book(|book| book.tokens.clone())
    }

    /// The token with this name. Revoked tokens can share a name: the valid one, or else the newest.
    pub fn token(&self, name: &str) -> Option<Arc<Token>> {
        let named = self.tokens().into_iter().filter(|token| token.name == name);
        named.max_by_key(|token| (token.state(now_ms()) == TokenState::Active, token.id))
    }

    /// Whose token this is.
    ///
    /// # Errors
    /// Nobody's, or it has ended.
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

    /// Begins a session of the dashboard; its secret.
    ///
    /// # Errors
    /// The token is nobody's, or has ended; no random numbers.
    pub fn log_in(&self, text: &str) -> Result<Result<(String, Arc<Token>), Unknown>, AccessError> {
        let token = match self.authenticate(text) {
            Ok(token) => token,
            Err(unknown) => return Ok(Err(unknown)),
        };
        Ok(Ok((self.shared.sessions.begin(token.id, now_ms())?, token)))
    }

    /// The token that a session was begun with, while both are good.
    pub fn session(&self, secret: &str) -> Option<Arc<Token>> {
        let id = self.shared.sessions.token(secret, now_ms())?;
        let token = self.book(|book| book.tokens.iter().find(|token| token.id == id).cloned())?;
        Self::used(token).ok()
    }

    /// Ends a session.
    pub fn log_out(&self, secret: &str) {
        self.shared.sessions.end(secret);
    }

    /// Keeps tables small and what is in memory written, until `stop`.
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
        let forgotten = now - REMEMBERED_MS;
        let kept = self.shared.store.change(|db| async move {
            db.keep_tokens(&used, forgotten).await?;
            db.trim_audit(now - audit::KEPT_MS, audit::LIMITS).await
        });
        if let Err(error) = kept.await {
            tracing::error!(%error, "tokens and audit cannot be kept");
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
