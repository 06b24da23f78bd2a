//! The names under which the status port may be asked for metrics.
//!
//! A page of another site can have its own name point to this port's address and then read the answer in a visitor's browser (DNS
//! rebinding). The name in `Host` gives it away. As at the admin port, a loopback address is served under names of loopback only, and
//! other addresses under any name unless some are given with `--status-host`. Three more kinds of requests are served because no such
//! page can send them: those that name an address, as Prometheus and probes mostly do, those that name a host without a dot, as
//! in a compose file or `/etc/hosts`, and those without `Host`.

use std::{net::IpAddr, sync::Arc};

use hyper::{
    HeaderMap, Uri,
    header::{self, HeaderValue},
    http::uri::Authority,
};

/// The names of the status port. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct StatusHosts {
    is_loopback: bool,
    names: Arc<[String]>,
}

impl StatusHosts {
    pub(crate) fn new(is_loopback: bool, names: &[String]) -> Self {
        let name = |name: &String| name.trim_end_matches('.').to_ascii_lowercase();
        Self { is_loopback, names: names.iter().map(name).collect() }
    }

    /// Why a request is refused for its name, if it is.
    pub(crate) fn refuse(&self, uri: &Uri, headers: &HeaderMap) -> Option<String> {
        if self.names.is_empty() && !self.is_loopback {
            return None;
        }
        let text = |value: &HeaderValue| value.to_str().unwrap_or("?").to_owned();
        let named = headers.get_all(header::HOST).iter().map(text);
        let mut named = named.chain(uri.authority().map(ToString::to_string));
        let name = named.find(|name| !self.is_ours(name))?;
        Some(format!(
            "host {name:?} is not a name of this port; ask by address or localhost, or name it with --status-host\n"
        ))
    }

    fn is_ours(&self, name: &str) -> bool {
        let Ok(authority) = name.parse::<Authority>() else { return false };
        if name.contains('@') {
            return false;
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
        let host = host.trim_end_matches('.');
        let is_dotless =
            !host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b));
        host.parse::<IpAddr>().is_ok()
            || is_dotless
            || host.ends_with(".localhost")
            || self.names.iter().any(|one| one == host)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_served(hosts: &StatusHosts, name: &str) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, HeaderValue::from_str(name).unwrap());
        hosts.refuse(&Uri::from_static("/metrics"), &headers).is_none()
    }

    #[test]
    fn on_loopback_addresses_and_localhost_are_served_and_no_other_name() {
        let hosts = StatusHosts::new(true, &[]);
        for fine in [
            "127.0.0.1:8091",
            "[::1]:8091",
            "localhost",
            "LOCALHOST.:1",
            "node.localhost",
            "10.0.0.7:8091",
            "node-1:8091",
        ] {
            assert!(is_served(&hosts, fine), "{fine}");
        }
        for wrong in ["evil.example", "127.0.0.1.evil.example", "localhost.evil", "", "a@localhost", "?"] {
            assert!(!is_served(&hosts, wrong), "{wrong}");
        }
        assert!(hosts.refuse(&Uri::from_static("/metrics"), &HeaderMap::new()).is_none(), "HTTP/1.0");
        let absolute = Uri::from_static("http://evil.example/metrics");
        assert!(hosts.refuse(&absolute, &HeaderMap::new()).is_some());
    }

    #[test]
    fn given_names_are_served_and_then_no_others() {
        for is_loopback in [true, false] {
            let hosts = StatusHosts::new(is_loopback, &["Node-1.Example.".into()]);
            assert!(is_served(&hosts, "node-1.example:8091") && is_served(&hosts, "10.0.0.7"));
            assert!(!is_served(&hosts, "evil.example"));
        }
        assert!(is_served(&StatusHosts::new(false, &[]), "node-1.example"));
    }
}
