//! Finds the route of a request: the most specific route that matches.
//!
//! Hosts and paths are looked up in hash tables, so a lookup costs nearly the same however many routes there are. The
//! most specific matching route wins: by host (a name, then the longest suffix, then any), then by path (an exact
//! path, then the longest prefix), then by the number of conditions on method, scheme and headers, and finally by the
//! order in the configuration. A more specific route that does not match never hides one that does.
//!
//! Nodes and `weir explain` use the same code. It depends on no HTTP library: requests implement [`Request`].

mod build;
mod conditions;
mod counts;
mod explain;
mod host;
mod overlap;
mod path;
mod readings;
mod rewrite;
#[cfg(any(test, fuzzing))]
pub(crate) mod scan;
mod table;

use crate::config::WebScheme;

use self::{counts::Counts, table::Table};

pub use self::{
    conditions::{Conditions, HeaderCondition, Wanted},
    explain::{Mismatch, RouteExplanation},
    host::HostPattern,
    path::{PathFault, PathPattern},
    rewrite::PathRewrite,
};
pub(crate) use self::{
    overlap::{Overlap, overlaps},
    rewrite::check_rewritten,
};

/// The properties of a request that routing needs.
pub trait Request {
    /// The authority, with or without a port.
    fn host(&self) -> Option<&[u8]>;
    /// The path as it was sent, without the query.
    fn path(&self) -> &[u8];
    /// The method.
    fn method(&self) -> &[u8];
    /// The scheme.
    fn scheme(&self) -> WebScheme;
    /// Whether a header of this name (in lower case) has a line whose value `accepts` returns true for.
    fn any_header(&self, name: &str, accepts: impl Fn(&[u8]) -> bool) -> bool;
}

/// The match conditions of a route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Match {
    /// Host patterns, one of which must match; never empty.
    pub hosts: Vec<HostPattern>,
    /// The path pattern.
    pub path: PathPattern,
    /// Conditions on method, scheme and headers.
    pub conditions: Conditions,
}

impl Default for Match {
    /// Matches every request.
    fn default() -> Self {
        Self { hosts: vec![HostPattern::Any], path: PathPattern::Any, conditions: Conditions::default() }
    }
}

impl Match {
    /// True if every request matches.
    pub fn is_any(&self) -> bool {
        self.hosts.contains(&HostPattern::Any)
            && self.path == PathPattern::Any
            && self.conditions.count() == 0
    }
}

/// All routes, in a form that is fast to search: the data of one lookup lies close together in a few flat lists that
/// refer to each other by index.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Router {
    /// The only route, if it matches everything.
    only: Option<usize>,
    /// Whether any route has a path condition.
    reads_paths: bool,
    /// Whether any route names an exact host.
    names_hosts: bool,
    /// The numbers of labels that suffixes have.
    labels: Counts,
    /// The routes for any host.
    any: Host,
    /// Finds hosts by name, and suffixes with their leading dot.
    by_host: Table,
    hosts: Box<[Host]>,
    /// Finds paths of hosts with many paths.
    by_path: Table,
    /// The paths of each host, grouped by host, in the order in which they are tried.
    paths: Box<[Path]>,
    /// Grouped by path, in the order in which they are tried: the routes of paths with several routes or with
    /// conditions.
    candidates: Box<[u32]>,
    /// Names and paths.
    text: Box<[u8]>,
    /// Indexed by route.
    conditions: Vec<Conditions>,
}

/// A host pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Host {
    name: Text,
    paths: Places,
    /// True if one of its paths is exact.
    has_exact: bool,
    /// The numbers of segments that its prefixes have.
    depths: Counts,
}

/// A path pattern of one host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Path {
    text: Text,
    is_exact: bool,
    takers: Takers,
}

/// The routes of one host and path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Takers {
    /// One route without conditions, the usual case.
    One(u32),
    /// A range in the list of candidates.
    Several(Places),
}

/// A piece of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Text {
    at: u32,
    length: u16,
}

/// A range of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Places {
    from: u32,
    to: u32,
}

