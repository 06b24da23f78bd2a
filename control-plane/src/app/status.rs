//! What the fleet looks like now.

use std::collections::BTreeMap;

use serde::Serialize;
use weir_snapshot::{BackendUrl, Problem, config::Backend};

use super::{App, AppError, BackendWork, CertificateInfo, ConfigFileInfo, PoolInfo, RouteInfo};
use crate::{
    access::{nodes::Allowed, trail},
    health::State,
    publish::{BackendSum, History, Node, NodeError},
    time::{now_ms, rfc3339},
};

/// A backend as users see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BackendInfo {
    /// Never reused.
    pub id: String,
    /// In its canonical spelling.
    pub url: String,
    /// The pool's name.
    pub pool: String,
    /// Its share.
    pub weight: u32,
    /// `active`, `draining` or `disabled`.
    pub state: String,
    /// False when the health checker found it down.
    pub alive: bool,
    /// `unknown`, `up` or `down`.
    pub health: &'static str,
    /// Requests in flight, summed over the nodes.
    pub active_connections: u64,
    /// What the last probe said.
    pub last_check: String,
    /// What the nodes do about it.
    #[serde(flatten)]
    pub work: BackendWork,
}

/// The whole fleet.
#[derive(Debug, Clone, Serialize)]
pub struct Status {
    /// The current revision.
    pub revision: u64,
    /// All of them, pool by pool.
    pub backends: Vec<BackendInfo>,
    /// Every node that is remembered.
    pub nodes: Vec<NodeInfo>,
    /// Every pool, as the nodes see it.
    pub pools: Vec<PoolInfo>,
    /// Every route, as the nodes see it.
    pub routes: Vec<RouteInfo>,
    /// Every certificate, with the time of its end.
    pub certificates: Vec<CertificateInfo>,
    /// The configuration file, where one was given at start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config_file: Option<ConfigFileInfo>,
}

/// A node as users see it.
#[derive(Debug, Clone, Serialize)]
pub struct NodeInfo {
    /// Its id.
    pub id: String,
    /// The version of its program.
    pub version: String,
    /// Where it takes traffic.
    pub address: String,
    /// Its worker threads.
    pub workers: u32,
    /// What its operator says of it.
    pub labels: BTreeMap<String, String>,
    /// Whether its stream is open.
    pub connected: bool,
    /// Since when it is connected, or when it was last seen; RFC 3339.
    pub since: String,
    /// `active`: it runs the newest revision; `behind`; `rejected`: it refused the newest one; `away`.
    pub state: &'static str,
    /// What it runs.
    pub active_revision: u64,
    /// How many revisions it is behind the newest.
    pub lag_revisions: u64,
    /// For how long it has been behind; 0: it is not.
    pub lag_ms: u64,
    /// Open client connections.
    pub connections: u64,
    /// Requests in flight.
    pub active_requests: u64,
    /// Requests answered since it started.
    pub requests: u64,
    /// Statistics rows that it had to drop.
    pub dropped_rows: u64,
    /// Clients of rate limits that it had to forget while they owed something: its table was full.
    pub forgotten_clients: u64,
    /// Which revision it refused last, until it acknowledges a later one; 0: none.
    pub rejected_revision: u64,
    /// How far its clock is ahead of the control plane's, in milliseconds; null before it said what time it has.
    pub clock_offset_ms: Option<i64>,
    /// Its counts are left out of reports.
    pub excluded: bool,
    /// What was wrong with that.
    pub rejection: Vec<Problem>,
    /// What last went wrong between it and the control plane; null: nothing.
    pub last_error: Option<NodeErrorInfo>,
}

/// Something went wrong with a node.
#[derive(Debug, Clone, Serialize)]
pub struct NodeErrorInfo {
    /// When; RFC 3339.
    pub time: String,
    /// In words.
    pub text: String,
}

impl NodeInfo {
    fn new(node: Node, current: u64, history: &History, now_ms: i64) -> Self {
        let lag_revisions = current.saturating_sub(node.active_revision);
        // Who never ran anything is behind since it came.
        let passed = match node.active_revision {
            0 => Some(node.since_ms),
            runs => history.passed_ms(runs),
        };
        let lag_ms = passed.filter(|_| lag_revisions > 0).map_or(0, |passed| now_ms.saturating_sub(passed));
        let state = match (node.connected, lag_revisions) {
            (false, _) => "away",
            (true, 0) => "active",
            (true, _) if node.rejected_revision == current => "rejected",
            (true, _) => "behind",
        };
        Self {
            state,
            lag_revisions,
            lag_ms: u64::try_from(lag_ms).unwrap_or(0),
            active_requests: node.active_requests,
            last_error: node
                .last_error
                .map(|NodeError { text, time_ms }| NodeErrorInfo { time: rfc3339(time_ms), text }),
            id: node.id,
            version: node.version,
            address: node.address,
            workers: node.workers,
            labels: node.labels,
            connected: node.connected,
            since: rfc3339(node.since_ms),
            active_revision: node.active_revision,
            connections: node.connections,
            requests: node.requests,
            dropped_rows: node.dropped_rows,
            forgotten_clients: node.forgotten_clients,
            rejected_revision: node.rejected_revision,
            clock_offset_ms: node.clock_offset_ms,
            excluded: false,
            rejection: node.rejection,
        }
    }
}

