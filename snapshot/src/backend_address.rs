//! Addresses of backends: the order in which the addresses of a name are tried, and the addresses that are rejected.
//! Nodes and the health checker share this code, so that a probe reaches the same server as requests.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use crate::{
    config::AllowBackends,
    problem::Problems,
    snapshot::{Host, Snapshot},
};

/// Sorts and deduplicates the addresses of a name: IPv4 first, because most backends listen there, then by value. A
/// name server may return them in another order each time.
pub fn sorted(found: impl IntoIterator<Item = SocketAddr>) -> Vec<SocketAddr> {
    let mut found: Vec<SocketAddr> = found.into_iter().collect();
    found.sort_by_key(|address| (address.is_ipv6(), *address));
    found.dedup();
    found
}

/// Connect timeout for the next address: the remaining time divided by the number of remaining addresses.
pub fn time_per_address(left: Duration, addresses: usize) -> Duration {
    left / u32::try_from(addresses.max(1)).unwrap_or(u32::MAX)
}

/// A port on which a program of the fleet listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnPort {
    address: SocketAddr,
    what: &'static str,
}

impl OwnPort {
    /// `what` describes the port in messages: `the admin port`.
    pub fn new(address: SocketAddr, what: &'static str) -> Self {
        Self { address, what }
    }

    fn is(&self, address: SocketAddr, is_local: impl Fn(IpAddr) -> bool) -> bool {
        if self.address.port() != address.port() {
            return false;
        }
        let (own, asked) = (self.address.ip().to_canonical(), address.ip().to_canonical());
        // A connection to the unspecified address reaches this machine.
        match (own.is_unspecified(), asked.is_unspecified()) {
            (true, true) => true,
            (false, true) => is_local(own),
            (true, false) => is_local(asked),
            (false, false) => own == asked,
        }
    }
}

/// Returns why connections to an address are not allowed, or `None` if they are. `is_local` says whether an address
/// belongs to this machine.
pub fn why_forbidden(
    address: SocketAddr,
    allow: &AllowBackends,
    own: &[OwnPort],
    is_local: impl Fn(IpAddr) -> bool,
) -> Option<String> {
    if !allow.link_local && is_link_local(address.ip()) {
        return Some(format!(
            "{address} is a link-local or metadata address; to allow it, set \
             settings.allow_backends.link_local: true"
        ));
    }
    let own = own.iter().filter(|_| !allow.own_ports).find(|own| own.is(address, &is_local))?;
    Some(format!(
        "{address} is {} of this fleet; to allow it, set settings.allow_backends.own_ports: true",
        own.what
    ))
}

/// Returns a problem for each backend whose URL contains an address that is not allowed. Names are checked when they
/// are resolved, except `localhost`, which always means this machine (RFC 6761 section 6.3): nodes do not know all
/// ports of the fleet.
pub fn forbidden(snapshot: &Snapshot, own: &[OwnPort], is_local: impl Fn(IpAddr) -> bool) -> Problems {
    let mut problems = Problems::default();
    let allow = &snapshot.settings.allow_backends;
    for (i, pool) in snapshot.pools.iter().enumerate() {
        for (j, backend) in pool.backends.iter().enumerate() {
            let addresses: &[IpAddr] = match &backend.url.host {
                Host::Address(address) => &[*address],
                Host::Name(name) if is_localhost(name) => &LOCALHOST,
                Host::Name(_) => continue,
            };
            let reason = |address: &IpAddr| {
                why_forbidden(SocketAddr::new(*address, backend.url.port), allow, own, &is_local)
            };
            if let Some(why) = addresses.iter().find_map(reason) {
                problems.add(format!("pools[{i}].backends[{j}].url"), why);
            }
        }
    }
    problems
}

const LOCALHOST: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];

fn is_localhost(name: &str) -> bool {
    let name = name.trim_end_matches('.');
    name == "localhost" || name.ends_with(".localhost")
}

/// Whether an address is link-local (RFC 3927, RFC 4291 section 2.5.6) or a cloud metadata service, including IPv6
/// forms of IPv4 addresses.
pub fn is_link_local(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => is_link_local_v4(address),
        IpAddr::V6(address) => {
            address.is_unicast_link_local()
                || METADATA.contains(&address)
                || carried(address).is_some_and(is_link_local_v4)
        }
    }
}

