//! gRPC has what REST has, rejects what is stale or forged, and is typed.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "grpc/reference.rs"]
mod reference;
mod support;

use std::collections::BTreeSet;

use control_plane::{access::table, api::grpc::reports::Reports};
use prost::encoding;
use prost_types::{FieldMask, Struct, Value, value::Kind};
use serde_json::json;
use support::{
    ControlPlane, grpc,
    node::channel,
    world::{NOON, World, batch, row},
};
use tonic::{Code, Request, transport::Channel};
use tonic_types::StatusExt as _;
use weir_admin_api::operations;
use weir_proto::v1::{self, admin_client::AdminClient, reports_server::Reports as _};

async fn client(control_plane: &ControlPlane) -> AdminClient<Channel> {
    AdminClient::new(channel(control_plane.admin()).await)
}

#[test]
fn each_operation_has_an_rpc_and_each_rpc_an_operation() {
    let operations: BTreeSet<&str> = operations::ALL.iter().map(|operation| operation.id).collect();
    let without: BTreeSet<&str> = table::WITHOUT_RPC.iter().map(|(id, _)| *id).collect();
    let unknown: Vec<_> = without.difference(&operations).collect();
    assert!(unknown.is_empty(), "exceptions for operations that do not exist: {unknown:?}");
    let declared: BTreeSet<String> =
        [grpc::methods("weir.v1.Admin"), grpc::methods("weir.v1.Reports")].concat().into_iter().collect();
    let expected: BTreeSet<String> =
        table::rpcs().map(|(rpc, _)| rpc.to_owned()).filter(|rpc| rpc.starts_with("/weir.v1.")).collect();
    let missing: Vec<_> = expected.difference(&declared).collect();
    assert!(missing.is_empty(), "operations of the admin API without an RPC in proto/weir/v1: {missing:?}");
    let stray: Vec<_> = declared.difference(&expected).collect();
    assert!(stray.is_empty(), "RPCs without an operation in admin-api/src/operations.rs: {stray:?}");
    assert_eq!(expected.len(), operations.len() - without.len());
}

/// A message with one field of a whole number.
fn with_number(field: u32, number: u64) -> Vec<u8> {
    let mut message = Vec::new();
    encoding::uint64::encode(field, &number, &mut message);
    message
}

fn with_text(field: u32, text: &str) -> Vec<u8> {
    let mut message = Vec::new();
    encoding::string::encode(field, &text.to_owned(), &mut message);
    message
}

#[tokio::test]
async fn a_stale_revision_changes_nothing_by_any_rpc() {
    let control_plane = ControlPlane::start().await;
    control_plane.add("http://a:1").await;
    let state = async || {
        let mut state = Vec::new();
        for path in ["/config", "/revisions", "/tokens", "/node-tokens", "/nodes"] {
            state.push(control_plane.call("GET", path, "").await.text);
        }
        state
    };
    let before = state().await;
    let changing: Vec<&str> = table::rpcs().filter(|(_, rule)| rule.changes).map(|(rpc, _)| rpc).collect();
    assert!(changing.len() > 20, "{changing:?}");
    for rpc in changing {
        let message = with_number(grpc::number(rpc, "if_revision"), 1);
        let (status, _) = grpc::status(&control_plane, None, rpc, &message).await;
        assert_eq!(status.code(), Code::Aborted, "{rpc}: {status:?}");
        assert!(status.message().contains("revision 2 is current"), "{rpc}: {status:?}");
    }
    assert_eq!(state().await, before);
}

#[tokio::test]
async fn every_list_has_pages_and_rejects_tokens_that_are_not_its_own() {
    let control_plane = ControlPlane::start().await;
    control_plane.add("http://a:1").await;
    let revisions = v1::ListRevisionsRequest { page_size: 1, ..Default::default() };
    let first = client(&control_plane).await.list_revisions(revisions).await.unwrap().into_inner();
    assert_eq!((first.revisions.len(), first.revisions[0].revision), (1, 2));
    let lists: Vec<String> =
        grpc::methods("weir.v1.Admin").into_iter().filter(|rpc| rpc.contains("/List")).collect();
    assert!(lists.len() > 8, "{lists:?}");
    for rpc in lists {
        let response = grpc::fields(&rpc, false);
        assert!(response.iter().any(|(name, _)| name == "next_page_token"), "{rpc}: {response:?}");
        let (size, token) = (grpc::number(&rpc, "page_size"), grpc::number(&rpc, "page_token"));
        assert_eq!(grpc::call(&control_plane, None, &rpc).await, Code::Ok, "{rpc}");
        let mut wrong = vec![("page_token", with_text(token, "forged"))];
        if !rpc.ends_with("/ListRevisions") {
            wrong.push(("page_token", with_text(token, &first.next_page_token)));
        }
        let mut negative = Vec::new();
        encoding::int32::encode(size, &-1, &mut negative);
        wrong.push(("page_size", negative));
        for (field, message) in wrong {
            let (status, _) = grpc::status(&control_plane, None, &rpc, &message).await;
            assert_eq!(status.code(), Code::InvalidArgument, "{rpc}: {status:?}");
            assert!(status.message().starts_with(&format!("{field}: ")), "{rpc}: {status:?}");
        }
    }
}

