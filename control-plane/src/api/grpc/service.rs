//! The service `Admin`: which function carries out which RPC.

use tonic::{Request, Response, Status};
use weir_proto::v1::{self, admin_server};
use weir_snapshot::file;

use super::{
    audit, backends, certificates, config, explain, failure::Failure, nodes, pools, revisions, routes,
    status, tokens,
};
use crate::{access::trail::Caller, app::App};

/// The service `Admin`.
#[derive(Clone)]
pub struct Admin {
    app: App,
}

impl Admin {
    /// The service, ready to be added to a server.
    pub fn service(app: App) -> admin_server::AdminServer<Self> {
        admin_server::AdminServer::new(Self { app }).max_decoding_message_size(file::MAX_BYTES)
    }
}

/// Implements the service: one line per RPC, `RPC(REQUEST) -> RESPONSE in MODULE`. The function in the module has the
/// RPC's name. A request under `change` must have a field `if_revision`; a stale one is rejected here, so that no RPC
/// can forget it, and checked again inside the change.
macro_rules! admin {
    (
        read { $($read:ident($query:ident) -> $found:ident in $of:ident;)* }
        change { $($change:ident($wanted:ident) -> $done:ident in $to:ident;)* }
    ) => {
        #[tonic::async_trait]
        impl admin_server::Admin for Admin {
            $(async fn $read(&self, request: Request<v1::$query>) -> Result<Response<v1::$found>, Status> {
                let found = $of::$read(&self.app, request.into_inner()).await;
                found.map(Response::new).map_err(Failure::into)
            })*

            $(async fn $change(&self, request: Request<v1::$wanted>) -> Result<Response<v1::$done>, Status> {
                let author = crate::api::access::author(request.extensions().get::<Caller>(), "grpc");
                let request = request.into_inner();
                let app = self.app.at((request.if_revision > 0).then_some(request.if_revision));
                app.check_revision().map_err(|error| Status::from(Failure::from(error)))?;
                let done = $to::$change(&app, &author, request).await;
                done.map(Response::new).map_err(Failure::into)
            })*
        }
    };
}

admin! {
    read {
        get_status(GetStatusRequest) -> GetStatusResponse in status;
        list_backends(ListBackendsRequest) -> ListBackendsResponse in backends;
        get_backend(GetBackendRequest) -> Backend in backends;
        list_pools(ListPoolsRequest) -> ListPoolsResponse in pools;
        get_pool(GetPoolRequest) -> Pool in pools;
        list_routes(ListRoutesRequest) -> ListRoutesResponse in routes;
        get_route(GetRouteRequest) -> Route in routes;
        list_certificates(ListCertificatesRequest) -> ListCertificatesResponse in certificates;
        get_certificate(GetCertificateRequest) -> Certificate in certificates;
        get_config(GetConfigRequest) -> GetConfigResponse in config;
        list_revisions(ListRevisionsRequest) -> ListRevisionsResponse in revisions;
        get_revision(GetRevisionRequest) -> Revision in revisions;
        explain(ExplainRequest) -> ExplainResponse in explain;
        list_nodes(ListNodesRequest) -> ListNodesResponse in nodes;
        get_node(GetNodeRequest) -> Node in nodes;
        list_tokens(ListTokensRequest) -> ListTokensResponse in tokens;
        get_token(GetTokenRequest) -> Token in tokens;
        list_node_tokens(ListNodeTokensRequest) -> ListNodeTokensResponse in tokens;
        get_node_token(GetNodeTokenRequest) -> NodeToken in tokens;
        list_audit_entries(ListAuditEntriesRequest) -> ListAuditEntriesResponse in audit;
    }
    change {
        create_backend(CreateBackendRequest) -> Backend in backends;
        update_backend(UpdateBackendRequest) -> Backend in backends;
        delete_backend(DeleteBackendRequest) -> DeleteBackendResponse in backends;
        check_backend(CheckBackendRequest) -> CheckBackendResponse in backends;
        put_pool(PutPoolRequest) -> PutPoolResponse in pools;
        delete_pool(DeletePoolRequest) -> DeletePoolResponse in pools;
        set_strategy(SetStrategyRequest) -> SetStrategyResponse in pools;
        put_route(PutRouteRequest) -> PutRouteResponse in routes;
        delete_route(DeleteRouteRequest) -> DeleteRouteResponse in routes;
        put_certificate(PutCertificateRequest) -> PutCertificateResponse in certificates;
        delete_certificate(DeleteCertificateRequest) -> DeleteCertificateResponse in certificates;
        apply_config(ApplyConfigRequest) -> AppliedConfig in config;
        reload_config(ReloadConfigRequest) -> AppliedConfig in config;
        rollback(RollbackRequest) -> AppliedConfig in revisions;
        revoke_node(RevokeNodeRequest) -> RevokeNodeResponse in nodes;
        allow_node(AllowNodeRequest) -> AllowNodeResponse in nodes;
        exclude_node(ExcludeNodeRequest) -> ExcludeNodeResponse in nodes;
        include_node(IncludeNodeRequest) -> IncludeNodeResponse in nodes;
        create_token(CreateTokenRequest) -> CreateTokenResponse in tokens;
        delete_token(DeleteTokenRequest) -> DeleteTokenResponse in tokens;
        create_node_token(CreateNodeTokenRequest) -> CreateNodeTokenResponse in tokens;
        delete_node_token(DeleteNodeTokenRequest) -> DeleteNodeTokenResponse in tokens;
    }
}
