//! The configuration file (`--config`): when it is applied, and how the configuration differs from it.
//!
//! A file is applied when its content has changed since it was last applied, and never just because the process started
//! or received a reload. The content includes the files that it names (certificates, authorities, key sets). The
//! content that was last applied is kept in the database. A changed file is merged ([`merge`]): the changes in the file
//! become current, and changes made through the API or the dashboard are kept where the file is unchanged. With
//! `--config-authoritative`, each read makes the whole file current.

use std::{
    borrow::Cow,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use weir_admin_api::ConfigFile as Info;
use weir_snapshot::{
    BackendUrl, Config, Problem,
    diff::{Change, describe_all},
    file,
    merge::{Merged, merge},
};

use super::{
    App, AppError, Applied, Author, Changed,
    config::{keep_all_ids, parsed},
};
use crate::{
    access::sha256,
    secrets::Given,
    store::{StoreError, StoredFile},
    time::{now_ms, rfc3339},
};

/// The most differences that the status lists.
const SHOWN: usize = 20;

/// The file given on the command line.
#[derive(Debug)]
pub struct ConfigFile {
    path: PathBuf,
    /// Each read makes the whole file current.
    is_authoritative: bool,
    /// Held while the file is read and applied.
    reading: tokio::sync::Mutex<()>,
    /// The content that was last applied.
    applied: Mutex<Option<Arc<StoredFile>>>,
    drift: Mutex<Option<Drift>>,
}

/// The differences between one revision and the content that was last applied.
#[derive(Debug, Clone)]
struct Drift {
    revision: u64,
    /// The revision at which the file was applied.
    since: u64,
    info: Info,
}

impl ConfigFile {
    /// A file that has not been read yet, and its content in the database.
    pub fn new(path: PathBuf, is_authoritative: bool, applied: Option<StoredFile>) -> Self {
        let applied = Mutex::new(applied.map(Arc::new));
        Self {
            path,
            is_authoritative,
            reading: tokio::sync::Mutex::default(),
            applied,
            drift: Mutex::default(),
        }
    }

    fn applied(&self) -> Option<Arc<StoredFile>> {
        self.applied.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl App {
    /// Reads the configuration file again and applies its changes. `None` if no file was given.
    ///
    /// # Errors
    /// The file cannot be read, or is invalid.
    pub async fn reload(&self, author: &Author) -> Result<Option<Applied>, AppError> {
        if self.parts.file.is_none() {
            return Ok(None);
        }
        let read = self.read_file(author).await;
        read.inspect_err(|error| tracing::error!(%error, "configuration file refused, nothing changed"))
    }

    /// Same as [`reload`](Self::reload), without a log entry for an error.
    pub(crate) async fn read_file(&self, author: &Author) -> Result<Option<Applied>, AppError> {
        let Some(given) = &self.parts.file else { return Ok(None) };
        let reading = given.reading.lock().await;
        let known = given.applied();
        self.check_revision()?;
        let text = inlined(&given.path).await?;
        let (mut config, warnings) = parsed(text).await?;
        canonical_urls(&mut config);
        let content = content(&config)?;
        let hash = sha256(content.as_bytes()).to_vec();
        let is_same = known.as_ref().is_some_and(|known| known.hash == hash);
        let applied = if given.is_authoritative {
            self.replace(author, config, warnings).await?
        } else if is_same {
            let revision = self.current().revision;
            Applied {
                revision,
                changes: Vec::new(),
                warnings: Vec::new(),
                diff: Vec::new(),
                rollout: None,
                replaced: Vec::new(),
            }
        } else {
            let base = known.as_ref().and_then(|known| serde_json::from_str(&known.content).ok());
            match base {
                Some(base) => self.merge(author, base, config, warnings).await?,
                None => self.replace(author, config, warnings).await?,
            }
        };
        if !is_same || !applied.changes.is_empty() {
            let stored = StoredFile {
                path: given.path.display().to_string(),
                hash,
                content,
                applied_ms: now_ms(),
                revision: applied.revision,
            };
            let this = self.clone();
            let kept = self.parts.store.change(|db| async move {
                db.keep_config_file(&stored).await?;
                if let Some(given) = &this.parts.file {
                    *given.applied.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(stored));
                }
                Ok::<_, StoreError>(())
            });
            kept.await?;
        }
        drop(reading);
        log_changes(&applied, is_same);
        if let Some(info) = self.config_file().filter(|info| info.drift_count > 0) {
            tracing::info!(
                differences = info.drift_count,
                first = info.drift.first(),
                "the configuration differs from the configuration file; the file is applied when it changes"
            );
        }
        Ok(Some(applied))
    }

    async fn replace(
        &self,
        author: &Author,
        mut config: Config,
        warnings: Vec<Problem>,
    ) -> Result<Applied, AppError> {
        let changed = self
            .change(author, move |old| {
                keep_all_ids(old, &mut config);
                *old = config;
                Ok(())
            })
            .await?;
        Ok(applied(changed, warnings, Vec::new()))
    }

    /// Applies the changes that the file has since its version `base`.
    async fn merge(
        &self,
        author: &Author,
        base: Config,
        config: Config,
        warnings: Vec<Problem>,
    ) -> Result<Applied, AppError> {
        let file = config.clone();
        let edit_base = base.clone();
        let merged = self.change(author, move |old| {
            let Merged { mut config, replaced } =
                merge(&edit_base, &file, old).map_err(|error| AppError::invalid("", error.to_string()))?;
            keep_all_ids(old, &mut config);
            *old = config;
            Ok(replaced)
        });
        match merged.await {
            Ok(Changed { revision, changes, diff, value }) => {
                let changed = Changed { revision, changes, diff, value: () };
                Ok(applied(changed, warnings, value))
            }
            // The file is valid by itself, but conflicts with the changes made by other means. Those changes are
            // dropped.
            Err(AppError::Invalid(problems)) => {
                tracing::warn!(
                    %problems,
                    "what the configuration file changed does not fit with changes made otherwise: the file replaces them all"
                );
                let before = self.current();
                let replaced = differences(&base, &before);
                let applied = self.replace(author, config, warnings).await?;
                Ok(Applied { replaced: describe_all(&replaced), ..applied })
            }
            Err(error) => Err(error),
        }
    }

    /// The configuration file and its differences from the current configuration; `None` if no file was given.
    pub fn config_file(&self) -> Option<Info> {
        let given = self.parts.file.as_ref()?;
        let stored = given.applied()?;
        let current = self.current();
        let known = given.drift.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(known) =
            known.filter(|known| (known.revision, known.since) == (current.revision, stored.revision))
        {
            return Some(known.info);
        }
        let drift = match serde_json::from_str::<Config>(&stored.content) {
            Ok(base) => describe_all(&differences(&base, &current)),
            // Written by an earlier version.
            Err(_) => Vec::new(),
        };
        let info = Info {
            path: given.path.display().to_string(),
            authoritative: given.is_authoritative,
            applied: rfc3339(stored.applied_ms),
            revision: stored.revision,
            drift_count: drift.len() as u64,
            drift: drift.into_iter().take(SHOWN).collect(),
        };
        let drift = Drift { revision: current.revision, since: stored.revision, info: info.clone() };
        *given.drift.lock().unwrap_or_else(PoisonError::into_inner) = Some(drift);
        Some(info)
    }
}

fn applied(changed: Changed<()>, warnings: Vec<Problem>, replaced: Vec<String>) -> Applied {
    let Changed { revision, changes, diff, value: () } = changed;
    Applied { revision, changes, warnings, diff, rollout: None, replaced }
}

/// The changes that lead from the file's content to the current configuration.
fn differences(base: &Config, current: &Arc<crate::current::Current>) -> Vec<Change> {
    let mut base = base.clone();
    keep_all_ids(&current.config, &mut base);
    let unnamed = base.pools.iter_mut().flat_map(|pool| &mut pool.backends);
    for (i, backend) in unnamed.filter(|backend| backend.id.is_empty()).enumerate() {
        backend.id = format!("removed-{}", i + 1);
    }
    let back = current.changes(&base).into_iter();
    back.map(|Change { key, before, after }| Change { key, before: after, after: before }).collect()
}

/// The file, with the content of the files that it names.
async fn inlined(path: &Path) -> Result<String, AppError> {
    let unreadable = |error| AppError::invalid("", format!("cannot read {}: {error}", path.display()));
    let text = tokio::fs::read_to_string(path).await.map_err(unreadable)?;
    let folder = path.parent().unwrap_or(Path::new("")).to_owned();
    // Certificates are small, but a slow disk must not block a thread that serves requests.
    let inlined = tokio::task::spawn_blocking(move || {
        let read = |name: &str| std::fs::read_to_string(folder.join(name)).map_err(|error| error.to_string());
        file::inline(&text, read).map(Cow::into_owned)
    });
    Ok(inlined.await.map_err(|error| AppError::invalid("", error.to_string()))??)
}

fn canonical_urls(config: &mut Config) {
    for backend in config.pools.iter_mut().flat_map(|pool| &mut pool.backends) {
        if let Ok(url) = backend.url.parse::<BackendUrl>() {
            backend.url = url.to_string();
        }
    }
}

/// A configuration as JSON, without its private keys.
fn content(config: &Config) -> Result<String, AppError> {
    let mut config = config.clone();
    drop(Given::take(&mut config));
    serde_json::to_string(&config).map_err(|error| AppError::invalid("", error.to_string()))
}

/// Logs the result of reading the file: one line per change, up to a limit.
fn log_changes(applied: &Applied, is_same: bool) {
    let Applied { revision, changes, replaced, .. } = applied;
    match (changes.is_empty(), is_same) {
        (true, true) => {
            tracing::info!(revision, "configuration file read, unchanged since it was last applied")
        }
        (true, false) => tracing::info!(revision, "configuration file read, nothing differs"),
        _ => {}
    }
    for change in changes.iter().take(SHOWN) {
        tracing::info!(revision, change, "configuration file changed this");
    }
    if changes.len() > SHOWN {
        tracing::info!(revision, more = changes.len() - SHOWN, "configuration file changed more");
    }
    for replaced in replaced.iter().take(SHOWN) {
        tracing::warn!(revision, replaced, "configuration file replaced a change made otherwise");
    }
    if replaced.len() > SHOWN {
        tracing::warn!(revision, more = replaced.len() - SHOWN, "configuration file replaced more");
    }
}
