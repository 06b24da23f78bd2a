//! SQL for the nodes that are known.

use std::collections::BTreeMap;

use sqlx::Row as _;

use super::{Store, StoreError, WriteStore};

/// A node as stored.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SeenNode {
    /// Node id.
    pub id: String,
    /// Version of the data plane.
    pub version: String,
    /// Address on which the node accepts traffic.
    pub address: String,
    /// Labels set by the operator.
    pub labels: BTreeMap<String, String>,
    /// The revision it last reported as active.
    pub active_revision: u64,
    /// When the node was last connected, milliseconds since the Unix epoch.
    pub last_seen_ms: i64,
}

impl Store {
    /// Returns when a node was first seen, milliseconds since the Unix epoch.
    ///
    /// # Errors
    /// The database failed.
    pub async fn node_first_seen(&self, id: &str) -> Result<Option<i64>, StoreError> {
        let found = sqlx::query_scalar("SELECT first_seen_ms FROM nodes WHERE id = ?")
            .bind(id)
            .fetch_optional(&self.reader)
            .await?;
        Ok(found)
    }

    /// Returns all stored nodes.
    ///
    /// # Errors
    /// The database failed.
    pub async fn nodes_seen(&self) -> Result<Vec<SeenNode>, StoreError> {
        let rows = sqlx::query(
            "SELECT id, version, address, labels, active_revision, last_seen_ms FROM nodes ORDER BY id",
        )
        .fetch_all(&self.reader)
        .await?;
        let node = |row: &sqlx::sqlite::SqliteRow| SeenNode {
            id: row.get(0),
            version: row.get(1),
            address: row.get(2),
            // Labels that were edited by hand and are invalid must not prevent the start.
            labels: serde_json::from_str(row.get(3)).unwrap_or_default(),
            active_revision: row.get::<i64, _>(4).unsigned_abs(),
            last_seen_ms: row.get(5),
        };
        Ok(rows.iter().map(node).collect())
    }
}

impl WriteStore {
    /// Stores that nodes were connected, in one transaction.
    ///
    /// # Errors
    /// The database failed.
    pub async fn nodes_met(&self, nodes: &[SeenNode]) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        for node in nodes {
            sqlx::query(
                "INSERT INTO nodes (id, version, address, labels, active_revision, first_seen_ms, last_seen_ms) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?6) \
                 ON CONFLICT (id) DO UPDATE SET version = excluded.version, address = excluded.address, \
                 labels = excluded.labels, active_revision = excluded.active_revision, \
                 last_seen_ms = excluded.last_seen_ms",
            )
            .bind(&node.id)
            .bind(&node.version)
            .bind(&node.address)
            .bind(serde_json::to_string(&node.labels).unwrap_or_default())
            .bind(node.active_revision.cast_signed())
            .bind(node.last_seen_ms)
            .execute(&mut *tx)
            .await?;
        }
        Ok(tx.commit().await?)
    }

    /// Deletes nodes. Their reported statistics are kept.
    ///
    /// # Errors
    /// The database failed.
    pub async fn forget_nodes(&self, ids: &[String]) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        for id in ids {
            sqlx::query("DELETE FROM nodes WHERE id = ?").bind(id).execute(&mut *tx).await?;
        }
        Ok(tx.commit().await?)
    }
}
