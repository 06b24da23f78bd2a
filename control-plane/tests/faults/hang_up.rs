//! Callers that disconnect during a change: the call is dropped at each await point, and real clients close their
//! connections. Each change is applied or rejected as a whole, has its audit entry, and blocks no later change.

use std::{collections::BTreeSet, future::Future, path::Path, sync::Arc, task::Poll, time::Duration};

use axum::{Router, body::Body};
use control_plane::{
    access::table,
    store::{SeenNode, Store},
};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tower::ServiceExt as _;
use weir_proto::v1;

use super::{
    folder,
    support::{ControlPlane, DEADLINE, config},
};

/// The objects that the call needs; created before each call.
struct Ground {
    number: usize,
    backend: String,
    join_token: u64,
    certificate: (String, String),
}

/// Calls that change no stored data.
const CHANGES_NOTHING: &[&str] =
    &["POST /backends/{id}/check", "POST /ui/login", "POST /ui/logout", "/weir.v1.Admin/CheckBackend"];

/// More nodes than there are calls.
const NODES: usize = 1000;

type MakeBody = fn(&Ground) -> Vec<u8>;

/// Each changing call of the role table, and its body.
const CALLS: &[(&str, MakeBody)] = &[
    ("POST /backends", |on| {
        text(json!({ "url": format!("http://10.0.0.{}:1", on.number), "pool": on.pool() }))
    }),
    ("DELETE /backends", |on| text(json!({ "url": "http://10.9.9.9:1", "pool": on.pool() }))),
    ("PATCH /backends/{id}", |_| text(json!({ "weight": 7 }))),
    ("DELETE /backends/{id}", |_| Vec::new()),
    ("PUT /pools/{name}", |_| text(json!({ "strategy": "random" }))),
    ("DELETE /pools/{name}", |_| Vec::new()),
    ("PUT /routes/{name}", |on| text(json!({ "pool": on.pool(), "match": { "hosts": ["a.example"] } }))),
    ("DELETE /routes/{name}", |_| Vec::new()),
    ("PUT /certificates/{name}", |on| text(json!({ "cert": on.certificate.0, "key": on.certificate.1 }))),
    ("DELETE /certificates/{name}", |_| Vec::new()),
    ("POST /strategy", |on| text(json!({ "pool": on.pool(), "strategy": "random" }))),
    ("PUT /config", |on| text(json!({ "pools": [{ "name": format!("whole{}", on.number) }] }))),
    ("POST /config/reload", |_| Vec::new()),
    ("POST /revisions/{n}/rollback", |_| Vec::new()),
    ("POST /tokens", |on| text(json!({ "name": format!("new{}", on.number), "role": "viewer" }))),
    ("DELETE /tokens/{name}", |_| Vec::new()),
    ("POST /node-tokens", |_| text(json!({}))),
    ("DELETE /node-tokens/{id}", |_| Vec::new()),
    ("POST /nodes/{id}/revoke", |_| Vec::new()),
    ("POST /nodes/{id}/allow", |_| Vec::new()),
    ("POST /nodes/{id}/exclude", |_| Vec::new()),
    ("POST /nodes/{id}/include", |_| Vec::new()),
    ("POST /ui/backends", |on| format!("url=http://10.0.1.{}:1&pool={}", on.number, on.pool()).into_bytes()),
    ("POST /ui/backends/{id}", |_| b"action=drain".to_vec()),
    ("POST /ui/pools/{name}/strategy", |_| b"strategy=random".to_vec()),
    ("POST /ui/revisions/{n}/rollback", |_| Vec::new()),
    ("/weir.v1.Admin/CreateBackend", |on| {
        let url = format!("http://10.0.2.{}:1", on.number);
        let backend = v1::Backend { url, pool: on.pool(), ..Default::default() };
        framed(&v1::CreateBackendRequest { backend: Some(backend), ..Default::default() })
    }),
    ("/weir.v1.Admin/UpdateBackend", |on| {
        let state = v1::BackendState::Draining.into();
        let backend = v1::Backend { id: on.backend.clone(), state, ..Default::default() };
        framed(&v1::UpdateBackendRequest { backend: Some(backend), ..Default::default() })
    }),
    ("/weir.v1.Admin/DeleteBackend", |on| {
        let backend = Some(v1::delete_backend_request::Backend::Id(on.backend.clone()));
        framed(&v1::DeleteBackendRequest { backend, ..Default::default() })
    }),
    ("/weir.v1.Admin/SetStrategy", |on| {
        let strategy = "random".into();
        framed(&v1::SetStrategyRequest { pool: on.pool(), strategy, ..Default::default() })
    }),
    ("/weir.v1.Admin/ApplyConfig", |on| {
        let config_yaml = format!("pools: [{{ name: applied{} }}]", on.number);
        framed(&v1::ApplyConfigRequest { config_yaml, ..Default::default() })
    }),
    ("/weir.v1.Admin/ReloadConfig", |_| framed(&v1::ReloadConfigRequest::default())),
    ("/weir.v1.Admin/Rollback", |_| framed(&v1::RollbackRequest { revision: 1, ..Default::default() })),
    ("/weir.v1.Admin/PutCertificate", |on| {
        let (cert_pem, key_pem) = on.certificate.clone();
        framed(&v1::PutCertificateRequest { name: on.thing(), cert_pem, key_pem, ..Default::default() })
    }),
    ("/weir.v1.Admin/DeleteCertificate", |on| {
        framed(&v1::DeleteCertificateRequest { name: on.thing(), ..Default::default() })
    }),
    ("/weir.v1.Admin/CreateToken", |on| {
        let (name, role) = (format!("rpc{}", on.number), v1::Role::Viewer.into());
        framed(&v1::CreateTokenRequest { name, role, ..Default::default() })
    }),
    ("/weir.v1.Admin/DeleteToken", |on| {
        framed(&v1::DeleteTokenRequest { name: on.thing(), ..Default::default() })
    }),
    ("/weir.v1.Admin/CreateNodeToken", |_| framed(&v1::CreateNodeTokenRequest::default())),
    ("/weir.v1.Admin/DeleteNodeToken", |on| {
        framed(&v1::DeleteNodeTokenRequest { id: on.join_token, ..Default::default() })
    }),
    ("/weir.v1.Admin/RevokeNode", |on| {
        framed(&v1::RevokeNodeRequest { id: on.thing(), ..Default::default() })
    }),
    ("/weir.v1.Admin/AllowNode", |on| framed(&v1::AllowNodeRequest { id: on.thing(), ..Default::default() })),
    ("/weir.v1.Admin/ExcludeNode", |on| {
        framed(&v1::ExcludeNodeRequest { id: on.thing(), ..Default::default() })
    }),
    ("/weir.v1.Admin/IncludeNode", |on| {
        framed(&v1::IncludeNodeRequest { id: on.thing(), ..Default::default() })
    }),
    ("/weir.v1.Admin/PutPool", |on| {
        let name = format!("put{}", on.number);
        framed(&v1::PutPoolRequest {
            name,
            config: Some(prost_types::Struct::default()),
            ..Default::default()
        })
    }),
    ("/weir.v1.Admin/DeletePool", |on| {
        framed(&v1::DeletePoolRequest { name: on.pool(), ..Default::default() })
    }),
    ("/weir.v1.Admin/PutRoute", |on| {
        let text =
            |text: String| prost_types::Value { kind: Some(prost_types::value::Kind::StringValue(text)) };
        let name = format!("put{}", on.number);
        let fields = [("pool".to_owned(), text(on.pool()))].into();
        framed(&v1::PutRouteRequest {
            name,
            config: Some(prost_types::Struct { fields }),
            ..Default::default()
        })
    }),
    ("/weir.v1.Admin/DeleteRoute", |on| {
        framed(&v1::DeleteRouteRequest { name: on.thing(), ..Default::default() })
    }),
];

