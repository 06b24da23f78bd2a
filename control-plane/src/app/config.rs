//! The configuration as a whole: read it, replace it, take it back, wait until the nodes run it.

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

/// What replacing the configuration came to.
#[derive(Debug)]
pub struct Applied {
    /// The revision that is current now; in a dry run the one that was compared with.
    pub revision: u64,
    /// What changed, or would change, in words.
    pub changes: Vec<String>,
    /// What is allowed and looks like a mistake.
    pub warnings: Vec<Problem>,
    /// The same, resource by resource.
    pub diff: Vec<Change>,
    /// What the nodes made of it, where that was awaited.
    pub rollout: Option<Rollout>,
    /// Changes made by other means that the configuration file replaced, in words.
    pub replaced: Vec<String>,
}

/// What replacing the configuration asks for.
#[derive(Debug, Clone, Copy, Default)]
pub struct ApplyOptions {
    /// Only say what would change.
    pub dry_run: bool,
    /// Wait so long for the nodes.
    pub wait: Option<Duration>,
}

impl Applied {
    /// Every resource that differs, as data and in words.
    pub fn differences(&self) -> Vec<Difference> {
        self.diff.iter().map(Difference::of).collect()
    }
}

/// Gives backends of a new list the ids that the same URLs had in the old one, and URLs their one spelling.
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

/// Reads a configuration's text, away from the threads that serve: a large text takes seconds. The second value is what is
/// allowed and looks like a mistake.
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
    /// Replaces the whole configuration by a text, YAML or JSON.
    ///
    /// # Errors
    /// Every mistake of the text with line and path; the revision is not the expected one.
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
            // What is new has no id yet; each needs its own to be told apart.
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
    /// No such revision, it is no longer kept, or what it holds is not sound any more.
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
            // What the database gave belongs to this revision. Somebody who changes it in between is undone as well,
            // as everything since then is, but never without being in the history: so it is read again.
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

    /// Waits until every connected node runs a revision or refused it, at most `wait`.
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
