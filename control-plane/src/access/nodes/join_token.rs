//! Join tokens: an operator creates one so that nodes can join the fleet.

use std::{path::Path, time::Duration};

use weir_admin_api::NodeTokenState;
use weir_proto::JOIN_PREFIX;
use weir_snapshot::{
    Problem,
    units::{HumanDuration, UnitError},
};

use super::{NodeAccess, is_node_id};
use crate::{
    access::{
        AccessError,
        token::{generate, hex, is_same, is_well_formed, sha256},
    },
    store::{StoredNodeToken, WriteStore},
    time::now_ms,
};

/// Maximum number of valid join tokens.
const MOST_TOKENS: usize = 1000;

/// Default validity of a join token.
const TTL: Duration = Duration::from_secs(24 * 3600);

/// Maximum number of node ids per join token.
const MOST_BOUND: usize = 1000;

/// A new join token.
#[derive(Debug, Clone, Default)]
pub struct NewNodeToken {
    /// Validity; `None` means until the token is revoked.
    pub ttl: Option<Duration>,
    /// Number of nodes that may join with it; `None` means no limit.
    pub uses: Option<u32>,
    /// Node ids that may use it; empty means any.
    pub node_ids: Vec<String>,
}

impl NewNodeToken {
    /// Parses a request. The default validity is one day; `never` means no expiry.
    ///
    /// # Errors
    /// The duration is invalid, or no node could use the token.
    pub fn read(ttl: Option<&str>, uses: Option<u32>, node_ids: Vec<String>) -> Result<Self, Problem> {
        let ttl = match ttl.filter(|text| !text.is_empty()) {
            None => Some(TTL),
            Some("never") => None,
            Some(text) => {
                let given: HumanDuration =
                    text.parse().map_err(|error: UnitError| Problem::new("ttl", error.to_string()))?;
                if given.0 < Duration::from_secs(1) {
                    return Err(Problem::new("ttl", "is less than a second (never: no expiry)"));
                }
                Some(given.0)
            }
        };
        if uses == Some(0) {
            return Err(Problem::new("uses", "is 0, so no node could use the token"));
        }
        if let Some(at) = node_ids.iter().position(|id| !is_node_id(id)) {
            return Err(Problem::new(
                format!("node_ids[{at}]"),
                "is not a node id (expected 1 to 253 visible characters)",
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

/// Returns whether a join token is valid.
pub fn state(token: &StoredNodeToken, now_ms: i64) -> NodeTokenState {
    if token.revoked_ms.is_some() {
        NodeTokenState::Revoked
    } else if token.expires_ms.is_some_and(|at| at <= now_ms) {
        NodeTokenState::Expired
    } else if token.uses_left.is_some_and(|left| left <= 0) {
        NodeTokenState::UsedUp
    } else {
        NodeTokenState::Active
    }
}

impl NodeAccess {
    /// Creates a join token. Its text is only in this result.
    ///
    /// # Errors
    /// There are too many, or the database failed.
    pub async fn create_token(
        &self,
        new: NewNodeToken,
        by: &str,
    ) -> Result<(String, StoredNodeToken), AccessError> {
        let (this, by) = (self.clone(), by.to_owned());
        self.shared.store.change(|db| async move { this.create_token_with(&db, new, &by).await }).await
    }

    async fn create_token_with(
        &self,
        db: &WriteStore,
        new: NewNodeToken,
        by: &str,
    ) -> Result<(String, StoredNodeToken), AccessError> {
        let _one = self.shared.changing.lock().await;
        let created_ms = now_ms();
        if self.book(|book| {
            book.tokens.iter().filter(|token| state(token, created_ms) == NodeTokenState::Active).count()
        }) >= MOST_TOKENS
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
        self.shared.members.send_replace(true);
        tracing::info!(id = token.id, by, "created a join token");
        Ok((format!("{secret}_{}", hex(&self.shared.ca.fingerprint())), token))
    }

    /// Writes a join token without expiry to a file that only its owner can read. A valid token in the file is kept.
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
                book.tokens
                    .iter()
                    .any(|token| is_same(&token.hash, &hash) && state(token, now) == NodeTokenState::Active)
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

    /// Returns the secret part of a join token of this fleet.
    pub(super) fn secret<'a>(&self, text: &'a str) -> Option<&'a str> {
        let (secret, fleet) = text.rsplit_once('_')?;
        let ours = hex(&self.shared.ca.fingerprint());
        (is_well_formed(secret, JOIN_PREFIX) && is_same(fleet.as_bytes(), ours.as_bytes())).then_some(secret)
    }

    /// Revokes a join token. Nodes that joined with it remain members.
    ///
    /// # Errors
    /// The token does not exist.
    pub async fn revoke_token(&self, id: i64) -> Result<(), AccessError> {
        let this = self.clone();
        self.shared.store.change(|db| async move { this.revoke_token_with(&db, id).await }).await
    }

    async fn revoke_token_with(&self, db: &WriteStore, id: i64) -> Result<(), AccessError> {
        let _one = self.shared.changing.lock().await;
        let now = now_ms();
        if !db.revoke_node_token(id, now).await? {
            let is_known = self.edit(|book| book.tokens.iter().any(|token| token.id == id));
            return Err(match is_known {
                true => AccessError::Conflict(format!("join token {id} is revoked already")),
                false => AccessError::NotFound("join token", id.to_string()),
            });
        }
        self.edit(|book| {
            book.tokens
                .iter_mut()
                .filter(|token| token.id == id)
                .for_each(|token| token.revoked_ms = Some(now))
        });
        Ok(())
    }
}
