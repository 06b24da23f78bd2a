//! Explains what a node would do with a request: the route that matches, the verdict of its filters, and why the
//! other routes do not match.
//!
//! Nothing is decided a second time here: nodes use the same [`Router`](crate::routing::Router) and the same
//! [`IpRules`](crate::IpRules). Facts that only a node can know, such as the requests of a client so far or whether a
//! password is right, is marked as such.

mod changes;
mod filters;
mod request;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::filters::filters;
pub use self::request::SampleRequest;
use crate::{Redirect, RedirectError, Rewrite, Snapshot, Target, routing::PathFault};

/// Limit on the number of explained routes that do not match.
const MAX_SKIPPED: usize = 100;

/// The way of a request up to its pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// Index of the route that matches.
    pub place: Option<usize>,
    /// Name of the route.
    pub route: Option<String>,
    /// Host and path that the backend gets, if the route rewrites them.
    pub rewritten: Option<String>,
    /// Other differences between the client's request and the backend's, and URLs that are mapped in the response.
    pub changes: Vec<String>,
    /// Response of the node itself, if the request is not forwarded.
    pub answer: Option<String>,
    /// The verdicts of the route's filters, in the order of their evaluation.
    pub filters: Vec<Filter>,
    /// The other routes and why they do not match.
    pub passed: Vec<SkippedRoute>,
    /// Number of further routes that do not match.
    pub more: usize,
}

/// The verdict of a filter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Filter {
    /// Name of the filter in the configuration.
    pub filter: String,
    /// The verdict.
    pub says: Verdict,
    /// The reason, or what the filter checks.
    pub detail: String,
}

/// Verdict of a filter on a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The filter lets the request pass.
    Passes,
    /// The filter rejects the request.
    Refuses,
    /// Only a node can decide.
    Depends,
}

/// A route that does not match the request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SkippedRoute {
    /// Name of the route.
    pub route: String,
    /// The condition that does not match.
    pub because: String,
}

/// Follows a request to its pool.
pub fn explain(snapshot: &Snapshot, request: &SampleRequest) -> Explanation {
    let routes = &snapshot.routes;
    let explanation = snapshot.router.explain(request, routes.iter().map(|route| &route.matches));
    let passed = explanation.passed.iter().take(MAX_SKIPPED).map(|(place, why)| SkippedRoute {
        route: routes[*place].name.to_string(),
        because: why.to_string(),
    });
    let (place, answer) = match explanation.chosen {
        Ok(Some(place)) => (Some(place), None),
        Ok(None) => (None, Some("404: no route matches this request".to_owned())),
        Err(fault) => (None, Some(format!("400: {}", fault.text()))),
    };
    let route = place.map(|place| &routes[place]);
    let filters = route.map(|route| filters(route, request)).unwrap_or_default();
    let refused = filters.iter().find(|filter| filter.says == Verdict::Refuses);
    let refused = refused.map(|filter| format!("{}: {}", filter.filter, filter.detail));
    let (answer, mut rewritten) = (answer.or(refused), None);
    let answer = answer.or_else(|| match route.map(|route| &route.target) {
        Some(Target::Redirect(redirect)) => Some(redirected(redirect, request)),
        _ => None,
    });
    let answer = answer.or_else(|| match route.map(|route| rewrite(&route.rewrite, request)) {
        Some(Ok(asks)) => {
            rewritten = asks;
            None
        }
        Some(Err(fault)) => Some(format!("400: {}", fault.text())),
        None => None,
    });
    let changes = route.filter(|_| answer.is_none()).map(|route| changes::changes(snapshot, route, request));
    Explanation {
        place,
        changes: changes.unwrap_or_default(),
        route: route.map(|route| route.name.to_string()),
        rewritten,
        answer,
        filters,
        passed: passed.collect(),
        more: explanation.passed.len().saturating_sub(MAX_SKIPPED),
    }
}

fn redirected(redirect: &Redirect, request: &SampleRequest) -> String {
    let host = request.host.as_deref().map(str::as_bytes);
    match redirect.location(request.scheme, host, request.target.as_bytes()) {
        Ok(location) => format!("{}: to {}", redirect.status, String::from_utf8_lossy(&location)),
        Err(RedirectError::NoHost) => "400: the request has no host to redirect to".to_owned(),
        Err(RedirectError::Path(fault)) => format!("400: {}", fault.text()),
        Err(RedirectError::Loop) => "508: the redirect leads back to the same URL".to_owned(),
    }
}

