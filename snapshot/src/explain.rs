//! Explains what a node would do with a request: the route that matches, the verdict of its filters, and why the
//! other routes do not match.
//!
//! Nothing is decided a second time here: nodes use the same [`Router`](crate::routing::Router) and the same
//! [`IpRules`](crate::IpRules). What only a node can know, such as the requests of a client so far or whether a
//! password is right, is marked as such.

mod changes;

use std::{net::IpAddr, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use weir_http::authority;

use crate::{
    Jwt, NoRedirect, Redirect, Rewrite, Route, Snapshot, Target,
    config::{RateKey, WebScheme},
    problem::Problems,
    routing::{PathFault, Request},
    units::{ByteSize, HumanDuration},
};

/// Limit on the number of explained routes that do not match.
const MOST_PASSED: usize = 100;

/// A hypothetical request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    method: String,
    scheme: WebScheme,
    host: Option<String>,
    path: String,
    /// Path and query.
    target: String,
    /// Names are in lower case.
    headers: Vec<(String, String)>,
    client: Option<IpAddr>,
}

impl Asked {
    /// Builds a request from user input: a method, a URL or a path, headers as `name: value`, and the client's
    /// address.
    ///
    /// # Errors
    /// Every part that no request can have.
    pub fn read(method: &str, url: &str, headers: &[String], client: Option<&str>) -> Result<Self, Problems> {
        let mut problems = Problems::default();
        let is_token = |text: &str| {
            !text.is_empty()
                && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
        };
        if !is_token(method) {
            problems.add("method", format!("{method:?} is not a method"));
        }
        // A path or a query may contain another URL.
        let with_scheme = url.split_once("://").filter(|(scheme, _)| !scheme.contains(['/', '?', '#']));
        let (scheme, host, rest) = match with_scheme {
            Some((scheme, rest)) => {
                let scheme = match scheme.to_ascii_lowercase().as_str() {
                    "http" => WebScheme::Http,
                    "https" => WebScheme::Https,
                    _ => {
                        problems.add("url", format!("{url:?} is neither http:// nor https://"));
                        WebScheme::Http
                    }
                };
                let (host, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
                if host.is_empty() || host.contains('@') {
                    problems.add("url", format!("{url:?} has no host, or has user information"));
                }
                (scheme, Some(host.to_owned()), path)
            }
            None => (WebScheme::Http, None, url),
        };
        let names_host =
            |url: &str| authority::is_valid(url.split(['/', '?', '#']).next().unwrap_or_default().as_bytes());
        if host.is_none() && !url.starts_with('/') && names_host(url) {
            let message = format!(
                "{url:?} has no scheme: write http://{url}, https://{url}, or a path with a leading /"
            );
            problems.add("url", message);
            return Err(problems);
        }
        check_host(host.as_deref(), "url", &mut problems);
        let path = rest.split(['?', '#']).next().unwrap_or_default();
        let path = if path.is_empty() && host.is_some() { "/" } else { path };
        if !path.starts_with('/') || !path.bytes().all(|b| b.is_ascii_graphic()) {
            problems.add(
                "url",
                format!(
                    "{path:?} is not a valid path: expected a leading / and only visible ASCII characters"
                ),
            );
        }
        let mut asked = Self {
            method: method.to_owned(),
            scheme,
            host,
            path: path.to_owned(),
            target: match rest.split('#').next().and_then(|rest| rest.split_once('?')) {
                Some((_, query)) => format!("{path}?{query}"),
                None => path.to_owned(),
            },
            headers: Vec::new(),
            client: None,
        };
        for header in headers {
            match header.split_once(':').map(|(name, value)| (name.trim(), value.trim())) {
                Some((name, value)) if is_token(name) && !value.contains(|c: char| c.is_ascii_control()) => {
                    let name = name.to_ascii_lowercase();
                    if name == "host" {
                        check_host(Some(value), "header", &mut problems);
                        asked.host = Some(value.to_owned());
                    }
                    asked.headers.push((name, value.to_owned()));
                }
                _ => problems.add("header", format!("{header:?} is not a header (expected name: value)")),
            }
        }
        if let Some(client) = client {
            match client.parse::<IpAddr>() {
                Ok(address) => asked.client = Some(address.to_canonical()),
                Err(_) => problems.add("client", format!("{client:?} is not an IP address")),
            }
        }
        problems.into_result(asked)
    }

    fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.headers.iter().filter(move |(one, _)| one == name).map(|(_, value)| value.as_str())
    }

    /// Names and values of all cookies.
    fn cookies(&self) -> impl Iterator<Item = (&str, &str)> {
        let pairs =
            self.all("cookie").flat_map(|line| line.split(';')).filter_map(|pair| pair.split_once('='));
        pairs.map(|(name, value)| (name.trim(), value.trim()))
    }
}

