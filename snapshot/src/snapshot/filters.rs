//! What a route asks of a request, checked: see [`Filters`].

use std::{collections::BTreeMap, net::IpAddr, sync::Arc, time::Duration};

use crate::config::{RateKey, RateScope};

/// The filters of a route, in the order in which they are asked: addresses, methods, rate, password, token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filters {
    /// The fleet's and the route's; both must take an address.
    pub ip: Vec<Arc<IpRules>>,
    /// The methods that are taken; empty: all.
    pub methods: Vec<Arc<str>>,
    /// How often who may ask.
    pub rate_limit: Option<RateLimit>,
    /// Asks for a name and a password.
    pub basic_auth: Option<BasicAuth>,
    /// Asks for a token.
    pub jwt: Option<Jwt>,
}

/// A rate: `requests` in `per`, `burst` of them at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RateLimit {
    /// At least 1.
    pub requests: u32,
    /// A second to a day.
    pub per: Duration,
    /// At least 1.
    pub burst: u32,
    /// Of a limit by header: unknown values of one address in `per`, at least 1.
    pub new_values: u32,
    /// Who shares it.
    pub key: RateKey,
    /// Where it counts.
    pub scope: RateScope,
}

/// Names with hashed passwords.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BasicAuth {
    /// Has neither quotes nor controls.
    pub realm: Arc<str>,
    /// By name; at least one. Each is a bcrypt or argon2 hash of bearable cost.
    pub users: BTreeMap<Arc<str>, Arc<str>>,
    /// In lower case.
    pub user_header: Arc<str>,
    /// Whether the backend gets the password too.
    pub keep_authorization: bool,
}

/// What a token must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Jwt {
    /// What issued it.
    pub issuer: Arc<str>,
    /// Whom it is for; at least one.
    pub audience: Vec<Arc<str>>,
    /// A JSON Web Key Set of public keys, each good for one of `algorithms`.
    pub jwks: Arc<str>,
    /// Names of asymmetric algorithms; at least one.
    pub algorithms: Vec<Arc<str>>,
    /// In lower case.
    pub header: Arc<str>,
    /// Where else it may be.
    pub cookie: Option<Arc<str>>,
    /// Claims and the headers, in lower case, that tell of them.
    pub claims_to_headers: Vec<(Arc<str>, Arc<str>)>,
    /// So much may clocks differ.
    pub leeway: Duration,
    /// Whether the backend gets the token too.
    pub keep_authorization: bool,
}

impl Jwt {
    /// Cookies of the configured name that are tried; a request with more of them is refused. Each costs a signature check.
    pub const MAX_COOKIES: usize = 4;
}

/// Whose requests are taken: for each address the longest prefix decides.
///
/// Prefixes are flattened into ranges that do not overlap, so that an address costs one binary search however many
/// prefixes there are and however they nest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IpRules {
    v4: Ranges<u32>,
    v6: Ranges<u128>,
}

impl IpRules {
    /// Rules from prefixes and whether each allows. `default`: whether an address is taken that no prefix holds.
    pub(crate) fn new(prefixes: &[(ipnet::IpNet, bool)], default: bool) -> Self {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for (prefix, allow) in prefixes {
            match prefix {
                ipnet::IpNet::V4(net) => v4.push((net.network().into(), net.broadcast().into(), *allow)),
                ipnet::IpNet::V6(net) => v6.push((net.network().into(), net.broadcast().into(), *allow)),
            }
        }
        Self {
            v4: Ranges::new(v4, default, u32::MAX, |n| n + 1),
            v6: Ranges::new(v6, default, u128::MAX, |n| n + 1),
        }
    }

    /// Whether the address is taken. An IPv4 address that came mapped into IPv6 is an IPv4 address.
    pub fn allows(&self, address: IpAddr) -> bool {
        match address.to_canonical() {
            IpAddr::V4(address) => self.v4.allows(address.into()),
            IpAddr::V6(address) => self.v6.allows(address.into()),
        }
    }
}

/// Where the answer changes: `starts[0]` is 0, and each range has the opposite answer of the one before it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Ranges<T> {
    starts: Vec<T>,
    first: bool,
}

