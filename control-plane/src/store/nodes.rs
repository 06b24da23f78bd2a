//! The SQL of the nodes: every one that was ever seen.

use sqlx::Row as _;

use super::{Store, StoreError};

/// A node as it is remembered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenNode {
    /// Its id.
    pub id: String,
    /// The version of its program.
    pub version: String,
    /// Where it takes traffic.
    pub address: String,
    /// When it was last seen, milliseconds since the Unix epoch.
    pub last_seen_ms: i64,
}

impl Store {
    /// Remembers that a node was seen.
    ///
    /// # Errors
    /// The database failed.
    pub async fn node_seen(&self, node: &SeenNode) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO nodes (id, version, address, first_seen_ms, last_seen_ms) VALUES (?1, ?2, ?3, ?4, ?4) \
             ON CONFLICT (id) DO UPDATE SET version = excluded.version, address = excluded.address, \
             last_seen_ms = excluded.last_seen_ms",
        )
        .bind(&node.id)
        .bind(&node.version)
        .bind(&node.address)
        .bind(node.last_seen_ms)
        .execute(&self.writer)
        .await?;
        Ok(())
    }

    /// Every node that was ever seen.
    ///
    /// # Errors
    /// The database failed.
    pub async fn nodes_seen(&self) -> Result<Vec<SeenNode>, StoreError> {
        let rows = sqlx::query("SELECT id, version, address, last_seen_ms FROM nodes ORDER BY id")
            .fetch_all(&self.reader)
            .await?;
        let node = |row: &sqlx::sqlite::SqliteRow| SeenNode {
            id: row.get(0),
            version: row.get(1),
            address: row.get(2),
            last_seen_ms: row.get(3),
        };
        Ok(rows.iter().map(node).collect())
    }
}
