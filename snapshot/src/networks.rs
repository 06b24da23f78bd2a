//! Sets of networks with binary search.

use std::net::IpAddr;

use ipnet::IpNet;

/// A set of networks. An IPv4 address equals its IPv4-mapped IPv6 address.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Networks {
    /// Inclusive, sorted, disjoint.
    ranges: Vec<(u128, u128)>,
}

/// The range of IPv4-mapped IPv6 addresses.
const MAPPED: (u128, u128) = (0xffff_0000_0000, 0xffff_ffff_ffff);

impl Networks {
    /// Builds the set of all addresses of these networks.
    pub fn new(networks: impl IntoIterator<Item = IpNet>) -> Self {
        let mut ranges: Vec<(u128, u128)> = Vec::new();
        for network in networks {
            let (first, last) = (number(network.network()), number(network.broadcast()));
            // `::/0` does not include IPv4.
            if network.prefix_len() < 96
                && first <= MAPPED.0
                && last >= MAPPED.1
                && matches!(network, IpNet::V6(_))
            {
                ranges.extend([(first, MAPPED.0 - 1), (MAPPED.1 + 1, last)]);
            } else {
                ranges.push((first, last));
            }
        }
        ranges.sort_unstable();
        let mut merged: Vec<(u128, u128)> = Vec::with_capacity(ranges.len());
        for (first, last) in ranges {
            match merged.last_mut() {
                Some(previous) if first <= previous.1.saturating_add(1) => previous.1 = previous.1.max(last),
                _ => merged.push((first, last)),
            }
        }
        Self { ranges: merged }
    }

    /// Whether the set contains no address.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// Whether the set contains the address.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = number(address);
        let at = self.ranges.partition_point(|(_, last)| *last < address);
        self.ranges.get(at).is_some_and(|(first, _)| *first <= address)
    }
}

fn number(address: IpAddr) -> u128 {
    let address = match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    };
    address.to_bits()
}

/// Parses `10.0.0.0/8` or a single address.
pub(crate) fn parse(text: &str) -> Result<IpNet, String> {
    let wrong =
        || format!("{text:?} is neither a network nor an address (expected for example 10.0.0.0/8 or ::1)");
    match text.parse::<IpNet>() {
        Ok(network) => Ok(network),
        Err(_) => text.parse::<IpAddr>().map(IpNet::from).map_err(|_| wrong()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn networks(all: &[&str]) -> Networks {
        Networks::new(all.iter().map(|text| parse(text).unwrap()))
    }

    fn has(networks: &Networks, address: &str) -> bool {
        networks.contains(address.parse().unwrap())
    }

    #[test]
    fn mapped_addresses_equal_ipv4_addresses() {
        let some = networks(&["10.0.0.0/8", "192.0.2.7", "2001:db8::/32", "::ffff:198.51.100.0/120"]);
        for inside in
            ["10.0.0.0", "10.255.255.255", "::ffff:10.1.2.3", "192.0.2.7", "2001:db8::1", "198.51.100.9"]
        {
            assert!(has(&some, inside), "{inside}");
        }
        for outside in [
            "9.255.255.255",
            "11.0.0.0",
            "192.0.2.8",
            "2001:db9::",
            "::",
            "::1",
            "::10.0.0.1",
            "198.51.101.0",
        ] {
            assert!(!has(&some, outside), "{outside}");
        }
        assert!(!has(&Networks::default(), "127.0.0.1"));
        let six = networks(&["::/0"]);
        assert!(has(&six, "::1") && has(&six, "2001:db8::1") && !has(&six, "10.0.0.1"));
        let four = networks(&["0.0.0.0/0"]);
        assert!(!has(&four, "::1") && has(&four, "10.0.0.1"));
        for wrong in ["", "10.0.0.0/33", "10.0.0/8", "a", "10.0.0.1-10.0.0.9", "::/129"] {
            assert!(parse(wrong).unwrap_err().contains("neither"), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn the_search_agrees_with_a_linear_scan(
            nets in prop::collection::vec((any::<[u8; 4]>(), 0..=32_u8), 0..30),
            address in any::<[u8; 4]>(),
        ) {
            let nets: Vec<IpNet> =
                nets.iter().map(|(address, length)| IpNet::new((*address).into(), *length).unwrap()).collect();
            let address = IpAddr::from(address);
            let expected = nets.iter().any(|net| net.contains(&address));
            prop_assert_eq!(Networks::new(nets.clone()).contains(address), expected);
            let mapped = match address {
                IpAddr::V4(address) => address.to_ipv6_mapped().into(),
                IpAddr::V6(_) => address,
            };
            prop_assert_eq!(Networks::new(nets).contains(mapped), expected);
        }
    }
}
