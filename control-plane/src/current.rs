//! The newest revision in memory: the configuration, its checked form, and its pieces as the nodes get them.

use std::sync::Arc;

use tokio::sync::watch;
use weir_snapshot::{
    Config, Problems, Snapshot,
    resource::{self, ContentHash, Resources},
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
        let resources = resource::to_resources(&config);
        let hash = ContentHash::of(&resources);
        Ok(Self { revision, config, snapshot, resources, hash })
    }
}
