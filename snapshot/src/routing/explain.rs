//! Explains a routing decision: the router's choice, and why each other route was not chosen.

use std::fmt;

use super::{HostPattern, Match, PathFault, Request, Router, conditions::Unmet, host, path};

/// The chosen route, and why the others were not chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteExplanation {
    /// The chosen route, as returned by [`Router::find`].
    pub chosen: Result<Option<usize>, PathFault>,
    /// Every other route in the order of the configuration, and why it was not chosen.
    pub passed: Vec<(usize, Mismatch)>,
}

/// Why a route was not chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mismatch {
    /// The route matches only these hosts.
    Host(Vec<HostPattern>),
    /// The request's path does not match.
    Path(path::PathPattern),
    /// The route matches only these methods.
    Method(Vec<Box<str>>),
    /// The request has another scheme.
    Scheme(crate::config::WebScheme),
    /// A header condition does not hold.
    Header(super::HeaderCondition),
    /// The route matches, but the chosen route is more specific or comes first.
    LessSpecific,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |items: Vec<String>| items.join(", ");
        match self {
            Self::Host(hosts) => {
                write!(f, "matches only the host {}", list(hosts.iter().map(ToString::to_string).collect()))
            }
            Self::Path(path) => write!(f, "matches only the path {path}"),
            Self::Method(methods) => {
                write!(
                    f,
                    "matches only the method {}",
                    list(methods.iter().map(ToString::to_string).collect())
                )
            }
            Self::Scheme(scheme) => write!(f, "matches only requests over {}", scheme.name()),
            Self::Header(header) => write!(f, "matches only requests with {header}"),
            Self::LessSpecific => f.write_str("would match, but is less specific or comes later"),
        }
    }
}

/// How specific a match is for a request, then its index; the greatest wins.
pub(super) type Rank = ((u8, usize), (u8, usize), usize, std::cmp::Reverse<usize>);

/// The rank of a route for one reading of a request, or why the route does not match.
pub(super) fn consider(
    place: usize,
    route: &Match,
    request: &impl Request,
    host: Option<&[u8]>,
    path: &[u8],
) -> Result<Rank, Mismatch> {
    let hosts = route.hosts.iter().filter(|pattern| pattern.takes(host));
    let Some(by_host) = hosts.map(HostPattern::rank).max() else {
        return Err(Mismatch::Host(route.hosts.clone()));
    };
    if !route.path.takes(path) {
        return Err(Mismatch::Path(route.path.clone()));
    }
    match route.conditions.unmet(request) {
        Some(Unmet::Method) => Err(Mismatch::Method(route.conditions.methods.clone())),
        Some(Unmet::Scheme(scheme)) => Err(Mismatch::Scheme(scheme)),
        Some(Unmet::Header(header)) => Err(Mismatch::Header(header.clone())),
        None => Ok((by_host, route.path.rank(), route.conditions.count(), std::cmp::Reverse(place))),
    }
}

impl Router {
    /// Returns the chosen route and why the others were not chosen. `routes` must be the routes that the router was
    /// built from.
    pub fn explain<'a>(
        &self,
        request: &impl Request,
        routes: impl IntoIterator<Item = &'a Match>,
    ) -> RouteExplanation {
        let mut lower = Vec::new();
        let host = host::read(request.host(), &mut lower);
        // For a rejected path, the literal reading explains most.
        let path = path::plain(request.path()).unwrap_or(request.path().into());
        let chosen = self.find(request);
        let others = routes.into_iter().enumerate().filter(|(place, _)| chosen != Ok(Some(*place)));
        let passed = others.map(|(place, route)| {
            let why = consider(place, route, request, host, &path).err();
            (place, why.unwrap_or(Mismatch::LessSpecific))
        });
        RouteExplanation { chosen, passed: passed.collect() }
    }
}
