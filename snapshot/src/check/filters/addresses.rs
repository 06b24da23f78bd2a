//! Checks allowed and denied client addresses.

use std::{collections::HashMap, net::IpAddr, sync::Arc};

use ipnet::{IpNet, Ipv4Net};

use crate::{config, problem::Problems, snapshot::IpRules};

/// Checks allowed and denied client addresses.
pub(in crate::check) fn ip(filter: &config::IpFilter, path: &str, problems: &mut Problems) -> Arc<IpRules> {
    let mut seen: HashMap<IpNet, bool> = HashMap::with_capacity(filter.allow.len() + filter.deny.len());
    let mut prefixes = Vec::with_capacity(filter.allow.len() + filter.deny.len());
    let lists = [("allow", &filter.allow, true), ("deny", &filter.deny, false)];
    for (list, i, text, allow) in lists.iter().flat_map(|(list, texts, allow)| {
        texts.iter().enumerate().map(move |(i, text)| (list, i, text, *allow))
    }) {
        let place = || format!("{path}.{list}[{i}]");
        match prefix(text) {
            Err(message) => problems.add(place(), message),
            Ok(net) => match seen.insert(net, allow) {
                None => prefixes.push((net, allow)),
                Some(before) if before == allow => problems.add(place(), format!("duplicate prefix {net}")),
                Some(_) => {
                    problems.add(place(), format!("{net} is both allowed and denied"));
                }
            },
        }
    }
    if filter.allow.is_empty() && filter.deny.is_empty() {
        problems.add(path, "allow and deny are both empty: expected at least one prefix");
    }
    Arc::new(IpRules::new(&prefixes, filter.allow.is_empty()))
}

/// Parses a prefix or a single address. IPv4-mapped IPv6 becomes IPv4.
fn prefix(text: &str) -> Result<IpNet, String> {
    let wrong =
        || format!("{text:?} is not a prefix (expected for example 10.0.0.0/8, 2001:db8::/32 or 192.0.2.7)");
    let net = match text.parse::<IpAddr>() {
        Ok(address) => IpNet::from(address),
        Err(_) => text.parse::<IpNet>().map_err(|_| wrong())?,
    };
    if net.trunc() != net {
        return Err(format!("{text:?} has host bits set; the network is {}", net.trunc()));
    }
    if let IpNet::V6(v6) = net
        && v6.prefix_len() >= 96
        && let Some(v4) = v6.addr().to_ipv4_mapped()
    {
        return Ipv4Net::new(v4, v6.prefix_len() - 96).map(IpNet::V4).map_err(|_| wrong());
    }
    Ok(net)
}