/// Nodes reject such a request before they look for a route.
fn check_host(host: Option<&str>, path: &str, problems: &mut Problems) {
    if let Some(host) = host.filter(|host| !host.is_empty() && !authority::is_valid(host.as_bytes())) {
        problems.add(path, format!("{host:?} is not a host with an optional port; a node returns 400"));
    }
}

impl Request for Asked {
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
        self.scheme
    }

    fn any_header(&self, name: &str, accepts: impl Fn(&[u8]) -> bool) -> bool {
        self.headers.iter().any(|(one, value)| one == name && accepts(value.as_bytes()))
    }
}

/// The way of a request up to its pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Way {
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
    pub passed: Vec<Passed>,
    /// Number of further routes that do not match.
    pub more: usize,
}

/// The verdict of a filter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Filter {
    /// Name of the filter in the configuration.
    pub filter: String,
    /// The verdict.
    pub says: Says,
    /// The reason, or what the filter checks.
    pub detail: String,
}

/// Verdict of a filter on a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Says {
    /// The filter lets the request pass.
    Passes,
    /// The filter rejects the request.
    Refuses,
    /// Only a node can decide.
    Depends,
}

/// A route that does not match the request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Passed {
    /// Name of the route.
    pub route: String,
    /// Why it does not match.
    pub because: String,
}

/// Follows a request to its pool.
pub fn explain(snapshot: &Snapshot, asked: &Asked) -> Way {
    let routes = &snapshot.routes;
    let explanation = snapshot.router.explain(asked, routes.iter().map(|route| &route.matches));
    let passed = explanation
        .passed
        .iter()
        .take(MOST_PASSED)
        .map(|(place, why)| Passed { route: routes[*place].name.to_string(), because: why.to_string() });
    let (place, answer) = match explanation.chosen {
        Ok(Some(place)) => (Some(place), None),
        Ok(None) => (None, Some("404: no route matches this request".to_owned())),
        Err(fault) => (None, Some(format!("400: {}", fault.text()))),
    };
    let route = place.map(|place| &routes[place]);
    let filters = route.map(|route| filters(route, asked)).unwrap_or_default();
    let refused = filters.iter().find(|filter| filter.says == Says::Refuses);
    let refused = refused.map(|filter| format!("{}: {}", filter.filter, filter.detail));
    let (answer, mut rewritten) = (answer.or(refused), None);
    let answer = answer.or_else(|| match route.map(|route| &route.target) {
        Some(Target::Redirect(redirect)) => Some(redirected(redirect, asked)),
        _ => None,
    });
    let answer = answer.or_else(|| match route.map(|route| rewrite(&route.rewrite, asked)) {
        Some(Ok(asks)) => {
            rewritten = asks;
            None
        }
        Some(Err(fault)) => Some(format!("400: {}", fault.text())),
        None => None,
    });
    let changes = route.filter(|_| answer.is_none()).map(|route| changes::changes(snapshot, route, asked));
    Way {
        place,
        changes: changes.unwrap_or_default(),
        route: route.map(|route| route.name.to_string()),
        rewritten,
        answer,
        filters,
        passed: passed.collect(),
        more: explanation.passed.len().saturating_sub(MOST_PASSED),
    }
}

fn redirected(redirect: &Redirect, asked: &Asked) -> String {
    let host = asked.host.as_deref().map(str::as_bytes);
    match redirect.location(asked.scheme, host, asked.target.as_bytes()) {
        Ok(location) => format!("{}: to {}", redirect.status, String::from_utf8_lossy(&location)),
        Err(NoRedirect::NoHost) => "400: the request has no host to redirect to".to_owned(),
        Err(NoRedirect::Path(fault)) => format!("400: {}", fault.text()),
        Err(NoRedirect::Circle) => "508: the redirect leads back to the same URL".to_owned(),
    }
}

fn rewrite(rewrite: &Rewrite, asked: &Asked) -> Result<Option<String>, PathFault> {
    let target = match &rewrite.path {
        Some(path) => path.apply(asked.target.as_bytes())?,
        None => None,
    };
    let target = target.map(|target| String::from_utf8_lossy(&target).into_owned());
    Ok(match (target, &rewrite.host) {
        (None, None) => None,
        (target, host) => {
            let host = host.as_deref().or(asked.host.as_deref()).unwrap_or_default();
            Some(format!("{host}{}", target.as_deref().unwrap_or(&asked.target)))
        }
    })
}

