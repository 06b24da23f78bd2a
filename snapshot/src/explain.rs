//! What a node would do with a request, told and not done: which route takes it, what its filters say, and what passed
//! the other routes over.
//!
//! Nothing is decided here a second time. The route is what [`Router`](crate::routing::Router) finds, which nodes ask
//! too, and addresses are looked up in the same [`IpRules`](crate::IpRules). What only a node can know, how often a
//! client has asked or whether a password is right, is said to be so.

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

/// How many of the routes that were passed over are told.
const MOST_PASSED: usize = 100;

/// A request that nobody has sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    method: String,
    scheme: WebScheme,
    host: Option<String>,
    path: String,
    /// The path with the query.
    target: String,
    /// Names in lower case.
    headers: Vec<(String, String)>,
    client: Option<IpAddr>,
}

impl Asked {
    /// From what people write: a method, a URL or a path, headers as `name: value`, and the client's address.
    ///
    /// # Errors
    /// Everything that no request can be.
    pub fn read(method: &str, url: &str, headers: &[String], client: Option<&str>) -> Result<Self, Problems> {
        let mut problems = Problems::default();
        let is_token = |text: &str| {
            !text.is_empty()
                && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
        };
        if !is_token(method) {
            problems.add("method", format!("{method:?} is not a method"));
        }
        // A path or a query may hold another URL.
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
                    problems.add("url", format!("{url:?} has no host, or more than a host"));
                }
                (scheme, Some(host.to_owned()), path)
            }
            None => (WebScheme::Http, None, url),
        };
        let names_host =
            |url: &str| authority::is_valid(url.split(['/', '?', '#']).next().unwrap_or_default().as_bytes());
        if host.is_none() && !url.starts_with('/') && names_host(url) {
            let message = format!(
                "{url:?} has no scheme: write http://{url}, https://{url}, or a path that begins with /"
            );
            problems.add("url", message);
            return Err(problems);
        }
        check_host(host.as_deref(), "url", &mut problems);
        let path = rest.split(['?', '#']).next().unwrap_or_default();
        let path = if path.is_empty() && host.is_some() { "/" } else { path };
        if !path.starts_with('/') || !path.bytes().all(|b| b.is_ascii_graphic()) {
            problems
                .add("url", format!("{path:?} is not a path: it begins with / and has only visible ASCII"));
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
                _ => problems.add("header", format!("{header:?} is not a header (write name: value)")),
            }
        }
        if let Some(client) = client {
            match client.parse::<IpAddr>() {
                Ok(address) => asked.client = Some(address.to_canonical()),
                Err(_) => problems.add("client", format!("{client:?} is not an address")),
            }
        }
        problems.into_result(asked)
    }

    fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.headers.iter().filter(move |(one, _)| one == name).map(|(_, value)| value.as_str())
    }

    /// Names and values.
    fn cookies(&self) -> impl Iterator<Item = (&str, &str)> {
        let pairs =
            self.all("cookie").flat_map(|line| line.split(';')).filter_map(|pair| pair.split_once('='));
        pairs.map(|(name, value)| (name.trim(), value.trim()))
    }
}

/// Nodes refuse such a request before they look for a route.
fn check_host(host: Option<&str>, path: &str, problems: &mut Problems) {
    if let Some(host) = host.filter(|host| !host.is_empty() && !authority::is_valid(host.as_bytes())) {
        problems.add(path, format!("{host:?} is not a host with an optional port: a node answers 400"));
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

/// What becomes of a request up to its pool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Way {
    /// The route that takes it, by its place.
    #[serde(skip)]
    pub place: Option<usize>,
    /// Its name.
    pub route: Option<String>,
    /// What the backend is asked for instead, where the route rewrites it.
    pub rewritten: Option<String>,
    /// What else the backend gets otherwise than the client sent it, and what is mapped in its response.
    pub changes: Vec<String>,
    /// What the node answers itself, where the request goes no further.
    pub answer: Option<String>,
    /// What the route's filters say, in the order in which they are asked.
    pub filters: Vec<Filter>,
    /// The other routes, and why they do not take it.
    pub passed: Vec<Passed>,
    /// How many more there are.
    pub more: usize,
}

/// What a filter says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Filter {
    /// As the configuration names it.
    pub filter: String,
    /// What it does.
    pub says: Says,
    /// Why, or of what.
    pub detail: String,
}

/// What a filter does with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Says {
    /// It lets it pass.
    Passes,
    /// It answers it.
    Refuses,
    /// Only a node can tell.
    Depends,
}

