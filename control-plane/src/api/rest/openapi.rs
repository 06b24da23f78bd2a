//! `GET /openapi.json`: every path, method, request and answer of REST, as OpenAPI 3.1.

use std::sync::LazyLock;

use axum::{
    body::Bytes,
    http::{HeaderName, header},
};
use serde_json::{Map, Value, json};
use weir_snapshot::schema;

use crate::access::{Need, table};

/// Path, method, what it does, schema of the request's body, status and schema of the answer.
type Operation = (&'static str, &'static str, &'static str, Option<&'static str>, &'static str, &'static str);

const OPERATIONS: &[Operation] = &[
    ("/status", "get", "The revision, every backend and every node", None, "200", "Status"),
    ("/nodes", "get", "Every node", None, "200", "NodeList"),
    ("/backends", "get", "All backends, or those of ?pool", None, "200", "BackendList"),
    (
        "/backends",
        "post",
        "Adds a backend; without a pool to pool default",
        Some("NewBackend"),
        "201",
        "Backend",
    ),
    ("/backends", "delete", "Removes a backend by its URL", Some("BackendByUrl"), "200", "Revised"),
    ("/backends/{id}", "get", "One backend", None, "200", "Backend"),
    ("/backends/{id}", "patch", "Changes weight or state", Some("BackendUpdate"), "200", "Backend"),
    ("/backends/{id}", "delete", "Removes a backend", None, "200", "Revised"),
    ("/backends/{id}/check", "post", "Probes a backend now", None, "200", "Finding"),
    ("/pools", "get", "All pools", None, "200", "PoolList"),
    ("/pools/{name}", "get", "One pool", None, "200", "Pool"),
    ("/pools/{name}", "put", "Makes or replaces a pool", Some("Pool"), "200", "Pool"),
    ("/pools/{name}", "delete", "Removes a pool that no route uses", None, "200", "Revised"),
    ("/routes", "get", "All routes", None, "200", "RouteList"),
    ("/routes/{name}", "get", "One route", None, "200", "Route"),
    ("/routes/{name}", "put", "Makes or replaces a route", Some("Route"), "200", "Route"),
    ("/routes/{name}", "delete", "Removes a route", None, "200", "Revised"),
    ("/certificates", "get", "All certificates, and when each expires", None, "200", "CertificateList"),
    ("/certificates/{name}", "get", "One certificate; never its key", None, "200", "Certificate"),
    (
        "/certificates/{name}",
        "put",
        "Makes or replaces a certificate; without a key it keeps the one that is stored",
        Some("NewCertificate"),
        "200",
        "Certificate",
    ),
    ("/certificates/{name}", "delete", "Removes a certificate", None, "200", "Revised"),
    ("/strategy", "post", "Changes a pool's strategy", Some("SetStrategy"), "200", "Revised"),
    ("/config", "get", "The whole configuration, YAML, or JSON by Accept", None, "200", "Config"),
    (
        "/config",
        "put",
        "Replaces the configuration; ?dry_run=true only says what would change, ?wait=5s waits for the nodes",
        Some("Config"),
        "200",
        "Applied",
    ),
    (
        "/config/reload",
        "post",
        "Reads the file given at start again, and applies what has changed in it",
        None,
        "200",
        "Applied",
    ),
    (
        "/explain",
        "get",
        "Where a request would go: its route, what its filters say, and which backends could get it",
        None,
        "200",
        "Explained",
    ),
    ("/revisions", "get", "The newest revisions; ?before and ?limit", None, "200", "RevisionList"),
    ("/revisions/{n}", "get", "One revision with its difference", None, "200", "RevisionInfo"),
    (
        "/revisions/{n}/rollback",
        "post",
        "Makes the content of a revision current, as a new one",
        None,
        "200",
        "Applied",
    ),
    ("/reports/hourly", "get", "Requests hour by hour", None, "200", "Report"),
    ("/reports/daily", "get", "Requests day by day", None, "200", "Report"),
    ("/reports/minutely", "get", "Requests minute by minute, while minutes are kept", None, "200", "Report"),
    (
        "/reports/summary",
        "get",
        "A range as one, with peak and lowest hour; ?compare=true adds as much time before",
        None,
        "200",
        "Summary",
    ),
    (
        "/reports/tail",
        "get",
        "Requests of all nodes as they end, as server-sent events; ?route, ?pool, ?backend, ?host, ?method, ?path, ?status=5xx, ?min_latency=200ms, ?client, ?outcome=cut",
        None,
        "200",
        "Text",
    ),
    (
        "/reports/top",
        "get",
        "Routes, hosts, pools, backends, methods or statuses with the most requests or errors, or slowest; ?by, ?sort, ?limit",
        None,
        "200",
        "Top",
    ),
    ("/tokens", "get", "All tokens, without themselves", None, "200", "TokenList"),
    ("/tokens", "post", "Makes a token, which is shown this once", Some("NewToken"), "201", "CreatedToken"),
    ("/tokens/{name}", "delete", "Revokes a token", None, "200", "RevokedToken"),
    (
        "/audit",
        "get",
        "What was changed and refused, newest first; ?after and ?limit",
        None,
        "200",
        "AuditList",
    ),
    ("/schema.json", "get", "The JSON Schema of the configuration file", None, "200", "Schema"),
    ("/node-tokens", "get", "All join tokens, without themselves", None, "200", "NodeTokenList"),
    (
        "/node-tokens",
        "post",
        "Makes a join token for nodes, which is shown this once",
        Some("NewNodeToken"),
        "201",
        "CreatedNodeToken",
    ),
    (
        "/node-tokens/{id}",
        "delete",
        "Revokes a join token; who joined with it stays",
        None,
        "200",
        "RevokedNodeToken",
    ),
    ("/nodes/{id}/revoke", "post", "Ends a node's membership and its streams", None, "200", "NodeAccess"),
    (
        "/nodes/{id}/allow",
        "post",
        "Lets a revoked node join again, or one more process join as a node that is connected",
        None,
        "200",
        "NodeAccess",
    ),
    (
        "/nodes/{id}/exclude",
        "post",
        "Leaves a node's counts out of reports from now on",
        None,
        "200",
        "NodeCounting",
    ),
    ("/nodes/{id}/include", "post", "Counts a node again from now on", None, "200", "NodeCounting"),
    ("/healthz", "get", "Liveness", None, "200", "Text"),
    ("/readyz", "get", "Readiness", None, "200", "Text"),
    ("/metrics", "get", "Prometheus metrics", None, "200", "Text"),
];

