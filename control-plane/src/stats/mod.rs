//! Statistics.

/// The statistics. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Stats {}
