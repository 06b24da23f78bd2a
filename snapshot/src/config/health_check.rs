//! Active health checks.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::seconds;
use crate::units::HumanDuration;

/// Active health check by the control plane.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct HealthCheck {
    /// Type of probe.
    #[serde(rename = "type")]
    pub kind: HealthCheckKind,
    /// Path of an HTTP probe.
    pub path: String,
    /// Time between two probes. A backend that stops working is down after at most `fall` × `interval` + `timeout`.
    pub interval: HumanDuration,
    /// Time between two probes after a backend was added, after its health changed, and while it recovers. Absent: 1
    /// s, or `interval` if that is shorter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fast_interval: Option<HumanDuration>,
    /// A probe that takes longer has failed.
    pub timeout: HumanDuration,
    /// Number of successful probes in a row after which a backend is up.
    pub rise: u32,
    /// Number of failed probes in a row after which a backend is down.
    pub fall: u32,
    /// Statuses that count as success: `200`, `200-399`, or several separated by commas.
    pub expect_status: String,
    /// Text that the body of the response to an HTTP probe must contain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expect_body: Option<String>,
    /// Host header of an HTTP probe, or authority of a gRPC probe; absent: the backend's host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Service name in a gRPC probe; absent: the whole server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
}

impl Default for HealthCheck {
    fn default() -> Self {
        Self {
            kind: HealthCheckKind::Tcp,
            path: "/".into(),
            interval: seconds(10),
            fast_interval: None,
            timeout: seconds(2),
            rise: 2,
            fall: 3,
            expect_status: "200-399".into(),
            expect_body: None,
            host: None,
            service: None,
        }
    }
}

/// Type of health probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum HealthCheckKind {
    /// A GET request that must return an expected status.
    Http,
    /// A TCP connection that must be accepted.
    #[default]
    Tcp,
    /// The gRPC health checking protocol.
    Grpc,
    /// No probe: the backend counts as up.
    None,
}