#[tokio::test]
async fn pages_follow_each_other_and_keep_their_filter() {
    let control_plane = ControlPlane::start().await;
    control_plane.call("PUT", "/pools/spare", "{}").await.expect(201);
    for port in 1..=5 {
        control_plane.add(&format!("http://a:{port}")).await;
    }
    let mut admin = client(&control_plane).await;
    let (mut ids, mut request) = (Vec::new(), v1::ListBackendsRequest { page_size: 2, ..Default::default() });
    request.pool = "default".into();
    loop {
        let page = admin.list_backends(request.clone()).await.unwrap().into_inner();
        ids.push(page.backends.iter().map(|backend| backend.id.clone()).collect::<Vec<_>>().join(" "));
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            break;
        }
        let other = v1::ListBackendsRequest { pool: "spare".into(), ..request.clone() };
        let refused = admin.list_backends(other).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "a token of another filter");
    }
    assert_eq!(ids, ["b1 b2", "b3 b4", "b5"]);

    let mut numbers = Vec::new();
    let mut request = v1::ListRevisionsRequest { page_size: 3, ..Default::default() };
    loop {
        let page = admin.list_revisions(request).await.unwrap().into_inner();
        numbers.extend(page.revisions.iter().map(|revision| revision.revision));
        if page.next_page_token.is_empty() {
            break;
        }
        request = v1::ListRevisionsRequest { page_size: 3, page_token: page.next_page_token };
    }
    assert_eq!(numbers, [7, 6, 5, 4, 3, 2, 1]);
    let audit = v1::ListAuditEntriesRequest { page_size: 4, ..Default::default() };
    let page = admin.list_audit_entries(audit).await.unwrap().into_inner();
    assert_eq!((page.entries.len(), page.entries[0].outcome()), (4, v1::AuditOutcome::Ok));
    let rest = v1::ListAuditEntriesRequest { page_token: page.next_page_token, ..Default::default() };
    let rest = admin.list_audit_entries(rest).await.unwrap().into_inner();
    assert_eq!((rest.entries.len(), rest.next_page_token.as_str()), (2, ""));
}

#[tokio::test]
async fn an_update_mask_selects_what_changes() {
    let control_plane = ControlPlane::start().await;
    control_plane.add("http://a:1").await;
    let mut admin = client(&control_plane).await;
    let update = |weight, state: v1::BackendState, paths: Option<&[&str]>| v1::UpdateBackendRequest {
        backend: Some(v1::Backend { id: "b1".into(), weight, state: state.into(), ..Default::default() }),
        update_mask: paths
            .map(|paths| FieldMask { paths: paths.iter().map(|path| (*path).to_owned()).collect() }),
        ..Default::default()
    };
    use v1::BackendState::{Active, Disabled, Draining, Unspecified};
    for (request, weight, state) in [
        (update(Some(5), Draining, Some(&["weight"])), 5, Active),
        (update(Some(7), Draining, Some(&["state"])), 5, Draining),
        (update(Some(7), Unspecified, None), 7, Draining),
        (update(Some(9), Disabled, Some(&["*"])), 9, Disabled),
    ] {
        let what = format!("{request:?}");
        let updated = admin.update_backend(request).await.unwrap().into_inner();
        assert_eq!((updated.weight, updated.state()), (Some(weight), state), "{what}");
    }
    let revision = control_plane.revision().await;
    for (request, field) in [
        (update(Some(2), Active, Some(&["url"])), "update_mask"),
        (update(None, Unspecified, None), "update_mask"),
        (update(None, Active, Some(&["weight"])), "backend.weight"),
        (update(Some(2), Unspecified, Some(&["*"])), "backend.state"),
        (v1::UpdateBackendRequest::default(), "backend"),
    ] {
        let refused = admin.update_backend(request).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused:?}");
        assert!(refused.message().starts_with(&format!("{field}: ")), "{refused:?}");
    }
    assert_eq!(control_plane.revision().await, revision);
}

