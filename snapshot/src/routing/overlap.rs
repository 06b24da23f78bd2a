//! Routes that never match, because other routes match all their requests first.

use rustc_hash::FxHashMap;

use super::{Conditions, HeaderCondition, HostPattern, Match, PathPattern};
use crate::config::WebScheme;

/// A route that is hidden for some of its hosts by another route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Overlap {
    /// The route that never matches there.
    pub(crate) hidden: usize,
    /// The route that matches first.
    pub(crate) by: usize,
    /// The hosts concerned; empty: all hosts of the route.
    pub(crate) hosts: Vec<HostPattern>,
}

/// Returns every route that others hide, completely or for some hosts, in the order of the configuration.
///
/// More specific routes are tried first, so a route can only be hidden by earlier routes with the same host pattern,
/// path, scheme and headers that match all its methods.
pub(crate) fn overlaps<'a>(routes: impl IntoIterator<Item = &'a Match>) -> Vec<Overlap> {
    type Place<'a> = (&'a HostPattern, &'a PathPattern, Option<WebScheme>, &'a [HeaderCondition]);
    /// A route and its methods.
    type Seen<'a> = (usize, &'a [Box<str>]);
    let mut seen: FxHashMap<Place<'_>, Vec<Seen<'_>>> = FxHashMap::default();
    let mut found = Vec::new();
    for (route, matches) in routes.into_iter().enumerate() {
        let Conditions { methods, scheme, headers } = &matches.conditions;
        let methods = methods.as_slice();
        let mut hidden: Vec<(usize, HostPattern)> = Vec::new();
        for host in &matches.hosts {
            let earlier = seen.entry((host, &matches.path, *scheme, headers)).or_default();
            // A route for all methods is less specific than one for some methods, and hides only other routes for all
            // methods.
            let like = earlier.iter().filter(|(_, others)| others.is_empty() == methods.is_empty());
            if methods.iter().all(|method| like.clone().any(|(_, others)| others.contains(method)))
                && let Some((by, _)) = like.clone().find(|(_, others)| {
                    methods.is_empty() || methods.iter().any(|method| others.contains(method))
                })
                && *by != route
            {
                hidden.push((*by, host.clone()));
            }
            earlier.push((route, methods));
        }
        let is_whole = hidden.len() == matches.hosts.len();
        match hidden.first() {
            Some((by, _)) if is_whole => found.push(Overlap { hidden: route, by: *by, hosts: Vec::new() }),
            _ => {
                for (by, host) in hidden {
                    found.push(Overlap { hidden: route, by, hosts: vec![host] });
                }
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::Wanted;
    use super::*;

    fn route(hosts: &[&str], path: &str, methods: &[&str], header: Option<&str>) -> Match {
        let headers =
            header.map(|value| HeaderCondition { name: "x".into(), wanted: Wanted::Value(value.into()) });
        Match {
            hosts: hosts.iter().map(|host| HostPattern::parse(host).unwrap()).collect(),
            path: PathPattern::parse(path, false).unwrap(),
            conditions: Conditions {
                methods: methods.iter().map(|method| Box::from(*method)).collect(),
                scheme: None,
                headers: headers.into_iter().collect(),
            },
        }
    }

    fn hidden(routes: &[Match]) -> Vec<(usize, usize, usize)> {
        overlaps(routes).iter().map(|one| (one.hidden, one.by, one.hosts.len())).collect()
    }

    #[test]
    fn a_route_behind_an_equal_one_is_hidden() {
        let any = || route(&["*"], "/", &[], None);
        assert_eq!(hidden(&[any(), any(), any()]), [(1, 0, 0), (2, 0, 0)]);
        let a = |methods: &[&str]| route(&["a"], "/x", methods, None);
        assert_eq!(hidden(&[a(&["GET", "POST"]), a(&["GET"])]), [(1, 0, 0)]);
        assert_eq!(hidden(&[a(&["GET"]), a(&["GET", "POST"])]), []);
        assert_eq!(hidden(&[a(&["GET"]), a(&["POST"]), a(&["POST", "GET"])]), [(2, 0, 0)]);
        assert_eq!(hidden(&[a(&[]), a(&["GET"])]), [], "more conditions go first");
        let by_header = |value| route(&["a"], "/x", &[], Some(value));
        assert_eq!(hidden(&[by_header("1"), by_header("2"), by_header("1"), a(&[])]), [(2, 0, 0)]);
    }

    #[test]
    fn routes_with_another_host_or_path_hide_nothing() {
        let routes = [
            route(&["*"], "/", &[], None),
            route(&["*.a"], "/", &[], None),
            route(&["b.a"], "/", &[], None),
            route(&["b.a"], "/x", &[], None),
        ];
        assert_eq!(hidden(&routes), []);
    }

    #[test]
    fn a_route_can_be_hidden_for_some_of_its_hosts() {
        let routes = [route(&["a"], "/", &[], None), route(&["a", "b"], "/", &[], None)];
        assert_eq!(hidden(&routes), [(1, 0, 1)]);
        let routes = [routes[0].clone(), route(&["b"], "/", &[], None), routes[1].clone()];
        assert_eq!(hidden(&routes), [(2, 0, 0)]);
        assert_eq!(
            hidden(&[route(&["a", "a"], "/", &[], None)]),
            [],
            "duplicate hosts are a separate problem"
        );
    }
}
