//! Checks the host name of calls to the admin port, against DNS rebinding.
//!
//! A page of another site can let its own name resolve to 127.0.0.1 and then call this port through the browser of a
//! user who can reach it. The browser treats the responses as that site's own. The host name in the request reveals the
//! attack.

use std::{net::IpAddr, sync::Arc};

use axum::http::{HeaderMap, Uri, header, uri::Authority};

/// The host names that the admin port accepts. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Hosts {
    /// The port listens on loopback, so a request under any other name is rejected.
    is_loopback: bool,
    more: Arc<[String]>,
}

impl Hosts {
    /// Accepts these names, and the loopback names if the port listens on loopback.
    pub(crate) fn new(is_loopback: bool, more: &[String]) -> Self {
        Self { is_loopback, more: more.iter().map(|name| name.to_ascii_lowercase()).collect() }
    }

    /// Checks the host name of a call. If a token is needed, every name is accepted, unless a list of names is
    /// configured.
    pub(super) fn check(&self, uri: &Uri, headers: &HeaderMap, is_token_needed: bool) -> Result<(), String> {
        if self.more.is_empty() && (!self.is_loopback || is_token_needed) {
            return Ok(());
        }
        let named =
            headers.get_all(header::HOST).iter().map(|value| value.to_str().unwrap_or("?").to_owned());
        for name in named.chain(uri.authority().map(|authority| authority.as_str().to_owned())) {
            if !self.is_ours(&name) {
                return Err(format!(
                    "host {name:?} is not a name of this port; on loopback it is localhost or its address, \
                     others are named with --admin-host"
                ));
            }
        }
        Ok(())
    }

    fn is_ours(&self, name: &str) -> bool {
        let Ok(authority) = name.parse::<Authority>() else { return false };
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
        let host = host.trim_end_matches('.');
        let is_loopback = match host.parse::<IpAddr>() {
            Ok(address) => address.to_canonical().is_loopback(),
            Err(_) => host == "localhost" || host.ends_with(".localhost"),
        };
        is_loopback && !name.contains('@') || self.more.iter().any(|one| one == host)
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn allowed(hosts: &Hosts, name: &str, is_token_needed: bool) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, HeaderValue::from_str(name).unwrap());
        hosts.check(&Uri::from_static("/status"), &headers, is_token_needed).is_ok()
    }

    #[test]
    fn on_loopback_only_its_names_are_served_until_a_token_is_needed() {
        let hosts = Hosts::new(true, &[]);
        for fine in [
            "127.0.0.1:8081",
            "127.1.2.3",
            "[::1]:8081",
            "localhost",
            "LOCALHOST:1",
            "weir.localhost",
            "localhost.",
        ] {
            assert!(allowed(&hosts, fine, false), "{fine}");
        }
        for wrong in
            ["evil.example", "127.0.0.1.evil.example", "10.0.0.1", "localhost.evil", "", "a@localhost", "?"]
        {
            assert!(!allowed(&hosts, wrong, false), "{wrong}");
            assert!(allowed(&hosts, wrong, true), "{wrong}");
        }
        let h2 = Uri::from_static("http://evil.example/status");
        assert!(hosts.check(&h2, &HeaderMap::new(), false).is_err());
    }

    #[test]
    fn more_names_are_allowed_and_then_no_others() {
        let hosts = Hosts::new(true, &["Weir.Example".into()]);
        assert!(allowed(&hosts, "weir.example:8081", false) && allowed(&hosts, "localhost", true));
        assert!(!allowed(&hosts, "evil.example", true));
        assert!(allowed(&Hosts::new(false, &[]), "anything.example", false));
    }
}