fn text(text: &str) -> Value {
    Value { kind: Some(Kind::StringValue(text.into())) }
}

fn number(number: f64) -> Value {
    Value { kind: Some(Kind::NumberValue(number)) }
}

fn config(fields: &[(&str, Value)]) -> Option<Struct> {
    Some(Struct { fields: fields.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect() })
}

#[tokio::test]
async fn pools_and_routes_are_put_read_and_deleted_in_the_schema_of_the_file() {
    let control_plane = ControlPlane::start().await;
    let mut admin = client(&control_plane).await;
    let backend = config(&[("url", text("http://a:1")), ("weight", number(3.0))]).unwrap();
    let backend = Value { kind: Some(Kind::StructValue(backend)) };
    let backends = Value { kind: Some(Kind::ListValue(prost_types::ListValue { values: vec![backend] })) };
    let pool = |strategy: &str| v1::PutPoolRequest {
        name: "books".into(),
        config: config(&[("strategy", text(strategy)), ("backends", backends.clone())]),
        ..Default::default()
    };
    let put = admin.put_pool(pool("random")).await.unwrap().into_inner();
    assert!(put.created);
    let again = admin.put_pool(pool("ip_hash")).await.unwrap().into_inner();
    let shown = again.pool.unwrap();
    assert_eq!((again.created, shown.revision), (false, 3));
    let rest = control_plane.get("/pools/books").await;
    assert_eq!((&rest["strategy"], &rest["backends"][0]["weight"]), (&json!("ip_hash"), &json!(3)));
    let fields = shown.config.unwrap().fields;
    assert_eq!(fields["strategy"], text("ip_hash"));
    assert_eq!(fields.len(), rest.as_object().unwrap().len(), "what REST shows");
    let listed = admin.list_pools(v1::ListPoolsRequest::default()).await.unwrap().into_inner();
    assert_eq!((listed.pools.len(), listed.revision), (2, 3));

    let route = |pool: &str| v1::PutRouteRequest {
        name: "shop".into(),
        config: config(&[("pool", text(pool))]),
        ..Default::default()
    };
    let put = admin.put_route(route("books")).await.unwrap().into_inner();
    assert!(put.created && !put.warnings.is_empty(), "two routes without a match: {put:?}");
    let read = admin.get_route(v1::GetRouteRequest { name: "shop".into() }).await.unwrap().into_inner();
    assert_eq!(read.config.unwrap().fields["pool"], text("books"));

    let delete = v1::DeletePoolRequest { name: "books".into(), ..Default::default() };
    assert_eq!(admin.delete_pool(delete.clone()).await.unwrap_err().code(), Code::FailedPrecondition);
    let of_shop = v1::ListPoolsRequest { route: "shop".into(), ..Default::default() };
    let listed = admin.list_pools(of_shop).await.unwrap().into_inner();
    assert_eq!(listed.pools.iter().map(|pool| pool.name.as_str()).collect::<Vec<_>>(), ["books"]);
    let of_books = v1::ListRoutesRequest { pool: "books".into(), ..Default::default() };
    let listed = admin.list_routes(of_books).await.unwrap().into_inner();
    assert_eq!(listed.routes.iter().map(|route| route.name.as_str()).collect::<Vec<_>>(), ["shop"]);
    for (pool, route, found) in [("", "shop", 1), ("default", "shop", 0), ("books", "", 1)] {
        let (pool, route) = (pool.into(), route.into());
        let listed = admin.list_backends(v1::ListBackendsRequest { pool, route, ..Default::default() }).await;
        assert_eq!(listed.unwrap().into_inner().backends.len(), found);
    }
    let unknown = v1::ListRoutesRequest { pool: "bocks".into(), ..Default::default() };
    let refused = admin.list_routes(unknown).await.unwrap_err();
    assert!(refused.message().contains("did you mean \"books\"?"), "{refused:?}");

    let route = v1::DeleteRouteRequest { name: "shop".into(), ..Default::default() };
    assert_eq!(admin.delete_route(route.clone()).await.unwrap().into_inner().revision, 5);
    assert_eq!(admin.delete_route(route).await.unwrap_err().code(), Code::NotFound);
    assert_eq!(admin.delete_pool(delete).await.unwrap().into_inner().revision, 6);
    let gone = admin.get_pool(v1::GetPoolRequest { name: "books".into() }).await.unwrap_err();
    assert_eq!(gone.code(), Code::NotFound);
}

