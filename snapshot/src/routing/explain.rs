//! Why a request goes where it goes: the router's own choice, and what kept each other route from being it.

use std::fmt;

use super::{HostPattern, Match, PathFault, Request, Router, conditions::Unmet, host, path};

/// The answer to "where does this request go, and why not there?".
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// The route that takes it, as [`Router::find`] says.
    pub chosen: Result<Option<usize>, PathFault>,
    /// Every other route, in the order of the configuration, and what passed it over.
    pub passed: Vec<(usize, Passed)>,
}

/// What passed a route over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Passed {
    /// None of its hosts is the request's.
    Host(Vec<HostPattern>),
    /// Its path is another one.
    Path(path::PathPattern),
    /// Its methods are others.
    Method(Vec<Box<str>>),
    /// It takes requests that come another way.
    Scheme(crate::config::WebScheme),
    /// A header is not as it asks for.
    Header(super::HeaderCondition),
    /// It would take the request, but the chosen one asks for more, or comes first.
    LessSpecific,
}

impl fmt::Display for Passed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |items: Vec<String>| items.join(", ");
        match self {
            Self::Host(hosts) => {
                write!(f, "takes the host {}", list(hosts.iter().map(ToString::to_string).collect()))
            }
            Self::Path(path) => write!(f, "takes the path {path}"),
            Self::Method(methods) => {
                write!(f, "takes the method {}", list(methods.iter().map(ToString::to_string).collect()))
            }
            Self::Scheme(scheme) => write!(f, "takes requests by {}", scheme.name()),
            Self::Header(header) => write!(f, "takes requests with {header}"),
            Self::LessSpecific => f.write_str("would take it, but is less specific or comes later"),
        }
    }
}

/// How specific a match is for a request, and last its place: what is greater wins.
pub(super) type Rank = ((u8, usize), (u8, usize), usize, std::cmp::Reverse<usize>);

/// What a route makes of one reading of a request: its rank, or what keeps it from taking the request.
pub(super) fn consider(
    place: usize,
    route: &Match,
    request: &impl Request,
    host: Option<&[u8]>,
    path: &[u8],
) -> Result<Rank, Passed> {
    let hosts = route.hosts.iter().filter(|pattern| pattern.takes(host));
    let Some(by_host) = hosts.map(HostPattern::rank).max() else {
        return Err(Passed::Host(route.hosts.clone()));
    };
    if !route.path.takes(path) {
        return Err(Passed::Path(route.path.clone()));
    }
    match route.conditions.unmet(request) {
        Some(Unmet::Method) => Err(Passed::Method(route.conditions.methods.clone())),
        Some(Unmet::Scheme(scheme)) => Err(Passed::Scheme(scheme)),
        Some(Unmet::Header(header)) => Err(Passed::Header(header.clone())),
        None => Ok((by_host, route.path.rank(), route.conditions.count(), std::cmp::Reverse(place))),
    }
}

impl Router {
    /// Where a request goes, and what passed the other routes over. `routes` are those that the router was made of.
    pub fn explain<'a>(
        &self,
        request: &impl Request,
        routes: impl IntoIterator<Item = &'a Match>,
    ) -> Explanation {
        let mut lower = Vec::new();
        let host = host::read(request.host(), &mut lower);
        // Of a path that is refused, the literal reading says most.
        let path = path::plain(request.path()).unwrap_or(request.path().into());
        let chosen = self.find(request);
        let others = routes.into_iter().enumerate().filter(|(place, _)| chosen != Ok(Some(*place)));
        let passed = others.map(|(place, route)| {
            let why = consider(place, route, request, host, &path).err();
            (place, why.unwrap_or(Passed::LessSpecific))
        });
        Explanation { chosen, passed: passed.collect() }
    }
}
