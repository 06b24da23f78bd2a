//! The newest revision in memory: the configuration, its checked form, and its pieces as the nodes get them.

use std::sync::Arc;

use tokio::sync::watch;
use weir_snapshot::{
    Config, Problems, Snapshot,
    diff::Change,
    place::Places,
    resource::{ContentHash, Resources, cut, from_resources},
    step::{changed, step},
};

/// One revision, immutable.
#[derive(Debug)]
pub struct Current {
    /// Its number, from 1.
    pub revision: u64,
    /// The configuration as people write it; every backend has its id.
    pub config: Config,
    /// The same, checked.
    pub snapshot: Snapshot,
    /// The same, in pieces.
    pub resources: Resources,
    /// Over the pieces.
    pub hash: ContentHash,
    /// Where each piece stands in its list.
    places: Places,
}

/// Tells of each new revision.
pub type Watch = watch::Receiver<Arc<Current>>;

impl Current {
    /// Checks the configuration and cuts it into pieces.
    ///
    /// # Errors
    /// Every mistake in the configuration.
    pub fn new(revision: u64, config: Config) -> Result<Self, Problems> {
        let snapshot = weir_snapshot::check(&config)?;
        let (resources, places) = cut(&config, &Places::default());
        let hash = ContentHash::of(&resources);
        Ok(Self { revision, config, snapshot, resources, hash, places })
    }

    /// From the pieces as they were stored.
    ///
    /// # Errors
    /// They are not sound any more.
    pub fn stored(revision: u64, resources: Resources) -> Result<Self, Problems> {
        let config = from_resources(&resources)?;
        let snapshot = weir_snapshot::check(&config)?;
        let (places, hash) = (Places::of(&resources), ContentHash::of(&resources));
        Ok(Self { revision, config, snapshot, resources, hash, places })
    }

    /// What comes after this one, and the difference.
    ///
    /// # Errors
    /// Every mistake in the configuration.
    pub fn next(&self, config: Config) -> Result<(Self, Vec<Change>), Problems> {
        let snapshot = weir_snapshot::check(&config)?;
        let (changes, places) = step(&self.config, &self.resources, &self.places, &config);
        let resources = changed(&self.resources, &changes);
        // Only what changed is hashed: the rest of 15,000 pieces is in the sum already.
        let mut hash = self.hash;
        for Change { key, before, after } in &changes {
            before.iter().for_each(|spec| hash.remove(key, spec));
            after.iter().for_each(|spec| hash.add(key, spec));
        }
        Ok((Self { revision: self.revision + 1, config, snapshot, resources, hash, places }, changes))
    }

    /// What would change with this configuration.
    pub fn changes(&self, config: &Config) -> Vec<Change> {
        step(&self.config, &self.resources, &self.places, config).0
    }
}
