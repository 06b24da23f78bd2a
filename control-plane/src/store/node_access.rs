//! The SQL of who may be a node: the fleet's certificate authority, join tokens, certificates, revoked nodes.

use sqlx::{Row as _, sqlite::SqliteRow};

use super::{Store, StoreError, WriteStore};

/// The fleet's certificate authority as it is kept.
#[derive(Debug, Clone)]
pub struct StoredCa {
    /// Its certificate, DER.
    pub certificate: Vec<u8>,
    /// Its private key, sealed.
    pub sealed_key: Vec<u8>,
}

/// A join token as it is kept: its hash, never itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredNodeToken {
    /// Never given twice.
    pub id: i64,
    /// SHA-256 of its secret.
    pub hash: Vec<u8>,
    /// When it was made.
    pub created_ms: i64,
    /// Who made it.
    pub created_by: String,
    /// When it ends by itself.
    pub expires_ms: Option<i64>,
    /// How many nodes may still join with it; `None`: any number.
    pub uses_left: Option<i64>,
    /// How many have.
    pub used: i64,
    /// When it was revoked.
    pub revoked_ms: Option<i64>,
    /// The node ids that it is for; none: any.
    pub node_ids: Vec<String>,
}

/// A node id under which an operator let a second process in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodePermit {
    /// The id.
    pub node_id: String,
    /// Until when one more process may join; `None`: none may.
    pub expires_ms: Option<i64>,
    /// Several processes may be connected under the id.
    pub is_shared: bool,
}

/// What is remembered of who may be a node, beside join tokens.
#[derive(Debug, Default)]
pub struct StoredNodeAccess {
    /// Certificates that have not expired.
    pub certificates: Vec<NodeCertificate>,
    /// Nodes that are revoked.
    pub revoked: Vec<String>,
    /// Ids that a second process may use.
    pub permits: Vec<NodePermit>,
    /// Nodes whose counts are left out of reports.
    pub excluded: Vec<String>,
}

/// How a certificate comes to be issued.
#[derive(Debug, Clone, Copy, Default)]
pub struct Issuing {
    /// The join token that is used; `None`: a renewal.
    pub token: Option<i64>,
    /// The permit of the node's id is used up.
    pub uses_permit: bool,
}

/// A node's certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeCertificate {
    /// The SHA-256 of it.
    pub fingerprint: Vec<u8>,
    /// Whose it is.
    pub node_id: String,
    /// Since when.
    pub issued_ms: i64,
    /// Until when.
    pub expires_ms: i64,
}

fn node_token(row: &SqliteRow) -> StoredNodeToken {
    StoredNodeToken {
        id: row.get(0),
        hash: row.get(1),
        created_ms: row.get(2),
        created_by: row.get(3),
        expires_ms: row.get(4),
        uses_left: row.get(5),
        used: row.get(6),
        revoked_ms: row.get(7),
        // Written by this program; a list that cannot be read admits no node.
        node_ids: row
            .get::<Option<String>, _>(8)
            .map_or_else(Vec::new, |ids| serde_json::from_str(&ids).unwrap_or_else(|_| vec![String::new()])),
    }
}

impl Store {
    /// The fleet's certificate authority, if one was made.
    ///
    /// # Errors
    /// The database failed.
    pub async fn fleet_ca(&self) -> Result<Option<StoredCa>, StoreError> {
        let row =
            sqlx::query("SELECT certificate, sealed_key FROM fleet_ca").fetch_optional(&self.reader).await?;
        Ok(row.map(|row| StoredCa { certificate: row.get(0), sealed_key: row.get(1) }))
    }

    /// Every join token that is remembered.
    ///
    /// # Errors
    /// The database failed.
    pub async fn node_tokens(&self) -> Result<Vec<StoredNodeToken>, StoreError> {
        let rows = sqlx::query(
            "SELECT id, hash, created_ms, created_by, expires_ms, uses_left, used, revoked_ms, node_ids FROM node_tokens ORDER BY id",
        )
        .fetch_all(&self.reader)
        .await?;
        Ok(rows.iter().map(node_token).collect())
    }

