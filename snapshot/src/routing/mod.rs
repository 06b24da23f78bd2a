//! Finds a request its route: the most specific one that takes it.
//!
//! Hosts and paths are looked up by hash, so that a request costs nearly the same however many routes there are. Of those that take a request the most specific wins: by host (a name before the longest suffix before any), then
//! by path (a whole one before the longest prefix), then by the number of conditions on method, scheme and headers, and last by
//! the order in the configuration. A route that is more specific and does not take the request hides none that does.
//!
//! Nodes and `weir explain` use the same code. It knows no HTTP library: a [`Request`] is what it asks.

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
    explain::{Explanation, Passed},
    host::HostPattern,
    path::{PathFault, PathPattern},
    rewrite::PathRewrite,
};
pub(crate) use self::{
    overlap::{Overlap, overlaps},
    rewrite::check_rewritten,
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

/// All routes, in a form that is quick to search: what a search has to fetch lies close together, in a few flat lists.
/// What refers to a list does so by places in it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Router {
    /// The only route, which takes everything.
    only: Option<usize>,
    /// Whether any route asks for a path.
    reads_paths: bool,
    /// Whether any route names a host whole.
    names_hosts: bool,
    /// How many labels suffixes have.
    labels: Counts,
    /// What routes say of any host.
    any: Host,
    /// Finds hosts by name, and by suffix with the dot before it.
    by_host: Table,
    hosts: Box<[Host]>,
    /// Finds paths of a host that has many.
    by_path: Table,
    /// Those of each host together, in the order in which they are tried.
    paths: Box<[Path]>,
    /// Those of each path together that need more than a look at the path, in the order in which they are tried.
    candidates: Box<[u32]>,
    /// Names and paths.
    text: Box<[u8]>,
    /// By route.
    conditions: Vec<Conditions>,
}

/// A host pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Host {
    name: Text,
    paths: Places,
    /// Whether one of its paths is a whole one.
    has_exact: bool,
    /// How many segments its prefixes have.
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
    /// One route, without conditions, as nearly everywhere.
    One(u32),
    /// Places in the list of candidates.
    Several(Places),
}

/// A piece of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Text {
    at: u32,
    length: u16,
}

/// Places in a list, from here to there.
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

/// So many paths of a host are tried one after the other rather than looked up.
const FEW: usize = 4;

impl Router {
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
        let mut lower = Vec::new();
        let host = host::read(request.host(), &mut lower);
        self.agree(request, |path| self.search(request, host, path))
    }

    /// What all readings of the request's path lead to.
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
            // What begins with a dot is a suffix in the table, and no name.
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
