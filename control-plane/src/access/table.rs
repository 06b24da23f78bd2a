//! Who may call what: one table for REST, gRPC and the dashboard. The gate in front of the admin port decides by it and
//! by nothing else; what is not in it needs an admin. Tests hold it against `openapi.json`, against the descriptors of
//! the gRPC services, and against the table in docs/reference/access.md.

use std::sync::LazyLock;

use weir_admin_api::{
    endpoint::{Need, Operation},
    operations,
};

use super::Role;

const OPEN: Need = Need::Nothing;
const VIEWER: Need = Need::Role(Role::Viewer);
const OPERATOR: Need = Need::Role(Role::Operator);
const ADMIN: Need = Need::Role(Role::Admin);

/// Method, path as the router has it, what it needs.
pub type Path = (&'static str, &'static str, Need);

/// REST, as its operations are declared.
pub static REST: LazyLock<Vec<Path>> = LazyLock::new(|| {
    let row = |operation: &&Operation| (operation.method.as_str(), operation.path, operation.need);
    operations::ALL.iter().map(row).collect()
});

/// The dashboard's pages and forms.
pub const DASHBOARD: &[Path] = &[
    ("GET", "/ui/icon.svg", OPEN),
    ("GET", "/ui/style.css", OPEN),
    ("GET", "/ui/script.js", OPEN),
    ("GET", "/ui/login", OPEN),
    ("POST", "/ui/login", OPEN),
    ("POST", "/ui/logout", OPEN),
    ("GET", "/", VIEWER),
    ("GET", "/ui/pools", VIEWER),
    ("GET", "/ui/routes", VIEWER),
    ("GET", "/ui/explain", VIEWER),
    ("GET", "/ui/nodes", VIEWER),
    ("GET", "/ui/reports", VIEWER),
    ("GET", "/ui/tail", VIEWER),
    ("GET", "/ui/revisions", VIEWER),
    ("GET", "/ui/revisions/{n}", VIEWER),
    ("GET", "/ui/audit", ADMIN),
    ("GET", "/ui/events", VIEWER),
    ("POST", "/ui/backends", OPERATOR),
    ("POST", "/ui/backends/{id}", OPERATOR),
    ("POST", "/ui/pools/{name}/strategy", OPERATOR),
    ("POST", "/ui/revisions/{n}/rollback", ADMIN),
];

/// RPCs that need no token.
const OPEN_RPCS: &[&str] = &[
    "/grpc.health.v1.Health/Check",
    "/grpc.health.v1.Health/List",
    "/grpc.health.v1.Health/Watch",
    // The schema is no secret: it is in the repository, as openapi.json's.
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
];

/// Each RPC, and the REST operation that does the same: it needs what that operation needs.
pub const RPCS: &[(&str, &str, &str)] = &[
    ("/weir.v1.Admin/GetStatus", "GET", "/status"),
    ("/weir.v1.Admin/ListBackends", "GET", "/backends"),
    ("/weir.v1.Admin/GetBackend", "GET", "/backends/{id}"),
    ("/weir.v1.Admin/CreateBackend", "POST", "/backends"),
    ("/weir.v1.Admin/UpdateBackend", "PATCH", "/backends/{id}"),
    ("/weir.v1.Admin/DeleteBackend", "DELETE", "/backends/{id}"),
    ("/weir.v1.Admin/CheckBackend", "POST", "/backends/{id}/check"),
    ("/weir.v1.Admin/ListPools", "GET", "/pools"),
    ("/weir.v1.Admin/GetPool", "GET", "/pools/{name}"),
    ("/weir.v1.Admin/PutPool", "PUT", "/pools/{name}"),
    ("/weir.v1.Admin/DeletePool", "DELETE", "/pools/{name}"),
    ("/weir.v1.Admin/SetStrategy", "POST", "/strategy"),
    ("/weir.v1.Admin/ListRoutes", "GET", "/routes"),
    ("/weir.v1.Admin/GetRoute", "GET", "/routes/{name}"),
    ("/weir.v1.Admin/PutRoute", "PUT", "/routes/{name}"),
    ("/weir.v1.Admin/DeleteRoute", "DELETE", "/routes/{name}"),
    ("/weir.v1.Admin/ListCertificates", "GET", "/certificates"),
    ("/weir.v1.Admin/GetCertificate", "GET", "/certificates/{name}"),
    ("/weir.v1.Admin/PutCertificate", "PUT", "/certificates/{name}"),
    ("/weir.v1.Admin/DeleteCertificate", "DELETE", "/certificates/{name}"),
    ("/weir.v1.Admin/GetConfig", "GET", "/config"),
    ("/weir.v1.Admin/ApplyConfig", "PUT", "/config"),
    ("/weir.v1.Admin/ReloadConfig", "POST", "/config/reload"),
    ("/weir.v1.Admin/ListRevisions", "GET", "/revisions"),
    ("/weir.v1.Admin/GetRevision", "GET", "/revisions/{n}"),
    ("/weir.v1.Admin/Rollback", "POST", "/revisions/{n}/rollback"),
    ("/weir.v1.Admin/Explain", "GET", "/explain"),
    ("/weir.v1.Admin/ListNodes", "GET", "/nodes"),
    ("/weir.v1.Admin/RevokeNode", "POST", "/nodes/{id}/revoke"),
    ("/weir.v1.Admin/AllowNode", "POST", "/nodes/{id}/allow"),
    ("/weir.v1.Admin/ExcludeNode", "POST", "/nodes/{id}/exclude"),
    ("/weir.v1.Admin/IncludeNode", "POST", "/nodes/{id}/include"),
    ("/weir.v1.Admin/ListTokens", "GET", "/tokens"),
    ("/weir.v1.Admin/CreateToken", "POST", "/tokens"),
    ("/weir.v1.Admin/DeleteToken", "DELETE", "/tokens/{name}"),
    ("/weir.v1.Admin/ListNodeTokens", "GET", "/node-tokens"),
    ("/weir.v1.Admin/CreateNodeToken", "POST", "/node-tokens"),
    ("/weir.v1.Admin/DeleteNodeToken", "DELETE", "/node-tokens/{id}"),
    ("/weir.v1.Admin/ListAuditEntries", "GET", "/audit"),
    ("/weir.v1.Reports/GetMinutely", "GET", "/reports/minutely"),
    ("/weir.v1.Reports/GetHourly", "GET", "/reports/hourly"),
    ("/weir.v1.Reports/GetDaily", "GET", "/reports/daily"),
    ("/weir.v1.Reports/GetSummary", "GET", "/reports/summary"),
    ("/weir.v1.Reports/GetTop", "GET", "/reports/top"),
    ("/weir.v1.Reports/Tail", "GET", "/reports/tail"),
];

