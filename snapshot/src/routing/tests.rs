use proptest::prelude::*;

use super::{scan::scan, *};
use crate::{Config, check, config};

/// A request for tests.
#[derive(Debug, Clone, Default)]
struct TestRequest {
    host: Option<String>,
    path: String,
    method: String,
    headers: Vec<(String, String)>,
    by_tls: bool,
}

impl Request for TestRequest {
    fn host(&self) -> Option<&[u8]> {
        self.host.as_deref().map(str::as_bytes)
    }

    fn path(&self) -> &[u8] {
        self.path.as_bytes()
    }

    fn method(&self) -> &[u8] {
        self.method.as_bytes()
    }

    fn scheme(&self) -> WebScheme {
        if self.by_tls { WebScheme::Https } else { WebScheme::Http }
    }

    fn any_header(&self, name: &str, accepts: impl Fn(&[u8]) -> bool) -> bool {
        self.headers.iter().any(|(own, value)| own == name && accepts(value.as_bytes()))
    }
}

fn get(host: &str, path: &str) -> TestRequest {
    TestRequest { host: Some(host.into()), path: path.into(), method: "GET".into(), ..TestRequest::default() }
}

fn routes(file: &str) -> (Vec<String>, Vec<Match>, Router) {
    let (config, snapshot) = crate::file::parse(file).unwrap();
    let names = config.routes.iter().map(|route| route.name.clone()).collect();
    (names, snapshot.routes.iter().map(|route| route.matches.clone()).collect(), snapshot.router)
}

const SITE: &str = r#"
pools: [{ name: p }]
routes:
  - { name: default, pool: p }
  - { name: site, match: { hosts: [example.com, www.example.com] }, pool: p }
  - { name: any-sub, match: { hosts: ["*.example.com"] }, pool: p }
  - { name: deep-sub, match: { hosts: ["*.api.example.com"] }, pool: p }
  - { name: api, match: { hosts: [api.example.com], path: /v1 }, pool: p }
  - { name: api-users, match: { hosts: [api.example.com], path: /v1/users }, pool: p }
  - { name: api-root, match: { hosts: [api.example.com], path_exact: / }, pool: p }
  - { name: write, match: { hosts: [api.example.com], path: /v1, methods: [POST, PUT] }, pool: p }
  - { name: canary, match: { hosts: [api.example.com], path: /v1, methods: [POST], headers: { x-canary: "1" } }, pool: p }
  - { name: debug, match: { hosts: [api.example.com], path: /v1, headers: { X-Debug: { present: true } } }, pool: p }
  - { name: admin, match: { path: /admin }, pool: p }
"#;

#[test]
fn the_most_specific_route_wins() {
    let (names, matches, router) = routes(SITE);
    let post = |path: &str| TestRequest { method: "POST".into(), ..get("api.example.com", path) };
    let with = |asked: TestRequest, name: &str, value: &str| TestRequest {
        headers: vec![(name.into(), value.into())],
        ..asked
    };
    for (asked, expected) in [
        (get("example.com", "/"), "site"),
        (get("EXAMPLE.com:8080", "/x"), "site"),
        (get("www.example.com.", "/"), "site"),
        (get("shop.example.com", "/"), "any-sub"),
        (get("a.b.example.com", "/"), "any-sub"),
        (get("a.api.example.com", "/"), "deep-sub"),
        // The host's own route does not match, so the suffix route does.
        (get("api.example.com", "/v2"), "any-sub"),
        (get("api.example.com", "/"), "api-root"),
        (get("api.example.com", "/v1"), "api"),
        (get("api.example.com", "/v1/"), "api"),
        (get("api.example.com", "/v1x"), "any-sub"),
        (get("api.example.com", "/v1/users/7"), "api-users"),
        (get("api.example.com", "/%76%31/users"), "api-users"),
        (post("/v1/x"), "write"),
        // A longer path goes before more conditions.
        (post("/v1/users"), "api-users"),
        (with(post("/v1/x"), "x-canary", "1"), "canary"),
        (with(post("/v1/x"), "x-canary", "2"), "write"),
        (with(get("api.example.com", "/v1"), "x-debug", ""), "debug"),
        // The same number of conditions: the first in the file.
        (with(post("/v1"), "x-debug", "y"), "write"),
        (get("other.org", "/admin/x"), "admin"),
        (get("other.org", "/administration"), "default"),
        // A host goes before a path.
        (get("example.com", "/admin"), "site"),
        (TestRequest { path: "/admin".into(), ..TestRequest::default() }, "admin"),
        (TestRequest { path: "*".into(), method: "OPTIONS".into(), ..TestRequest::default() }, "default"),
    ] {
        let found = router.find(&asked).unwrap().map(|route| names[route].as_str());
        assert_eq!(found, Some(expected), "{asked:?}");
        assert_eq!(scan(&matches, &asked), router.find(&asked), "{asked:?}");
    }
}

#[test]
fn an_ambiguous_path_is_rejected_if_its_readings_match_different_routes() {
    let (names, _, router) = routes(SITE);
    let find = |path: &str| router.find(&get("other.org", path)).map(|found| names[found.unwrap()].clone());
    for path in [
        "/x/../admin",
        "/x/..%2fadmin",
        "//admin",
        "/admin/../x",
        "/x/%2e%2e/admin",
        "/admin;a=b/x",
        "/x\\..\\admin",
    ] {
        assert_eq!(find(path), Err(PathFault::Ambiguous), "{path}");
    }
    for (path, route) in [
        ("/admin/a/../b", "admin"),
        ("/admin//x", "admin"),
        ("/admin/a%2Fb", "admin"),
        ("/x//y/./z", "default"),
        ("/a;v=1/b", "default"),
    ] {
        assert_eq!(find(path).as_deref(), Ok(route), "{path}");
    }
    assert_eq!(find("/../admin"), Err(PathFault::AboveRoot));
    assert_eq!(find("/%zz"), Err(PathFault::Escape));
    // Without a path condition, different readings do no harm.
    let (_, _, router) =
        routes("pools: [{ name: p }]\nroutes: [{ name: a, match: { hosts: [a] }, pool: p }]");
    assert_eq!(router.find(&get("a", "/../x")), Ok(Some(0)));
}

