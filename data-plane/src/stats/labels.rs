//! Labels of requests that no configuration names: the method and the requested host.
//!
//! Both come from clients, so both are bounded: methods by a closed list, hosts by how many a worker tells apart at a
//! time. A known host costs a look-up and no memory; the totals never depend on any of this.

use std::sync::Arc;

use rustc_hash::FxHashMap;
use weir_snapshot::is_visible;

/// The host of whatever has none of its own.
pub(crate) const OTHER: &str = "_other";
/// Hosts that a worker tells apart within a minute.
const MAX_HOSTS: usize = 256;
/// The longest name that DNS knows.
const MAX_HOST: usize = 253;

/// A method, as far as it is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub(crate) enum Method {
    Get,
    Head,
    Post,
    Put,
    Patch,
    Delete,
    Options,
    /// Every other, and what never had one.
    #[default]
    Other,
}

impl Method {
    pub(crate) fn of(method: &[u8]) -> Self {
        match method {
            b"GET" => Self::Get,
            b"HEAD" => Self::Head,
            b"POST" => Self::Post,
            b"PUT" => Self::Put,
            b"PATCH" => Self::Patch,
            b"DELETE" => Self::Delete,
            b"OPTIONS" => Self::Options,
            _ => Self::Other,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
            Self::Options => "OPTIONS",
            Self::Other => "OTHER",
        }
    }
}

/// The hosts that a worker tells apart.
pub(crate) struct Hosts {
    /// The name that is handed out, and how often in this minute.
    known: FxHashMap<Arc<str>, (Arc<str>, u32)>,
    other: Arc<str>,
}

impl Default for Hosts {
    fn default() -> Self {
        Self { known: FxHashMap::default(), other: OTHER.into() }
    }
}

impl Hosts {
    /// The name under which requests for an authority are counted: in lower case, without the port.
    pub(crate) fn name(&mut self, authority: &[u8]) -> Arc<str> {
        let host = without_port(authority);
        let mut lower = [0; MAX_HOST];
        let Some(lower) = lower.get_mut(..host.len()) else { return Arc::clone(&self.other) };
        lower.copy_from_slice(host);
        lower.make_ascii_lowercase();
        let Ok(host) = std::str::from_utf8(lower) else { return Arc::clone(&self.other) };
        // Returns the map's own `Arc`, so that rows can be compared by its address.
        if let Some((name, requests)) = self.known.get_mut(host) {
            *requests = requests.saturating_add(1);
            return Arc::clone(name);
        }
        if self.known.len() >= MAX_HOSTS || host.is_empty() || !is_visible(host) {
            return Arc::clone(&self.other);
        }
        let name: Arc<str> = host.into();
        self.known.insert(Arc::clone(&name), (Arc::clone(&name), 1));
        name
    }

    /// At the end of a minute, hosts that were requested more than once stay, so that a flood of names that are
    /// requested once does not push out real hosts.
    pub(crate) fn next_minute(&mut self) {
        self.known.retain(|_, (_, requests)| std::mem::take(requests) > 1);
    }
}

fn without_port(authority: &[u8]) -> &[u8] {
    let end = match authority.iter().rposition(|byte| *byte == b':') {
        // An IPv6 address with colons is in brackets.
        Some(colon) if !authority.get(colon..).is_some_and(|rest| rest.contains(&b']')) => colon,
        _ => authority.len(),
    };
    authority.get(..end).unwrap_or(authority)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_lower_case_and_without_its_port() {
        let mut hosts = Hosts::default();
        for (authority, name) in [
            ("Shop.Example:8080", "shop.example"),
            ("shop.example", "shop.example"),
            ("[::1]:80", "[::1]"),
            ("[::1]", "[::1]"),
            ("127.0.0.1:9", "127.0.0.1"),
            ("", OTHER),
        ] {
            assert_eq!(&*hosts.name(authority.as_bytes()), name);
        }
        assert_eq!(&*hosts.name(&[b'a'; 300]), OTHER);
        assert_eq!(&*hosts.name(b"\xff"), OTHER);
        for hidden in ["a\x1b[2J", "a\u{202e}b", "a\u{200b}b", "a\u{9b}"] {
            assert_eq!(&*hosts.name(hidden.as_bytes()), OTHER, "{hidden:?}");
        }
    }

    #[test]
    fn a_million_names_take_no_more_room_than_the_bound_and_a_busy_host_keeps_its_place() {
        let mut hosts = Hosts::default();
        for n in 0..1_000_000u32 {
            if n % 50 == 0 {
                assert_eq!(&*hosts.name(b"busy.example"), "busy.example");
            }
            hosts.name(format!("{n}.example").as_bytes());
            if n % 10_000 == 0 {
                hosts.next_minute();
            }
            assert!(hosts.known.len() <= MAX_HOSTS);
        }
    }

    #[test]
    fn one_name_is_one_text() {
        let mut hosts = Hosts::default();
        assert!(Arc::ptr_eq(&hosts.name(b"a.example"), &hosts.name(b"A.example:1")));
    }
}
