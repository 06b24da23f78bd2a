//! Usage of the control plane's ports, for the metrics.

use super::access::CallerLimits;
use crate::connections::Connections;

/// The connections of both ports, and the usage of the admin port by its callers. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Ports {
    pub(crate) admin: Connections,
    pub(crate) nodes: Connections,
    pub(crate) limits: CallerLimits,
}
