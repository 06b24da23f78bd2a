//! SQL for node admission: the fleet's certificate authority, join tokens, node certificates and revoked nodes.

use sqlx::{Row as _, sqlite::SqliteRow};

use super::{Store, StoreError, WriteStore};

/// The fleet's certificate authority.
#[derive(Debug, Clone)]
pub struct StoredCa {
    /// CA certificate, DER.
    pub certificate: Vec<u8>,
    /// Private key, sealed with the master key.
    pub sealed_key: Vec<u8>,
}

/// A stored join token. Only its hash is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredNodeToken {
    /// Token id, never reused.
    pub id: i64,
    /// SHA-256 of the token's secret.
    pub hash: Vec<u8>,
    /// Creation time, milliseconds since the Unix epoch.
    pub created_ms: i64,
    /// Actor that created the token.
    pub created_by: String,
    /// Expiry time; `None` means that the token does not expire.
    pub expires_ms: Option<i64>,
    /// Number of nodes that can still join with it; `None` means no limit.
    pub uses_left: Option<i64>,
    /// Number of nodes that have joined with it.
    pub used: i64,
    /// Revocation time, if the token is revoked.
    pub revoked_ms: Option<i64>,
    /// Node ids that may use the token; empty means any.
    pub node_ids: Vec<String>,
}

/// A permit for a second process to join with a node id that is in use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodePermit {
    /// Node id.
    pub node_id: String,
    /// Until when one more process may join; `None` means that no further process may.
    pub expires_ms: Option<i64>,
    /// Whether several processes may be connected with the id.
    pub is_shared: bool,
}

/// Stored admission data, except join tokens.
#[derive(Debug, Default)]
pub struct StoredNodeAccess {
    /// Certificates that have not expired.
    pub certificates: Vec<NodeCertificate>,
    /// Ids of revoked nodes.
    pub revoked: Vec<String>,
    /// Permits for a second process with the same id.
    pub permits: Vec<NodePermit>,
    /// Nodes whose counts are left out of reports.
    pub excluded: Vec<String>,
}

/// The side effects of issuing a certificate.
#[derive(Debug, Clone, Copy, Default)]
pub struct Issuing {
    /// The join token that was used; `None` for a renewal.
    pub token: Option<i64>,
    /// Whether the permit of the node's id is consumed.
    pub uses_permit: bool,
}

/// A node's certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeCertificate {
    /// SHA-256 of the certificate.
    pub fingerprint: Vec<u8>,
    /// The node it was issued to.
    pub node_id: String,
    /// Issue time, milliseconds since the Unix epoch.
    pub issued_ms: i64,
    /// Expiry time, milliseconds since the Unix epoch.
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
        // Only this program writes the list. If it cannot be parsed, the token admits no node.
        node_ids: row
            .get::<Option<String>, _>(8)
            .map_or_else(Vec::new, |ids| serde_json::from_str(&ids).unwrap_or_else(|_| vec![String::new()])),
    }
}

impl Store {
    /// Returns the fleet's certificate authority, if it exists.
    ///
    /// # Errors
    /// The database failed.
    pub async fn fleet_ca(&self) -> Result<Option<StoredCa>, StoreError> {
        let row =
            sqlx::query("SELECT certificate, sealed_key FROM fleet_ca").fetch_optional(&self.reader).await?;
        Ok(row.map(|row| StoredCa { certificate: row.get(0), sealed_key: row.get(1) }))
    }

    /// Returns all stored join tokens.
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

    /// Returns valid certificates, revoked nodes, permits, and nodes excluded from reports.
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
    /// Stores the fleet's certificate authority, unless one exists.
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

    /// Stores a new join token and returns its id.
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

    /// Revokes a join token. Returns whether it was valid until now.
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

    /// Stores a node's new certificate, and counts the use of its join token, if one was used. Returns false, and
    /// stores nothing, when the token was used up in the meantime.
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

    /// Revokes a node. Its certificates stay stored, so that the node is recognized.
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

    /// Allows a revoked node to join again with a token. Its earlier certificates stay invalid. Returns whether it was
    /// revoked.
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

    /// Permits one more process to join with a node id, until a given time.
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

    /// Excludes a node's counts from reports, or includes them again.
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

    /// Deletes expired certificates and permits, and join tokens that ended before `ended_before_ms`.
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
