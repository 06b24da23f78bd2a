//! The permissions of REST, gRPC and the dashboard. The gate in front of the admin port uses only this table; anything
//! that is not in it requires an admin. Tests compare it with `openapi.json`, with the descriptors of the gRPC
//! services, and with the table in docs/reference/access.md.

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

/// Method, path as the router has it, and required role.
pub type Path = (&'static str, &'static str, Need);

/// REST operations, as declared.
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

/// RPCs that require no token.
const OPEN_RPCS: &[&str] = &[
    "/grpc.health.v1.Health/Check",
    "/grpc.health.v1.Health/List",
    "/grpc.health.v1.Health/Watch",
    // The schema is public, like `openapi.json`.
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
];

/// Operations without their own RPC, with the reason.
pub const WITHOUT_RPC: &[(&str, &str)] = &[
    ("getLiveness", "grpc.health.v1 reports it"),
    ("getReadiness", "grpc.health.v1 reports it"),
    ("getMetrics", "Prometheus uses HTTP"),
    ("getOpenApi", "server reflection describes the RPCs"),
    ("getConfigSchema", "a document for editors"),
    ("deleteBackendByUrl", "DeleteBackend takes a URL too"),
];

/// The path of each RPC of the services Admin and Reports, with its operation. The RPC has the operation's name and the
/// same required role, and changes the same data.
static RPCS: LazyLock<Vec<(String, &Operation)>> = LazyLock::new(|| {
    let row = |operation: &&'static Operation| {
        let service = if operation.tag.name == "reports" { "Reports" } else { "Admin" };
        let (first, rest) = operation.id.split_at(1);
        (format!("/weir.v1.{service}/{}{rest}", first.to_ascii_uppercase()), *operation)
    };
    let has_rpc = |operation: &&&Operation| !WITHOUT_RPC.iter().any(|(id, _)| *id == operation.id);
    operations::ALL.iter().filter(has_rpc).map(row).collect()
});

/// Returns every RPC of the admin port with its rule.
pub fn rpcs() -> impl Iterator<Item = (&'static str, Rule)> {
    OPEN_RPCS.iter().copied().chain(RPCS.iter().map(|(rpc, _)| rpc.as_str())).map(|rpc| (rpc, grpc(rpc)))
}

/// Returns the operation of an RPC path.
pub fn operation(rpc: &str) -> Option<&'static Operation> {
    RPCS.iter().find(|(known, _)| known == rpc).map(|(_, operation)| *operation)
}

/// The rule for a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// Required role.
    pub need: Need,
    /// Whether the call may change something and is therefore audited.
    pub changes: bool,
}

/// Returns the rule for an RPC path. An RPC that is not in the table requires an admin.
pub fn grpc(path: &str) -> Rule {
    if OPEN_RPCS.contains(&path) {
        return Rule { need: OPEN, changes: false };
    }
    match operation(path) {
        Some(operation) => Rule { need: operation.need, changes: operation.is_change() },
        None => Rule { need: ADMIN, changes: true },
    }
}

/// Returns the rule for a method and the path that the router matched; `None` means that no path matched, and the
/// answer is 404.
pub fn http(method: &str, path: Option<&str>) -> Rule {
    let method = if method == "HEAD" { "GET" } else { method };
    let changes = !matches!(method, "GET" | "OPTIONS");
    let Some(path) = path else { return Rule { need: VIEWER, changes } };
    let row = REST.iter().chain(DASHBOARD).find(|(verb, known, _)| *verb == method && *known == path);
    Rule { need: row.map_or(ADMIN, |(.., need)| *need), changes }
}

/// Whether a call at this path can run for as long as its caller wants.
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
    fn each_call_is_in_the_table_once() {
        let mut seen = HashSet::new();
        for (method, path, _) in REST.iter().chain(DASHBOARD) {
            assert!(seen.insert((*method, *path)), "{method} {path}");
        }
        for (path, _) in rpcs() {
            assert!(seen.insert(("gRPC", path)), "{path}");
        }
    }

    #[test]
    fn a_call_that_is_not_in_the_table_needs_an_admin() {
        assert_eq!(http("DELETE", Some("/status")).need, ADMIN);
        assert_eq!(http("GET", Some("/new")).need, ADMIN);
        assert_eq!(grpc("/weir.v1.Admin/New").need, ADMIN);
        assert_eq!(http("HEAD", Some("/status")).need, VIEWER);
        assert_eq!(http("GET", None).need, VIEWER);
    }

    #[test]
    fn open_calls_change_only_the_callers_session() {
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
