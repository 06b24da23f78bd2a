//! Every operation of the admin API, each declared once.
//!
//! From these follow the control plane's router and role table, the OpenAPI document and `docs/reference/api.md`. To
//! add an operation, declare it here and serve it in `control-plane/src/api/rest/mod.rs`; tests find one that is only
//! in one of the two places.

use weir_snapshot::config::{Pool, Route};

use crate::{
    AllowedNode, ApplyQuery, AuditEntry, AuditQuery, Backend, BackendByUrl, BackendQuery, BackendUpdate,
    Certificate, CheckResult, CreatedNodeToken, CreatedToken, ExplainQuery, Explained, Id, List, ListQuery,
    Name, NewBackend, NewCertificate, NewNodeToken, NewToken, Node, NodeCounting, NodeToken, NodeTokenId,
    Number, PoolQuery, Report, ReportQuery, Revised, Revision, RevisionDetail, RevisionQuery, RevokedNode,
    RevokedNodeToken, RevokedToken, Role, RouteQuery, SavedRoute, SetStrategy, Status, StoredCertificate,
    StrategySet, Summary, SummaryQuery, TailEvent, TailQuery, Token, Top, TopQuery, WaitQuery,
    answer::{
        ConfigFileText, Created, Events, Json, Metrics, OpenApi, Reported, RolledOut, Saved, SchemaDocument,
        Text,
    },
    body::{ConfigText, Named, OptionalJson},
    endpoint::{Endpoint, Need, Operation, Tag, delete, get, patch, post, put},
};

const OPEN: Need = Need::Nothing;
const VIEWER: Need = Need::Role(Role::Viewer);
const OPERATOR: Need = Need::Role(Role::Operator);
const ADMIN: Need = Need::Role(Role::Admin);

const STATUS: Tag = Tag { name: "status", description: "State of the fleet and of the control plane." };
const BACKENDS: Tag = Tag { name: "backends", description: "Backends: add, drain, disable, probe, remove." };
const POOLS: Tag = Tag { name: "pools", description: "Pools and their balancing strategies." };
const ROUTES: Tag = Tag { name: "routes", description: "Routes." };
const CERTIFICATES: Tag =
    Tag { name: "certificates", description: "TLS certificates. Private keys are never returned." };
const CONFIG: Tag =
    Tag { name: "config", description: "The configuration as a whole, and where it sends a request." };
const REVISIONS: Tag = Tag { name: "revisions", description: "History of the configuration." };
const NODES: Tag = Tag { name: "nodes", description: "Data-plane nodes." };
const NODE_TOKENS: Tag = Tag { name: "node-tokens", description: "Tokens with which nodes join." };
const TOKENS: Tag = Tag { name: "tokens", description: "Tokens of callers of this API." };
const AUDIT: Tag = Tag { name: "audit", description: "Log of changes and refused calls." };
const REPORTS: Tag = Tag { name: "reports", description: "Traffic reports, and requests as they complete." };

/// Every group, in the order of the reference.
pub const TAGS: [Tag; 12] = [
    STATUS,
    BACKENDS,
    POOLS,
    ROUTES,
    CERTIFICATES,
    CONFIG,
    REVISIONS,
    NODES,
    NODE_TOKENS,
    TOKENS,
    AUDIT,
    REPORTS,
];

