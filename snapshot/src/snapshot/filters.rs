//! Checked filters of a route: see [`Filters`].

use std::{collections::BTreeMap, net::IpAddr, sync::Arc, time::Duration};

use crate::config::{RateKey, RateScope};

/// The filters of a route, in the order of their evaluation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filters {
    /// The fleet's and the route's rules; both must allow an address.
    pub ip: Vec<Arc<IpRules>>,
    /// Allowed methods; empty: all.
    pub methods: Vec<Arc<str>>,
    /// Request limit per client.
    pub rate_limit: Option<RateLimit>,
    /// Requires a user name and a password.
    pub basic_auth: Option<BasicAuth>,
    /// Requires a signed token.
    pub jwt: Option<Jwt>,
}

/// A rate limit: `requests` per `per`, with bursts of `burst`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RateLimit {
    /// At least 1.
    pub requests: u32,
    /// One second to one day.
    pub per: Duration,
    /// At least 1.
    pub burst: u32,
    /// For a limit by header: values unknown to the node that one address may send per `per`; at least 1.
    pub new_values: u32,
    /// Which requests share the limit.
    pub key: RateKey,
    /// Per node or for the whole fleet.
    pub scope: RateScope,
}

/// User names with hashed passwords.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BasicAuth {
    /// Contains neither quotes nor control characters.
    pub realm: Arc<str>,
    /// Password hashes by user name; at least one. Each is a bcrypt or argon2 hash of bounded cost.
    pub users: BTreeMap<Arc<str>, Arc<str>>,
    /// In lower case.
    pub user_header: Arc<str>,
    /// Whether the backend also gets the password.
    pub keep_authorization: bool,
}

/// Requirements on a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Jwt {
    /// Required issuer.
    pub issuer: Arc<str>,
    /// Accepted audiences; at least one.
    pub audience: Vec<Arc<str>>,
    /// A JSON Web Key Set of public keys, each usable with one of `algorithms`.
    pub jwks: Arc<str>,
    /// Names of asymmetric algorithms; at least one.
    pub algorithms: Vec<Arc<str>>,
    /// Header with the token, in lower case.
    pub header: Arc<str>,
    /// Cookie with the token, used if the header is absent.
    pub cookie: Option<Arc<str>>,
    /// Claims and the headers, in lower case, in which the backend gets them.
    pub claims_to_headers: Vec<(Arc<str>, Arc<str>)>,
    /// Tolerated clock difference.
    pub leeway: Duration,
    /// Whether the backend also gets the token.
    pub keep_authorization: bool,
}

impl Jwt {
    /// Limit on cookies of the configured name; a request with more is rejected. Each one costs a signature check.
    pub const MAX_COOKIES: usize = 4;
}

/// Allowed client addresses: for each address the longest matching prefix decides.
///
/// Prefixes are flattened into disjoint ranges, so that a lookup is one binary search however many prefixes there are
/// and however they nest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IpRules {
    v4: Ranges<u32>,
    v6: Ranges<u128>,
}

impl IpRules {
    /// Builds rules from prefixes, each with whether it allows. `default` applies to addresses that match no prefix.
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

    /// Whether the address is allowed. An IPv4-mapped IPv6 address counts as IPv4.
    pub fn allows(&self, address: IpAddr) -> bool {
        match address.to_canonical() {
            IpAddr::V4(address) => self.v4.allows(address.into()),
            IpAddr::V6(address) => self.v6.allows(address.into()),
        }
    }
}

/// Boundaries at which the verdict flips: `starts[0]` is 0, and each range has the opposite verdict of the one before
/// it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Ranges<T> {
    starts: Vec<T>,
    first: bool,
}

impl<T: Copy + Ord + Default> Ranges<T> {
    /// Builds ranges from prefixes as first address, last address and verdict. Two prefixes are always nested or
    /// disjoint.
    fn new(mut prefixes: Vec<(T, T, bool)>, default: bool, end: T, next: impl Fn(T) -> T) -> Self {
        // Outer prefixes come before inner ones.
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
        // The first start is the smallest address, so at least one start is not greater.
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
    fn rules_may_allow_everything_or_nothing() {
        let all = rules(&[("0.0.0.0/0", false), ("::/0", false)], true);
        assert!(!all.allows("1.2.3.4".parse().unwrap()) && !all.allows("::1".parse().unwrap()));
        let none = rules(&[], true);
        assert!(none.allows("1.2.3.4".parse().unwrap()) && none.allows("::1".parse().unwrap()));
    }

    proptest! {
        #[test]
        fn the_search_agrees_with_a_linear_scan(
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
