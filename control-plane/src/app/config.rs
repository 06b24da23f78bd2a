//! The whole configuration: read it, replace it, roll it back, wait until the nodes run it.

use std::{collections::HashMap, time::Duration};

use weir_admin_api::Rollout;
use weir_snapshot::{
    BackendUrl, Config, Problem, Problems, check,
    config::Backend,
    diff::{Change, Difference, describe_all},
    file,
    resource::from_resources,
};

use super::{App, AppError, Author};
use crate::{secrets::Given, time::now_s};

/// The result of replacing the configuration.
#[derive(Debug)]
pub struct Applied {
    /// The current revision; in a dry run, the revision that was compared with.
    pub revision: u64,
    /// The changes made, or that a dry run would make, in words.
    pub changes: Vec<String>,
    /// Valid settings that look like mistakes.
    pub warnings: Vec<Problem>,
    /// The same changes, resource by resource.
    pub diff: Vec<Change>,
    /// The state of the nodes, if the call waited for them.
    pub rollout: Option<Rollout>,
    /// Changes made by other means that the configuration file replaced, in words.
    pub replaced: Vec<String>,
}

/// Options for replacing the configuration.
#[derive(Debug, Clone, Copy, Default)]
pub struct ApplyOptions {
    /// Only report the changes.
    pub dry_run: bool,
    /// The longest time to wait for the nodes.
    pub wait: Option<Duration>,
}

impl Applied {
    /// Every resource that differs, as data and in words.
    pub fn differences(&self) -> Vec<Difference> {
        self.diff.iter().map(Difference::of).collect()
    }
}

/// Gives the backends of a new list the ids that the same URLs had in the old list, and normalizes the URLs.
pub(super) fn keep_ids(old: &[Backend], new: &mut [Backend]) {
    let canonical = |backend: &Backend| backend.url.parse::<BackendUrl>().ok();
    let mut ids: HashMap<BackendUrl, &str> =
        old.iter().filter_map(|backend| Some((canonical(backend)?, backend.id.as_str()))).collect();
    for backend in new.iter_mut().filter(|backend| backend.id.is_empty()) {
        let Some(url) = canonical(backend) else { continue };
        backend.url = url.to_string();
        if let Some(id) = ids.remove(&url) {
            id.clone_into(&mut backend.id);
        }
    }
}

pub(super) fn keep_all_ids(old: &Config, new: &mut Config) {
    let old: HashMap<&str, &[Backend]> =
        old.pools.iter().map(|pool| (pool.name.as_str(), pool.backends.as_slice())).collect();
    for pool in &mut new.pools {
        keep_ids(old.get(pool.name.as_str()).copied().unwrap_or_default(), &mut pool.backends);
    }
}

/// Parses a configuration on a blocking thread: a large text takes seconds. The second value lists valid settings that
/// look like mistakes.
pub(super) async fn parsed(text: String) -> Result<(Config, Vec<Problem>), AppError> {
    let parsed = tokio::task::spawn_blocking(move || {
        let (config, checked) = file::parse(&text)?;
        let mut expired = Problems(check::warnings(&checked, now_s()));
        file::locate(&text, &mut expired);
        Ok::<_, Problems>((config, [checked.warnings, expired.0].concat()))
    });
    match parsed.await {
        Ok(parsed) => Ok(parsed?),
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(error) => Err(AppError::invalid("", error.to_string())),
        },
    }
}

impl App {
    /// Replaces the whole configuration with a text in YAML or JSON.
    ///
    /// # Errors
    /// The text is invalid (every error has line and path), or the revision is not the expected one.
    pub async fn apply(
        &self,
        author: &Author,
        text: &str,
        options: ApplyOptions,
    ) -> Result<Applied, AppError> {
        let (mut config, warnings) = parsed(text.to_owned()).await?;
        if options.dry_run {
            let current = self.current();
            self.expect(current.revision)?;
            keep_all_ids(&current.config, &mut config);
            // New backends have no id yet. Each needs its own id, so that they can be distinguished.
            let unnamed = config.pools.iter_mut().flat_map(|pool| &mut pool.backends);
            for (i, backend) in unnamed.filter(|backend| backend.id.is_empty()).enumerate() {
                backend.id = format!("new-{}", i + 1);
            }
            let keys = Given::take(&mut config);
            let checked = weir_snapshot::check(&config)?;
            self.refuse_addresses(&current.snapshot, &checked)?;
            self.parts.secrets.check(&checked, &keys)?;
            let (revision, diff) = (current.revision, current.changes(&config));
            return Ok(Applied {
                revision,
                changes: describe_all(&diff),
                diff,
                warnings,
                rollout: None,
                replaced: Vec::new(),
            });
        }
        let changed = self
            .change(author, move |old| {
                keep_all_ids(old, &mut config);
                *old = config;
                Ok(())
            })
            .await?;
        self.applied(changed, warnings, options.wait).await
    }

    /// Makes the content of an earlier revision current, as a new revision.
    ///
    /// # Errors
    /// The revision does not exist, is no longer kept, or its content is no longer valid.
    pub async fn rollback(
        &self,
        author: &Author,
        number: u64,
        wait: Option<Duration>,
    ) -> Result<Applied, AppError> {
        self.revision(number).await?;
        loop {
            let current = self.current();
            let resources = self.parts.store.resources_at(current.resources.clone(), number).await?;
            let config = from_resources(&resources)?;
            // The content read from the database is based on this revision. If another change is made in the meantime,
            // the rollback undoes it too, as it undoes everything since then. But that change must first be in the
            // history, so the content is read again.
            let at = self.at(self.expected_revision.or(Some(current.revision)));
            let replace = move |old: &mut Config| {
                *old = config;
                Ok(())
            };
            match at.change(author, replace).await {
                Err(AppError::Outdated { .. }) if self.expected_revision.is_none() => {}
                changed => {
                    let changed = changed?;
                    let warnings = self.current().snapshot.warnings.clone();
                    return self.applied(changed, warnings, wait).await;
                }
            }
        }
    }

    async fn applied(
        &self,
        changed: super::Changed<()>,
        warnings: Vec<Problem>,
        wait: Option<Duration>,
    ) -> Result<Applied, AppError> {
        let super::Changed { revision, changes, diff, value: () } = changed;
        let rollout = match wait {
            Some(wait) => Some(self.rollout(revision, wait).await),
            None => None,
        };
        Ok(Applied { revision, changes, diff, warnings, rollout, replaced: Vec::new() })
    }

    /// Waits until every connected node runs a revision or has rejected it, for at most `wait`.
    async fn rollout(&self, revision: u64, wait: Duration) -> Rollout {
        let complete = self.parts.registry.wait_active(revision, wait).await;
        let mut rollout = Rollout { complete, active: Vec::new(), pending: Vec::new(), rejected: Vec::new() };
        for node in self.parts.registry.nodes().into_iter().filter(|node| node.connected) {
            if node.active_revision >= revision {
                rollout.active.push(node.id);
            } else if node.rejected_revision >= revision {
                rollout.rejected.push(format!("{}: {}", node.id, Problems(node.rejection)));
            } else {
                rollout.pending.push(node.id);
            }
        }
        rollout
    }
}