fn text(value: Value) -> Vec<u8> {
    value.to_string().into_bytes()
}

fn framed(message: &impl prost::Message) -> Vec<u8> {
    let length = u32::try_from(message.encoded_len()).unwrap().to_be_bytes();
    [&[0][..], &length, &message.encode_to_vec()].concat()
}

impl Ground {
    /// The name of the token, certificate, route and node of this call.
    fn thing(&self) -> String {
        format!("thing{}", self.number)
    }

    fn pool(&self) -> String {
        format!("pool{}", self.number)
    }

    /// The call's own path.
    fn path(&self, call: &str) -> String {
        let id = if call.contains("/nodes/") {
            self.thing()
        } else if call.contains("/node-tokens/") {
            self.join_token.to_string()
        } else {
            self.backend.clone()
        };
        let name = if call.contains("/pools/") { self.pool() } else { self.thing() };
        call.replace("{id}", &id).replace("{name}", &name).replace("{n}", "1")
    }
}

/// The admin API without a port, called as an admin.
struct Admin {
    router: Router,
    token: String,
}

impl Admin {
    fn call(&self, call: &str, body: Vec<u8>) -> impl Future<Output = (u16, Vec<u8>)> + use<> {
        let (method, path) = call.split_once(' ').unwrap_or(("POST", call));
        let kind = match path {
            _ if path.starts_with("/weir.v1.") => "application/grpc",
            _ if path.starts_with("/ui/") => "application/x-www-form-urlencoded",
            _ => "application/json",
        };
        let request = http::Request::builder()
            .method(method)
            .uri(path)
            .header("host", "localhost")
            .header("content-type", kind)
            .header("te", "trailers")
            .header("authorization", format!("Bearer {}", self.token))
            .body(Body::from(body))
            .unwrap();
        let answer = self.router.clone().oneshot(request);
        async move {
            let answer = answer.await.unwrap();
            let status = answer.status().as_u16();
            (status, answer.into_body().collect().await.unwrap().to_bytes().to_vec())
        }
    }