impl Places {
    fn of<T>(self, list: &[T]) -> &[T] {
        &list[self.from as usize..self.to as usize]
    }
}

/// Hosts with at most this many paths are searched linearly instead of by hash.
const FEW: usize = 4;

impl Router {
    /// Returns the route that matches every request if it is the only route: then nothing of a request needs to be
    /// looked up.
    #[inline]
    pub fn only(&self) -> Option<usize> {
        self.only
    }

    /// Returns the index of the matching route.
    ///
    /// # Errors
    /// An ambiguous path: servers interpret it differently, and its readings match different routes.
    pub fn find(&self, request: &impl Request) -> Result<Option<usize>, PathFault> {
        if self.only.is_some() {
            return Ok(self.only);
        }
        let mut lower = Vec::new();
        let host = host::read(request.host(), &mut lower);
        self.agree(request, |path| self.search(request, host, path))
    }

    /// Returns the route that all readings of the path match.
    fn agree(
        &self,
        request: &impl Request,
        search: impl Fn(&[u8]) -> Option<usize>,
    ) -> Result<Option<usize>, PathFault> {
        let path = if self.reads_paths { request.path() } else { b"/" };
        if path::is_simple(path) {
            return Ok(search(path));
        }
        let path = path::plain(path)?;
        if path::is_unambiguous(&path) {
            return Ok(search(&path));
        }
        let mut found = None;
        let mut agree = true;
        readings::each_reading(&path, |path| {
            let one = search(path);
            agree = *found.get_or_insert(one) == one;
            agree
        })?;
        if agree { Ok(found.flatten()) } else { Err(PathFault::Ambiguous) }
    }

    fn search(&self, request: &impl Request, host: Option<&[u8]>, path: &[u8]) -> Option<usize> {
        let at = |host: &Host| self.search_host(request, host, path);
        if let Some(host) = host {
            let named = |name| Some(&self.hosts[self.place_of(name)?]);
            // Keys that start with a dot are suffixes in the table, not names.
            if self.names_hosts
                && !host.starts_with(b".")
                && let Some(found) = named(host).and_then(at)
            {
                return Some(found);
            }
            let found = host::suffixes(host, self.labels).find_map(|suffix| named(suffix).and_then(at));
            if found.is_some() {
                return found;
            }
        }
        at(&self.any)
    }

    fn place_of(&self, name: &[u8]) -> Option<usize> {
        self.by_host.find(0, name, |place| self.text(self.hosts[place].name) == name)
    }

    fn search_host(&self, request: &impl Request, host: &Host, path: &[u8]) -> Option<usize> {
        let taken_by = |found: &Path| self.taken_by(request, found.takers);
        let paths = host.paths.of(&self.paths);
        if paths.len() <= FEW {
            let takes = |one: &&Path| path::takes(self.text(one.text), one.is_exact, path);
            return paths.iter().filter(takes).find_map(taken_by);
        }
        let at = |is_exact, path: &[u8]| {
            let place = self.by_path.find(build::scope(host.paths, is_exact), path, |place| {
                let one = &self.paths[place];
                (host.paths.from..host.paths.to).contains(&(place as u32))
                    && one.is_exact == is_exact
                    && self.text(one.text) == path
            })?;
            taken_by(&self.paths[place])
        };
        let exact = if host.has_exact { at(true, path) } else { None };
        exact.or_else(|| path::prefixes(path, host.depths).find_map(|prefix| at(false, prefix)))
    }

    fn taken_by(&self, request: &impl Request, takers: Takers) -> Option<usize> {
        match takers {
            Takers::One(route) => Some(route as usize),
            Takers::Several(places) => {
                let mut routes = places.of(&self.candidates).iter().map(|route| *route as usize);
                routes.find(|route| self.conditions[*route].hold(request))
            }
        }
    }

    fn text(&self, text: Text) -> &[u8] {
        &self.text[text.at as usize..][..text.length.into()]
    }
}

#[cfg(test)]
mod tests;
