//! The use cases, independent of any transport: REST, gRPC, the dashboard and the configuration file all call them.
//!
//! Every change takes the same path: copy the configuration, edit the copy, validate the whole, write the difference as
//! the next revision in one transaction, and only then make it current. Changes are made one at a time; readers never
//! wait.

mod backends;
mod certificates;
mod config;
mod config_file;
mod error;
mod explain;
mod filters;
mod lists;
pub mod page;
mod resilience;
mod status;
mod view;

use std::{collections::HashSet, sync::Arc};

use tokio::sync::{Mutex, watch};
use weir_snapshot::{
    Config, Problem, Problems, Snapshot,
    backend_address::{self, OwnPort},
    config::{Route, Strategy},
    diff::{Change, describe_all, diff},
};

pub use self::{
    backends::Named,
    config::{Applied, ApplyOptions},
    config_file::ConfigFile,
    error::AppError,
    view::Shown,
};
use crate::{
    access::{Access, trail},
    current::{Current, Watch},
    health::{self, Health},
    publish::{History, MOST_STEPS, Registry, Version},
    secrets::{Given, Secrets},
    stats::Stats,
    store::{Origin, Revision, Store, StoreError, WriteStore},
    time::now_ms,
};

/// The author of a change, and the interface it came through.
#[derive(Debug, Clone)]
pub struct Author {
    /// A display name.
    pub actor: String,
    /// One of `rest`, `grpc`, `file`, `start`, `restore`.
    pub source: &'static str,
}

/// The state that the parts of the control plane share. Cheap to clone.
///
/// With an expected revision ([`App::at`]), changes are rejected unless that revision is current, so that a caller
/// cannot overwrite a change that it has not seen.
#[derive(Clone)]
pub struct App {
    parts: Arc<Parts>,
    /// Changes are rejected unless this revision is current.
    expected_revision: Option<u64>,
}

/// The parts that the use cases work with.
pub struct Parts {
    /// The database.
    pub store: Store,
    /// The newest revision.
    pub current: watch::Sender<Arc<Current>>,
    /// The id number of the next backend. Locked during a change, so that changes are made one at a time.
    pub next_backend: Mutex<u64>,
    /// The health checker.
    pub health: Health,
    /// The statistics.
    pub stats: Stats,
    /// The nodes.
    pub registry: Registry,
    /// The changes that led to the newest revision.
    pub history: History,
    /// Private keys.
    pub secrets: Secrets,
    /// The configuration file, if one was given.
    pub file: Option<ConfigFile>,
    /// Tokens and the audit log.
    pub access: Access,
    /// The number of revisions that are kept for rollback.
    pub keep_revisions: u64,
    /// The fleet's own ports. A backend must not use them.
    pub own_ports: Arc<[OwnPort]>,
}

/// Reads the stored state. A new database gets its first revision. A database restored from a backup gets a revision
/// with a number that was never used before.
///
/// # Errors
/// The database failed, or its content is invalid for this version.
pub async fn load(store: &Store) -> Result<(watch::Sender<Arc<Current>>, u64), AppError> {
    let mut stored = store.current().await?;
    let origin = store.origin(&stored).await?;
    let current = if stored.revision == 0 {
        let current = Current::new(1, Config::default())?;
        let changes = diff(&Default::default(), &current.resources);
        let first = revision(1, &author_of_start("start"), changes);
        store.change(|db| async move { db.write_revision(&first, stored.next_backend, 1).await }).await?;
        current
    } else {
        if let Origin::Copy(given, next_backend) = origin {
            // The numbers used after the backup are unknown, but there were fewer than one per millisecond.
            let now = now_ms().unsigned_abs();
            let number = now.max(given.max(stored.revision) + 1);
            let next = now.max(next_backend).max(stored.next_backend);
            tracing::warn!(
                revision = stored.revision,
                continues = number,
                "the database was restored from a copy: revisions and ids of backends continue with numbers that were \
                 never given before"
            );
            let jump = revision(number, &author_of_start("restore"), Vec::new());
            let keep = i64::MAX.unsigned_abs();
            store.change(|db| async move { db.write_revision(&jump, next, keep).await }).await?;
            (stored.revision, stored.next_backend) = (number, next);
        }
        Current::stored(stored.revision, stored.resources)?
    };
    store.mark(current.revision, stored.next_backend);
    if origin != Origin::Same {
        store.change(|db| async move { db.keep_identity().await }).await?;
    }
    Ok((watch::Sender::new(Arc::new(current)), stored.next_backend))
}

