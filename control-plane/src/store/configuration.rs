//! SQL for the configuration: the current resources and the revisions that led to them.

use sqlx::{QueryBuilder, Row as _, Sqlite, SqliteConnection, sqlite::SqliteRow};
use weir_snapshot::{
    diff::Change,
    resource::{Key, Kind, Resources},
};

use super::{Marks, Store, StoreError, WriteStore, files};

/// The current configuration as stored.
#[derive(Debug)]
pub struct Stored {
    /// The newest revision; 0 when there is none.
    pub revision: u64,
    /// Resources of the newest revision.
    pub resources: Resources,
    /// Number of the next backend id; it only increases.
    pub next_backend: u64,
}

/// One change of the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revision {
    /// Revision number.
    pub revision: u64,
    /// Creation time, milliseconds since the Unix epoch.
    pub time_ms: i64,
    /// Actor that made the change.
    pub actor: String,
    /// Interface that was used: `rest`, `grpc`, `file` or `start`.
    pub source: String,
    /// Changes by resource.
    pub changes: Vec<Change>,
}

impl Store {
    /// Reads the current configuration.
    ///
    /// # Errors
    /// The database failed or contains an invalid value.
    pub async fn current(&self) -> Result<Stored, StoreError> {
        let mut tx = self.reader.begin().await?;
        let revision: i64 =
            sqlx::query("SELECT coalesce(max(revision), 0) FROM revisions").fetch_one(&mut *tx).await?.get(0);
        let next_backend: i64 = sqlx::query("SELECT value FROM meta WHERE key = 'next_backend_id'")
            .fetch_one(&mut *tx)
            .await?
            .get(0);
        let rows = sqlx::query(
            "SELECT 'settings', '', spec FROM settings UNION ALL SELECT 'pool', name, spec FROM pools \
             UNION ALL SELECT 'backend', id, spec FROM backends UNION ALL SELECT 'route', name, spec FROM routes \
             UNION ALL SELECT 'certificate', name, spec FROM certificates",
        )
        .fetch_all(&mut *tx)
        .await?;
        let resources =
            rows.iter().map(|row| Ok((key(row)?, row.get(2)))).collect::<Result<_, StoreError>>()?;
        Ok(Stored { revision: revision.unsigned_abs(), resources, next_backend: next_backend.unsigned_abs() })
    }

    /// Records the highest assigned revision and backend numbers outside the database.
    pub fn mark(&self, revision: u64, next_backend: u64) {
        if let Some(marks) = &self.marks {
            marks.write(revision, next_backend);
        }
    }

    /// Returns whether the database is still in the file it was in before.
    ///
    /// # Errors
    /// The database failed.
    pub async fn origin(&self, stored: &Stored) -> Result<Origin, StoreError> {
        let mut known = Vec::new();
        for key in IDENTITY {
            let value: Option<i64> = sqlx::query_scalar("SELECT value FROM meta WHERE key = ?")
                .bind(key)
                .fetch_optional(&self.reader)
                .await?;
            known.extend(value);
        }
        let given = self.marks.as_ref().and_then(Marks::read).unwrap_or_default();
        let now = files::identity(self.path()).ok();
        let is_same = now.is_none_or(|now| known == now);
        if given.0 > stored.revision || given.1 > stored.next_backend || (known.len() == 2 && !is_same) {
            return Ok(Origin::Copy(given.0, given.1));
        }
        Ok(if is_same { Origin::Same } else { Origin::New })
    }

    /// Returns the oldest stored revision; 0 when there is none.
    ///
    /// # Errors
    /// The database failed.
    pub async fn oldest_revision(&self) -> Result<u64, StoreError> {
        let row =
            sqlx::query("SELECT coalesce(min(revision), 0) FROM revisions").fetch_one(&self.reader).await?;
        Ok(row.get::<i64, _>(0).unsigned_abs())
    }

    /// Returns the newest revisions below `before`, newest first.
    ///
    /// # Errors
    /// The database failed.
    pub async fn revisions(&self, before: Option<u64>, limit: u32) -> Result<Vec<Revision>, StoreError> {
        let mut tx = self.reader.begin().await?;
        let rows = sqlx::query(
            "SELECT revision, time_ms, actor, source FROM revisions WHERE revision < ? \
             ORDER BY revision DESC LIMIT ?",
        )
        .bind(before.map_or(i64::MAX, u64::cast_signed))
        .bind(limit)
        .fetch_all(&mut *tx)
        .await?;
        let mut revisions = Vec::with_capacity(rows.len());
        for row in &rows {
            revisions.push(read_revision(&mut tx, row).await?);
        }
        Ok(revisions)
    }