/// A route that does not take the request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Passed {
    /// Its name.
    pub route: String,
    /// Why not.
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
        Ok(None) => (None, Some("404: no route takes this request".to_owned())),
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
        Err(NoRedirect::NoHost) => "400: the request names no host to be sent back to".to_owned(),
        Err(NoRedirect::Path(fault)) => format!("400: {}", fault.text()),
        Err(NoRedirect::Circle) => "508: the redirect leads to where it comes from".to_owned(),
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
                None => say("ip_filter", Says::Depends, "goes by the client's address; say which".to_owned()),
                Some(client) if rules.allows(client) => {
                    say("ip_filter", Says::Passes, format!("takes {client}"));
                }
                Some(client) => say("ip_filter", Says::Refuses, format!("403, {client} is not taken")),
            }
        }
        if !filters.methods.is_empty() {
            let known = filters.methods.join(", ");
            match filters.methods.iter().any(|method| **method == asked.method) {
                true => say("allow_methods", Says::Passes, format!("takes {known}")),
                false => say("allow_methods", Says::Refuses, format!("405, takes only {known}")),
            }
        }
        if let Some(limit) = &filters.rate_limit {
            let scope = match limit.scope {
                crate::config::RateScope::Node => "each node for itself",
                crate::config::RateScope::Fleet => "shared by the nodes",
            };
            let (per, key) = (HumanDuration(limit.per), &limit.key);
            let new = match key {
                RateKey::Header(_) => format!(", {} unknown values of it from one address", limit.new_values),
                RateKey::ClientIp | RateKey::Route => String::new(),
            };
            let detail = format!(
                "{} requests in {per}, {} at once, by {key}{new}, {scope}; 429 beyond",
                limit.requests, limit.burst
            );
            say("rate_limit", Says::Depends, detail);
        }
        if let Some(auth) = &filters.basic_auth {
            let mut given = asked.all("authorization");
            match (given.next().is_some_and(|value| starts_with(value, "basic ")), given.next()) {
                (_, Some(_)) => say("basic_auth", Says::Refuses, "401, two Authorization headers".to_owned()),
                (true, None) => {
                    say("basic_auth", Says::Depends, format!("checks the password for {:?}", auth.realm));
                }
                (false, None) => say("basic_auth", Says::Refuses, "401, no name and password".to_owned()),
            }
        }
        if let Some(jwt) = &filters.jwt {
            let (says, detail) = token(jwt, asked);
            say("jwt", says, detail);
        }
    }
    if route.max_body < u64::MAX {
        let most = ByteSize(route.max_body);
        say("limits.max_body", Says::Depends, format!("413 for a body of more than {most}"));
    }
    let bounds = &route.bounds;
    let time = |time: Duration| match time {
        Duration::ZERO => "no limit".to_owned(),
        time => HumanDuration(time).to_string(),
    };
    for (name, given, what) in [
        ("timeouts.request", route.request_timeout, "time for the whole request"),
        ("timeouts.response", bounds.response, "time until the head of the answer"),
        ("timeouts.response_body", bounds.response_body, "longest pause of the backend in the answer's body"),
        ("timeouts.request_body", bounds.request_body, "longest pause of the client in the request's body"),
        ("timeouts.send", bounds.send, "longest time in which the client takes nothing of the answer"),
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

/// Where a token is, as [`crate::Jwt`] says.
fn token(jwt: &Jwt, asked: &Asked) -> (Says, String) {
    let mut values = asked.all(&jwt.header);
    let in_header = match (values.next(), values.next()) {
        (Some(_), Some(_)) => return (Says::Refuses, format!("401, two {} headers", jwt.header)),
        (Some(value), None) => *jwt.header != *"authorization" || starts_with(value, "bearer"),
        (None, _) => false,
    };
    if in_header {
        return (Says::Depends, format!("checks a token of {} in {}", jwt.issuer, jwt.header));
    }
    let Some(name) = &jwt.cookie else {
        return (Says::Refuses, format!("401, no token in {}", jwt.header));
    };
    match asked.cookies().filter(|(own, _)| **own == **name).count() {
        0 => (Says::Refuses, format!("401, no token in {} or a cookie {name}", jwt.header)),
        1..=Jwt::MAX_COOKIES => {
            (Says::Depends, format!("checks a token of {} in a cookie {name}", jwt.issuer))
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
    fn a_routes_own_timeouts_are_explained() {
        let text = "
pools: [{ name: p }]
routes: [{ name: r, pool: p, timeouts: { response: 2m, send: 0s }, limits: { min_body_rate: 0 } }]
";
        let (_, snapshot) = file::parse(text).unwrap();
        let way = explain(&snapshot, &Asked::read("GET", "/", &[], None).unwrap());
        let told: Vec<_> = way.filters.iter().map(|one| (one.filter, one.detail.as_str())).collect();
        assert_eq!(
            told,
            [
                ("timeouts.response", "time until the head of the answer: 2m"),
                ("timeouts.send", "longest time in which the client takes nothing of the answer: no limit"),
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
    fn the_route_and_its_filters_are_told() {
        let taken = way("GET", "http://API.example:80/v1/x?y#z", &["X-Canary: 1"], Some("::ffff:10.1.2.3"));
        assert_eq!((taken.route.as_deref(), &taken.answer), (Some("api"), &None));
        assert_eq!(taken.filters[0].says, Says::Passes);
        let refused = way("GET", "http://api.example/v1/x", &["x-canary: 1"], Some("11.1.2.3"));
        assert_eq!(refused.filters[0].says, Says::Refuses);
        assert_eq!(refused.answer.as_deref(), Some("ip_filter: 403, 11.1.2.3 is not taken"));
        assert_eq!(
            way("GET", "http://api.example/v1", &["x-canary: 1"], None).filters[0].says,
            Says::Depends
        );

        let web = way("POST", "http://api.example/v1/x", &[], None);
        assert_eq!(web.route.as_deref(), Some("web"));
        let says: Vec<Says> = web.filters.iter().map(|filter| filter.says).collect();
        assert_eq!(says, [Says::Refuses, Says::Depends]);
        assert_eq!(web.passed[0], Passed { route: "api".into(), because: "takes the method GET".into() });
        let moved = way("GET", "http://old.test/a?b#c", &[], None);
        assert_eq!(moved.answer.as_deref(), Some("308: to https://new.test/a?b"));
        let rewritten = way("GET", "http://shop.test/v1/a?b", &[], None);
        assert_eq!(rewritten.rewritten.as_deref(), Some("books.internal/a?b"));
        let refused = way("GET", "http://shop.test/v1//x/admin", &[], None);
        let text = "400: the rewritten path begins with two slashes, which some servers read as a host";
        assert_eq!((refused.rewritten, refused.answer.as_deref()), (None, Some(text)));
        assert_eq!(
            way("GET", "/v1", &["Host: other"], None).answer.as_deref(),
            Some("404: no route takes this request")
        );
    }

    #[test]
    fn tokens_are_looked_for_where_nodes_look() {
        let cookies = format!("Cookie: {}", "session=x; ".repeat(5));
        for (headers, says, detail) in [
            (&["Authorization: Bearer x"][..], Says::Depends, "in authorization"),
            (&["Authorization: Bearer"], Says::Depends, "in authorization"),
            (&["Authorization: Basic x"], Says::Refuses, "no token"),
            (&["Authorization: Basic x", "Cookie: a=b; session=x"], Says::Depends, "in a cookie session"),
            (&["Cookie: sessions=x"], Says::Refuses, "no token in authorization or a cookie session"),
            (&["Authorization: Bearer x", "Authorization: Bearer x"], Says::Refuses, "two authorization"),
            (&[&cookies], Says::Refuses, "5 cookies session (at most 4)"),
        ] {
            let way = way("GET", "http://token.test/", headers, None);
            assert_eq!(way.filters[0].says, says, "{headers:?}");
            assert!(way.filters[0].detail.contains(detail), "{headers:?}: {}", way.filters[0].detail);
        }
    }

    #[test]
    fn a_host_that_a_node_refuses_is_refused() {
        for url in ["http://x:99999/", "http://x:abc/", "http://\u{fc}/", "http://a,b/", "http://[::1/"] {
            let error = Asked::read("GET", url, &[], None).unwrap_err().to_string();
            assert!(error.contains("url") && error.contains("a node answers 400"), "{url}: {error}");
        }
        let error = Asked::read("GET", "/", &["Host: x:99999".to_owned()], None).unwrap_err().to_string();
        assert!(error.contains("header"), "{error}");
        for url in ["http://x:8080/", "http://[::1]:80/", "http://a_b.example./"] {
            assert!(Asked::read("GET", url, &[], None).is_ok(), "{url}");
        }
    }

    #[test]
    fn a_url_without_a_scheme_is_refused_with_what_to_write() {
        for url in ["api.example.com/x", "api.example", "localhost:8080/x?y", "[::1]/x", "10.0.0.1#x"] {
            let error = Asked::read("GET", url, &[], None).unwrap_err().to_string();
            assert!(
                error.contains(&format!("write http://{url}, https://{url}, or a path")),
                "{url}: {error}"
            );
        }
        for url in ["a@b/x", "a b/x", "?x", "ftp:/x"] {
            let error = Asked::read("GET", url, &[], None).unwrap_err().to_string();
            assert!(error.contains("begins with /"), "{url}: {error}");
        }
        // Two slashes begin a path, as they do in a request, and a URL in a query has a scheme of its own.
        for url in ["//api.example.com/x", "/login?next=https://a/b", "http://a/x?next=ftp://b"] {
            assert!(Asked::read("GET", url, &[], None).is_ok(), "{url}");
        }
        let error = Asked::read("GET", "a/x?next=https://b", &[], None).unwrap_err().to_string();
        assert!(error.contains("write http://a/x?next=https://b"), "{error}");
    }

    #[test]
    fn what_no_request_can_be_is_refused_by_name() {
        let headers = ["no colon".to_owned(), "bad name: x".to_owned(), "x: a\u{0}b".to_owned()];
        let problems = Asked::read("GE T", "ftp://x/ü", &headers, Some("10.0.0")).unwrap_err();
        let paths: Vec<&str> = problems.0.iter().map(|problem| problem.path.as_str()).collect();
        assert_eq!(paths, ["method", "url", "url", "header", "header", "header", "client"]);
        for url in ["x", "", "http://", "http://a@b/", "http:///x"] {
            Asked::read("GET", url, &[], None).unwrap_err();
        }
    }
}
