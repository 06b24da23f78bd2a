//! Finds a request its route: the most specific one that takes it.
//!
//! Hosts are looked up in maps, paths in a tree of segments, so that a request costs the same however many routes there
//! are. Of those that take a request the most specific wins: by host (a name before the longest suffix before any), then
//! by path (a whole one before the longest prefix), then by the number of conditions on method, scheme and headers, and last by
//! the order in the configuration. A route that is more specific and does not take the request hides none that does.
//!
//! Nodes and `weir explain` use the same code. It knows no HTTP library: a [`Request`] is what it asks.

mod conditions;
mod explain;
mod host;
mod overlap;
mod path;
mod rewrite;

use rustc_hash::FxHashMap;

use crate::config::WebScheme;

pub(crate) use self::overlap::{Overlap, overlaps};
pub use self::{
    conditions::{Conditions, HeaderCondition, Wanted},
    explain::{Explanation, Passed},
    host::HostPattern,
    path::{PathFault, PathPattern},
    rewrite::PathRewrite,
};

/// What routing asks of a request.
pub trait Request {
    /// The authority that it is for, with or without its port.
    fn host(&self) -> Option<&[u8]>;
    /// Its path as it was sent, without the query.
    fn path(&self) -> &[u8];
    /// Its method.
    fn method(&self) -> &[u8];
    /// How the client came.
    fn scheme(&self) -> WebScheme;
    /// Whether a header of this name, given in lower case, has a line whose value is accepted.
    fn any_header(&self, name: &str, accepts: impl Fn(&[u8]) -> bool) -> bool;
}

/// Which requests a route takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Match {
    /// One of them; never empty.
    pub hosts: Vec<HostPattern>,
    /// The path.
    pub path: PathPattern,
    /// Methods, scheme and headers.
    pub conditions: Conditions,
}

impl Default for Match {
    /// Everything.
    fn default() -> Self {
        Self { hosts: vec![HostPattern::Any], path: PathPattern::Any, conditions: Conditions::default() }
    }
}

impl Match {
    /// Whether it takes every request there is.
    pub fn is_any(&self) -> bool {
        self.hosts.contains(&HostPattern::Any)
            && self.path == PathPattern::Any
            && self.conditions.count() == 0
    }
}

/// All routes, in a form that is quick to search.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Router {
    /// The only route, which takes everything.
    only: Option<usize>,
    exact: FxHashMap<Box<[u8]>, Paths>,
    suffixes: FxHashMap<Box<[u8]>, Paths>,
    /// The labels of the longest suffix.
    labels: usize,
    any: Paths,
    /// Whether any route asks for a path.
    reads_paths: bool,
    /// By route.
    conditions: Vec<Conditions>,
}

/// The routes of one host pattern.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Paths {
    exact: FxHashMap<Box<[u8]>, Vec<usize>>,
    root: Segment,
}

/// The routes whose prefix ends with this segment, in the order in which they are tried, and what goes on behind it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Segment {
    routes: Vec<usize>,
    next: FxHashMap<Box<[u8]>, Segment>,
}

