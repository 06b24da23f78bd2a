//! Revokes nodes, allows them again, and excludes their counts from reports.

use std::time::Duration;

use super::NodeAccess;
use crate::{access::AccessError, store::WriteStore, time::now_ms};

/// How long a permit for a second process is valid.
const PERMIT: Duration = Duration::from_secs(3600);

/// The effect of allowing a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Allowed {
    /// A revoked node may join again.
    Rejoin,
    /// One more process may join with the id of a connected node until this time, milliseconds since the Unix epoch.
    Beside(i64),
}

impl NodeAccess {
    /// Revokes a node and closes its streams.
    ///
    /// # Errors
    /// The database failed.
    pub async fn revoke(&self, node_id: &str, by: &str) -> Result<(), AccessError> {
        let (this, node_id, by) = (self.clone(), node_id.to_owned(), by.to_owned());
        self.shared.store.change(|db| async move { this.revoke_with(&db, &node_id, &by).await }).await
    }

    async fn revoke_with(&self, db: &WriteStore, node_id: &str, by: &str) -> Result<(), AccessError> {
        let _one = self.shared.changing.lock().await;
        db.revoke_node(node_id, by, now_ms()).await?;
        self.edit(|book| {
            book.revoked.insert(node_id.to_owned());
            book.permits.remove(node_id);
            book.shared.remove(node_id);
            book.certificates
                .values()
                .filter(|member| member.node_id == node_id)
                .for_each(|member| member.ended.cancel());
        });
        tracing::warn!(node = node_id, by, "node revoked");
        Ok(())
    }

    /// Excludes a node's counts from reports, or includes them again.
    ///
    /// # Errors
    /// The database failed.
    pub async fn exclude(&self, node_id: &str, is_excluded: bool, by: &str) -> Result<(), AccessError> {
        let (this, node_id, by) = (self.clone(), node_id.to_owned(), by.to_owned());
        let excluded = self
            .shared
            .store
            .change(|db| async move { this.exclude_with(&db, &node_id, is_excluded, &by).await });
        excluded.await
    }

    async fn exclude_with(
        &self,
        db: &WriteStore,
        node_id: &str,
        is_excluded: bool,
        by: &str,
    ) -> Result<(), AccessError> {
        let _one = self.shared.changing.lock().await;
        db.exclude_node(node_id, by, now_ms(), is_excluded).await?;
        self.edit(|book| match is_excluded {
            true => drop(book.excluded.insert(node_id.to_owned())),
            false => drop(book.excluded.remove(node_id)),
        });
        tracing::warn!(
            node = node_id,
            by,
            is_excluded,
            "changed whether the node's counts are excluded from reports"
        );
        Ok(())
    }

    /// Allows a revoked node to join again with a token. If the node is not revoked, permits one more process to join
    /// with its id.
    ///
    /// # Errors
    /// The node is neither revoked nor known.
    pub async fn allow(&self, node_id: &str, is_known: bool, by: &str) -> Result<Allowed, AccessError> {
        let (this, node_id, by) = (self.clone(), node_id.to_owned(), by.to_owned());
        self.shared
            .store
            .change(|db| async move { this.allow_with(&db, &node_id, is_known, &by).await })
            .await
    }

    async fn allow_with(
        &self,
        db: &WriteStore,
        node_id: &str,
        is_known: bool,
        by: &str,
    ) -> Result<Allowed, AccessError> {
        let _one = self.shared.changing.lock().await;
        if db.allow_node(node_id).await? {
            self.edit(|book| {
                book.revoked.remove(node_id);
                book.certificates.retain(|_, member| member.node_id != node_id);
            });
            return Ok(Allowed::Rejoin);
        }
        if !is_known {
            return Err(AccessError::NotFound("node", node_id.to_owned()));
        }
        let until = now_ms().saturating_add(i64::try_from(PERMIT.as_millis()).unwrap_or(i64::MAX));
        db.permit_node(node_id, by, until).await?;
        self.edit(|book| book.permits.insert(node_id.to_owned(), until));
        Ok(Allowed::Beside(until))
    }
}
