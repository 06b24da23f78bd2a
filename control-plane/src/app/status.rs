//! The current state of the fleet.

use weir_admin_api::{Backend, Health, Node, NodeError, NodeState, Status};
use weir_snapshot::{BackendUrl, config};

use super::{App, AppError, resilience};
use crate::{
    access::{nodes::Allowed, trail},
    health::State,
    publish::{self, BackendSum, History},
    time::{now_ms, rfc3339},
};

/// A node, as in the API. The caller sets `excluded`.
fn node(node: publish::Node, current: u64, history: &History, now_ms: i64) -> Node {
    let lag_revisions = current.saturating_sub(node.active_revision);
    // A node that has never run a revision has lagged since it connected.
    let passed = match node.active_revision {
        0 => Some(node.since_ms),
        runs => history.passed_ms(runs),
    };
    let lag_ms = passed.filter(|_| lag_revisions > 0).map_or(0, |passed| now_ms.saturating_sub(passed));
    let state = match (node.connected, lag_revisions) {
        (false, _) => NodeState::Away,
        (true, 0) => NodeState::Active,
        (true, _) if node.rejected_revision == current => NodeState::Rejected,
        (true, _) => NodeState::Behind,
    };
    Node {
        state,
        lag_revisions,
        lag_ms: u64::try_from(lag_ms).unwrap_or(0),
        active_requests: node.active_requests,
        last_error: node.last_error.map(|error| NodeError { time: rfc3339(error.time_ms), text: error.text }),
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

impl App {
    /// All backends, or those of one pool.
    ///
    /// # Errors
    /// The pool does not exist.
    pub fn backends(&self, pool: Option<&str>) -> Result<Vec<Backend>, AppError> {
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

    fn backend_info(&self, pool: &str, backend: &config::Backend, sum: &BackendSum) -> Backend {
        let (health, last_check) = self.parts.health.of(&backend.id);
        let url =
            backend.url.parse::<BackendUrl>().map_or_else(|_| backend.url.clone(), |url| url.to_string());
        Backend {
            id: backend.id.clone(),
            url,
            pool: pool.to_owned(),
            weight: backend.weight,
            state: backend.state,
            alive: health != State::Down,
            health: match health {
                State::Unknown => Health::Unknown,
                State::Up => Health::Up,
                State::Down => Health::Down,
            },
            active_connections: sum.active,
            last_check,
            breaker: resilience::breaker_state(sum.breaker()),
            ejected_by: sum.open.iter().map(ToString::to_string).collect(),
            ejections: sum.ejections,
            sessions: sum.sessions,
        }
    }

    /// One backend.
    ///
    /// # Errors
    /// The backend does not exist.
    pub fn backend(&self, id: &str) -> Result<Backend, AppError> {
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
    /// Same as [`backends`](Self::backends), which cannot fail without a pool.
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

    /// Every known node.
    pub fn nodes(&self) -> Vec<Node> {
        let current = self.current().revision;
        let now_ms = now_ms();
        let info = |one: publish::Node| {
            let excluded = self.access().nodes().is_excluded(&one.id);
            // A revoked node is not expected to return.
            let is_revoked = !one.connected && self.access().nodes().is_revoked(&one.id);
            let mut node = node(one, current, &self.parts.history, now_ms);
            node.excluded = excluded;
            if is_revoked {
                node.state = NodeState::Revoked;
            }
            node
        };
        self.parts.registry.nodes().into_iter().map(info).collect()
    }

    /// Lets a revoked node join again, or lets one more process join as a known node.
    ///
    /// # Errors
    /// The node is neither revoked nor known, or the database failed.
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

    /// Excludes a node's counts from reports from now on, or includes them again.
    ///
    /// # Errors
    /// The node does not exist, or the database failed.
    pub async fn exclude_node(&self, id: &str, is_excluded: bool, by: &str) -> Result<(), AppError> {
        if !self.knows_node(id) && !self.access().nodes().is_excluded(id) {
            return Err(AppError::not_found("node", id));
        }
        self.access().nodes().exclude(id, is_excluded, by).await?;
        let what = if is_excluded { "left out of reports" } else { "counted again" };
        trail::note(format!("counts of node {id:?} are {what}"));
        Ok(())
    }

    /// Returns true if a node of this name has ever connected, as far as the records go back.
    pub fn knows_node(&self, id: &str) -> bool {
        self.parts.registry.nodes().iter().any(|node| node.id == id)
    }
}