    async fn done(&self, call: &str, body: Value) -> Value {
        let body = if body.is_null() { Vec::new() } else { text(body) };
        let (status, answer) = self.call(call, body).await;
        assert!((200..300).contains(&status), "{call}: {status} {}", String::from_utf8_lossy(&answer));
        serde_json::from_slice(&answer).unwrap_or_default()
    }

    /// Creates the objects that a call needs.
    async fn ground(&self, number: usize, certificate: &(String, String), call: &str) -> Ground {
        let mut ground =
            Ground { number, backend: String::new(), join_token: 0, certificate: certificate.clone() };
        let thing = ground.thing();
        let pool =
            json!({ "backends": [{ "url": "http://10.9.9.9:1" }], "health_check": { "type": "none" } });
        self.done(&format!("PUT /pools/{}", ground.pool()), pool).await;
        let backends = self.done(&format!("GET /backends?pool={}", ground.pool()), Value::Null).await;
        ground.backend = backends["items"][0]["id"].as_str().unwrap().to_owned();
        if call.ends_with("/routes/{name}") || call.ends_with("/DeleteRoute") {
            self.done(&format!("PUT /routes/{thing}"), json!({ "pool": ground.pool() })).await;
        }
        if call.contains("ertificate") {
            let (cert, key) = certificate;
            self.done(&format!("PUT /certificates/{thing}"), json!({ "cert": cert, "key": key })).await;
        }
        if call.ends_with("/tokens/{name}") || call.ends_with("/DeleteToken") {
            self.done("POST /tokens", json!({ "name": thing, "role": "viewer" })).await;
        }
        if call.contains("node-tokens/{id}") || call.ends_with("/DeleteNodeToken") {
            ground.join_token = self.done("POST /node-tokens", json!({})).await["id"].as_u64().unwrap();
        }
        // Where the node is not revoked, a second process is allowed beside it.
        if call.ends_with("/allow") {
            self.done(&format!("POST /nodes/{thing}/revoke"), Value::Null).await;
        }
        if call.ends_with("/include") || call.ends_with("/IncludeNode") {
            self.done(&format!("POST /nodes/{thing}/exclude"), Value::Null).await;
        }
        ground
    }