impl App {
    /// All backends, or those of one pool.
    ///
    /// # Errors
    /// No such pool.
    pub fn backends(&self, pool: Option<&str>) -> Result<Vec<BackendInfo>, AppError> {
        let current = self.current();
        if let Some(name) = pool
            && !current.config.pools.iter().any(|pool| pool.name == name)
        {
            return Err(AppError::not_found("pool", name));
        }
        let (sums, nothing) = (self.parts.registry.sums().backends, BackendSum::default());
        let wanted = |name: &str| pool.is_none_or(|pool| pool == name);
        let infos = current.config.pools.iter().filter(|pool| wanted(&pool.name)).flat_map(|pool| {
            let (sums, nothing) = (&sums, &nothing);
            pool.backends.iter().map(move |backend| {
                self.backend_info(&pool.name, backend, sums.get(backend.id.as_str()).unwrap_or(nothing))
            })
        });
        Ok(infos.collect())
    }

    fn backend_info(&self, pool: &str, backend: &Backend, sum: &BackendSum) -> BackendInfo {
        let (health, last_check) = self.parts.health.of(&backend.id);
        let url =
            backend.url.parse::<BackendUrl>().map_or_else(|_| backend.url.clone(), |url| url.to_string());
        BackendInfo {
            id: backend.id.clone(),
            url,
            pool: pool.to_owned(),
            weight: backend.weight,
            state: backend.state.to_string(),
            alive: health != State::Down,
            health: health.name(),
            active_connections: sum.active,
            last_check,
            work: BackendWork::of(sum),
        }
    }

    /// One backend.
    ///
    /// # Errors
    /// No such backend.
    pub fn backend(&self, id: &str) -> Result<BackendInfo, AppError> {
        let current = self.current();
        let mut all =
            current.config.pools.iter().flat_map(|pool| pool.backends.iter().map(move |one| (pool, one)));
        let (pool, backend) =
            all.find(|(_, backend)| backend.id == id).ok_or_else(|| AppError::not_found("backend", id))?;
        Ok(self.backend_info(&pool.name, backend, &self.parts.registry.sum(id)))
    }

    /// The whole fleet.
    ///
    /// # Errors
    /// As [`backends`](Self::backends), which has none without a pool.
    pub fn status(&self) -> Result<Status, AppError> {
        Ok(Status {
            revision: self.current().revision,
            backends: self.backends(None)?,
            nodes: self.nodes(),
            pools: self.pool_infos(),
            routes: self.route_infos(),
            certificates: self.certificates(),
            config_file: self.config_file(),
        })
    }

    /// Every node that is remembered.
    pub fn nodes(&self) -> Vec<NodeInfo> {
        let current = self.current().revision;
        let now_ms = now_ms();
        let info = |node| {
            let node = NodeInfo::new(node, current, &self.parts.history, now_ms);
            // It is not awaited any more.
            let is_revoked = !node.connected && self.access().nodes().is_revoked(&node.id);
            let node = NodeInfo { excluded: self.access().nodes().is_excluded(&node.id), ..node };
            if is_revoked { NodeInfo { state: "revoked", ..node } } else { node }
        };
        self.parts.registry.nodes().into_iter().map(info).collect()
    }

    /// Lets a revoked node join again, or one more process join as a node that is known.
    ///
    /// # Errors
    /// It is neither revoked nor known, or the database failed.
    pub async fn allow_node(&self, id: &str, by: &str) -> Result<Allowed, AppError> {
        let allowed = self.access().nodes().allow(id, self.knows_node(id), by).await?;
        trail::note(match allowed {
            Allowed::Rejoin => format!("node {id:?} may join again"),
            Allowed::Beside(until) => {
                format!("one more process may join as node {id:?} until {}", rfc3339(until))
            }
        });
        Ok(allowed)
    }

    /// Leaves a node's counts out of reports from now on, or counts them again.
    ///
    /// # Errors
    /// No such node, or the database failed.
    pub async fn exclude_node(&self, id: &str, is_excluded: bool, by: &str) -> Result<(), AppError> {
        if !self.knows_node(id) && !self.access().nodes().is_excluded(id) {
            return Err(AppError::not_found("node", id));
        }
        self.access().nodes().exclude(id, is_excluded, by).await?;
        let what = if is_excluded { "left out of reports" } else { "counted again" };
        trail::note(format!("counts of node {id:?} are {what}"));
        Ok(())
    }

    /// Whether a node of this name was ever connected, as far as that is remembered.
    pub fn knows_node(&self, id: &str) -> bool {
        self.parts.registry.nodes().iter().any(|node| node.id == id)
    }
}