#[tokio::test]
async fn mistakes_name_the_field_of_the_request() {
    let control_plane = ControlPlane::start().await;
    let mut admin = client(&control_plane).await;
    let pool = |fields: &[(&str, Value)]| v1::PutPoolRequest {
        name: "books".into(),
        config: config(fields),
        ..Default::default()
    };
    for (request, says) in [
        (pool(&[("strategy", text("fastest"))]), "config.strategy: "),
        (pool(&[("stratgy", text("random"))]), "config.stratgy: "),
        (pool(&[("strategy", number(f64::NAN))]), "config: "),
        (pool(&[("name", text("other"))]), "config.name: "),
        (v1::PutPoolRequest { name: "books".into(), ..Default::default() }, "config: "),
        (v1::PutPoolRequest { config: config(&[]), ..Default::default() }, "name: "),
    ] {
        let refused = admin.put_pool(request).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused:?}");
        assert!(refused.message().contains(says), "{says}: {refused:?}");
    }
    let route = v1::PutRouteRequest {
        name: "shop".into(),
        config: config(&[("pool", text("nowhere"))]),
        ..Default::default()
    };
    let refused = admin.put_route(route).await.unwrap_err();
    assert!(refused.message().starts_with("config.pool: "), "{refused:?}");
    let certificate = v1::PutCertificateRequest {
        name: "one".into(),
        cert_pem: "nothing".into(),
        key_pem: "nothing".into(),
        ..Default::default()
    };
    let refused = admin.put_certificate(certificate).await.unwrap_err();
    assert!(refused.message().contains("cert_pem: "), "{refused:?}");
    let new = v1::Backend {
        url: "http://a:1".into(),
        state: v1::BackendState::Draining.into(),
        ..Default::default()
    };
    let new = v1::CreateBackendRequest { backend: Some(new), ..Default::default() };
    let refused = admin.create_backend(new).await.unwrap_err();
    assert!(refused.message().starts_with("backend.state: "), "{refused:?}");
    let new = v1::Backend { url: "ftp://a:1".into(), ..Default::default() };
    let new = v1::CreateBackendRequest { backend: Some(new), ..Default::default() };
    let refused = admin.create_backend(new).await.unwrap_err();
    let details = refused.get_details_bad_request().unwrap().field_violations;
    assert_eq!(details[0].field, "backend.url", "{refused:?}");
    let nothing = admin.delete_backend(v1::DeleteBackendRequest::default()).await.unwrap_err();
    assert_eq!(nothing.code(), Code::InvalidArgument);
    assert_eq!(control_plane.revision().await, 1);
}