const REPORT_PARAMETERS: &[(&str, &str)] = &[
    (
        "from",
        "RFC 3339, a date, or so long ago: -90s, -30m, -2h, -7d; a day before `to` when absent, an hour with minutes, 30 days with days, a summary and a ranking",
    ),
    ("to", "As `from`; a date is its end. Now when absent"),
    ("route", "Only this route"),
    ("pool", "Only this pool"),
    ("backend", "Only this backend, by id or URL"),
    ("method", "Only this method"),
    ("host", "Only this host; no other filter goes with it"),
    ("tz", "IANA time zone, UTC when absent"),
    ("format", "json or csv"),
];

const TOP_PARAMETERS: &[(&str, &str)] = &[
    ("by", "route, host, pool, backend, method, status, or slowest (the routes by their 99th percentile)"),
    ("sort", "requests, errors, rejected, cut, slowest or bytes"),
    ("limit", "At most so many, 10 when absent"),
];

/// `GET /openapi.json`. Anyone may ask for it, so it is made once.
pub(super) async fn document() -> ([(HeaderName, &'static str); 1], Bytes) {
    static TEXT: LazyLock<Bytes> = LazyLock::new(|| value().to_string().into());
    ([(header::CONTENT_TYPE, "application/json")], TEXT.clone())
}

fn value() -> Value {
    let mut paths = Map::new();
    for (path, method, summary, body, status, answer) in OPERATIONS {
        let mut operation = json!({
            "summary": summary,
            "parameters": parameters(path, method),
            "responses": {
                *status: { "description": summary, "content": content(answer) },
                "default": {
                    "description": "An error, with every mistake listed",
                    "content": { "application/problem+json": { "schema": { "$ref": "#/components/schemas/Problem" } } },
                },
            },
        });
        if *method == "put" && path.ends_with("/{name}") {
            let made = json!({ "description": "It is new", "content": content(answer) });
            operation["responses"]["201"] = made;
        }
        operation["x-weir-role"] = match table::http(&method.to_ascii_uppercase(), Some(path)).need {
            Need::Role(role) => role.as_str().into(),
            Need::Nothing => {
                operation["security"] = json!([]);
                Value::Null
            }
        };
        if *method != "get" {
            let guard = json!({
                "name": "If-Match", "in": "header", "schema": { "type": "string" },
                "description": "The ETag of what was seen, a revision's number; refused with 412 when another one is current",
            });
            if let Some(parameters) = operation["parameters"].as_array_mut() {
                parameters.push(guard);
            }
        }
        if let Some(body) = body {
            operation["requestBody"] = json!({ "required": true, "content": content(body) });
        }
        let entry = paths.entry(*path).or_insert_with(|| json!({}));
        entry[*method] = operation;
    }
    let mut schemas = schemas();
    for more in [access_schemas(), filter_schemas()] {
        if let (Some(all), Value::Object(more)) = (schemas.as_object_mut(), more) {
            all.extend(more);
        }
    }
    json!({
        "openapi": "3.1.0",
        "info": { "title": "Weir admin API", "version": env!("CARGO_PKG_VERSION") },
        "paths": paths,
        // On loopback nothing is needed until the first token is made.
        "security": [{ "token": [] }],
        "components": {
            "schemas": schemas,
            "securitySchemes": { "token": { "type": "http", "scheme": "bearer", "bearerFormat": "weir_ and 64 hexadecimal digits" } },
        },
    })
}

fn content(schema: &str) -> Value {
    let kind = if schema == "Text" { "text/plain" } else { "application/json" };
    json!({ kind: { "schema": { "$ref": format!("#/components/schemas/{schema}") } } })
}

fn parameters(path: &str, method: &str) -> Value {
    let in_path = path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    let mut parameters: Vec<Value> = in_path
        .map(|name| json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string" } }))
        .collect();
    let query = |name: &str, description: &str| json!({ "name": name, "in": "query", "description": description, "schema": { "type": "string" } });
    match path {
        "/reports/tail" => {
            let names = [
                "route",
                "pool",
                "backend",
                "host",
                "method",
                "path",
                "status",
                "min_latency",
                "client",
                "outcome",
            ];
            parameters.extend(names.map(|name| query(name, "Only these requests")));
        }
        path if path.starts_with("/reports/") => {
            let more: &[(&str, &str)] = match path {
                "/reports/top" => TOP_PARAMETERS,
                "/reports/summary" => &[("compare", "true: with as much time before")],
                _ => &[],
            };
            let all = REPORT_PARAMETERS.iter().chain(more);
            parameters.extend(all.map(|(name, description)| query(name, description)));
        }
        "/backends" if method == "get" => parameters.push(query("pool", "Only this pool")),
        "/config" if method == "put" => {
            parameters.push(query("dry_run", "true: only say what would change"));
            parameters.push(query("wait", "Wait so long for the nodes, such as 5s"));
        }
        "/audit" => {
            parameters
                .push(query("after", "Only what is listed after the entry with this id, so older ones"));
            parameters.push(query("limit", "At most so many, 100 when absent"));
        }
        "/explain" => {
            parameters.extend([
                query("method", "GET when absent"),
                query("url", "A URL, or a path"),
                query("header", "name: value; as often as needed"),
                query("client", "The client's address"),
            ]);
        }
        "/revisions/{n}/rollback" => parameters.push(query("wait", "Wait so long for the nodes, such as 5s")),
        "/revisions" => {
            parameters.push(query("before", "Only revisions below this one"));
            parameters.push(query("limit", "At most so many, 100 when absent"));
        }
        _ => {}
    }
    parameters.into()
}

fn object(properties: &[(&str, Value)], required: &[&str]) -> Value {
    let properties: Map<String, Value> =
        properties.iter().map(|(name, schema)| ((*name).to_owned(), schema.clone())).collect();
    json!({ "type": "object", "properties": properties, "required": required })
}

/// What routes ask of requests, and what they have refused.
fn filter_schemas() -> Value {
    let text = || json!({ "type": "string" });
    let number = || json!({ "type": "integer" });
    let truth = || json!({ "type": "boolean" });
    let texts = || json!({ "type": "array", "items": text() });
    let duration = || json!({ "type": "string", "examples": ["10s", "5m"] });
    let refused = ["ip_filter", "method", "rate_limit", "auth"].map(|name| (name, number()));
    json!({
        "RouteStatus": object(&[("name", text()), ("refused", json!({ "$ref": "#/components/schemas/Refused" }))], &["name", "refused"]),
        "Refused": object(&refused, &[]),
        "IpFilter": object(&[("allow", texts()), ("deny", texts())], &[]),
        "RateLimit": object(
            &[("requests", number()), ("per", duration()), ("burst", number()), ("key", json!({ "type": ["string", "object"] })),
              ("scope", json!({ "type": "string", "enum": ["node", "fleet"] }))], &["requests", "per"]),
        "BasicAuth": object(
            &[("realm", text()), ("users", json!({ "type": "object", "additionalProperties": { "type": "string" } })),
              ("user_header", text()), ("keep_authorization", truth())], &["users"]),
        "Jwt": object(
            &[("issuer", text()), ("audience", texts()), ("jwks", json!({ "type": ["string", "object"] })), ("algorithms", texts()),
              ("header", text()), ("cookie", text()),
              ("claims_to_headers", json!({ "type": "object", "additionalProperties": { "type": "string" } })),
              ("leeway", duration()), ("keep_authorization", truth())], &["issuer", "audience", "jwks"]),
    })
}

fn schemas() -> Value {
    let text = || json!({ "type": "string" });
    let number = || json!({ "type": "integer" });
    let truth = || json!({ "type": "boolean" });
    let of = |name: &str| json!({ "$ref": format!("#/components/schemas/{name}") });
    let many = |name: &str| json!({ "type": "array", "items": of(name) });
    let list = |name: &str| object(&[("items", many(name))], &["items"]);
    let texts = || json!({ "type": "array", "items": text() });
    let counts = || json!({ "type": "object", "additionalProperties": number() });
    let weight = json!({ "type": "integer", "minimum": 1, "maximum": weir_snapshot::Weight::MAX });
    let state = json!({ "type": "string", "enum": ["active", "draining", "disabled"] });
    let strategies = weir_snapshot::config::Strategy::ALL.map(|(_, name)| name);
    let strategy = json!({ "type": "string", "enum": strategies });
    let traffic = || {
        vec![
            ("requests", number()),
            ("status", counts()),
            ("bytes_in", number()),
            ("bytes_out", number()),
            ("latency_ms", of("Latency")),
            ("upstream_ms", of("Latency")),
            ("retries", number()),
            ("rejected", of("Rejected")),
            ("cut", of("Cut")),
            ("streams", number()),
            ("stream_ms", of("Latency")),
            ("complete", truth()),
        ]
    };
    let mut period = traffic();
    period.extend([
        ("start", text()),
        ("state", json!({ "type": "string", "enum": ["complete", "open", "partial", "gap", "none"] })),
        ("nodes", of("ReportNodes")),
    ]);
    let mut item = traffic();
    item.retain(|(name, _)| *name != "complete");
    item.extend([
        ("name", text()),
        ("url", text()),
        ("share", json!({ "type": "number" })),
        ("errors", number()),
    ]);
    let mut summary = traffic();
    summary.extend([
        ("state", json!({ "type": "string", "enum": ["complete", "open", "partial", "gap", "none"] })),
        ("from", text()),
        ("to", text()),
        ("peak", of("PeriodCount")),
        ("lowest", of("PeriodCount")),
        ("gaps", number()),
        ("nodes", of("ReportNodes")),
        ("before", of("Before")),
    ]);
    let mut before = traffic();
    before.extend([("from", text()), ("to", text())]);
    let problem = object(
        &[("path", text()), ("message", text()), ("line", number()), ("column", number())],
        &["path", "message"],
    );
    let difference = object(
        &[
            ("action", json!({ "type": "string", "enum": ["add", "remove", "change", "move"] })),
            ("kind", text()),
            ("name", text()),
            ("text", text()),
            (
                "fields",
                json!({ "type": "array", "items": object(&[("path", text()), ("before", json!({})), ("after", json!({}))], &["path"]) }),
            ),
            ("before", json!({})),
            ("after", json!({})),
        ],
        &["action", "kind", "name", "text"],
    );
    let mut schemas = configuration();
    let more = json!({
        "Text": { "type": "string" },
        "Schema": { "type": "object" },
        "Problem": object(
            &[("type", text()), ("title", text()), ("status", number()), ("detail", text()),
              ("problems", json!({ "type": "array", "items": problem })), ("revision", number())],
            &["title", "status", "detail", "problems"]),
        "Revised": object(&[("revision", number())], &["revision"]),
        "NewBackend": object(&[("url", text()), ("pool", text()), ("weight", weight.clone())], &["url"]),
        "BackendByUrl": object(&[("url", text()), ("pool", text())], &["url"]),
        "BackendUpdate": object(&[("weight", weight.clone()), ("state", state.clone())], &[]),
        "Backend": object(
            &[("id", text()), ("url", text()), ("pool", text()), ("weight", weight.clone()), ("state", state.clone()),
              ("alive", truth()), ("health", json!({ "type": "string", "enum": ["unknown", "up", "down"] })),
              ("active_connections", number()), ("last_check", text()),
              ("breaker", json!({ "type": "string", "enum": ["closed", "half_open", "open"] })),
              ("ejected_by", texts()), ("ejections", number()), ("sessions", number())],
            &["id", "url", "pool", "weight", "state", "alive", "active_connections"]),
        "BackendList": list("Backend"),
        "Finding": object(&[("ok", truth()), ("detail", text()), ("latency_ms", json!({ "type": "number" }))], &["ok", "detail"]),
        "Node": object(
            &[("id", text()), ("version", text()), ("address", text()), ("workers", number()), ("connected", truth()),
              ("since", text()), ("active_revision", number()), ("connections", number()), ("requests", number()),
              ("dropped_rows", number()), ("forgotten_clients", number()), ("rejected_revision", number()), ("clock_offset_ms", number()),
              ("excluded", truth()),
              ("labels", json!({ "type": "object", "additionalProperties": { "type": "string" } })),
              ("state", json!({ "type": "string", "enum": ["active", "behind", "rejected", "away", "revoked"] })),
              ("lag_revisions", number()), ("lag_ms", number()), ("active_requests", number()),
              ("rejection", many("Problem")), ("last_error", of("NodeError"))],
            &["id", "connected", "active_revision", "state"]),
        "NodeError": object(&[("time", text()), ("text", text())], &["time", "text"]),
        "NodeList": list("Node"),
        "Status": object(&[("revision", number()), ("backends", many("Backend")), ("nodes", many("Node")), ("pools", many("PoolStatus")), ("routes", many("RouteStatus")), ("certificates", many("Certificate")), ("config_file", json!({ "$ref": "#/components/schemas/ConfigFile" }))], &["revision", "backends", "nodes"]),
        "ConfigFile": object(
            &[("path", text()), ("authoritative", truth()), ("applied", text()), ("revision", number()), ("drift", texts()), ("drift_count", number())],
            &["path", "authoritative", "applied", "revision", "drift", "drift_count"]),
        "PoolStatus": object(
            &[("name", text()), ("strategy", text()), ("panic", texts()), ("waiting", number()), ("retries", number()),
              ("retries_refused", number()), ("fallbacks", number()), ("refused", number()), ("repinned", number())],
            &["name", "strategy"]),
        "NewCertificate": object(&[("cert", text()), ("key", text())], &["cert"]),
        "Certificate": object(
            &[("name", text()), ("hosts", texts()), ("not_before", text()), ("not_after", text()), ("days_left", number()),
              ("state", json!({ "type": "string", "enum": ["good", "soon", "expired", "early"] })),
              ("subject", text()), ("issuer", text()), ("fingerprint", text()), ("cert", text())],
            &["name", "hosts", "not_after", "days_left", "state"]),
        "CertificateList": list("Certificate"),
        "PoolList": list("Pool"),
        "RouteList": list("Route"),
        "SetStrategy": object(&[("pool", text()), ("strategy", strategy)], &["pool", "strategy"]),
        "Applied": object(&[("revision", number()), ("changes", texts()), ("diff", many("Difference")), ("warnings", json!({ "type": "array", "items": { "type": "object" } })), ("replaced", texts()), ("active", truth()), ("nodes", json!({ "type": "object" }))], &["revision", "changes"]),
        "RevisionInfo": object(&[("revision", number()), ("time", text()), ("actor", text()), ("source", text()), ("changes", texts()), ("diff", many("Difference"))], &["revision", "time", "actor", "source", "changes"]),
        "RevisionList": list("RevisionInfo"),
        "Latency": object(&["p50", "p90", "p99", "max"].map(|name| (name, json!({ "type": "number" }))), &[]),
        "Cut": object(&crate::stats::Cut::default().each().map(|(name, _)| (name, number())), &[]),
        "Rejected": object(&crate::stats::Rejected::default().each().map(|(name, _)| (name, number())), &[]),
        "PeriodCount": object(&[("start", text()), ("requests", number())], &["start", "requests"]),
        "Period": object(&period, &["start", "requests"]),
        "Report": object(&[("from", text()), ("to", text()), ("periods", many("Period")), ("exact", truth())], &["from", "to", "periods"]),
        "ReportNodes": object(&[("expected", number()), ("reported", number())], &["expected", "reported"]),
        "Before": object(&before, &["requests"]),
        "Summary": object(&summary, &["requests"]),
        "TopItem": object(&item, &["name", "requests"]),
        "Top": object(&[("from", text()), ("to", text()), ("by", text()), ("sort", text()), ("requests", number()), ("names", number()), ("items", many("TopItem")), ("complete", truth()), ("state", json!({ "type": "string", "enum": ["complete", "open", "partial", "gap", "none"] }))], &["requests", "items"]),
        "Difference": difference,
        "Explained": object(
            &[("revision", number()), ("route", text()), ("rewritten", text()), ("changes", texts()), ("answer", text()), ("filters", many("FilterSays")),
              ("passed", json!({ "type": "array", "items": object(&[("route", text()), ("because", text())], &["route"]) })),
              ("more", number()), ("pools", many("PoolExplained"))],
            &["revision", "changes", "filters", "passed", "pools"]),
        "FilterSays": object(
            &[("filter", text()), ("says", json!({ "type": "string", "enum": ["passes", "refuses", "depends"] })), ("detail", text())],
            &["filter", "says", "detail"]),
        "PoolExplained": object(
            &[("pool", text()), ("because", text()), ("strategy", text()), ("panic", texts()),
              ("backends", json!({ "type": "array", "items": object(
                  &[("id", text()), ("url", text()), ("weight", number()), ("may", truth()), ("because", texts())], &["id", "url", "may"]) }))],
            &["pool", "backends"]),
    });
    schemas.extend(more.as_object().cloned().unwrap_or_default());
    schemas.into()
}

/// What the API shows in another way than the file has it.
const SHOWN: [&str; 2] = ["Backend", "Certificate"];

/// The types of the configuration, as the file has them.
fn configuration() -> Map<String, Value> {
    let path = |name: &str| format!("#/components/schemas/{name}");
    let rename = |value: &mut Value| {
        if let Some(name) = SHOWN.iter().find(|name| *value == path(name)) {
            *value = path(&format!("Config{name}")).into();
        }
    };
    let mut schemas = Value::Object(schema::definitions("/components/schemas"));
    each(&mut schemas, &rename);
    let mut schemas = schemas.as_object().cloned().unwrap_or_default();
    for name in SHOWN {
        if let Some(schema) = schemas.remove(name) {
            schemas.insert(format!("Config{name}"), schema);
        }
    }
    schemas
}

/// Runs over every text of a document.
fn each(value: &mut Value, run: &impl Fn(&mut Value)) {
    match value {
        Value::Object(object) => object.values_mut().for_each(|value| each(value, run)),
        Value::Array(items) => items.iter_mut().for_each(|value| each(value, run)),
        value => run(value),
    }
}

/// `GET /schema.json`: the JSON Schema of the configuration file, made once as well.
pub(super) async fn schema() -> ([(HeaderName, &'static str); 1], Bytes) {
    static TEXT: LazyLock<Bytes> = LazyLock::new(|| schema::text().into());
    ([(header::CONTENT_TYPE, "application/schema+json")], TEXT.clone())
}

/// The schemas of who may do what, apart from the others: one macro takes only so many.
fn access_schemas() -> Value {
    let text = || json!({ "type": "string" });
    let texts = || json!({ "type": "array", "items": { "type": "string" } });
    let number = || json!({ "type": "integer" });
    let list = |name: &str| {
        let items = json!({ "type": "array", "items": { "$ref": format!("#/components/schemas/{name}") } });
        object(&[("items", items)], &["items"])
    };
    let duration = || json!({ "type": "string", "examples": ["30d"] });
    let role = || json!({ "type": "string", "enum": ["viewer", "operator", "admin"] });
    let maybe = || json!({ "type": ["string", "null"] });
    let token = vec![
        ("name", text()),
        ("role", role()),
        ("state", json!({ "type": "string", "enum": ["active", "revoked", "expired"] })),
        ("created", text()),
        ("created_by", text()),
        ("expires", maybe()),
        ("last_used", maybe()),
    ];
    let mut created_token = token.clone();
    created_token.push(("token", text()));
    let node_token = vec![
        ("id", number()),
        ("state", json!({ "type": "string", "enum": ["active", "revoked", "expired", "used up"] })),
        ("created", text()),
        ("created_by", text()),
        ("expires", maybe()),
        ("uses_left", json!({ "type": ["integer", "null"] })),
        ("used", number()),
        ("node_ids", texts()),
    ];
    let mut created_node_token = node_token.clone();
    created_node_token.push(("token", text()));
    json!({
        "NewToken": object(&[("name", text()), ("role", role()), ("expires", duration())], &["name", "role"]),
        "Token": object(&token, &["name", "role", "state", "created", "created_by"]),
        "TokenList": list("Token"),
        "CreatedToken": object(&created_token, &["name", "role", "token"]),
        "RevokedToken": object(&[("name", text()), ("state", text())], &["name", "state"]),
        "AuditEntry": object(
            &[("id", number()), ("time", text()), ("actor", text()), ("role", text()), ("source", text()), ("action", text()),
              ("outcome", json!({ "type": "string", "enum": ["ok", "failed", "refused"] })), ("detail", text()),
              ("revision", json!({ "type": ["integer", "null"] })), ("times", number())],
            &["id", "time", "actor", "source", "action", "outcome"]),
        "AuditList": list("AuditEntry"),
        "NewNodeToken": object(&[("ttl", json!({ "type": "string", "examples": ["24h", "never"] })), ("uses", number()), ("node_ids", texts())], &[]),
        "NodeToken": object(&node_token, &["id", "state", "created", "created_by", "used"]),
        "NodeTokenList": list("NodeToken"),
        "CreatedNodeToken": object(&created_node_token, &["id", "state", "token"]),
        "RevokedNodeToken": object(&[("id", number()), ("state", text())], &["id", "state"]),
        "NodeAccess": object(&[("id", text()), ("revoked", json!({ "type": "boolean" })), ("known", json!({ "type": "boolean" })), ("permit_expires", maybe())], &["id", "revoked"]),
        "NodeCounting": object(&[("id", text()), ("excluded", json!({ "type": "boolean" }))], &["id", "excluded"]),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reference_leads_somewhere() {
        let document = value();
        let text = document.to_string();
        for reference in text.split("#/components/schemas/").skip(1) {
            let name: String = reference.chars().take_while(char::is_ascii_alphabetic).collect();
            assert!(document["components"]["schemas"].get(&name).is_some(), "{name}");
        }
        assert!(document["paths"].as_object().unwrap().len() > 20);
    }
}