    /// Returns one revision, if it is stored.
    ///
    /// # Errors
    /// The database failed.
    pub async fn revision(&self, revision: u64) -> Result<Option<Revision>, StoreError> {
        let mut tx = self.reader.begin().await?;
        let row = sqlx::query("SELECT revision, time_ms, actor, source FROM revisions WHERE revision = ?")
            .bind(revision.cast_signed())
            .fetch_optional(&mut *tx)
            .await?;
        match row {
            Some(row) => Ok(Some(read_revision(&mut tx, &row).await?)),
            None => Ok(None),
        }
    }

    /// Returns the keys that at least one stored revision changed.
    ///
    /// # Errors
    /// The database failed or contains an invalid value.
    pub async fn keys_in_revisions(&self, keys: &[Key]) -> Result<Vec<Key>, StoreError> {
        let wanted: Vec<_> =
            keys.iter().map(|key| serde_json::json!([key.kind.to_string(), key.name])).collect();
        let rows = sqlx::query(
            "SELECT DISTINCT changes.kind, changes.name FROM json_each(?) AS wanted CROSS JOIN changes \
             WHERE kind = wanted.value ->> 0 AND name = wanted.value ->> 1",
        )
        .bind(serde_json::Value::from(wanted).to_string())
        .fetch_all(&self.reader)
        .await?;
        rows.iter().map(key).collect()
    }

    /// Returns the resources of an earlier revision: the current ones with every later change undone.
    ///
    /// # Errors
    /// The database failed.
    pub async fn resources_at(
        &self,
        mut resources: Resources,
        revision: u64,
    ) -> Result<Resources, StoreError> {
        let rows =
            sqlx::query("SELECT kind, name, before FROM changes WHERE revision > ? ORDER BY revision DESC")
                .bind(revision.cast_signed())
                .fetch_all(&self.reader)
                .await?;
        for row in &rows {
            let key = key(row)?;
            match row.get::<Option<String>, _>(2) {
                Some(before) => resources.insert(key, before),
                None => resources.remove(&key),
            };
        }
        Ok(resources)
    }
}

impl WriteStore {
    /// Writes a revision and the rows it changes, and deletes all but the newest `keep` revisions, in one transaction.
    /// Fails when the revision number already exists.
    ///
    /// # Errors
    /// The database failed; nothing was written.
    pub async fn write_revision(
        &self,
        revision: &Revision,
        next_backend: u64,
        keep: u64,
    ) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        sqlx::query("INSERT INTO revisions (revision, time_ms, actor, source) VALUES (?, ?, ?, ?)")
            .bind(revision.revision.cast_signed())
            .bind(revision.time_ms)
            .bind(&revision.actor)
            .bind(&revision.source)
            .execute(&mut *tx)
            .await?;
        write_changes(&mut tx, revision).await?;
        sqlx::query("UPDATE meta SET value = ? WHERE key = 'next_backend_id'")
            .bind(next_backend.cast_signed())
            .execute(&mut *tx)
            .await?;
        // By count, because revision numbers may have gaps.
        let forget: Option<i64> =
            sqlx::query_scalar("SELECT revision FROM revisions ORDER BY revision DESC LIMIT 1 OFFSET ?")
                .bind(keep.cast_signed())
                .fetch_optional(&mut *tx)
                .await?;
        if let Some(forget) = forget {
            for table in
                ["DELETE FROM changes WHERE revision <= ?", "DELETE FROM revisions WHERE revision <= ?"]
            {
                sqlx::query(table).bind(forget).execute(&mut *tx).await?;
            }
        }
        tx.commit().await?;
        self.mark(revision.revision, next_backend);
        Ok(())
    }

    /// Stores the identity of the database's file in the database.
    ///
    /// # Errors
    /// The database failed.
    pub async fn keep_identity(&self) -> Result<(), StoreError> {
        let Ok(identity) = files::identity(self.path()) else { return Ok(()) };
        let mut tx = self.begin().await?;
        for (key, value) in IDENTITY.into_iter().zip(identity) {
            sqlx::query("INSERT INTO meta (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value")
                .bind(key)
                .bind(value)
                .execute(&mut *tx)
                .await?;
        }
        Ok(tx.commit().await?)
    }
}

