//! The SQL of the fleet's keys: made once, and then the same for ever.

use sqlx::Row as _;

use super::{Store, StoreError};

/// What sessions are signed with.
pub type FleetKey = [u8; 32];

impl Store {
    /// The key that sessions are signed with; made now where there is none yet.
    ///
    /// # Errors
    /// The database failed, or holds what is no key.
    pub async fn session_key(&self) -> Result<FleetKey, StoreError> {
        let mut new = FleetKey::default();
        // Version 4 ids come from the system's source of chance; of each, 122 bits are.
        for piece in new.chunks_mut(16) {
            piece.copy_from_slice(uuid::Uuid::new_v4().as_bytes());
        }
        let mut tx = self.writer.begin().await?;
        sqlx::query("INSERT INTO fleet_keys (name, key) VALUES ('session', ?) ON CONFLICT DO NOTHING")
            .bind(new.as_slice())
            .execute(&mut *tx)
            .await?;
        let row =
            sqlx::query("SELECT key FROM fleet_keys WHERE name = 'session'").fetch_one(&mut *tx).await?;
        tx.commit().await?;
        let key: Vec<u8> = row.get(0);
        let length = key.len();
        key.try_into().map_err(|_| StoreError::Broken("fleet key", format!("it has {length} bytes, not 32")))
    }
}