fn rewrite(rewrite: &Rewrite, request: &SampleRequest) -> Result<Option<String>, PathFault> {
    let target = match &rewrite.path {
        Some(path) => path.apply(request.target.as_bytes())?,
        None => None,
    };
    let target = target.map(|target| String::from_utf8_lossy(&target).into_owned());
    Ok(match (target, &rewrite.host) {
        (None, None) => None,
        (target, host) => {
            let host = host.as_deref().or(request.host.as_deref()).unwrap_or_default();
            Some(format!("{host}{}", target.as_deref().unwrap_or(&request.target)))
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::file;

    #[test]
    fn the_timeouts_of_a_route_are_explained() {
        let text = "
pools: [{ name: p }]
routes: [{ name: r, pool: p, timeouts: { response: 2m, send: 0s }, limits: { min_body_rate: 0 } }]
";
        let (_, snapshot) = file::parse(text).unwrap();
        let way = explain(&snapshot, &SampleRequest::read("GET", "/", &[], None).unwrap());
        let told: Vec<_> = way.filters.iter().map(|one| (one.filter.as_str(), one.detail.as_str())).collect();
        assert_eq!(
            told,
            [
                ("timeouts.response", "time until the response head: 2m"),
                (
                    "timeouts.send",
                    "longest time in which the client accepts nothing of the response: no limit"
                ),
                ("limits.min_body_rate", "minimum average rate of a body: no limit"),
            ]
        );
    }

    const TEXT: &str = "
pools:
- name: books
routes:
- name: api
  match: { hosts: [api.example], path: /v1, methods: [GET], headers: { x-canary: { present: true } } }
  pool: books
  ip_filter: { allow: [10.0.0.0/8] }
- name: web
  match: { hosts: [\"*.example\"] }
  pool: books
  allow_methods: [GET]
  rate_limit: { requests: 20, per: 1m }
- name: moved
  match: { hosts: [old.test] }
  redirect: { scheme: https, host: new.test }
- name: rewritten
  match: { hosts: [shop.test], path: /v1 }
  split: [{ pool: books, weight: 1 }]
  rewrite: { strip_prefix: /v1, host: books.internal }
- name: token
  match: { hosts: [token.test] }
  pool: books
  jwt:
    issuer: i
    audience: [a]
    cookie: session
    jwks: { keys: [{ kty: OKP, crv: Ed25519, x: 11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo }] }
    algorithms: [EdDSA]
";

    fn way(method: &str, url: &str, headers: &[&str], client: Option<&str>) -> Explanation {
        let (_, snapshot) = file::parse(TEXT).unwrap();
        let headers: Vec<String> = headers.iter().map(|header| (*header).to_owned()).collect();
        explain(&snapshot, &SampleRequest::read(method, url, &headers, client).unwrap())
    }

    #[test]
    fn the_route_and_the_verdicts_of_its_filters_are_explained() {
        let taken = way("GET", "http://API.example:80/v1/x?y#z", &["X-Canary: 1"], Some("::ffff:10.1.2.3"));
        assert_eq!((taken.route.as_deref(), &taken.answer), (Some("api"), &None));
        assert_eq!(taken.filters[0].says, Verdict::Passes);
        let refused = way("GET", "http://api.example/v1/x", &["x-canary: 1"], Some("11.1.2.3"));
        assert_eq!(refused.filters[0].says, Verdict::Refuses);
        assert_eq!(refused.answer.as_deref(), Some("ip_filter: 403, 11.1.2.3 is not allowed"));
        assert_eq!(
            way("GET", "http://api.example/v1", &["x-canary: 1"], None).filters[0].says,
            Verdict::Depends
        );

        let web = way("POST", "http://api.example/v1/x", &[], None);
        assert_eq!(web.route.as_deref(), Some("web"));
        let says: Vec<Verdict> = web.filters.iter().map(|filter| filter.says).collect();
        assert_eq!(says, [Verdict::Refuses, Verdict::Depends]);
        assert_eq!(
            web.passed[0],
            SkippedRoute { route: "api".into(), because: "matches only the method GET".into() }
        );
        let moved = way("GET", "http://old.test/a?b#c", &[], None);
        assert_eq!(moved.answer.as_deref(), Some("308: to https://new.test/a?b"));
        let rewritten = way("GET", "http://shop.test/v1/a?b", &[], None);
        assert_eq!(rewritten.rewritten.as_deref(), Some("books.internal/a?b"));
        let refused = way("GET", "http://shop.test/v1//x/admin", &[], None);
        let text = "400: the rewritten path starts with two slashes, which some servers read as a host";
        assert_eq!((refused.rewritten, refused.answer.as_deref()), (None, Some(text)));
        assert_eq!(
            way("GET", "/v1", &["Host: other"], None).answer.as_deref(),
            Some("404: no route matches this request")
        );
    }

    #[test]
    fn tokens_are_looked_up_in_the_places_that_nodes_use() {
        let cookies = format!("Cookie: {}", "session=x; ".repeat(5));
        for (headers, says, detail) in [
            (&["Authorization: Bearer x"][..], Verdict::Depends, "in authorization"),
            (&["Authorization: Bearer"], Verdict::Depends, "in authorization"),
            (&["Authorization: Basic x"], Verdict::Refuses, "no token"),
            (&["Authorization: Basic x", "Cookie: a=b; session=x"], Verdict::Depends, "in cookie session"),
            (&["Cookie: sessions=x"], Verdict::Refuses, "no token in authorization or cookie session"),
            (&["Authorization: Bearer x", "Authorization: Bearer x"], Verdict::Refuses, "two authorization"),
            (&[&cookies], Verdict::Refuses, "5 cookies session (at most 4)"),
        ] {
            let way = way("GET", "http://token.test/", headers, None);
            assert_eq!(way.filters[0].says, says, "{headers:?}");
            assert!(way.filters[0].detail.contains(detail), "{headers:?}: {}", way.filters[0].detail);
        }
    }

    #[test]
    fn a_host_that_a_node_rejects_is_rejected() {
        for url in ["http://x:99999/", "http://x:abc/", "http://\u{fc}/", "http://a,b/", "http://[::1/"] {
            let error = SampleRequest::read("GET", url, &[], None).unwrap_err().to_string();
            assert!(error.contains("url") && error.contains("a node returns 400"), "{url}: {error}");
        }
        let error =
            SampleRequest::read("GET", "/", &["Host: x:99999".to_owned()], None).unwrap_err().to_string();
        assert!(error.contains("header"), "{error}");
        for url in ["http://x:8080/", "http://[::1]:80/", "http://a_b.example./"] {
            assert!(SampleRequest::read("GET", url, &[], None).is_ok(), "{url}");
        }
    }

    #[test]
    fn a_url_without_a_scheme_is_rejected_with_a_suggestion() {
        for url in ["api.example.com/x", "api.example", "localhost:8080/x?y", "[::1]/x", "10.0.0.1#x"] {
            let error = SampleRequest::read("GET", url, &[], None).unwrap_err().to_string();
            assert!(
                error.contains(&format!("write http://{url}, https://{url}, or a path")),
                "{url}: {error}"
            );
        }
        for url in ["a@b/x", "a b/x", "?x", "ftp:/x"] {
            let error = SampleRequest::read("GET", url, &[], None).unwrap_err().to_string();
            assert!(error.contains("leading /"), "{url}: {error}");
        }
        // A path may start with two slashes, and a URL in a query has its own scheme.
        for url in ["//api.example.com/x", "/login?next=https://a/b", "http://a/x?next=ftp://b"] {
            assert!(SampleRequest::read("GET", url, &[], None).is_ok(), "{url}");
        }
        let error = SampleRequest::read("GET", "a/x?next=https://b", &[], None).unwrap_err().to_string();
        assert!(error.contains("write http://a/x?next=https://b"), "{error}");
    }

    #[test]
    fn every_invalid_part_of_a_request_is_reported() {
        let headers = ["no colon".to_owned(), "bad name: x".to_owned(), "x: a\u{0}b".to_owned()];
        let problems = SampleRequest::read("GE T", "ftp://x/ü", &headers, Some("10.0.0")).unwrap_err();
        let paths: Vec<&str> = problems.0.iter().map(|problem| problem.path.as_str()).collect();
        assert_eq!(paths, ["method", "url", "url", "header", "header", "header", "client"]);
        for url in ["x", "", "http://", "http://a@b/", "http:///x"] {
            SampleRequest::read("GET", url, &[], None).unwrap_err();
        }
    }
}