/// The doc comment of an operation is its summary.
macro_rules! operations {
    ($($(#[doc = $summary:literal])+ $name:ident: $endpoint:ty = $value:expr;)*) => {
        $(
            $(#[doc = $summary])+
            pub static $name: $endpoint = $value.summary(concat!($($summary, "\n"),+));
        )*

        /// Every operation.
        pub static ALL: &[&Operation] = &[$(&$name.operation),*];
    };
}

operations! {
    /// Returns the whole fleet: the revision, backends, nodes, pools, routes and certificates.
    GET_STATUS: Endpoint<(), (), (), Json<Status>> = get("/status", "getStatus", STATUS, VIEWER).etag();

    /// Returns 200 while the control plane runs.
    GET_LIVENESS: Endpoint<(), (), (), Text> = get("/healthz", "getLiveness", STATUS, OPEN);

    /// Returns 200 when the control plane can serve calls.
    GET_READINESS: Endpoint<(), (), (), Text> = get("/readyz", "getReadiness", STATUS, OPEN);

    /// Returns metrics for Prometheus.
    GET_METRICS: Endpoint<(), (), (), Metrics> = get("/metrics", "getMetrics", STATUS, VIEWER);

    /// Returns this description of the API.
    GET_OPENAPI: Endpoint<(), (), (), OpenApi> = get("/openapi.json", "getOpenApi", STATUS, OPEN);

    /// Returns the JSON Schema of the configuration file.
    GET_SCHEMA: Endpoint<(), (), (), SchemaDocument> = get("/schema.json", "getConfigSchema", STATUS, OPEN);

    /// Lists the backends: all, or those of a pool or a route.
    LIST_BACKENDS: Endpoint<(), BackendQuery, (), Json<List<Backend>>> =
        get("/backends", "listBackends", BACKENDS, VIEWER).etag();

    /// Adds a backend to a pool.
    CREATE_BACKEND: Endpoint<(), (), Json<NewBackend>, Created<Backend>> =
        post("/backends", "createBackend", BACKENDS, OPERATOR).etag().errors(&[409]);

    /// Removes a backend that is named by its URL.
    ///
    /// URL and pool are in the query or in the body. 409 when the URL is in several pools and none is named.
    DELETE_BACKEND_BY_URL: Endpoint<(), BackendByUrl, OptionalJson<BackendByUrl>, Json<Revised>> =
        delete("/backends", "deleteBackendByUrl", BACKENDS, OPERATOR).etag().errors(&[404, 409]);

    /// Returns a backend.
    GET_BACKEND: Endpoint<Id, (), (), Json<Backend>> =
        get("/backends/{id}", "getBackend", BACKENDS, VIEWER).etag().errors(&[404]);

    /// Changes a backend's weight or state.
    UPDATE_BACKEND: Endpoint<Id, (), Json<BackendUpdate>, Json<Backend>> =
        patch("/backends/{id}", "updateBackend", BACKENDS, OPERATOR).etag().errors(&[404]);

    /// Removes a backend.
    DELETE_BACKEND: Endpoint<Id, (), (), Json<Revised>> =
        delete("/backends/{id}", "deleteBackend", BACKENDS, OPERATOR).etag().errors(&[404]);

    /// Probes a backend now.
    ///
    /// 409 when it is disabled, or its pool has no health check.
    CHECK_BACKEND: Endpoint<Id, (), (), Json<CheckResult>> =
        post("/backends/{id}/check", "checkBackend", BACKENDS, OPERATOR).errors(&[404, 409]);

    /// Lists the pools: all, or those that a route can send requests to.
    LIST_POOLS: Endpoint<(), PoolQuery, (), Json<List<Pool>>> =
        get("/pools", "listPools", POOLS, VIEWER).etag();

    /// Returns a pool.
    GET_POOL: Endpoint<Name, (), (), Json<Pool>> =
        get("/pools/{name}", "getPool", POOLS, VIEWER).etag().errors(&[404]);

    /// Creates or replaces a pool.
    ///
    /// Backends keep their ids by their URLs.
    PUT_POOL: Endpoint<Name, (), Named<Pool>, Saved<Pool>> =
        put("/pools/{name}", "putPool", POOLS, ADMIN).etag();

    /// Removes a pool with its backends.
    ///
    /// 409 when a route uses it.
    DELETE_POOL: Endpoint<Name, (), (), Json<Revised>> =
        delete("/pools/{name}", "deletePool", POOLS, ADMIN).etag().errors(&[404, 409]);

    /// Sets a pool's balancing strategy.
    SET_STRATEGY: Endpoint<(), (), Json<SetStrategy>, Json<StrategySet>> =
        post("/strategy", "setStrategy", POOLS, OPERATOR).etag().errors(&[404]);

    /// Lists the routes: all, or those that can send requests to a pool.
    LIST_ROUTES: Endpoint<(), RouteQuery, (), Json<List<Route>>> =
        get("/routes", "listRoutes", ROUTES, VIEWER).etag();

    /// Returns a route.
    GET_ROUTE: Endpoint<Name, (), (), Json<Route>> =
        get("/routes/{name}", "getRoute", ROUTES, VIEWER).etag().errors(&[404]);

    /// Creates or replaces a route.
    PUT_ROUTE: Endpoint<Name, (), Named<Route>, Saved<SavedRoute>> =
        put("/routes/{name}", "putRoute", ROUTES, ADMIN).etag();

    /// Removes a route.
    DELETE_ROUTE: Endpoint<Name, (), (), Json<Revised>> =
        delete("/routes/{name}", "deleteRoute", ROUTES, ADMIN).etag().errors(&[404]);

    /// Lists the certificates with their dates.
    LIST_CERTIFICATES: Endpoint<(), ListQuery, (), Json<List<Certificate>>> =
        get("/certificates", "listCertificates", CERTIFICATES, VIEWER).etag();

    /// Returns a certificate, without its key.
    GET_CERTIFICATE: Endpoint<Name, (), (), Json<StoredCertificate>> =
        get("/certificates/{name}", "getCertificate", CERTIFICATES, VIEWER).etag().errors(&[404]);

    /// Creates or replaces a certificate.
    PUT_CERTIFICATE: Endpoint<Name, (), Named<NewCertificate>, Saved<StoredCertificate>> =
        put("/certificates/{name}", "putCertificate", CERTIFICATES, ADMIN).etag();

    /// Removes a certificate.
    DELETE_CERTIFICATE: Endpoint<Name, (), (), Json<Revised>> =
        delete("/certificates/{name}", "deleteCertificate", CERTIFICATES, ADMIN).etag().errors(&[404]);

    /// Returns the whole configuration: YAML, or JSON when `Accept` names JSON.
    ///
    /// Password hashes are shown to admins only.
    GET_CONFIG: Endpoint<(), (), (), ConfigFileText> = get("/config", "getConfig", CONFIG, VIEWER).etag();

    /// Replaces the whole configuration.
    APPLY_CONFIG: Endpoint<(), ApplyQuery, ConfigText, RolledOut> =
        put("/config", "applyConfig", CONFIG, ADMIN).etag();

    /// Reads the configuration file again, and applies what has changed in it.
    ///
    /// 409 when the control plane was started without `--config`.
    RELOAD_CONFIG: Endpoint<(), (), (), RolledOut> =
        post("/config/reload", "reloadConfig", CONFIG, ADMIN).etag().errors(&[409]);

    /// Explains where a request goes: its route, its filters, and the backends that could serve it.
    EXPLAIN: Endpoint<(), ExplainQuery, (), Json<Explained>> = get("/explain", "explain", CONFIG, VIEWER);

    /// Lists the revisions, newest first.
    LIST_REVISIONS: Endpoint<(), RevisionQuery, (), Json<List<Revision>>> =
        get("/revisions", "listRevisions", REVISIONS, VIEWER).etag();

    /// Returns a revision with everything that it changed.
    GET_REVISION: Endpoint<Number, (), (), Json<RevisionDetail>> =
        get("/revisions/{n}", "getRevision", REVISIONS, VIEWER).etag().errors(&[404]);

    /// Makes the content of an earlier revision current, as a new revision.
    ROLLBACK: Endpoint<Number, WaitQuery, (), RolledOut> =
        post("/revisions/{n}/rollback", "rollback", REVISIONS, ADMIN).etag().errors(&[404]);

    /// Lists the nodes.
    LIST_NODES: Endpoint<(), ListQuery, (), Json<List<Node>>> =
        get("/nodes", "listNodes", NODES, VIEWER).etag();

    /// Returns a node.
    GET_NODE: Endpoint<Id, (), (), Json<Node>> =
        get("/nodes/{id}", "getNode", NODES, VIEWER).etag().errors(&[404]);

    /// Revokes a node: its certificate becomes invalid and its connection is closed.
    REVOKE_NODE: Endpoint<Id, (), (), Json<RevokedNode>> =
        post("/nodes/{id}/revoke", "revokeNode", NODES, ADMIN).etag();

    /// Lets a revoked node join again, or a second process join under the id of a connected node.
    ALLOW_NODE: Endpoint<Id, (), (), Json<AllowedNode>> =
        post("/nodes/{id}/allow", "allowNode", NODES, ADMIN).etag().errors(&[404]);

    /// Leaves a node's counts out of reports from now on.
    EXCLUDE_NODE: Endpoint<Id, (), (), Json<NodeCounting>> =
        post("/nodes/{id}/exclude", "excludeNode", NODES, OPERATOR).etag().errors(&[404]);

    /// Includes a node's counts in reports again from now on.
    INCLUDE_NODE: Endpoint<Id, (), (), Json<NodeCounting>> =
        post("/nodes/{id}/include", "includeNode", NODES, OPERATOR).etag().errors(&[404]);

    /// Lists the join tokens, without their secrets.
    LIST_NODE_TOKENS: Endpoint<(), ListQuery, (), Json<List<NodeToken>>> =
        get("/node-tokens", "listNodeTokens", NODE_TOKENS, ADMIN).etag();

    /// Creates a join token. Its secret is shown only this once.
    CREATE_NODE_TOKEN: Endpoint<(), (), Json<NewNodeToken>, Created<CreatedNodeToken>> =
        post("/node-tokens", "createNodeToken", NODE_TOKENS, ADMIN).etag().errors(&[409]);

    /// Returns a join token, without its secret.
    GET_NODE_TOKEN: Endpoint<NodeTokenId, (), (), Json<NodeToken>> =
        get("/node-tokens/{id}", "getNodeToken", NODE_TOKENS, ADMIN).etag().errors(&[404]);

    /// Revokes a join token. Nodes that joined with it stay.
    ///
    /// 409 when it is revoked already.
    DELETE_NODE_TOKEN: Endpoint<NodeTokenId, (), (), Json<RevokedNodeToken>> =
        delete("/node-tokens/{id}", "deleteNodeToken", NODE_TOKENS, ADMIN).etag().errors(&[404, 409]);

    /// Lists the tokens, without their secrets.
    LIST_TOKENS: Endpoint<(), ListQuery, (), Json<List<Token>>> =
        get("/tokens", "listTokens", TOKENS, ADMIN).etag();

    /// Creates a token. Its secret is shown only this once.
    ///
    /// 409 when a valid token has the name, or when the first token would lock its maker out.
    CREATE_TOKEN: Endpoint<(), (), Json<NewToken>, Created<CreatedToken>> =
        post("/tokens", "createToken", TOKENS, ADMIN).etag().errors(&[409]);

    /// Returns a token, without its secret.
    GET_TOKEN: Endpoint<Name, (), (), Json<Token>> =
        get("/tokens/{name}", "getToken", TOKENS, ADMIN).etag().errors(&[404]);

    /// Revokes a token.
    ///
    /// 409 when it is the last admin token that does not expire, or is not valid any more.
    DELETE_TOKEN: Endpoint<Name, (), (), Json<RevokedToken>> =
        delete("/tokens/{name}", "deleteToken", TOKENS, ADMIN).etag().errors(&[404, 409]);

    /// Lists changes and refused calls, newest first.
    LIST_AUDIT_ENTRIES: Endpoint<(), AuditQuery, (), Json<List<AuditEntry>>> =
        get("/audit", "listAuditEntries", AUDIT, ADMIN);

    /// Reports requests minute by minute.
    GET_MINUTELY: Endpoint<(), ReportQuery, (), Reported<Report>> =
        get("/reports/minutely", "getMinutely", REPORTS, VIEWER);

    /// Reports requests hour by hour.
    GET_HOURLY: Endpoint<(), ReportQuery, (), Reported<Report>> =
        get("/reports/hourly", "getHourly", REPORTS, VIEWER);

    /// Reports requests day by day.
    GET_DAILY: Endpoint<(), ReportQuery, (), Reported<Report>> =
        get("/reports/daily", "getDaily", REPORTS, VIEWER);

    /// Reports a range as one, with its peak and its lowest hour.
    GET_SUMMARY: Endpoint<(), SummaryQuery, (), Reported<Summary>> =
        get("/reports/summary", "getSummary", REPORTS, VIEWER);

    /// Ranks routes, hosts, pools, backends, methods or statuses.
    GET_TOP: Endpoint<(), TopQuery, (), Reported<Top>> = get("/reports/top", "getTop", REPORTS, VIEWER);

    /// Streams requests of all nodes as they complete, as server-sent events.
    ///
    /// An event named `request` has a `TailEvent` as its data. An event named `dropped` has the number of requests
    /// that were left out because there were too many at once.
    TAIL: Endpoint<(), TailQuery, (), Events<TailEvent>> = get("/reports/tail", "tail", REPORTS, VIEWER);
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn each_operation_has_its_own_id_and_its_own_method_and_path() {
        let (mut ids, mut places) = (HashSet::new(), HashSet::new());
        for operation in ALL {
            assert!(ids.insert(operation.id), "{}", operation.id);
            assert!(places.insert((operation.method, operation.path)), "{} {}", operation.path, operation.id);
            assert!(TAGS.contains(&operation.tag), "{}", operation.id);
            assert!(operation.summary.trim().split('\n').next().unwrap().ends_with('.'), "{}", operation.id);
        }
    }

    #[test]
    fn what_a_viewer_or_anyone_may_call_changes_nothing() {
        for operation in ALL.iter().filter(|operation| operation.is_change()) {
            assert!(matches!(operation.need, Need::Role(Role::Operator | Role::Admin)), "{}", operation.id);
        }
    }
}