#[test]
fn a_single_route_for_everything_needs_no_lookup() {
    let (_, _, router) = routes("pools: [{ name: p }]\nroutes: [{ name: a, match: { path: / }, pool: p }]");
    assert_eq!(router.only(), Some(0));
    assert_eq!(router.find(&TestRequest::default()), Ok(Some(0)));
    let (_, _, router) = routes("pools: [{ name: p }]\nroutes: [{ name: a, match: { path: /a }, pool: p }]");
    assert_eq!((router.only(), router.find(&get("a", "/b"))), (None, Ok(None)));
    assert_eq!((Router::default().only(), Router::default().find(&get("a", "/"))), (None, Ok(None)));
}

#[test]
fn an_explanation_says_why_each_other_route_was_not_chosen() {
    let (names, matches, router) = routes(SITE);
    let explained = router.explain(&get("api.example.com", "/v1/users"), &matches);
    assert_eq!(explained.chosen, Ok(Some(5)));
    let said: Vec<String> =
        explained.passed.iter().map(|(route, why)| format!("{} {why}", names[*route])).collect();
    assert_eq!(
        said,
        [
            "default would match, but is less specific or comes later",
            "site matches only the host example.com, www.example.com",
            "any-sub would match, but is less specific or comes later",
            "deep-sub matches only the host *.api.example.com",
            "api would match, but is less specific or comes later",
            "api-root matches only the path = /",
            "write matches only the method POST, PUT",
            "canary matches only the method POST",
            "debug matches only requests with a header x-debug",
            "admin matches only the path /admin*",
        ]
    );
}

fn host_pattern() -> impl Strategy<Value = String> {
    prop_oneof!["(\\*\\.)?[ab](\\.[ab]){0,3}".prop_map(String::from), Just("*".to_owned()),]
}

fn a_match() -> impl Strategy<Value = config::Match> {
    let hosts = prop::collection::btree_set(host_pattern(), 0..3);
    let path = prop::option::of("(/(a|b|ab|%61|c d)){0,4}/?");
    let methods = prop::collection::btree_set("GET|POST|PUT", 0..3);
    let value = prop_oneof![
        "[12]".prop_map(config::HeaderMatch::Exact),
        any::<bool>().prop_map(config::HeaderMatch::Present)
    ];
    let headers = prop::collection::btree_map("x-[ab]", value, 0..3);
    let scheme = prop::option::weighted(0.2, prop_oneof![Just(WebScheme::Http), Just(WebScheme::Https)]);
    let all = (hosts, path, any::<bool>(), methods, scheme, headers);
    all.prop_map(|(hosts, path, exact, methods, scheme, headers)| {
        let path = path.map(|path| if path.starts_with('/') { path } else { "/".into() }.replace(' ', "%20"));
        config::Match {
            hosts: hosts.into_iter().collect(),
            path: path.clone().filter(|_| !exact),
            path_exact: path.filter(|_| exact),
            methods: methods.into_iter().collect(),
            scheme,
            headers,
        }
    })
}

fn asked() -> impl Strategy<Value = TestRequest> {
    let host = prop::option::of("[abA](\\.[abB]){0,4}\\.?(:80)?");
    let path = prop_oneof![
        4 => "(/(a|b|ab|c%20d|%62)){1,5}/?",
        1 => "(/|a|b|\\.|%2F|%2e|;|\\\\){1,10}".prop_map(|path| format!("/{path}")),
    ];
    let headers = prop::collection::vec(("x-[ab]", "[123]"), 0..3);
    let by_tls = any::<bool>();
    (host, path, "GET|POST|PUT|HEAD", headers, by_tls)
        .prop_map(|(host, path, method, headers, by_tls)| TestRequest { by_tls, host, path, method, headers })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

    #[test]
    fn the_router_agrees_with_a_linear_scan(
        matches in prop::collection::vec(a_match(), 0..40),
        requests in prop::collection::vec(asked(), 1..20),
    ) {
        let routes = matches.into_iter().enumerate().map(|(i, matches)| config::Route {
            name: format!("r{i}"),
            pool: "default".into(),
            matches,
            ..Default::default()
        });
        let snapshot = check(&Config { routes: routes.collect(), ..Config::default() }).unwrap();
        let matches: Vec<Match> = snapshot.routes.iter().map(|route| route.matches.clone()).collect();
        for request in &requests {
            let found = snapshot.router.find(request);
            // If there are several reasons to reject a path, the search stops at the first.
            prop_assert_eq!(found.ok(), scan(&matches, request).ok(), "{:?}", request);
            let explained = snapshot.router.explain(request, &matches);
            prop_assert_eq!(explained.chosen, found);
            prop_assert_eq!(explained.passed.len(), matches.len() - usize::from(matches!(found, Ok(Some(_)))));
        }
        // A hidden route matches no request.
        for overlap in overlaps(&matches).into_iter().filter(|overlap| overlap.hosts.is_empty()) {
            for request in &requests {
                prop_assert_ne!(snapshot.router.find(request), Ok(Some(overlap.hidden)));
            }
        }
    }
}