/// The last changes that led to the current revision. Nodes that lag behind receive only the difference.
///
/// # Errors
/// The database failed.
pub async fn history(store: &Store, current: &Current) -> Result<History, AppError> {
    let steps = store.revisions(None, MOST_STEPS).await?.into_iter();
    Ok(History::load(current, steps.map(|step| (step.revision, step.time_ms, step.changes))))
}

fn author_of_start(source: &'static str) -> Author {
    Author { actor: "control-plane".into(), source }
}

fn revision(revision: u64, author: &Author, changes: Vec<Change>) -> Revision {
    Revision {
        revision,
        time_ms: now_ms(),
        actor: author.actor.clone(),
        source: author.source.to_owned(),
        changes,
    }
}

/// The result of a change.
#[derive(Debug)]
pub struct Changed<T> {
    /// The current revision.
    pub revision: u64,
    /// The changes in words. If empty, nothing changed and there is no new revision.
    pub changes: Vec<String>,
    /// The same changes, resource by resource.
    pub diff: Vec<Change>,
    /// The return value of the edit.
    pub value: T,
}

impl App {
    /// Creates the use cases from their parts.
    pub fn new(parts: Parts) -> Self {
        Self { parts: Arc::new(parts), expected_revision: None }
    }

    /// The same use cases, limited to changes of this revision; `None` allows any current revision.
    pub fn at(&self, revision: Option<u64>) -> Self {
        Self { parts: Arc::clone(&self.parts), expected_revision: revision }
    }

    fn expect(&self, current: u64) -> Result<(), AppError> {
        match self.expected_revision {
            Some(expected) if expected != current => Err(AppError::Outdated { expected, current }),
            _ => Ok(()),
        }
    }

    /// Checks that the revision given to [`at`](Self::at) is still current. A change checks it again.
    ///
    /// # Errors
    /// Another revision is current.
    pub fn check_revision(&self) -> Result<(), AppError> {
        self.expect(self.current().revision)
    }

    /// The newest revision.
    pub fn current(&self) -> Arc<Current> {
        Arc::clone(&self.parts.current.borrow())
    }

    /// Notifies of each new revision.
    pub fn watch(&self) -> Watch {
        self.parts.current.subscribe()
    }

    /// The statistics.
    pub fn stats(&self) -> &Stats {
        &self.parts.stats
    }

    /// Tokens and the audit log.
    pub fn access(&self) -> &Access {
        &self.parts.access
    }

