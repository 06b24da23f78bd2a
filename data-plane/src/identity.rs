//! The node's identity towards the control plane.

use std::collections::HashMap;

use crate::config::Config;

#[derive(Debug, Clone)]
pub(crate) struct Identity {
    pub(crate) node_id: String,
    /// New at each start.
    pub(crate) boot_id: String,
    pub(crate) address: String,
    /// The operator's labels.
    pub(crate) labels: HashMap<String, String>,
}

impl Identity {
    pub(crate) fn new(config: &Config, http: std::net::SocketAddr) -> Self {
        let boot_id = uuid::Uuid::new_v4().to_string();
        Self {
            node_id: config.node_id(http),
            boot_id,
            address: http.to_string(),
            labels: config.labels.iter().cloned().collect(),
        }
    }
}