    /// Everything that calls can change, from memory.
    async fn state(&self) -> Value {
        let mut state = json!({});
        for call in [
            "GET /config",
            "GET /routes",
            "GET /pools",
            "GET /certificates",
            "GET /tokens",
            "GET /node-tokens",
            "GET /nodes",
        ] {
            let (status, answer) = self.call(call, Vec::new()).await;
            assert_eq!(status, 200, "{call}");
            state[call] = match serde_json::from_slice(&answer) {
                Ok(Value::Object(mut list)) => {
                    for item in list.get_mut("items").and_then(Value::as_array_mut).into_iter().flatten() {
                        let item = item.as_object_mut().unwrap();
                        if call == "GET /nodes" {
                            item.retain(|name, _| ["id", "state", "excluded"].contains(&name.as_str()));
                        }
                        item.retain(|name, _| name != "last_used" && name != "days_left");
                    }
                    Value::Object(list)
                }
                _ => String::from_utf8(answer).unwrap().into(),
            };
        }
        state
    }
}

/// Polls a future this many times, each time that it is woken, and drops it. Returns its value if it completed.
async fn polled<T>(future: impl Future<Output = T>, times: usize) -> Option<T> {
    let mut future = std::pin::pin!(future);
    let mut left = times;
    std::future::poll_fn(|context| match future.as_mut().poll(context) {
        Poll::Ready(value) => Poll::Ready(Some(value)),
        Poll::Pending => {
            left -= 1;
            if left == 0 { Poll::Ready(None) } else { Poll::Pending }
        }
    })
    .await
}

async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let waited = async {
        let mut again = tokio::time::interval(Duration::from_millis(5));
        loop {
            again.tick().await;
            if holds().await {
                return;
            }
        }
    };
    assert!(tokio::time::timeout(DEADLINE, waited).await.is_ok(), "{what} within {DEADLINE:?}");
}

#[test]
fn the_list_contains_every_changing_call() {
    let rest = table::REST.iter().chain(table::DASHBOARD).filter(|(method, ..)| *method != "GET");
    let rest = rest.map(|(method, path, _)| format!("{method} {path}"));
    let grpc = table::rpcs().filter(|(_, rule)| rule.changes).map(|(path, _)| path.to_owned());
    let expected: BTreeSet<String> =
        rest.chain(grpc).filter(|call| !CHANGES_NOTHING.contains(&call.as_str())).collect();
    let dropped: BTreeSet<String> = CALLS.iter().map(|(call, _)| (*call).to_owned()).collect();
    assert_eq!(dropped, expected);
}

#[tokio::test]
async fn a_call_dropped_at_any_await_point_is_atomic() {
    let folder = folder();
    let file = folder.path().join("weir.yaml");
    std::fs::write(&file, "pools: [{ name: default }]\nroutes: [{ name: default, pool: default }]\n")
        .unwrap();
    let certificate = rcgen::generate_simple_self_signed(["a.example".to_owned()]).unwrap();
    let certificate = (certificate.cert.pem(), certificate.signing_key.serialize_pem());
    let database = folder.path().join("weir.db");
    know_nodes(&database).await;
    let start = control_plane::Config { config: Some(file), keep_revisions: 10_000, ..config(&database) };
    let running = control_plane::start(start).await.unwrap();
    let mut admin = Admin { router: running.router(), token: String::new() };
    admin.token = "weir_none".into();
    let control_plane = ControlPlane::from(folder, running);
    admin.token = control_plane.token(None, "root", "admin", None).await;

    let (mut number, mut dropped) = (0, 0);
    for (call, body) in CALLS {
        for polls in 1.. {
            number += 1;
            let ground = admin.ground(number, &certificate, call).await;
            let path = ground.path(call);
            let action = path.trim_start_matches('/').to_owned();
            let (before, seen) = (last_entry(&admin).await, path.as_str());
            let done = polled(admin.call(seen, body(&ground)), polls).await;
            // Later changes are applied immediately.
            let strategy = if number % 2 == 0 { "random" } else { "round_robin" };
            let (status, _) = admin.call("PUT /pools/after", text(json!({ "strategy": strategy }))).await;
            // 404: the dropped call replaced the whole configuration after this change and before its answer.
            assert!((200..300).contains(&status) || status == 404, "{status} after {path}");
            let mut entry = Value::Null;
            eventually(&format!("the audit's entry of {path}, dropped after {polls}"), async || {
                entry = entry_after(&admin, before, &action).await;
                !entry.is_null()
            })
            .await;
            assert_eq!(entry["outcome"], "ok", "{path}, dropped after {polls}: {entry}");
            if let Some((status, answer)) = done {
                assert!(status < 400, "{path}: {status} {}", String::from_utf8_lossy(&answer));
                break;
            }
            dropped += 1;
        }
    }
    assert!(dropped >= CALLS.len(), "{dropped}");
    assert!(number < NODES, "{number} calls");
    println!("{} calls, dropped {dropped} times", CALLS.len());

    // Memory and file are equal.
    let revoked: Vec<String> = (1..=number).map(|n| format!("thing{n}")).collect();
    let memory = admin.state().await;
    let token = admin.token.clone();
    let folder = control_plane.stop().await;
    let running = control_plane::start(config(&folder.path().join("weir.db"))).await.unwrap();
    let again = Admin { router: running.router(), token };
    assert_eq!(again.state().await, memory);
    for name in revoked.iter().take(3) {
        let (status, _) = again.call(&format!("POST /nodes/{name}/revoke"), Vec::new()).await;
        assert_eq!(status, 200);
    }
    drop(ControlPlane::from(folder, running).stop().await);
}

