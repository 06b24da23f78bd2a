//! Creates and revokes tokens.

use std::{
    sync::{Arc, PoisonError, atomic::Ordering::Relaxed},
    time::Duration,
};

use weir_admin_api::TokenState;
use weir_snapshot::{Problem, Problems};

use super::{
    Access, AccessError, PREFIX, Role, Token, read, sha256,
    token::{self},
    trail,
};
use crate::{
    store::{StoredToken, WriteStore},
    time::{now_ms, rfc3339},
};

/// Maximum number of valid tokens.
const MOST_TOKENS: usize = 1000;

/// Parameters of a new token.
#[derive(Debug, Clone)]
pub struct NewToken {
    /// Token name.
    pub name: String,
    /// Role that it grants.
    pub role: Role,
    /// Validity; `None` means until it is revoked.
    pub expires: Option<Duration>,
}

impl Access {
    /// Creates a token. Its text is only in this result.
    ///
    /// # Errors
    /// The parameters are invalid, a token with this name exists, or the first token would lock out all callers.
    pub async fn create_token(&self, new: &NewToken, by: &str) -> Result<(String, Arc<Token>), AccessError> {
        let (this, request, maker) = (self.clone(), new.clone(), by.to_owned());
        let made =
            self.shared.store.change(|db| async move { this.create_token_with(&db, &request, &maker).await });
        let (text, token) = made.await?;
        let until = token.expires_ms.map_or_else(String::new, |at| format!(", until {}", rfc3339(at)));
        trail::note(format!("token {:?} with role {} created{until}", token.name, token.role));
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

        let _one = self.shared.changing.lock().await;
        let good = |token: &&Arc<Token>| token.state(created_ms) == TokenState::Active;
        let (is_first, is_taken, count) = self.book(|book| {
            let mut good = book.tokens.iter().filter(good);
            let is_taken = good.clone().any(|token| token.name == new.name);
            (!good.clone().any(|token| token.role == Role::Admin), is_taken, good.by_ref().count())
        });
        if is_taken {
            return Err(AccessError::Conflict(format!("a token {:?} exists; revoke it first", new.name)));
        }
        if is_first && new.role != Role::Admin {
            let why = "the first token must have role admin: each later call needs a token, and only an admin can create one";
            return Err(AccessError::Conflict(why.into()));
        }
        if is_first && expires_ms.is_some() {
            let why = "the first token must not expire: each later call needs a token, and after its end no caller could create one";
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
        let mut book = self.shared.book.write().unwrap_or_else(PoisonError::into_inner);
        book.tokens.push(Arc::clone(&token));
        book.needed = true;
        drop(book);
        self.shared.needed.send_replace(true);
        tracing::info!(name = new.name, role = %new.role, by, "created a token");
        Ok((text, token))
    }

    /// Revokes a token and ends its sessions and streams.
    ///
    /// # Errors
    /// The token does not exist, or it is the last admin token without expiry.
    pub async fn revoke_token(&self, name: &str) -> Result<(), AccessError> {
        let (this, named) = (self.clone(), name.to_owned());
        let role =
            self.shared.store.change(|db| async move { this.revoke_token_with(&db, &named).await }).await?;
        trail::note(format!("token {name:?} with role {role} revoked"));
        Ok(())
    }

    async fn revoke_token_with(&self, db: &WriteStore, name: &str) -> Result<Role, AccessError> {
        let _one = self.shared.changing.lock().await;
        let now = now_ms();
        let lasts = |token: &Token| token.role == Role::Admin && token.expires_ms.is_none();
        let (found, another_lasts) = self.book(|book| {
            let mut good = book.tokens.iter().filter(|token| token.state(now) == TokenState::Active);
            let found = good.clone().find(|token| token.name == name).cloned();
            (found, good.any(|token| lasts(token) && token.name != name))
        });
        let token = found.ok_or_else(|| {
            match self.book(|book| book.tokens.iter().rfind(|token| token.name == name).cloned()) {
                Some(ended) => {
                    AccessError::Conflict(format!("token {name:?} is {} already", ended.state(now)))
                }
                None => AccessError::NotFound("token", name.to_owned()),
            }
        })?;
        if lasts(&token) && !another_lasts {
            let why =
                format!("token {name:?} is the last admin token without expiry; create another one first");
            return Err(AccessError::Conflict(why));
        }
        db.revoke_token(token.id, now).await?;
        token.revoked_ms.store(now, Relaxed);
        token.ended.cancel();
        tracing::info!(name, "revoked a token");
        Ok(token.role)
    }
}