impl<T: Copy + Ord + Default> Ranges<T> {
    /// From prefixes as first address, last address and answer; of two prefixes one holds the other, or they are apart.
    fn new(mut prefixes: Vec<(T, T, bool)>, default: bool, end: T, next: impl Fn(T) -> T) -> Self {
        // What holds others comes before them.
        prefixes.sort_unstable_by(|a, b| a.0.cmp(&b.0).then(b.1.cmp(&a.1)));
        let mut ranges = vec![(T::default(), default)];
        let mut begin = |at: T, allow: bool| {
            match ranges.last_mut() {
                Some(last) if last.0 == at => last.1 = allow,
                _ => ranges.push((at, allow)),
            }
            if let [.., before, last] = ranges[..]
                && before.1 == last.1
            {
                ranges.pop();
            }
        };
        let mut open: Vec<(T, bool)> = Vec::new();
        let outer = |open: &[(T, bool)]| open.last().map_or(default, |(_, allow)| *allow);
        for (first, last, allow) in prefixes {
            while let Some((ended, _)) = open.pop_if(|(ends, _)| *ends < first) {
                begin(next(ended), outer(&open));
            }
            begin(first, allow);
            open.push((last, allow));
        }
        while let Some((ended, _)) = open.pop() {
            if ended < end {
                begin(next(ended), outer(&open));
            }
        }
        Self { first: ranges[0].1, starts: ranges.into_iter().map(|(at, _)| at).collect() }
    }

    fn allows(&self, address: T) -> bool {
        // The first start is the least address, so there is always one that is not beyond it.
        let index = self.starts.partition_point(|start| *start <= address) - 1;
        self.first ^ (index % 2 == 1)
    }
}

#[cfg(test)]
mod tests {
    use ipnet::IpNet;
    use proptest::prelude::*;

    use super::*;

    fn rules(list: &[(&str, bool)], default: bool) -> IpRules {
        let prefixes: Vec<(IpNet, bool)> =
            list.iter().map(|(text, allow)| (text.parse().unwrap(), *allow)).collect();
        IpRules::new(&prefixes, default)
    }

    #[test]
    fn the_longest_prefix_decides() {
        let rules = rules(
            &[
                ("10.0.0.0/8", true),
                ("10.6.0.0/16", false),
                ("10.6.6.0/24", true),
                ("10.6.6.6/32", false),
                ("255.255.255.255/32", true),
                ("2001:db8::/32", true),
                ("2001:db8:dead::/48", false),
            ],
            false,
        );
        for (address, allowed) in [
            ("9.255.255.255", false),
            ("10.0.0.0", true),
            ("10.6.0.0", false),
            ("10.6.5.255", false),
            ("10.6.6.0", true),
            ("10.6.6.5", true),
            ("10.6.6.6", false),
            ("10.6.6.7", true),
            ("10.6.6.255", true),
            ("10.6.7.0", false),
            ("10.7.0.0", true),
            ("10.255.255.255", true),
            ("11.0.0.0", false),
            ("255.255.255.255", true),
            ("0.0.0.0", false),
            ("::ffff:10.1.2.3", true),
            ("::ffff:10.6.6.6", false),
            ("2001:db8::1", true),
            ("2001:db8:dead::1", false),
            ("2001:db8:deae::", true),
            ("::", false),
            ("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", false),
        ] {
            assert_eq!(rules.allows(address.parse().unwrap()), allowed, "{address}");
        }
    }

    #[test]
    fn everything_and_nothing() {
        let all = rules(&[("0.0.0.0/0", false), ("::/0", false)], true);
        assert!(!all.allows("1.2.3.4".parse().unwrap()) && !all.allows("::1".parse().unwrap()));
        let none = rules(&[], true);
        assert!(none.allows("1.2.3.4".parse().unwrap()) && none.allows("::1".parse().unwrap()));
    }

    proptest! {
        #[test]
        fn it_says_what_a_scan_says(
            // Few bits, so that prefixes nest.
            prefixes in proptest::collection::vec((0u8..16, 28u8..=32, any::<bool>()), 0..12),
            default: bool,
        ) {
            let mut nets: Vec<(IpNet, bool)> = Vec::new();
            for (host, length, allow) in prefixes {
                let net = IpNet::new(std::net::Ipv4Addr::new(10, 0, 0, host).into(), length).unwrap().trunc();
                if nets.iter().all(|(seen, _)| *seen != net) {
                    nets.push((net, allow));
                }
            }
            let rules = IpRules::new(&nets, default);
            for host in 0..32 {
                let address: IpAddr = std::net::Ipv4Addr::new(10, 0, 0, host).into();
                let longest = nets.iter().filter(|(net, _)| net.contains(&address)).max_by_key(|(net, _)| net.prefix_len());
                prop_assert_eq!(rules.allows(address), longest.map_or(default, |(_, allow)| *allow));
            }
        }
    }
}
