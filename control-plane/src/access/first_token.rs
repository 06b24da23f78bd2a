//! Creates the first admin token of a control plane.

use std::{path::Path, sync::Arc};

use anyhow::Context as _;
use weir_admin_api::TokenState;

use super::{Access, NewToken, Outcome, Role, Token, token};
use crate::{store::AuditEntry, time::now_ms};

impl Access {
    /// Creates an admin token if no valid one exists, and prints it in the log. If a file is given, the token is
    /// written to the file, readable by its owner only, and not printed. The file is written unless it already contains
    /// a valid admin token, so a lost token can be replaced by a restart.
    ///
    /// # Errors
    /// The file cannot be written, or the database failed.
    pub async fn first_token(&self, file: Option<&Path>) -> anyhow::Result<()> {
        let now = now_ms();
        let names = |is_lost: &dyn Fn(&[Arc<Token>]) -> bool| {
            let good = |token: &&Arc<Token>| token.state(now) == TokenState::Active;
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
                        "--token-file {} (WEIR_ADMIN_TOKEN_FILE): it contains the valid token {:?} with role {}; choose another \
                         file for the admin token",
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
                    // The token was not shown, so it is revoked; the next start creates another one.
                    let id = token.id;
                    self.shared.store.change(|db| async move { db.revoke_token(id, now_ms()).await }).await?;
                    anyhow::bail!("cannot write --token-file {}: {error}", file.display());
                }
                // Logs are read by more people than the file, and are kept longer.
                tracing::warn!(name = token.name, file = %file.display(), "admin token created and written to --token-file");
            }
            None => tracing::warn!(
                name = token.name,
                token = text,
                "admin token created; it is shown only this once (--token-file writes it to a file instead)"
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
}