#[tokio::test]
async fn tokens_have_roles_states_and_times() {
    let control_plane = ControlPlane::start().await;
    let mut admin = client(&control_plane).await;
    let ttl = |seconds| Some(prost_types::Duration { seconds, nanos: 0 });
    for (request, field) in [
        (
            v1::CreateNodeTokenRequest { ttl: ttl(60), never_expires: true, ..Default::default() },
            "never_expires: ",
        ),
        (v1::CreateNodeTokenRequest { ttl: ttl(-1), ..Default::default() }, "ttl: "),
        (v1::CreateNodeTokenRequest { ttl: ttl(0), ..Default::default() }, "ttl: "),
    ] {
        let refused = admin.create_node_token(request).await.unwrap_err();
        assert!(refused.message().starts_with(field), "{field} {refused:?}");
    }
    let lasting = |created: &v1::NodeToken| {
        created.expire_time.as_ref().map(|end| end.seconds - created.create_time.as_ref().unwrap().seconds)
    };
    for (request, seconds) in [
        (v1::CreateNodeTokenRequest::default(), Some(24 * 3600)),
        (v1::CreateNodeTokenRequest { ttl: ttl(60), ..Default::default() }, Some(60)),
        (v1::CreateNodeTokenRequest { never_expires: true, ..Default::default() }, None),
    ] {
        let created = admin.create_node_token(request).await.unwrap().into_inner().node_token.unwrap();
        let read = admin.get_node_token(v1::GetNodeTokenRequest { id: created.id }).await.unwrap();
        assert_eq!(read.into_inner(), created);
        assert_eq!((lasting(&created), created.state()), (seconds, v1::TokenState::Active));
    }
    let token = |name: &str, role: i32, ttl| v1::CreateTokenRequest {
        name: name.into(),
        role,
        ttl,
        ..Default::default()
    };
    for (request, field) in [
        (token("root", 0, None), "role: "),
        (token("root", 17, None), "role: "),
        (token("root", v1::Role::Admin.into(), ttl(0)), "ttl: "),
    ] {
        let refused = admin.create_token(request).await.unwrap_err();
        assert!(refused.message().contains(field), "{field} {refused:?}");
    }
    let missing = admin.get_token(v1::GetTokenRequest { name: "root".into() }).await.unwrap_err();
    assert_eq!(missing.code(), Code::NotFound);
    let missing = admin.get_node_token(v1::GetNodeTokenRequest { id: 99 }).await.unwrap_err();
    assert_eq!(missing.code(), Code::NotFound);
    let missing = admin.get_node(v1::GetNodeRequest { id: "n1".into() }).await.unwrap_err();
    assert_eq!(missing.code(), Code::NotFound);
    let created = admin.create_token(token("root", v1::Role::Admin.into(), None)).await.unwrap().into_inner();
    let shown = created.token.unwrap();
    assert_eq!((shown.role(), shown.state()), (v1::Role::Admin, v1::TokenState::Active));
    assert_eq!((shown.expire_time, created.secret.starts_with("weir_")), (None, true));
}

/// The service `Reports` over six requests of a minute, two of which failed, without a port.
async fn reports() -> (World, Reports) {
    let world = World::new(NOON).await;
    let rows = vec![row(NOON, 200, &[1_500; 4]), row(NOON, 503, &[3_000; 2])];
    world.stats.ingest(batch(1, NOON, rows)).await.unwrap();
    world.at("2026-11-21T12:00:30Z");
    let reports = Reports::new(world.stats.clone());
    (world, reports)
}

fn at(time: &str) -> Option<prost_types::Timestamp> {
    Some(prost_types::Timestamp { seconds: support::world::ms(time) / 1000, nanos: 0 })
}

#[tokio::test]
async fn reports_have_times_durations_and_states() {
    let (_world, reports) = reports().await;
    let query = v1::ReportQuery { from: at("2026-11-21T11:00:00Z"), ..Default::default() };
    let asked = v1::GetHourlyRequest { query: Some(query) };
    let report = reports.get_hourly(Request::new(asked)).await.unwrap().into_inner();
    assert_eq!(
        (report.from, report.to, report.exact),
        (at("2026-11-21T11:00:00Z"), at("2026-11-21T13:00:00Z"), true)
    );
    let [before, open] = report.periods.as_slice() else { panic!("{report:?}") };
    assert_eq!((before.start, before.measures.as_ref().unwrap().requests), (report.from, 0));
    assert_eq!(open.state(), v1::Completeness::Open);
    let measures = open.measures.as_ref().unwrap();
    assert_eq!((measures.requests, measures.status[&200], measures.status[&503]), (6, 4, 2));
    let latency = measures.latency.as_ref().unwrap();
    let micros = |us| Some(prost_types::Duration { seconds: 0, nanos: us * 1_000 });
    assert_eq!(latency.max, micros(3_000));
    let p50 = latency.p50.unwrap().nanos;
    assert!((1_450_000..=1_550_000).contains(&p50), "{latency:?}");

    let asked = v1::GetSummaryRequest { compare: true, ..Default::default() };
    let summary = reports.get_summary(Request::new(asked)).await.unwrap().into_inner();
    assert_eq!(summary.measures.unwrap().requests, 6);
    assert_eq!(summary.before.unwrap().measures.unwrap().requests, 0);
    let asked = v1::GetTopRequest {
        by: v1::TopBy::Status.into(),
        sort: v1::TopSort::Slowest.into(),
        limit: 1,
        ..Default::default()
    };
    let top = reports.get_top(Request::new(asked)).await.unwrap().into_inner();
    assert_eq!((top.by(), top.sort(), top.names), (v1::TopBy::Status, v1::TopSort::Slowest, 2));
    assert_eq!((top.items.len(), top.items[0].name.as_str(), top.items[0].errors), (1, "503", 2));
}

