//! The service `Admin`: the same use cases as REST.

use std::time::Duration;

use tonic::{Code, Request, Response, Status};
use weir_proto::v1::{self, admin_server};
use weir_snapshot::{
    diff::{Action, Difference, in_words},
    file,
};

use super::{access, explain};
use crate::{
    access::{
        nodes::Allowed,
        trail::{self, Caller},
    },
    app::{
        App, AppError, Applied, ApplyOptions, Author, BackendInfo, CertificateInfo, ConfigFileInfo, Named,
        NodeInfo, PoolInfo, RouteInfo, rfc3339,
    },
    publish::Refused,
    store::StoreError,
};

/// Translates between gRPC and the use cases.
#[derive(Clone)]
pub struct Admin {
    app: App,
}

impl Admin {
    /// The service.
    pub fn service(app: App) -> admin_server::AdminServer<Self> {
        admin_server::AdminServer::new(Self { app }).max_decoding_message_size(file::MAX_BYTES)
    }
}

fn author<T>(request: &Request<T>) -> Author {
    crate::api::access::author(request.extensions().get::<Caller>(), "grpc")
}

pub(super) fn refuse(error: AppError) -> Status {
    let code = match &error {
        AppError::Invalid(_) => Code::InvalidArgument,
        AppError::NotFound(..) | AppError::Missing(_) => Code::NotFound,
        AppError::Conflict(_) => Code::FailedPrecondition,
        AppError::Outdated { .. } => Code::Aborted,
        AppError::Store(StoreError::Unavailable { .. }) => Code::Unavailable,
        AppError::Store(_) => Code::Internal,
    };
    Status::new(code, error.to_string())
}

fn backend(info: BackendInfo) -> v1::Backend {
    v1::Backend {
        id: info.id,
        url: info.url,
        pool: info.pool,
        weight: info.weight,
        state: info.state,
        alive: info.alive,
        health: info.health.to_owned(),
        active_connections: info.active_connections,
        last_check: info.last_check,
        breaker: info.work.breaker.to_owned(),
        ejected_by: info.work.ejected_by,
        ejections: info.work.ejections,
        sessions: info.work.sessions,
    }
}

fn node(info: NodeInfo) -> v1::Node {
    let (last_error, last_error_time) =
        info.last_error.map(|error| (error.text, error.time)).unwrap_or_default();
    v1::Node {
        lag_revisions: info.lag_revisions,
        lag_ms: info.lag_ms,
        state: info.state.to_owned(),
        last_error,
        last_error_time,
        active_requests: info.active_requests,
        id: info.id,
        version: info.version,
        address: info.address,
        connected: info.connected,
        since: info.since,
        active_revision: info.active_revision,
        connections: info.connections,
        requests: info.requests,
        rejection: weir_snapshot::Problems(info.rejection).to_string(),
        rejected_revision: info.rejected_revision,
        workers: info.workers,
        dropped_rows: info.dropped_rows,
        forgotten_clients: info.forgotten_clients,
        excluded: info.excluded,
        clock_offset_ms: info.clock_offset_ms,
        labels: info.labels.into_iter().collect(),
    }
}

fn pool(info: PoolInfo) -> v1::PoolStatus {
    v1::PoolStatus {
        name: info.name,
        strategy: info.strategy,
        panic: info.panic,
        waiting: info.waiting,
        retries: info.retries,
        retries_refused: info.retries_refused,
        fallbacks: info.fallbacks,
        refused: info.refused,
        repinned: info.repinned,
    }
}

fn route_status(info: RouteInfo) -> v1::RouteStatus {
    let Refused { ip_filter, method, rate_limit, auth } = info.refused;
    v1::RouteStatus { name: info.name, ip_filter, method, rate_limit, auth }
}

fn config_file(info: ConfigFileInfo) -> v1::ConfigFile {
    let ConfigFileInfo { path, authoritative, applied, revision, drift, drift_count } = info;
    v1::ConfigFile { path, authoritative, applied, revision, drift, drift_count }
}

fn certificate(info: CertificateInfo, cert: &str) -> v1::Certificate {
    v1::Certificate {
        name: info.name,
        hosts: info.hosts,
        not_before: info.not_before,
        not_after: info.not_after,
        days_left: info.days_left,
        state: info.state.to_owned(),
        subject: info.subject,
        issuer: info.issuer,
        fingerprint: info.fingerprint,
        cert: cert.to_owned(),
    }
}