/// Metadata services at unique local addresses: Amazon's and Google's.
const METADATA: [Ipv6Addr; 2] =
    [Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254), Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)];

/// Alibaba's metadata service and Azure's host.
const METADATA_V4: [Ipv4Addr; 2] = [Ipv4Addr::new(100, 100, 100, 200), Ipv4Addr::new(168, 63, 129, 16)];

fn is_link_local_v4(address: Ipv4Addr) -> bool {
    address.is_link_local() || METADATA_V4.contains(&address)
}

/// The IPv4 address embedded in an IPv6 address: compatible (RFC 4291 section 2.5.5.1), NAT64 (RFC 6052), 6to4 (RFC
/// 3056).
fn carried(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let join = |high: u16, low: u16| Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low));
    match address.segments() {
        [0, 0, 0, 0, 0, 0, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => Some(join(high, low)),
        [0x2002, high, low, ..] => Some(join(high, low)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn link_local_and_metadata_addresses_are_recognized_in_every_form() {
        for inside in [
            "169.254.169.254",
            "169.254.0.0",
            "169.254.255.255",
            "::ffff:169.254.169.254",
            "::169.254.169.254",
            "64:ff9b::a9fe:a9fe",
            "2002:a9fe:a9fe::",
            "fe80::1",
            "febf:ffff::1",
            "fd00:ec2::254",
            "fd20:ce::254",
            "100.100.100.200",
            "168.63.129.16",
        ] {
            assert!(is_link_local(inside.parse().unwrap()), "{inside}");
        }
        for outside in [
            "169.253.255.255",
            "169.255.0.0",
            "127.0.0.1",
            "10.0.0.1",
            "::1",
            "fec0::1",
            "fd00:ec2::1",
            "2001:db8::a9fe:a9fe",
            "64:ff9b::808:808",
        ] {
            assert!(!is_link_local(outside.parse().unwrap()), "{outside}");
        }
    }

    #[test]
    fn own_ports_are_recognized_at_every_address_of_the_machine() {
        let local = |address: IpAddr| address.is_loopback() || address == IpAddr::from([192, 0, 2, 1]);
        for (listens, asked, is_own) in [
            ("127.0.0.1:8081", "127.0.0.1:8081", true),
            ("127.0.0.1:8081", "[::ffff:127.0.0.1]:8081", true),
            ("127.0.0.1:8081", "0.0.0.0:8081", true),
            ("127.0.0.1:8081", "[::]:8081", true),
            ("127.0.0.1:8081", "127.0.0.1:8082", false),
            ("127.0.0.1:8081", "192.0.2.1:8081", false),
            ("0.0.0.0:8081", "127.0.0.1:8081", true),
            ("0.0.0.0:8081", "192.0.2.1:8081", true),
            ("0.0.0.0:8081", "192.0.2.2:8081", false),
            ("[::]:8081", "[::1]:8081", true),
            ("[::]:8081", "192.0.2.1:8081", true),
            ("198.51.100.1:8081", "198.51.100.1:8081", true),
        ] {
            let own = OwnPort::new(listens.parse().unwrap(), "the admin port");
            assert_eq!(own.is(asked.parse().unwrap(), local), is_own, "{listens}, {asked}");
        }
    }

    #[test]
    fn addresses_are_sorted_and_share_the_timeout() {
        let parsed = |list: &[&str]| list.iter().map(|one| one.parse().unwrap()).collect::<Vec<SocketAddr>>();
        let answer = parsed(&["[::1]:80", "10.0.0.2:80", "10.0.0.1:80", "[::1]:80", "10.0.0.10:80"]);
        assert_eq!(sorted(answer), parsed(&["10.0.0.1:80", "10.0.0.2:80", "10.0.0.10:80", "[::1]:80"]));
        assert_eq!(time_per_address(Duration::from_secs(1), 4), Duration::from_millis(250));
        assert_eq!(time_per_address(Duration::from_secs(1), 0), Duration::from_secs(1));
    }
}