    /// Edits the configuration, and makes the result current if it is valid. Once started, the change is made or
    /// rejected as a whole, even if the caller stops waiting for it.
    ///
    /// # Errors
    /// The edit's own error, every error in the result, or a database error. Nothing has changed in that case.
    pub async fn change<T: Send + 'static>(
        &self,
        author: &Author,
        edit: impl FnOnce(&mut Config) -> Result<T, AppError> + Send + 'static,
    ) -> Result<Changed<T>, AppError> {
        let (app, author) = (self.clone(), author.clone());
        let changed =
            self.parts.store.change(|db| async move { app.change_with(&db, &author, edit).await }).await?;
        if !changed.diff.is_empty() {
            trail::made(changed.revision);
        }
        Ok(changed)
    }

    async fn change_with<T>(
        &self,
        db: &WriteStore,
        author: &Author,
        edit: impl FnOnce(&mut Config) -> Result<T, AppError>,
    ) -> Result<Changed<T>, AppError> {
        let mut next_backend = self.parts.next_backend.lock().await;
        let before = self.current();
        // No other change can be made until this one is done.
        self.expect(before.revision)?;
        let mut config = before.config.clone();
        let value = edit(&mut config)?;
        let keys = Given::take(&mut config);
        let mut next = *next_backend;
        for backend in config.pools.iter_mut().flat_map(|pool| &mut pool.backends) {
            if backend.id.is_empty() {
                backend.id = format!("b{next}");
                next += 1;
            }
        }
        let (after, changes) = before.next(config)?;
        self.refuse_addresses(&before.snapshot, &after.snapshot)?;
        let keys = self.parts.secrets.check(&after.snapshot, &keys)?;
        self.parts.secrets.keep(db, keys).await?;
        if changes.is_empty() {
            return Ok(Changed { revision: before.revision, changes: Vec::new(), diff: changes, value });
        }
        let words = describe_all(&changes);
        let number = after.revision;
        let written = revision(number, author, changes);
        db.write_revision(&written, next, self.parts.keep_revisions).await?;
        *next_backend = next;
        let known: HashSet<&str> = before.snapshot.warnings.iter().map(|old| old.message.as_str()).collect();
        for warning in after.snapshot.warnings.iter().filter(|one| !known.contains(one.message.as_str())) {
            tracing::warn!(revision = number, path = warning.path, "{}", warning.message);
        }
        // Stored first, so that a node that learns of the revision finds the difference to it.
        let from = Version { revision: before.revision, hash: before.hash };
        self.parts.history.push(from, written.time_ms, &written.changes);
        self.parts.current.send_replace(Arc::new(after));
        tracing::info!(
            revision = number,
            actor = author.actor,
            source = author.source,
            changes = words.len(),
            "revision"
        );
        Ok(Changed { revision: number, changes: words, diff: written.changes, value })
    }

    /// Rejects backends at addresses that are not allowed. A host name is checked when the prober or a node connects to
    /// it. So is a backend that was stored before its address became forbidden: it must not block other changes.
    fn refuse_addresses(&self, before: &Snapshot, after: &Snapshot) -> Result<(), Problems> {
        let refused =
            |snapshot| backend_address::forbidden(snapshot, &self.parts.own_ports, health::is_local);
        let problems = refused(after);
        if problems.0.is_empty() {
            return Ok(());
        }
        let stored: HashSet<_> = refused(before).0.into_iter().map(|problem| problem.message).collect();
        let new = problems.0.into_iter().filter(|problem| !stored.contains(&problem.message)).collect();
        Problems(new).into_result(())
    }

    /// Replaces a pool's strategy.
    ///
    /// # Errors
    /// The pool does not exist.
    pub async fn set_strategy(
        &self,
        author: &Author,
        pool: &str,
        strategy: Strategy,
    ) -> Result<u64, AppError> {
        let pool = pool.to_owned();
        let changed = self.change(author, move |config| {
            let found = config.pools.iter_mut().find(|one| one.name == pool);
            let found = found.ok_or_else(|| AppError::not_found("pool", &pool))?;
            found.strategy = strategy;
            // Settings that only the previous strategy uses are removed.
            found.hash_on = found.hash_on.take().filter(|_| strategy == Strategy::ConsistentHash);
            Ok(())
        });
        Ok(changed.await?.revision)
    }

    /// Creates or replaces a pool. Its backends keep their ids if their URLs stay the same. Returns true if the pool is
    /// new.
    ///
    /// # Errors
    /// The pool is invalid.
    pub async fn put_pool(
        &self,
        author: &Author,
        mut pool: weir_snapshot::config::Pool,
    ) -> Result<bool, AppError> {
        let changed = self.change(author, move |config| {
            match config.pools.iter_mut().find(|one| one.name == pool.name) {
                Some(old) => {
                    config::keep_ids(&old.backends, &mut pool.backends);
                    *old = pool;
                    Ok(false)
                }
                None => {
                    config.pools.push(pool);
                    Ok(true)
                }
            }
        });
        Ok(changed.await?.value)
    }

    /// Removes a pool with its backends.
    ///
    /// # Errors
    /// The pool does not exist, or a route uses it.
    pub async fn delete_pool(&self, author: &Author, name: &str) -> Result<u64, AppError> {
        let name = name.to_owned();
        let changed = self.change(author, move |config| {
            let place = config.pools.iter().position(|pool| pool.name == name);
            let place = place.ok_or_else(|| AppError::not_found("pool", &name))?;
            let goes =
                |route: &&Route| route.pool == name || route.split.iter().any(|share| share.pool == name);
            if let Some(route) = config.routes.iter().find(goes) {
                return Err(AppError::Conflict(format!("pool {name:?} is used by route {:?}", route.name)));
            }
            let falls_back = |route: &&Route| {
                route.fallback.as_ref().is_some_and(|fallback| fallback.pool.as_ref() == Some(&name))
            };
            if let Some(route) = config.routes.iter().find(falls_back) {
                let message = format!("pool {name:?} is the fallback of route {:?}", route.name);
                return Err(AppError::Conflict(message));
            }
            config.pools.remove(place);
            Ok(())
        });
        Ok(changed.await?.revision)
    }

    /// Creates or replaces a route. Returns whether it is new, and warnings about settings that look like mistakes.
    ///
    /// # Errors
    /// The route is invalid.
    pub async fn put_route(&self, author: &Author, route: Route) -> Result<(bool, Vec<Problem>), AppError> {
        let name = route.name.clone();
        let changed = self.change(author, move |config| {
            match config.routes.iter_mut().find(|one| one.name == route.name) {
                Some(old) => {
                    *old = route;
                    Ok(false)
                }
                None => {
                    config.routes.push(route);
                    Ok(true)
                }
            }
        });
        let is_new = changed.await?.value;
        // Warnings about this route, or about another route that it now hides.
        let names = format!("{name:?}");
        let current = self.current();
        let about_it = |warning: &&Problem| warning.message.contains(&names);
        Ok((is_new, current.snapshot.warnings.iter().filter(about_it).cloned().collect()))
    }

    /// Removes a route.
    ///
    /// # Errors
    /// The route does not exist.
    pub async fn delete_route(&self, author: &Author, name: &str) -> Result<u64, AppError> {
        let name = name.to_owned();
        let changed = self.change(author, move |config| {
            let place = config.routes.iter().position(|route| route.name == name);
            config.routes.remove(place.ok_or_else(|| AppError::not_found("route", &name))?);
            Ok(())
        });
        Ok(changed.await?.revision)
    }

    /// The newest revisions below `before`, as far as the caller may see them.
    ///
    /// # Errors
    /// The database failed.
    pub async fn revisions(&self, before: Option<u64>, limit: u32) -> Result<Vec<Revision>, StoreError> {
        let revisions = self.parts.store.revisions(before, limit).await?;
        Ok(revisions.into_iter().map(view::revision).collect())
    }

    /// One revision, as far as the caller may see it.
    ///
    /// # Errors
    /// The revision does not exist, or is no longer kept.
    pub async fn revision(&self, number: u64) -> Result<Revision, AppError> {
        if let Some(revision) = self.parts.store.revision(number).await? {
            return Ok(view::revision(revision));
        }
        let (newest, oldest) = (self.current().revision, self.parts.store.oldest_revision().await?);
        let kept = format!("those from {oldest} to {newest} are kept");
        Err(AppError::Missing(match number {
            1.. if number < oldest => {
                format!(
                    "revision {number} is no longer there: {kept} (--keep-revisions {})",
                    self.parts.keep_revisions
                )
            }
            _ => format!("there is no revision {number}: {kept}"),
        }))
    }
}