    /// Who may be a node: certificates that are good, revoked nodes, permits, and nodes that are not counted.
    ///
    /// # Errors
    /// The database failed.
    pub async fn node_access(&self, now_ms: i64) -> Result<StoredNodeAccess, StoreError> {
        let mut tx = self.reader.begin().await?;
        let rows = sqlx::query(
            "SELECT fingerprint, node_id, issued_ms, expires_ms FROM node_certificates WHERE expires_ms > ?",
        )
        .bind(now_ms)
        .fetch_all(&mut *tx)
        .await?;
        let certificate = |row: &SqliteRow| NodeCertificate {
            fingerprint: row.get(0),
            node_id: row.get(1),
            issued_ms: row.get(2),
            expires_ms: row.get(3),
        };
        let revoked = sqlx::query_scalar("SELECT node_id FROM revoked_nodes").fetch_all(&mut *tx).await?;
        let excluded = sqlx::query_scalar("SELECT node_id FROM excluded_nodes").fetch_all(&mut *tx).await?;
        let permits =
            sqlx::query("SELECT node_id, expires_ms, shared FROM node_permits").fetch_all(&mut *tx).await?;
        let permit = |row: &SqliteRow| NodePermit {
            node_id: row.get(0),
            expires_ms: row.get(1),
            is_shared: row.get(2),
        };
        Ok(StoredNodeAccess {
            certificates: rows.iter().map(certificate).collect(),
            revoked,
            permits: permits.iter().map(permit).collect(),
            excluded,
        })
    }
}