#[tokio::test]
async fn mistakes_of_a_report_name_the_field_of_the_request() {
    let (_world, reports) = reports().await;
    let too_late = Some(prost_types::Timestamp { seconds: i64::MAX, nanos: 0 });
    for (query, field) in [
        (v1::ReportQuery { tz: "Mars".into(), ..Default::default() }, "query.tz: "),
        (v1::ReportQuery { route: "nowhere".into(), ..Default::default() }, "query.route: "),
        (v1::ReportQuery { from: too_late, ..Default::default() }, "query.from: "),
        (v1::ReportQuery { from: at("2027-01-01T00:00:00Z"), ..Default::default() }, "query.from: "),
    ] {
        let asked = v1::GetDailyRequest { query: Some(query) };
        let refused = reports.get_daily(Request::new(asked)).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused:?}");
        assert!(refused.message().starts_with(field), "{field} {refused:?}");
    }
    for (asked, field) in [
        (v1::GetTopRequest { by: 99, ..Default::default() }, "by: "),
        (v1::GetTopRequest { sort: 99, ..Default::default() }, "sort: "),
        (v1::GetTopRequest { limit: 5_000, ..Default::default() }, "limit: "),
    ] {
        let refused = reports.get_top(Request::new(asked)).await.unwrap_err();
        assert!(refused.message().starts_with(field), "{field} {refused:?}");
    }
    for (asked, field) in [
        (
            v1::TailRequest { status: Some(v1::StatusRange { from: 500, to: 400 }), ..Default::default() },
            "status: ",
        ),
        (v1::TailRequest { path_prefix: "v1".into(), ..Default::default() }, "path_prefix: "),
        (v1::TailRequest { outcomes: vec![99], ..Default::default() }, "outcomes: "),
        (v1::TailRequest { client: "nobody".into(), ..Default::default() }, "client: "),
    ] {
        let Err(refused) = reports.tail(Request::new(asked)).await else { panic!("{field}") };
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused:?}");
        assert!(refused.message().starts_with(field), "{field} {refused:?}");
    }
}

const RICH: &str = "pools:
- name: default
  strategy: consistent_hash
  hash_on: { header: x-user }
  sticky: { cookie: weir, ttl: 1h }
  slow_start: 30s
  health_check: { type: http, path: /health, interval: 10s, timeout: 2s, rise: 2, fall: 3, expect_status: 200-399 }
  breaker: { consecutive_failures: 5, error_rate: 0.35, window: 10s, min_requests: 20, open_for: 10s, max_ejected: 0.5 }
  retry: { attempts: 2, on: [connect_failure, reset, 502], budget: 0.2 }
  limits: { max_connections: 1024, max_pending: 16 }
  backends: [{ url: 'http://a:1', weight: 7 }, { url: 'http://a:2', state: draining }]
- name: next
routes:
- name: default
  match: { hosts: [a.example], path: /v1, methods: [GET], headers: { x-canary: '1' } }
  split: [{ pool: default, weight: 90 }, { pool: next, weight: 10 }]
  fallback: { status: 503, body: back soon }
  rate_limit: { requests: 20, per: 1m, burst: 20, key: { header: x-api-key }, scope: fleet }
  limits: { max_body: 10MiB }
  request_headers: { set: { x-env: prod }, remove: [x-debug] }
";

#[tokio::test]
async fn a_pool_or_route_that_was_read_can_be_put_back_without_a_change() {
    let control_plane = ControlPlane::start().await;
    control_plane.call("PUT", "/config", RICH).await.expect(200);
    let mut admin = client(&control_plane).await;
    let pools = admin.list_pools(v1::ListPoolsRequest::default()).await.unwrap().into_inner().pools;
    for v1::Pool { name, config, revision } in pools {
        let put = v1::PutPoolRequest { name, config, if_revision: revision };
        let put = admin.put_pool(put).await.unwrap().into_inner();
        assert_eq!((put.created, put.pool.unwrap().revision), (false, revision));
    }
    let routes = admin.list_routes(v1::ListRoutesRequest::default()).await.unwrap().into_inner().routes;
    for v1::Route { name, config, revision } in routes {
        let put = v1::PutRouteRequest { name, config, if_revision: revision };
        let put = admin.put_route(put).await.unwrap().into_inner();
        assert_eq!((put.created, put.route.unwrap().revision), (false, revision));
    }
    assert_eq!(control_plane.revision().await, 2, "what was put back is the same");
}
