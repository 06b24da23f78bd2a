//! The ports of the control plane, for the metrics.

use super::access::CallerLimits;
use crate::connections::Connections;

/// The connections of both ports, and what the callers of the admin port use. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Ports {
    pub(crate) admin: Connections,
    pub(crate) nodes: Connections,
    pub(crate) limits: CallerLimits,
}