/// Every RPC of the admin port with its rule.
pub fn rpcs() -> impl Iterator<Item = (&'static str, Rule)> {
    OPEN_RPCS.iter().copied().chain(RPCS.iter().map(|(rpc, ..)| *rpc)).map(|rpc| (rpc, grpc(rpc)))
}

/// What is called, as the table sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// What it needs.
    pub need: Need,
    /// Whether it may change something, and so belongs into the audit.
    pub changes: bool,
}

/// The rule for the path of an RPC. An RPC that is not in the table needs an admin.
pub fn grpc(path: &str) -> Rule {
    if OPEN_RPCS.contains(&path) {
        return Rule { need: OPEN, changes: false };
    }
    match RPCS.iter().find(|(rpc, ..)| *rpc == path) {
        Some((_, method, path)) => http(method, Some(path)),
        None => Rule { need: ADMIN, changes: true },
    }
}

/// The rule for a method and the path that the router found for it; `None`: it found none, and the answer is 404.
pub fn http(method: &str, path: Option<&str>) -> Rule {
    let method = if method == "HEAD" { "GET" } else { method };
    let changes = !matches!(method, "GET" | "OPTIONS");
    let Some(path) = path else { return Rule { need: VIEWER, changes } };
    let row = REST.iter().chain(DASHBOARD).find(|(verb, known, _)| *verb == method && *known == path);
    Rule { need: row.map_or(ADMIN, |(.., need)| *need), changes }
}

/// Whether a call lasts as long as its caller likes, by its path.
pub fn lasts(path: &str) -> bool {
    matches!(
        path,
        "/ui/events"
            | "/reports/tail"
            | "/weir.v1.Reports/Tail"
            | "/grpc.health.v1.Health/Watch"
            | "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"
            | "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
    )
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn each_call_stands_in_the_table_once() {
        let mut seen = HashSet::new();
        for (method, path, _) in REST.iter().chain(DASHBOARD) {
            assert!(seen.insert((*method, *path)), "{method} {path}");
        }
        for (path, _) in rpcs() {
            assert!(seen.insert(("gRPC", path)), "{path}");
        }
    }

    #[test]
    fn what_is_not_in_the_table_needs_an_admin() {
        assert_eq!(http("DELETE", Some("/status")).need, ADMIN);
        assert_eq!(http("GET", Some("/new")).need, ADMIN);
        assert_eq!(grpc("/weir.v1.Admin/New").need, ADMIN);
        assert_eq!(http("HEAD", Some("/status")).need, VIEWER);
        assert_eq!(http("GET", None).need, VIEWER);
    }

    #[test]
    fn what_anybody_may_call_changes_nothing_but_the_own_session() {
        for (method, path, need) in REST.iter().chain(DASHBOARD) {
            let is_session = ["/ui/login", "/ui/logout"].contains(path);
            assert!(*need != OPEN || *method == "GET" || is_session, "{method} {path}");
            assert!(*need != VIEWER || *method == "GET", "{method} {path}");
        }
        for (rpc, Rule { need, changes }) in rpcs() {
            assert!(!changes || matches!(need, Need::Role(role) if role > Role::Viewer), "{rpc}");
        }
    }
}