/// Lets the control plane find in its database the nodes that calls name.
async fn know_nodes(database: &Path) {
    let store = Store::open(&format!("sqlite:{}", database.display())).await.unwrap();
    let last_seen_ms = jiff::Timestamp::now().as_millisecond();
    let node = |n| SeenNode { id: format!("thing{n}"), last_seen_ms, ..SeenNode::default() };
    let nodes: Vec<SeenNode> = (1..NODES).map(node).collect();
    store.change(|db| async move { db.nodes_met(&nodes).await }).await.unwrap();
    store.close().await;
}

async fn last_entry(admin: &Admin) -> u64 {
    admin.done("GET /audit?limit=1", Value::Null).await["items"][0]["id"].as_u64().unwrap_or_default()
}

/// The entry of this action that is newer than another entry.
async fn entry_after(admin: &Admin, before: u64, action: &str) -> Value {
    let list = admin.done("GET /audit?limit=20", Value::Null).await;
    let mut entries = list["items"].as_array().unwrap().iter();
    let found = entries.find(|entry| entry["id"].as_u64() > Some(before) && entry["action"] == action);
    found.cloned().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_hang_up_lose_no_change_and_block_no_call() {
    const CLIENTS: usize = 40;
    let folder = folder();
    let database = folder.path().join("weir.db");
    let control_plane = Arc::new(ControlPlane::start_in(folder, config(&database)).await);
    let mut clients = tokio::task::JoinSet::new();
    for n in 0..CLIENTS {
        let control_plane = Arc::clone(&control_plane);
        clients.spawn(async move {
            let mut stream = tokio::net::TcpStream::connect(control_plane.admin()).await.unwrap();
            let body = json!({ "url": format!("http://10.0.0.{n}:80") }).to_string();
            let request = format!(
                "POST /backends HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            );
            stream.write_all(request.as_bytes()).await.unwrap();
            for _ in 0..n {
                tokio::task::yield_now().await;
            }
            drop(stream);
        });
    }
    while let Some(client) = clients.join_next().await {
        client.unwrap();
    }
    let id = control_plane.add("http://10.1.0.1:80").await;
    control_plane.call("PATCH", &format!("/backends/{id}"), "{\"weight\":3}").await.expect(200);
    // Each change has its entry, whether or not its client was still there.
    control_plane
        .wait_for("/audit?limit=1000", |list| {
            let entries = list["items"].as_array().unwrap();
            entries.iter().filter(|entry| entry["revision"].is_u64()).count() > 2
        })
        .await;
    let mut made = BTreeSet::new();
    eventually("an entry for each revision", async || {
        let revisions = control_plane.get("/revisions?limit=1000").await;
        made = revisions["items"]
            .as_array()
            .unwrap()
            .iter()
            .filter_map(|one| one["revision"].as_u64())
            .collect();
        let list = control_plane.get("/audit?limit=1000").await;
        let entries = list["items"].as_array().unwrap();
        let audited: BTreeSet<u64> = entries.iter().filter_map(|entry| entry["revision"].as_u64()).collect();
        // The first revision is the start's.
        made.iter().filter(|revision| **revision > 1).all(|revision| audited.contains(revision))
    })
    .await;
    let newest = made.last().copied().unwrap();
    assert_eq!(control_plane.revision().await, newest);
}