fn filters(route: &Route, asked: &Asked) -> Vec<Filter> {
    let mut said = Vec::new();
    let mut say = |filter: &str, says, detail: String| {
        said.push(Filter { filter: filter.to_owned(), says, detail });
    };
    if let Some(filters) = &route.filters {
        for rules in &filters.ip {
            match asked.client {
                None => say(
                    "ip_filter",
                    Says::Depends,
                    "depends on the client address, which is not given".to_owned(),
                ),
                Some(client) if rules.allows(client) => {
                    say("ip_filter", Says::Passes, format!("allows {client}"));
                }
                Some(client) => say("ip_filter", Says::Refuses, format!("403, {client} is not allowed")),
            }
        }
        if !filters.methods.is_empty() {
            let known = filters.methods.join(", ");
            match filters.methods.iter().any(|method| **method == asked.method) {
                true => say("allow_methods", Says::Passes, format!("allows {known}")),
                false => say("allow_methods", Says::Refuses, format!("405, allows only {known}")),
            }
        }
        if let Some(limit) = &filters.rate_limit {
            let scope = match limit.scope {
                crate::config::RateScope::Node => "counted on each node",
                crate::config::RateScope::Fleet => "shared by all nodes",
            };
            let (per, key) = (HumanDuration(limit.per), &limit.key);
            let new = match key {
                RateKey::Header(_) => format!(", at most {} new values per address", limit.new_values),
                RateKey::ClientIp | RateKey::Route => String::new(),
            };
            let detail = format!(
                "{} requests per {per}, burst {}, by {key}{new}, {scope}; more get 429",
                limit.requests, limit.burst
            );
            say("rate_limit", Says::Depends, detail);
        }
        if let Some(auth) = &filters.basic_auth {
            let mut given = asked.all("authorization");
            match (given.next().is_some_and(|value| starts_with(value, "basic ")), given.next()) {
                (_, Some(_)) => say("basic_auth", Says::Refuses, "401, two Authorization headers".to_owned()),
                (true, None) => {
                    say(
                        "basic_auth",
                        Says::Depends,
                        format!("checks the password for realm {:?}", auth.realm),
                    );
                }
                (false, None) => {
                    say("basic_auth", Says::Refuses, "401, no user name and password".to_owned())
                }
            }
        }
        if let Some(jwt) = &filters.jwt {
            let (says, detail) = token(jwt, asked);
            say("jwt", says, detail);
        }
    }
    if route.max_body < u64::MAX {
        let most = ByteSize(route.max_body);
        say("limits.max_body", Says::Depends, format!("413 for a body larger than {most}"));
    }
    let bounds = &route.bounds;
    let time = |time: Duration| match time {
        Duration::ZERO => "no limit".to_owned(),
        time => HumanDuration(time).to_string(),
    };
    for (name, given, what) in [
        ("timeouts.request", route.request_timeout, "time for the whole request"),
        ("timeouts.response", bounds.response, "time until the response head"),
        ("timeouts.response_body", bounds.response_body, "longest pause of the backend in the response body"),
        ("timeouts.request_body", bounds.request_body, "longest pause of the client in the request body"),
        ("timeouts.send", bounds.send, "longest time in which the client accepts nothing of the response"),
    ] {
        if let Some(given) = given {
            say(name, Says::Depends, format!("{what}: {}", time(given)));
        }
    }
    if let Some(rate) = bounds.min_body_rate {
        let rate = if rate == 0 { "no limit".to_owned() } else { format!("{rate} bytes per second") };
        say("limits.min_body_rate", Says::Depends, format!("minimum average rate of a body: {rate}"));
    }
    said
}

/// Looks for a token where [`crate::Jwt`] says it may be.
fn token(jwt: &Jwt, asked: &Asked) -> (Says, String) {
    let mut values = asked.all(&jwt.header);
    let in_header = match (values.next(), values.next()) {
        (Some(_), Some(_)) => return (Says::Refuses, format!("401, two {} headers", jwt.header)),
        (Some(value), None) => *jwt.header != *"authorization" || starts_with(value, "bearer"),
        (None, _) => false,
    };
    if in_header {
        return (Says::Depends, format!("checks a token of issuer {} in {}", jwt.issuer, jwt.header));
    }
    let Some(name) = &jwt.cookie else {
        return (Says::Refuses, format!("401, no token in {}", jwt.header));
    };
    match asked.cookies().filter(|(own, _)| **own == **name).count() {
        0 => (Says::Refuses, format!("401, no token in {} or cookie {name}", jwt.header)),
        1..=Jwt::MAX_COOKIES => {
            (Says::Depends, format!("checks a token of issuer {} in cookie {name}", jwt.issuer))
        }
        many => (Says::Refuses, format!("401, {many} cookies {name} (at most {})", Jwt::MAX_COOKIES)),
    }
}