/// 0 stands for none.
fn at(app: &App, if_revision: u64) -> App {
    app.at((if_revision > 0).then_some(if_revision))
}

fn waits(wait_ms: u32) -> Option<Duration> {
    (wait_ms > 0).then(|| Duration::from_millis(wait_ms.min(300_000).into()))
}

fn difference(difference: Difference) -> v1::Difference {
    let whole = |value: &serde_json::Value| if value.is_null() { String::new() } else { value.to_string() };
    let (before_json, after_json) = (whole(&difference.before), whole(&difference.after));
    let field = |field: weir_snapshot::diff::Field| v1::FieldDifference {
        path: field.path,
        before_json: field.before.to_string(),
        after_json: field.after.to_string(),
    };
    let action = match difference.action {
        Action::Add => "add",
        Action::Remove => "remove",
        Action::Change => "change",
        Action::Move => "move",
    };
    v1::Difference {
        action: action.into(),
        kind: difference.kind.to_string(),
        name: difference.name,
        text: difference.text,
        fields: difference.fields.into_iter().map(field).collect(),
        before_json,
        after_json,
    }
}

/// What a change of the whole came to; that nodes do not run it in time is an error.
fn applied(applied: Applied) -> Result<v1::ApplyConfigResponse, Status> {
    let diff = applied.differences().into_iter().map(difference).collect();
    let warnings = applied.warnings.iter().map(ToString::to_string).collect();
    let Applied { revision, changes, rollout, replaced, .. } = applied;
    match rollout {
        Some(rollout) if !rollout.complete => {
            let missing =
                rollout.rejected.iter().chain(&rollout.pending).cloned().collect::<Vec<_>>().join(", ");
            Err(Status::deadline_exceeded(format!(
                "revision {revision} is stored, but not active on all nodes: {missing}"
            )))
        }
        _ => Ok(v1::ApplyConfigResponse { revision, changes, warnings, diff, replaced }),
    }
}

fn revision(revision: crate::store::Revision) -> v1::Revision {
    v1::Revision {
        revision: revision.revision,
        time: rfc3339(revision.time_ms),
        changes: in_words(&revision.changes),
        actor: revision.actor,
        source: revision.source,
        diff: Vec::new(),
    }
}

