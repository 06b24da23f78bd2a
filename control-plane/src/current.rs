//! The current revision in memory: the configuration, its checked form, and the resources that are sent to nodes.

use std::sync::Arc;

use tokio::sync::watch;
use weir_snapshot::{
    Config, Problems, Snapshot,
    diff::Change,
    incremental::{apply, changes},
    position::Positions,
    resource::{ContentHash, Resources, from_resources, split},
};

/// An immutable revision.
#[derive(Debug)]
pub struct Current {
    /// Revision number, from 1.
    pub revision: u64,
    /// The configuration as operators write it; every backend has an id.
    pub config: Config,
    /// The checked configuration.
    pub snapshot: Snapshot,
    /// The configuration as resources.
    pub resources: Resources,
    /// Hash over the resources.
    pub hash: ContentHash,
    /// Position of each resource in its list.
    positions: Positions,
}

/// Receives each new revision.
pub type Watch = watch::Receiver<Arc<Current>>;

impl Current {
    /// Checks the configuration and splits it into resources.
    ///
    /// # Errors
    /// Every mistake in the configuration.
    pub fn new(revision: u64, config: Config) -> Result<Self, Problems> {
        let snapshot = weir_snapshot::check(&config)?;
        let (resources, positions) = split(&config, &Positions::default());
        let hash = ContentHash::of(&resources);
        Ok(Self { revision, config, snapshot, resources, hash, positions })
    }

    /// Restores a revision from stored resources.
    ///
    /// # Errors
    /// The resources no longer form a valid configuration.
    pub fn stored(revision: u64, resources: Resources) -> Result<Self, Problems> {
        let config = from_resources(&resources)?;
        let snapshot = weir_snapshot::check(&config)?;
        let (positions, hash) = (Positions::of(&resources), ContentHash::of(&resources));
        Ok(Self { revision, config, snapshot, resources, hash, positions })
    }

    /// Returns the revision that follows this one with a new configuration, and the difference.
    ///
    /// # Errors
    /// Every mistake in the configuration.
    pub fn next(&self, config: Config) -> Result<(Self, Vec<Change>), Problems> {
        let snapshot = weir_snapshot::check(&config)?;
        let (changes, positions) = changes(&self.config, &self.resources, &self.positions, &config);
        let resources = apply(&self.resources, &changes);
        // Only changed resources are hashed: the others, often more than 10,000, are already included in the sum.
        let mut hash = self.hash;
        for Change { key, before, after } in &changes {
            before.iter().for_each(|spec| hash.remove(key, spec));
            after.iter().for_each(|spec| hash.add(key, spec));
        }
        Ok((Self { revision: self.revision + 1, config, snapshot, resources, hash, positions }, changes))
    }

    /// Returns the changes that this configuration would make.
    pub fn changes(&self, config: &Config) -> Vec<Change> {
        changes(&self.config, &self.resources, &self.positions, config).0
    }
}