/// Keys of `meta` that store the identity of the database's file.
const IDENTITY: [&str; 2] = ["file_inode", "file_born_us"];

/// Whether the database is still in the file it was in before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The same file as before.
    Same,
    /// The database has no stored file identity.
    New,
    /// The file is a copy, or was restored to an earlier state. Holds the highest revision and the number of the next
    /// backend that were assigned before, as far as known.
    Copy(u64, u64),
}

/// Rows per statement; SQLite accepts at most 32,766 values in one statement.
const ROWS: usize = 500;

async fn write_changes(tx: &mut SqliteConnection, revision: &Revision) -> Result<(), StoreError> {
    for rows in revision.changes.chunks(ROWS) {
        let mut insert =
            QueryBuilder::<Sqlite>::new("INSERT INTO changes (revision, kind, name, before, after) ");
        insert.push_values(rows, |mut row, Change { key, before, after }| {
            row.push_bind(revision.revision.cast_signed())
                .push_bind(key.kind.to_string())
                .push_bind(&*key.name)
                .push_bind(before.as_deref())
                .push_bind(after.as_deref());
        });
        insert.build().execute(&mut *tx).await?;
    }
    // Deletions come first, and changed backends are always deleted: a URL may move from one backend of a pool to
    // another.
    for kind in [Kind::Pool, Kind::Backend, Kind::Route, Kind::Certificate] {
        let is_removed =
            |change: &&Change| change.after.is_none() || kind == Kind::Backend && change.before.is_some();
        let gone: Vec<&str> = revision
            .changes
            .iter()
            .filter(|change| change.key.kind == kind)
            .filter(is_removed)
            .map(|change| change.key.name.as_str())
            .collect();
        for names in gone.chunks(ROWS) {
            let (table, name) = table(kind);
            let mut delete = QueryBuilder::<Sqlite>::new(format!("DELETE FROM {table} WHERE {name} IN ("));
            let mut list = delete.separated(", ");
            names.iter().for_each(|name| {
                list.push_bind(*name);
            });
            delete.push(")");
            delete.build().execute(&mut *tx).await?;
        }
    }
    for kind in [Kind::Settings, Kind::Pool, Kind::Backend, Kind::Route, Kind::Certificate] {
        let specs: Vec<(&str, &str)> = revision
            .changes
            .iter()
            .filter(|change| change.key.kind == kind)
            .filter_map(|change| Some((change.key.name.as_str(), change.after.as_deref()?)))
            .collect();
        for rows in specs.chunks(ROWS) {
            let (table, name) = table(kind);
            let mut put = QueryBuilder::<Sqlite>::new(format!("INSERT INTO {table} ({name}, spec) "));
            put.push_values(rows, |mut row, (name, spec)| {
                match kind {
                    // The settings are a single row without a name.
                    Kind::Settings => row.push("1"),
                    _ => row.push_bind(*name),
                }
                .push_bind(*spec);
            });
            put.push(format!(" ON CONFLICT ({name}) DO UPDATE SET spec = excluded.spec"));
            put.build().execute(&mut *tx).await?;
        }
    }
    Ok(())
}

/// The table of a kind, and its key column.
fn table(kind: Kind) -> (&'static str, &'static str) {
    match kind {
        Kind::Settings => ("settings", "id"),
        Kind::Pool => ("pools", "name"),
        Kind::Backend => ("backends", "id"),
        Kind::Route => ("routes", "name"),
        Kind::Certificate => ("certificates", "name"),
    }
}

async fn read_revision(tx: &mut SqliteConnection, row: &SqliteRow) -> Result<Revision, StoreError> {
    let revision: i64 = row.get(0);
    let rows = sqlx::query("SELECT kind, name, before, after FROM changes WHERE revision = ?")
        .bind(revision)
        .fetch_all(&mut *tx)
        .await?;
    let mut changes = rows
        .iter()
        .map(|row| Ok(Change { key: key(row)?, before: row.get(2), after: row.get(3) }))
        .collect::<Result<Vec<_>, StoreError>>()?;
    changes.sort_by(|a, b| a.key.cmp(&b.key));
    Ok(Revision {
        revision: revision.unsigned_abs(),
        time_ms: row.get(1),
        actor: row.get(2),
        source: row.get(3),
        changes,
    })
}

fn key(row: &SqliteRow) -> Result<Key, StoreError> {
    let kind: String = row.get(0);
    let kind = kind.parse().map_err(|error| StoreError::Broken("resource", error))?;
    Ok(Key { kind, name: row.get(1) })
}
