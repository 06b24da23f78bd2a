//! Who may use the controls: tokens with roles, the dashboard's sessions, and the audit of what was done and refused.
//!
//! The tokens are few and asked for with each call, so all of them are in memory; the database is written first and the
//! memory after. What a call needs stands in [`table`]; who asks for it is found out by the gate in front of the admin port
//! (`api::access`), which knows HTTP, as this module does not.

mod audit;
pub mod ca;
pub mod nodes;
mod role;
mod session;
pub mod table;
mod token;
pub mod trail;

use std::{
    path::Path,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicI64, Ordering::Relaxed},
    },
    time::Duration,
};

use anyhow::Context as _;
use jiff::Timestamp;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use weir_snapshot::{Problem, Problems};

pub use self::{
    audit::Outcome,
    role::{Role, UnknownRole},
    session::LASTS_MS as SESSION_LASTS_MS,
    table::Need,
    token::{Ended, PREFIX, Token, hex, sha256},
};
use self::{audit::Refusals, nodes::NodeAccess, session::Sessions, token::is_same};
use crate::store::{AuditEntry, Detached, Store, StoreError, StoredToken, WriteStore};

/// Tokens that are good at a time.
const MOST_TOKENS: usize = 1000;

/// How long a token that has ended is remembered, so that the audit can say whose it was.
const REMEMBERED_MS: i64 = 90 * 24 * 3600 * 1000;

/// How often what was only counted is written, and what is old is forgotten.
const KEEP_EVERY: Duration = Duration::from_secs(60);

/// Why something about access was not done.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// What was given is wrong.
    #[error("{0}")]
    Invalid(#[from] Problems),
    /// There is no such thing.
    #[error("there is no {0} {1:?}")]
    NotFound(&'static str, String),
    /// It contradicts what is there.
    #[error("{0}")]
    Conflict(String),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The system gave no random numbers.
    #[error("the system gave no random numbers")]
    NoChance,
}

/// Why nobody is known by what was shown.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unknown {
    /// It does not look like a token.
    #[error("this is not a token of Weir: one is {PREFIX} and 64 hexadecimal digits")]
    Malformed,
    /// No token is like it.
    #[error("no such token is known")]
    NotThere,
    /// It was revoked.
    #[error("token {0:?} was revoked")]
    Revoked(String),
    /// Its time is over.
    #[error("token {0:?} has expired")]
    Expired(String),
}

/// Access to the controls. Cheap to clone.
#[derive(Clone)]
pub struct Access(Arc<Inner>);

struct Inner {
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

/// What a new token shall be.
#[derive(Debug, Clone)]
pub struct NewToken {
    /// Its name.
    pub name: String,
    /// What it allows.
    pub role: Role,
    /// How long; `None`: until it is revoked.
    pub expires: Option<Duration>,
}

/// The time, milliseconds since the Unix epoch.
pub(crate) fn now_ms() -> i64 {
    Timestamp::now().as_millisecond()
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
        Ok(Self(Arc::new(Inner {
            store,
            book: RwLock::new(Book { tokens, needed }),
            needed: watch::Sender::new(needed),
            changing: tokio::sync::Mutex::default(),
            sessions: Sessions::default(),
            refusals: Refusals::default(),
            nodes,
        })))
    }

    /// Who may be a node.
    pub fn nodes(&self) -> &NodeAccess {
        &self.0.nodes
    }

    /// Where calls run that change something, so that a client that hangs up does not stop them halfway.
    pub(crate) fn detached(&self) -> &Detached {
        self.0.store.detached()
    }