fn starts_with(value: &str, scheme: &str) -> bool {
    value.get(..scheme.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(scheme))
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
        let way = explain(&snapshot, &Asked::read("GET", "/", &[], None).unwrap());
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

    fn way(method: &str, url: &str, headers: &[&str], client: Option<&str>) -> Way {
        let (_, snapshot) = file::parse(TEXT).unwrap();
        let headers: Vec<String> = headers.iter().map(|header| (*header).to_owned()).collect();
        explain(&snapshot, &Asked::read(method, url, &headers, client).unwrap())
    }

    #[test]
    fn the_route_and_the_verdicts_of_its_filters_are_explained() {
        let taken = way("GET", "http://API.example:80/v1/x?y#z", &["X-Canary: 1"], Some("::ffff:10.1.2.3"));
        assert_eq!((taken.route.as_deref(), &taken.answer), (Some("api"), &None));
        assert_eq!(taken.filters[0].says, Says::Passes);
        let refused = way("GET", "http://api.example/v1/x", &["x-canary: 1"], Some("11.1.2.3"));
        assert_eq!(refused.filters[0].says, Says::Refuses);
        assert_eq!(refused.answer.as_deref(), Some("ip_filter: 403, 11.1.2.3 is not allowed"));
        assert_eq!(
            way("GET", "http://api.example/v1", &["x-canary: 1"], None).filters[0].says,
            Says::Depends
        );

        let web = way("POST", "http://api.example/v1/x", &[], None);
        assert_eq!(web.route.as_deref(), Some("web"));
        let says: Vec<Says> = web.filters.iter().map(|filter| filter.says).collect();
        assert_eq!(says, [Says::Refuses, Says::Depends]);
        assert_eq!(
            web.passed[0],
            Passed { route: "api".into(), because: "matches only the method GET".into() }
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
            (&["Authorization: Bearer x"][..], Says::Depends, "in authorization"),
            (&["Authorization: Bearer"], Says::Depends, "in authorization"),
            (&["Authorization: Basic x"], Says::Refuses, "no token"),
            (&["Authorization: Basic x", "Cookie: a=b; session=x"], Says::Depends, "in cookie session"),
            (&["Cookie: sessions=x"], Says::Refuses, "no token in authorization or cookie session"),
            (&["Authorization: Bearer x", "Authorization: Bearer x"], Says::Refuses, "two authorization"),
            (&[&cookies], Says::Refuses, "5 cookies session (at most 4)"),
        ] {
            let way = way("GET", "http://token.test/", headers, None);
            assert_eq!(way.filters[0].says, says, "{headers:?}");
            assert!(way.filters[0].detail.contains(detail), "{headers:?}: {}", way.filters[0].detail);
        }
    }

    #[test]
    fn a_host_that_a_node_rejects_is_rejected() {
        for url in ["http://x:99999/", "http://x:abc/", "http://\u{fc}/", "http://a,b/", "http://[::1/"] {
            let error = Asked::read("GET", url, &[], None).unwrap_err().to_string();
            assert!(error.contains("url") && error.contains("a node returns 400"), "{url}: {error}");
        }
        let error = Asked::read("GET", "/", &["Host: x:99999".to_owned()], None).unwrap_err().to_string();
        assert!(error.contains("header"), "{error}");
        for url in ["http://x:8080/", "http://[::1]:80/", "http://a_b.example./"] {
            assert!(Asked::read("GET", url, &[], None).is_ok(), "{url}");
        }
    }

    #[test]
    fn a_url_without_a_scheme_is_rejected_with_a_suggestion() {
        for url in ["api.example.com/x", "api.example", "localhost:8080/x?y", "[::1]/x", "10.0.0.1#x"] {
            let error = Asked::read("GET", url, &[], None).unwrap_err().to_string();
            assert!(
                error.contains(&format!("write http://{url}, https://{url}, or a path")),
                "{url}: {error}"
            );
        }
        for url in ["a@b/x", "a b/x", "?x", "ftp:/x"] {
            let error = Asked::read("GET", url, &[], None).unwrap_err().to_string();
            assert!(error.contains("leading /"), "{url}: {error}");
        }
        // A path may start with two slashes, and a URL in a query has its own scheme.
        for url in ["//api.example.com/x", "/login?next=https://a/b", "http://a/x?next=ftp://b"] {
            assert!(Asked::read("GET", url, &[], None).is_ok(), "{url}");
        }
        let error = Asked::read("GET", "a/x?next=https://b", &[], None).unwrap_err().to_string();
        assert!(error.contains("write http://a/x?next=https://b"), "{error}");
    }

    #[test]
    fn every_invalid_part_of_a_request_is_reported() {
        let headers = ["no colon".to_owned(), "bad name: x".to_owned(), "x: a\u{0}b".to_owned()];
        let problems = Asked::read("GE T", "ftp://x/ü", &headers, Some("10.0.0")).unwrap_err();
        let paths: Vec<&str> = problems.0.iter().map(|problem| problem.path.as_str()).collect();
        assert_eq!(paths, ["method", "url", "url", "header", "header", "header", "client"]);
        for url in ["x", "", "http://", "http://a@b/", "http:///x"] {
            Asked::read("GET", url, &[], None).unwrap_err();
        }
    }
}