impl WriteStore {
    /// Stores the fleet's certificate authority, unless there is one already.
    ///
    /// # Errors
    /// The database failed.
    pub async fn add_fleet_ca(&self, new: &StoredCa) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        sqlx::query(
            "INSERT INTO fleet_ca (id, certificate, sealed_key) VALUES (1, ?, ?) ON CONFLICT DO NOTHING",
        )
        .bind(&new.certificate)
        .bind(&new.sealed_key)
        .execute(&mut *tx)
        .await?;
        Ok(tx.commit().await?)
    }

    /// Keeps a new join token and gives it an id.
    ///
    /// # Errors
    /// The database failed.
    pub async fn add_node_token(&self, token: &StoredNodeToken) -> Result<i64, StoreError> {
        let mut tx = self.begin().await?;
        let done = sqlx::query(
            "INSERT INTO node_tokens (hash, created_ms, created_by, expires_ms, uses_left, node_ids) \
             VALUES (?, ?, ?, ?, ?, ?)",
        )
        .bind(&token.hash)
        .bind(token.created_ms)
        .bind(&token.created_by)
        .bind(token.expires_ms)
        .bind(token.uses_left)
        .bind((!token.node_ids.is_empty()).then(|| serde_json::json!(token.node_ids).to_string()))
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(done.last_insert_rowid())
    }

    /// A join token is good for nothing any more. Whether it was good until now.
    ///
    /// # Errors
    /// The database failed.
    pub async fn revoke_node_token(&self, id: i64, now_ms: i64) -> Result<bool, StoreError> {
        let mut tx = self.begin().await?;
        let done = sqlx::query("UPDATE node_tokens SET revoked_ms = ? WHERE id = ? AND revoked_ms IS NULL")
            .bind(now_ms)
            .bind(id)
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
        Ok(done.rows_affected() > 0)
    }

    /// Keeps a node's new certificate; where it joined with a token, that is used once more. False: the token was used up
    /// in between, and nothing was kept.
    ///
    /// # Errors
    /// The database failed.
    pub async fn add_node_certificate(
        &self,
        certificate: &NodeCertificate,
        issuing: Issuing,
    ) -> Result<bool, StoreError> {
        let mut tx = self.begin().await?;
        if issuing.uses_permit {
            sqlx::query("UPDATE node_permits SET expires_ms = NULL, shared = 1 WHERE node_id = ?")
                .bind(&certificate.node_id)
                .execute(&mut *tx)
                .await?;
        }
        if let Some(id) = issuing.token {
            let used = sqlx::query(
                "UPDATE node_tokens SET used = used + 1, uses_left = uses_left - 1 \
                 WHERE id = ? AND revoked_ms IS NULL AND (uses_left IS NULL OR uses_left > 0)",
            )
            .bind(id)
            .execute(&mut *tx)
            .await?;
            if used.rows_affected() == 0 {
                tx.rollback().await?;
                return Ok(false);
            }
        }
        sqlx::query(
            "INSERT INTO node_certificates (fingerprint, node_id, issued_ms, expires_ms) VALUES (?, ?, ?, ?)",
        )
        .bind(&certificate.fingerprint)
        .bind(&certificate.node_id)
        .bind(certificate.issued_ms)
        .bind(certificate.expires_ms)
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(true)
    }

    /// A node gets nothing any more. Its certificates are remembered, to know it by.
    ///
    /// # Errors
    /// The database failed.
    pub async fn revoke_node(&self, node_id: &str, by: &str, now_ms: i64) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        sqlx::query(
            "INSERT INTO revoked_nodes (node_id, revoked_ms, revoked_by) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
        )
        .bind(node_id)
        .bind(now_ms)
        .bind(by)
        .execute(&mut *tx)
        .await?;
        sqlx::query("DELETE FROM node_permits WHERE node_id = ?").bind(node_id).execute(&mut *tx).await?;
        Ok(tx.commit().await?)
    }

    /// A node may join again, by a token: the certificates that it had stay good for nothing. Whether it was revoked.
    ///
    /// # Errors
    /// The database failed.
    pub async fn allow_node(&self, node_id: &str) -> Result<bool, StoreError> {
        let mut tx = self.begin().await?;
        let done = sqlx::query("DELETE FROM revoked_nodes WHERE node_id = ?")
            .bind(node_id)
            .execute(&mut *tx)
            .await?;
        if done.rows_affected() > 0 {
            sqlx::query("DELETE FROM node_certificates WHERE node_id = ?")
                .bind(node_id)
                .execute(&mut *tx)
                .await?;
        }
        tx.commit().await?;
        Ok(done.rows_affected() > 0)
    }

    /// One more process may join under a node's id, until a time.
    ///
    /// # Errors
    /// The database failed.
    pub async fn permit_node(&self, node_id: &str, by: &str, expires_ms: i64) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        sqlx::query(
            "INSERT INTO node_permits (node_id, expires_ms, granted_by) VALUES (?, ?, ?) \
             ON CONFLICT DO UPDATE SET expires_ms = excluded.expires_ms, granted_by = excluded.granted_by",
        )
        .bind(node_id)
        .bind(expires_ms)
        .bind(by)
        .execute(&mut *tx)
        .await?;
        Ok(tx.commit().await?)
    }

    /// Leaves a node's counts out of reports from now on, or counts them again.
    ///
    /// # Errors
    /// The database failed.
    pub async fn exclude_node(
        &self,
        node_id: &str,
        by: &str,
        now_ms: i64,
        is_excluded: bool,
    ) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        let query = if is_excluded {
            sqlx::query(
                "INSERT INTO excluded_nodes (node_id, excluded_ms, excluded_by) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
            )
            .bind(node_id)
            .bind(now_ms)
            .bind(by)
        } else {
            sqlx::query("DELETE FROM excluded_nodes WHERE node_id = ?").bind(node_id)
        };
        query.execute(&mut *tx).await?;
        Ok(tx.commit().await?)
    }

    /// Forgets certificates that have ended, and join tokens that ended before `ended_before_ms`.
    ///
    /// # Errors
    /// The database failed.
    pub async fn keep_node_access(&self, now_ms: i64, ended_before_ms: i64) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        sqlx::query("DELETE FROM node_certificates WHERE expires_ms <= ?")
            .bind(now_ms)
            .execute(&mut *tx)
            .await?;
        sqlx::query("DELETE FROM node_permits WHERE expires_ms <= ? AND shared = 0")
            .bind(now_ms)
            .execute(&mut *tx)
            .await?;
        sqlx::query("DELETE FROM node_tokens WHERE coalesce(revoked_ms, expires_ms) < ?")
            .bind(ended_before_ms)
            .execute(&mut *tx)
            .await?;
        Ok(tx.commit().await?)
    }
}