fn given(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

fn json<T: serde::Serialize>(value: &T) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

#[tonic::async_trait]
impl admin_server::Admin for Admin {
    async fn list_backends(
        &self,
        request: Request<v1::ListBackendsRequest>,
    ) -> Result<Response<v1::ListBackendsResponse>, Status> {
        let pool = given(request.into_inner().pool);
        let backends = self.app.backends(pool.as_deref()).map_err(refuse)?;
        Ok(Response::new(v1::ListBackendsResponse { backends: backends.into_iter().map(backend).collect() }))
    }

    async fn get_backend(
        &self,
        request: Request<v1::GetBackendRequest>,
    ) -> Result<Response<v1::Backend>, Status> {
        Ok(Response::new(backend(self.app.backend(&request.into_inner().id).map_err(refuse)?)))
    }

    async fn create_backend(
        &self,
        request: Request<v1::CreateBackendRequest>,
    ) -> Result<Response<v1::Backend>, Status> {
        let author = author(&request);
        let v1::CreateBackendRequest { url, pool, weight, if_revision } = request.into_inner();
        let app = at(&self.app, if_revision);
        let created = app.create_backend(&author, &url, given(pool).as_deref(), weight).await;
        Ok(Response::new(backend(created.map_err(refuse)?)))
    }

    async fn update_backend(
        &self,
        request: Request<v1::UpdateBackendRequest>,
    ) -> Result<Response<v1::Backend>, Status> {
        let author = author(&request);
        let v1::UpdateBackendRequest { id, weight, state, if_revision } = request.into_inner();
        let app = at(&self.app, if_revision);
        let updated = app.update_backend(&author, &id, weight, state.as_deref()).await;
        Ok(Response::new(backend(updated.map_err(refuse)?)))
    }

    async fn delete_backend(
        &self,
        request: Request<v1::DeleteBackendRequest>,
    ) -> Result<Response<v1::DeleteBackendResponse>, Status> {
        let author = author(&request);
        let v1::DeleteBackendRequest { id, url, pool, if_revision } = request.into_inner();
        let named = match given(id) {
            Some(id) => Named::Id(id),
            None => Named::Url { url, pool: given(pool) },
        };
        let app = at(&self.app, if_revision);
        let revision = app.delete_backend(&author, &named).await.map_err(refuse)?;
        Ok(Response::new(v1::DeleteBackendResponse { revision }))
    }

    async fn check_backend(
        &self,
        request: Request<v1::CheckBackendRequest>,
    ) -> Result<Response<v1::CheckBackendResponse>, Status> {
        let found = self.app.check_backend(&request.into_inner().id).await.map_err(refuse)?;
        let latency_ms = found.latency.as_secs_f64() * 1000.0;
        Ok(Response::new(v1::CheckBackendResponse { ok: found.ok, detail: found.detail, latency_ms }))
    }

    async fn list_pools(
        &self,
        _: Request<v1::ListPoolsRequest>,
    ) -> Result<Response<v1::ListPoolsResponse>, Status> {
        let current = self.app.current();
        let pool = |pool: &weir_snapshot::config::Pool| v1::Pool {
            name: pool.name.clone(),
            strategy: pool.strategy.to_string(),
            spec_json: json(pool),
        };
        Ok(Response::new(v1::ListPoolsResponse { pools: current.config.pools.iter().map(pool).collect() }))
    }

    async fn list_routes(
        &self,
        _: Request<v1::ListRoutesRequest>,
    ) -> Result<Response<v1::ListRoutesResponse>, Status> {
        let route = |route: weir_snapshot::config::Route| v1::Route {
            spec_json: json(&route),
            name: route.name,
            pool: route.pool,
        };
        Ok(Response::new(v1::ListRoutesResponse {
            routes: self.app.shown().routes().into_iter().map(route).collect(),
        }))
    }

    async fn set_strategy(
        &self,
        request: Request<v1::SetStrategyRequest>,
    ) -> Result<Response<v1::SetStrategyResponse>, Status> {
        let author = author(&request);
        let v1::SetStrategyRequest { pool, strategy, if_revision } = request.into_inner();
        let app = at(&self.app, if_revision);
        let revision = app.set_strategy(&author, &pool, &strategy).await.map_err(refuse)?;
        Ok(Response::new(v1::SetStrategyResponse { revision }))
    }

    async fn apply_config(
        &self,
        request: Request<v1::ApplyConfigRequest>,
    ) -> Result<Response<v1::ApplyConfigResponse>, Status> {
        let author = author(&request);
        let v1::ApplyConfigRequest { config, dry_run, wait_ms, if_revision } = request.into_inner();
        if dry_run {
            trail::dry_run();
        }
        let options = ApplyOptions { dry_run, wait: waits(wait_ms) };
        let done = at(&self.app, if_revision).apply(&author, &config, options).await;
        Ok(Response::new(applied(done.map_err(refuse)?)?))
    }

    async fn reload_config(
        &self,
        request: Request<v1::ReloadConfigRequest>,
    ) -> Result<Response<v1::ApplyConfigResponse>, Status> {
        let author = author(&request);
        let app = at(&self.app, request.into_inner().if_revision);
        match app.reload(&author).await.map_err(refuse)? {
            Some(done) => Ok(Response::new(applied(done)?)),
            None => Err(Status::failed_precondition("the control plane was started without --config")),
        }
    }

    async fn get_config(
        &self,
        _: Request<v1::GetConfigRequest>,
    ) -> Result<Response<v1::GetConfigResponse>, Status> {
        let shown = self.app.shown();
        let config = file::to_yaml(&shown.config());
        Ok(Response::new(v1::GetConfigResponse { revision: shown.revision(), config }))
    }

    async fn list_revisions(
        &self,
        request: Request<v1::ListRevisionsRequest>,
    ) -> Result<Response<v1::ListRevisionsResponse>, Status> {
        let v1::ListRevisionsRequest { page_size, before } = request.into_inner();
        let limit = if page_size == 0 { 100 } else { page_size.min(1000) };
        let found = self.app.revisions((before > 0).then_some(before), limit).await;
        let found = found.map_err(|error| refuse(error.into()))?;
        Ok(Response::new(v1::ListRevisionsResponse { revisions: found.into_iter().map(revision).collect() }))
    }

    async fn get_revision(
        &self,
        request: Request<v1::GetRevisionRequest>,
    ) -> Result<Response<v1::Revision>, Status> {
        let found = self.app.revision(request.into_inner().revision).await.map_err(refuse)?;
        let diff = found.changes.iter().map(|change| difference(Difference::of(change))).collect();
        Ok(Response::new(v1::Revision { diff, ..revision(found) }))
    }

    async fn rollback(
        &self,
        request: Request<v1::RollbackRequest>,
    ) -> Result<Response<v1::RollbackResponse>, Status> {
        let author = author(&request);
        let v1::RollbackRequest { revision, if_revision, wait_ms } = request.into_inner();
        let done = at(&self.app, if_revision).rollback(&author, revision, waits(wait_ms)).await;
        let v1::ApplyConfigResponse { revision, changes, .. } = applied(done.map_err(refuse)?)?;
        Ok(Response::new(v1::RollbackResponse { revision, changes }))
    }

    async fn explain(
        &self,
        request: Request<v1::ExplainRequest>,
    ) -> Result<Response<v1::ExplainResponse>, Status> {
        Ok(Response::new(explain::explain(&self.app, request.get_ref())?))
    }

    async fn list_nodes(
        &self,
        _: Request<v1::ListNodesRequest>,
    ) -> Result<Response<v1::ListNodesResponse>, Status> {
        Ok(Response::new(v1::ListNodesResponse { nodes: self.app.nodes().into_iter().map(node).collect() }))
    }

    async fn get_status(
        &self,
        _: Request<v1::GetStatusRequest>,
    ) -> Result<Response<v1::GetStatusResponse>, Status> {
        let status = self.app.status().map_err(refuse)?;
        Ok(Response::new(v1::GetStatusResponse {
            revision: status.revision,
            backends: status.backends.into_iter().map(backend).collect(),
            nodes: status.nodes.into_iter().map(node).collect(),
            pools: status.pools.into_iter().map(pool).collect(),
            routes: status.routes.into_iter().map(route_status).collect(),
            certificates: status.certificates.into_iter().map(|info| certificate(info, "")).collect(),
            config_file: status.config_file.map(config_file),
        }))
    }

    async fn create_token(
        &self,
        request: Request<v1::CreateTokenRequest>,
    ) -> Result<Response<v1::CreateTokenResponse>, Status> {
        let author = author(&request);
        let new = access::new_token(request.into_inner())?;
        let created = self.app.access().create_token(&new, &author.actor).await;
        let (text, token) = created.map_err(|error| refuse(error.into()))?;
        Ok(Response::new(v1::CreateTokenResponse { token: text, info: Some(access::token(&token)) }))
    }

    async fn list_tokens(
        &self,
        _: Request<v1::ListTokensRequest>,
    ) -> Result<Response<v1::ListTokensResponse>, Status> {
        let tokens = self.app.access().tokens();
        Ok(Response::new(v1::ListTokensResponse {
            tokens: tokens.iter().map(|one| access::token(one)).collect(),
        }))
    }

    async fn delete_token(
        &self,
        request: Request<v1::DeleteTokenRequest>,
    ) -> Result<Response<v1::DeleteTokenResponse>, Status> {
        let revoked = self.app.access().revoke_token(&request.into_inner().name).await;
        revoked.map_err(|error| refuse(error.into()))?;
        Ok(Response::new(v1::DeleteTokenResponse {}))
    }

    async fn list_audit_entries(
        &self,
        request: Request<v1::ListAuditEntriesRequest>,
    ) -> Result<Response<v1::ListAuditEntriesResponse>, Status> {
        let v1::ListAuditEntriesRequest { page_size, before } = request.into_inner();
        let limit = if page_size == 0 { 100 } else { page_size.min(1000) };
        let before = i64::try_from(before).ok().filter(|before| *before > 0);
        let found = self.app.access().audit(before, limit).await.map_err(|error| refuse(error.into()))?;
        Ok(Response::new(v1::ListAuditEntriesResponse {
            entries: found.into_iter().map(access::entry).collect(),
        }))
    }

    async fn list_certificates(
        &self,
        _: Request<v1::ListCertificatesRequest>,
    ) -> Result<Response<v1::ListCertificatesResponse>, Status> {
        let certificates = self.app.certificates().into_iter().map(|info| certificate(info, "")).collect();
        Ok(Response::new(v1::ListCertificatesResponse { certificates }))
    }

    async fn get_certificate(
        &self,
        request: Request<v1::GetCertificateRequest>,
    ) -> Result<Response<v1::Certificate>, Status> {
        let (info, cert) = self.app.certificate(&request.into_inner().name).map_err(refuse)?;
        Ok(Response::new(certificate(info, &cert)))
    }

    async fn put_certificate(
        &self,
        request: Request<v1::PutCertificateRequest>,
    ) -> Result<Response<v1::Certificate>, Status> {
        let author = author(&request);
        let v1::PutCertificateRequest { name, cert, key, if_revision } = request.into_inner();
        let new = weir_snapshot::config::Certificate {
            name: name.clone(),
            cert,
            key: given(key).map(weir_snapshot::config::PrivateKey),
        };
        at(&self.app, if_revision).put_certificate(&author, new).await.map_err(refuse)?;
        let (info, cert) = self.app.certificate(&name).map_err(refuse)?;
        Ok(Response::new(certificate(info, &cert)))
    }

    async fn delete_certificate(
        &self,
        request: Request<v1::DeleteCertificateRequest>,
    ) -> Result<Response<v1::DeleteCertificateResponse>, Status> {
        let author = author(&request);
        let v1::DeleteCertificateRequest { name, if_revision } = request.into_inner();
        let deleted = at(&self.app, if_revision).delete_certificate(&author, &name).await;
        let revision = deleted.map_err(refuse)?;
        Ok(Response::new(v1::DeleteCertificateResponse { revision }))
    }

    async fn create_node_token(
        &self,
        request: Request<v1::CreateNodeTokenRequest>,
    ) -> Result<Response<v1::CreateNodeTokenResponse>, Status> {
        let author = author(&request);
        let new = access::new_node_token(&request.into_inner())?;
        let created = self.app.access().nodes().create_token(new, &author.actor).await;
        let (token, info) = created.map_err(|error| refuse(error.into()))?;
        Ok(Response::new(v1::CreateNodeTokenResponse { token, info: Some(access::node_token(&info)) }))
    }

    async fn list_node_tokens(
        &self,
        _: Request<v1::ListNodeTokensRequest>,
    ) -> Result<Response<v1::ListNodeTokensResponse>, Status> {
        let tokens = self.app.access().nodes().tokens();
        let node_tokens = tokens.iter().map(access::node_token).collect();
        Ok(Response::new(v1::ListNodeTokensResponse { node_tokens }))
    }

    async fn delete_node_token(
        &self,
        request: Request<v1::DeleteNodeTokenRequest>,
    ) -> Result<Response<v1::DeleteNodeTokenResponse>, Status> {
        let id = i64::try_from(request.into_inner().id).unwrap_or_default();
        self.app.access().nodes().revoke_token(id).await.map_err(|error| refuse(error.into()))?;
        Ok(Response::new(v1::DeleteNodeTokenResponse {}))
    }

    async fn revoke_node(
        &self,
        request: Request<v1::RevokeNodeRequest>,
    ) -> Result<Response<v1::RevokeNodeResponse>, Status> {
        let author = author(&request);
        let revoked = self.app.access().nodes().revoke(&request.into_inner().id, &author.actor).await;
        revoked.map_err(|error| refuse(error.into()))?;
        Ok(Response::new(v1::RevokeNodeResponse {}))
    }

    async fn allow_node(
        &self,
        request: Request<v1::AllowNodeRequest>,
    ) -> Result<Response<v1::AllowNodeResponse>, Status> {
        let author = author(&request);
        let allowed = self.app.allow_node(&request.into_inner().id, &author.actor).await.map_err(refuse)?;
        let permit_expires = match allowed {
            Allowed::Rejoin => String::new(),
            Allowed::Beside(until) => rfc3339(until),
        };
        Ok(Response::new(v1::AllowNodeResponse { permit_expires }))
    }

    async fn exclude_node(
        &self,
        request: Request<v1::ExcludeNodeRequest>,
    ) -> Result<Response<v1::ExcludeNodeResponse>, Status> {
        let author = author(&request);
        self.app.exclude_node(&request.into_inner().id, true, &author.actor).await.map_err(refuse)?;
        Ok(Response::new(v1::ExcludeNodeResponse {}))
    }

    async fn include_node(
        &self,
        request: Request<v1::IncludeNodeRequest>,
    ) -> Result<Response<v1::IncludeNodeResponse>, Status> {
        let author = author(&request);
        self.app.exclude_node(&request.into_inner().id, false, &author.actor).await.map_err(refuse)?;
        Ok(Response::new(v1::IncludeNodeResponse {}))
    }
}
