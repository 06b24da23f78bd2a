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

/// The limit of valid tokens.
const MOST_TOKENS: usize = 1000;

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

impl Access {
    /// Makes a token; it is in the answer, and nowhere else from then on.
    ///
    /// # Errors
    /// What was asked for is wrong, there is such a token, or the first one would lock everybody out.
    pub async fn create_token(&self, new: &NewToken, by: &str) -> Result<(String, Arc<Token>), AccessError> {
        let (this, asked, maker) = (self.clone(), new.clone(), by.to_owned());
        let made =
            self.shared.store.change(|db| async move { this.create_token_with(&db, &asked, &maker).await });
        let (text, token) = made.await?;
        let until = token.expires_ms.map_or_else(String::new, |at| format!(", until {}", rfc3339(at)));
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

        let _one = self.shared.changing.lock().await;
        let good = |token: &&Arc<Token>| token.state(created_ms) == TokenState::Active;
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
        let mut book = self.shared.book.write().unwrap_or_else(PoisonError::into_inner);
        book.tokens.push(Arc::clone(&token));
        book.needed = true;
        drop(book);
        self.shared.needed.send_replace(true);
        tracing::info!(name = new.name, role = %new.role, by, "token made");
        Ok((text, token))
    }

    /// Ends a token, and with it every session and stream that it opened.
    ///
    /// # Errors
    /// No such token, or it is the last one of an admin that does not expire.
    pub async fn revoke_token(&self, name: &str) -> Result<(), AccessError> {
        let (this, named) = (self.clone(), name.to_owned());
        let role =
            self.shared.store.change(|db| async move { this.revoke_token_with(&db, &named).await }).await?;
        trail::note(format!("token {name:?} of role {role} revoked"));
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
}
