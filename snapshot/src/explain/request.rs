//! A hypothetical request, built from user input.

use std::net::IpAddr;

use weir_http::authority;

use crate::{config::WebScheme, problem::Problems, routing::Request};

/// A hypothetical request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SampleRequest {
    pub(super) method: String,
    pub(super) scheme: WebScheme,
    pub(super) host: Option<String>,
    pub(super) path: String,
    /// Path and query.
    pub(super) target: String,
    /// Names are in lower case.
    pub(super) headers: Vec<(String, String)>,
    pub(super) client: Option<IpAddr>,
}

impl SampleRequest {
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
        let mut request = Self {
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
                        request.host = Some(value.to_owned());
                    }
                    request.headers.push((name, value.to_owned()));
                }
                _ => problems.add("header", format!("{header:?} is not a header (expected name: value)")),
            }
        }
        if let Some(client) = client {
            match client.parse::<IpAddr>() {
                Ok(address) => request.client = Some(address.to_canonical()),
                Err(_) => problems.add("client", format!("{client:?} is not an IP address")),
            }
        }
        problems.into_result(request)
    }

    pub(super) fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.headers.iter().filter(move |(one, _)| one == name).map(|(_, value)| value.as_str())
    }

    /// Names and values of all cookies.
    pub(super) fn cookies(&self) -> impl Iterator<Item = (&str, &str)> {
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

impl Request for SampleRequest {
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
