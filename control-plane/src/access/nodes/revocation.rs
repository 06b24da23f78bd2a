//! Revokes nodes, allows them again, and leaves their counts out of reports.

use std::time::Duration;

use super::NodeAccess;
use crate::{access::AccessError, store::WriteStore, time::now_ms};

/// How long a second process may join under a node's id once that was allowed.
const PERMIT: Duration = Duration::from_secs(3600);

/// What an operator allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Allowed {
    /// A revoked node may join again.
    Rejoin,
    /// One more process may join under the id of a node that is connected, until then (milliseconds since the Unix epoch).
    Beside(i64),
}

impl NodeAccess {
    /// Ends a node's membership, and its streams with it.
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

    /// Leaves a node's counts out of reports from now on, or counts them again.
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
            "whether the node's counts are left out of reports has changed"
        );
        Ok(())
    }

    /// Lets a revoked node join again, by a token; or, where it is not revoked, one more process join under the id of a
    /// node that is known.
    ///
    /// # Errors
    /// It is neither revoked nor known.
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