    fn book<T>(&self, look: impl FnOnce(&Book) -> T) -> T {
        look(&self.0.book.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether each call needs a token.
    pub fn is_needed(&self) -> bool {
        self.book(|book| book.needed)
    }

    /// Tells when tokens are needed.
    pub(crate) fn needed(&self) -> watch::Receiver<bool> {
        self.0.needed.subscribe()
    }

    /// From now on each call needs a token, also while none was made.
    pub fn demand(&self) {
        self.0.book.write().unwrap_or_else(PoisonError::into_inner).needed = true;
        self.0.needed.send_replace(true);
    }

    /// Every token that is remembered, also those that have ended; the oldest first.
    pub fn tokens(&self) -> Vec<Arc<Token>> {
        self.book(|book| book.tokens.clone())
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
        match token.ended(now) {
            Some(Ended::Revoked) => Err(Unknown::Revoked(token.name.clone())),
            Some(Ended::Expired) => Err(Unknown::Expired(token.name.clone())),
            None => {
                token.last_used_ms.store(now, Relaxed);
                Ok(token)
            }
        }
    }

    /// Makes a token; it is in the answer, and nowhere else from then on.
    ///
    /// # Errors
    /// What was asked for is wrong, there is such a token, or the first one would lock everybody out.
    pub async fn create_token(&self, new: &NewToken, by: &str) -> Result<(String, Arc<Token>), AccessError> {
        let (this, asked, maker) = (self.clone(), new.clone(), by.to_owned());
        let made = self.0.store.change(|db| async move { this.create_token_with(&db, &asked, &maker).await });
        let (text, token) = made.await?;
        let until =
            token.expires_ms.map_or_else(String::new, |at| format!(", until {}", crate::app::rfc3339(at)));
        trail::note(format!("token {:?} of role {} made{until}", token.name, token.role));
        Ok((text, token))
    }

    async fn create_token_with(
        &self,
        db: &WriteStore,
        new: &NewToken,
        by: &str,
    ) -> Result<(String, Arc<Token>), AccessError> {
        let mut problems = Problems::default();
        if let Err(Problem { path, message, .. }) = token::check_name(&new.name) {
            problems.add(&path, message);
        }
        let created_ms = now_ms();
        let expires_ms = new.expires.map(|lasts| {
            if lasts < Duration::from_secs(1) {
                problems.add("expires", "is less than a second");
            }
            created_ms.saturating_add(i64::try_from(lasts.as_millis()).unwrap_or(i64::MAX))
        });
        problems.into_result(()).map_err(AccessError::Invalid)?;

        let _one = self.0.changing.lock().await;
        let good = |token: &&Arc<Token>| token.ended(created_ms).is_none();
        let (is_first, is_taken, count) = self.book(|book| {
            let mut good = book.tokens.iter().filter(good);
            let is_taken = good.clone().any(|token| token.name == new.name);
            (!good.clone().any(|token| token.role == Role::Admin), is_taken, good.by_ref().count())
        });
        if is_taken {
            return Err(AccessError::Conflict(format!("there is a token {:?}; revoke it first", new.name)));
        }
        if is_first && new.role != Role::Admin {
            let why = "the first token has role admin: from then on each call needs a token, and nobody could make one";
            return Err(AccessError::Conflict(why.into()));
        }
        if is_first && expires_ms.is_some() {
            let why = "the first token does not expire: from then on each call needs a token, and once it ended nobody could make one";
            return Err(AccessError::Conflict(why.into()));
        }
        if count >= MOST_TOKENS {
            return Err(AccessError::Conflict(format!("there are {MOST_TOKENS} tokens; revoke some first")));
        }
        let text = token::generate(PREFIX)?;
        let stored = StoredToken {
            id: 0,
            name: new.name.clone(),
            role: new.role.to_string(),
            hash: sha256(text.as_bytes()).to_vec(),
            created_ms,
            created_by: by.to_owned(),
            expires_ms,
            revoked_ms: None,
            last_used_ms: None,
        };
        let id = db.add_token(&stored).await?;
        let token = Arc::new(read(StoredToken { id, ..stored })?);
        let mut book = self.0.book.write().unwrap_or_else(PoisonError::into_inner);
        book.tokens.push(Arc::clone(&token));
        book.needed = true;
        drop(book);
        self.0.needed.send_replace(true);
        tracing::info!(name = new.name, role = %new.role, by, "token made");
        Ok((text, token))
    }

    /// Ends a token, and with it every session and stream that it opened.
    ///
    /// # Errors
    /// No such token, or it is the last one of an admin that does not expire.
    pub async fn revoke_token(&self, name: &str) -> Result<(), AccessError> {
        let (this, named) = (self.clone(), name.to_owned());
        let role = self.0.store.change(|db| async move { this.revoke_token_with(&db, &named).await }).await?;
        trail::note(format!("token {name:?} of role {role} revoked"));
        Ok(())
    }

    async fn revoke_token_with(&self, db: &WriteStore, name: &str) -> Result<Role, AccessError> {
        let _one = self.0.changing.lock().await;
        let now = now_ms();
        let lasts = |token: &Token| token.role == Role::Admin && token.expires_ms.is_none();
        let (found, another_lasts) = self.book(|book| {
            let mut good = book.tokens.iter().filter(|token| token.ended(now).is_none());
            let found = good.clone().find(|token| token.name == name).cloned();
            (found, good.any(|token| lasts(token) && token.name != name))
        });
        let token = found.ok_or_else(|| AccessError::NotFound("token", name.to_owned()))?;
        if lasts(&token) && !another_lasts {
            let why = format!(
                "token {name:?} is the last one of an admin that does not expire; make another one first"
            );
            return Err(AccessError::Conflict(why));
        }
        db.revoke_token(token.id, now).await?;
        token.revoked_ms.store(now, Relaxed);
        token.ended.cancel();
        tracing::info!(name, "token revoked");
        Ok(token.role)
    }

    /// Makes an admin's token where none is valid, and shows it in the log. Where a file is named, the file holds an
    /// admin's token from then on, readable by its owner only, and the log does not show it. The file is written unless
    /// it holds one already, so a lost token can be replaced by a restart.
    ///
    /// # Errors
    /// The file cannot be written, or the database failed.
    pub async fn first_token(&self, file: Option<&Path>) -> anyhow::Result<()> {
        let now = now_ms();
        let names = |is_lost: &dyn Fn(&[Arc<Token>]) -> bool| {
            let good = |token: &&Arc<Token>| token.ended(now).is_none();
            let good: Vec<Arc<Token>> = self.book(|book| book.tokens.iter().filter(good).cloned().collect());
            is_lost(&good).then(|| good.iter().map(|token| token.name.clone()).collect::<Vec<_>>())
        };
        let taken = match file {
            Some(file) => {
                let text = crate::private_file::token_to_replace(file, token::PREFIX)
                    .with_context(|| format!("--token-file {} (WEIR_ADMIN_TOKEN_FILE)", file.display()))?;
                let known = self.authenticate(&text).ok();
                if let Some(other) = known.as_ref().filter(|token| token.role != Role::Admin) {
                    anyhow::bail!(
                        "--token-file {} (WEIR_ADMIN_TOKEN_FILE): it holds the valid token {:?} with role {}; name a file for an \
                         admin token, which is written there",
                        file.display(),
                        other.name,
                        other.role.as_str()
                    );
                }
                names(&|_| known.as_ref().is_none_or(|token| token.role != Role::Admin))
            }
            None => names(&|good| good.iter().all(|token| token.role != Role::Admin)),
        };
        let Some(taken) = taken else { return Ok(()) };
        let free = (1..).map(|n| if n == 1 { "admin".to_owned() } else { format!("admin-{n}") });
        let name = free.into_iter().find(|name| !taken.contains(name)).unwrap_or_default();
        let new = NewToken { name, role: Role::Admin, expires: None };
        let (text, token) = self.create_token(&new, "control-plane").await?;
        match file {
            Some(file) => {
                let written = crate::private_file::write(file, &format!("{text}\n"));
                if let Err(error) = written {
                    // It was shown nowhere, so nothing needs it; the next start makes another one.
                    let id = token.id;
                    self.0.store.change(|db| async move { db.revoke_token(id, now_ms()).await }).await?;
                    anyhow::bail!("cannot write --token-file {}: {error}", file.display());
                }
                // Logs are read by more people, and kept longer, than the file.
                tracing::warn!(name = token.name, file = %file.display(), "admin token made and written to --token-file");
            }
            None => tracing::warn!(
                name = token.name,
                token = text,
                "admin token made; this is the only time that it is shown (--token-file writes it to a file instead)"
            ),
        }
        let entry = AuditEntry {
            actor: "control-plane".into(),
            source: "start".into(),
            action: format!("first token {}", token.name),
            outcome: Outcome::Ok.as_str().into(),
            ..AuditEntry::default()
        };
        self.record(entry).await;
        Ok(())
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
        Ok(Ok((self.0.sessions.begin(token.id, now_ms())?, token)))
    }

    /// The token that a session was begun with, while both are good.
    pub fn session(&self, secret: &str) -> Option<Arc<Token>> {
        let id = self.0.sessions.token(secret, now_ms())?;
        let token = self.book(|book| book.tokens.iter().find(|token| token.id == id).cloned())?;
        Self::used(token).ok()
    }

    /// Ends a session.
    pub fn log_out(&self, secret: &str) {
        self.0.sessions.end(secret);
    }

    /// Writes to the audit. What cannot be written is in the log.
    pub async fn record(&self, mut entry: AuditEntry) {
        entry.time_ms = now_ms();
        entry.times = entry.times.max(1);
        entry.actor = audit::tame(&entry.actor);
        entry.action = audit::tame(&entry.action);
        entry.detail = audit::tame(&entry.detail);
        let written = self.0.store.change(|db| async move {
            db.add_audit(&entry).await.inspect_err(|error| {
                tracing::error!(%error, ?entry, "the audit cannot be written");
            })
        });
        // It was logged.
        let _ = written.await;
    }

    /// Writes a refusal to the audit, or counts it when there are too many.
    pub async fn record_refusal(&self, entry: AuditEntry) {
        let now = now_ms();
        let (is_admitted, over) = self.0.refusals.admit(now);
        if over > 0 {
            self.record(audit::left_out(over, now)).await;
        }
        if is_admitted {
            tracing::warn!(actor = entry.actor, action = entry.action, reason = entry.detail, "refused");
            self.record(AuditEntry { outcome: Outcome::Refused.as_str().into(), ..entry }).await;
        }
    }

    /// The newest audit entries below `before`.
    ///
    /// # Errors
    /// The database failed.
    pub async fn audit(&self, before: Option<i64>, limit: u32) -> Result<Vec<AuditEntry>, StoreError> {
        self.0.store.audit(before, limit).await
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
        let over = self.0.refusals.over(now);
        if over > 0 {
            self.record(audit::left_out(over, now)).await;
        }
        let used: Vec<(i64, i64)> = self.book(|book| {
            book.tokens.iter().filter_map(|token| Some((token.id, token.last_used_ms()?))).collect()
        });
        let forgotten = now - REMEMBERED_MS;
        let kept = self.0.store.change(|db| async move {
            db.keep_tokens(&used, forgotten).await?;
            db.trim_audit(now - audit::KEPT_MS, audit::MOST).await
        });
        if let Err(error) = kept.await {
            tracing::error!(%error, "tokens and audit cannot be kept");
            return;
        }
        self.0.nodes.keep_once().await;
        let mut book = self.0.book.write().unwrap_or_else(PoisonError::into_inner);
        book.tokens.retain(|token| {
            let revoked = Some(token.revoked_ms.load(Relaxed)).filter(|at| *at != 0);
            revoked.or(token.expires_ms).is_none_or(|ended| ended >= forgotten)
        });
    }
}