impl Router {
    /// Of routes in the order of the configuration.
    pub fn new<'a>(routes: impl IntoIterator<Item = &'a Match>) -> Self {
        let mut router = Self::default();
        for (route, matches) in routes.into_iter().enumerate() {
            router.only = (route == 0 && matches.is_any()).then_some(0);
            router.reads_paths |= matches.path != PathPattern::Any;
            router.conditions.push(matches.conditions.clone());
            for host in &matches.hosts {
                router.paths(host).at(&matches.path).push(route);
            }
        }
        let Self { exact, suffixes, any, conditions, .. } = &mut router;
        let all = exact.values_mut().chain(suffixes.values_mut()).chain([any]);
        all.for_each(|paths| paths.sort(conditions));
        router
    }

    fn paths(&mut self, host: &HostPattern) -> &mut Paths {
        match host {
            HostPattern::Exact(name) => self.exact.entry(name.as_bytes().into()).or_default(),
            HostPattern::Suffix(suffix) => {
                self.labels = self.labels.max(suffix.split('.').count());
                self.suffixes.entry(suffix.as_bytes().into()).or_default()
            }
            HostPattern::Any => &mut self.any,
        }
    }

    /// The route that takes every request, where it is the only one: then nothing of a request needs to be looked at.
    #[inline]
    pub fn only(&self) -> Option<usize> {
        self.only
    }

    /// The route that takes the request, by its place in the configuration.
    ///
    /// # Errors
    /// A path that servers read in several ways, which lead to different routes.
    pub fn find(&self, request: &impl Request) -> Result<Option<usize>, PathFault> {
        if self.only.is_some() {
            return Ok(self.only);
        }
        let mut buffer = [0; host::LONGEST];
        let host = host::read(request.host(), &mut buffer);
        self.agree(request, |path| self.search(request, host, path))
    }

    /// What all readings of the request's path lead to.
    fn agree(
        &self,
        request: &impl Request,
        search: impl Fn(&[u8]) -> Option<usize>,
    ) -> Result<Option<usize>, PathFault> {
        if !self.reads_paths {
            return Ok(search(b"/"));
        }
        let path = path::plain(request.path())?;
        if path::is_unambiguous(&path) {
            return Ok(search(&path));
        }
        let mut found = None;
        let mut agree = true;
        path::each_reading(&path, |path| {
            let one = search(path);
            agree = *found.get_or_insert(one) == one;
            agree
        })?;
        if agree { Ok(found.flatten()) } else { Err(PathFault::Ambiguous) }
    }

    fn search(&self, request: &impl Request, host: Option<&[u8]>, path: &[u8]) -> Option<usize> {
        let of = |paths: &Paths| paths.find(request, path, &self.conditions);
        if let Some(host) = host {
            if let Some(found) = self.exact.get(host).and_then(of) {
                return Some(found);
            }
            if self.labels > 0 {
                let mut suffixes = host::suffixes(host, self.labels);
                let found = suffixes.find_map(|suffix| self.suffixes.get(suffix).and_then(of));
                if found.is_some() {
                    return found;
                }
            }
        }
        of(&self.any)
    }
}

impl Paths {
    fn at(&mut self, path: &PathPattern) -> &mut Vec<usize> {
        match path {
            PathPattern::Exact(path) => self.exact.entry(path.clone()).or_default(),
            PathPattern::Any => &mut self.root.routes,
            PathPattern::Prefix(prefix) => {
                let mut segment = &mut self.root;
                for name in prefix.split(|byte| *byte == b'/').skip(1) {
                    segment = segment.next.entry(name.into()).or_default();
                }
                &mut segment.routes
            }
        }
    }

    fn sort(&mut self, conditions: &[Conditions]) {
        let order = |routes: &mut Vec<usize>| {
            routes.sort_by_key(|route| std::cmp::Reverse(conditions[*route].count()));
        };
        self.exact.values_mut().for_each(order);
        self.root.sort(&order);
    }

    fn find(&self, request: &impl Request, path: &[u8], conditions: &[Conditions]) -> Option<usize> {
        let holds =
            |routes: &Vec<usize>| routes.iter().copied().find(|route| conditions[*route].hold(request));
        let exact = if self.exact.is_empty() { None } else { self.exact.get(path) };
        exact.and_then(holds).or_else(|| self.root.find(path, &holds))
    }
}

impl Segment {
    fn sort(&mut self, order: &impl Fn(&mut Vec<usize>)) {
        order(&mut self.routes);
        self.next.values_mut().for_each(|segment| segment.sort(order));
    }

    /// As deep as patterns go, which are at most 1,024 bytes long.
    fn find(&self, rest: &[u8], holds: &impl Fn(&Vec<usize>) -> Option<usize>) -> Option<usize> {
        if !self.next.is_empty()
            && let Some(rest) = rest.strip_prefix(b"/")
        {
            let end = rest.iter().position(|byte| *byte == b'/').unwrap_or(rest.len());
            let deeper = self.next.get(&rest[..end]).and_then(|segment| segment.find(&rest[end..], holds));
            if deeper.is_some() {
                return deeper;
            }
        }
        holds(&self.routes)
    }
}

#[cfg(test)]
mod tests;
