//! Builds a router from routes.

use std::{cmp::Reverse, collections::BTreeMap};

use rustc_hash::FxHashMap;

use super::{
    Conditions, FEW, Host, HostPattern, Match, Path, PathPattern, Places, Router, Takers, Text, path,
    table::{Key, Table},
};

/// The routes of each path of a host. The most specific path has the greatest key and is tried first.
type Paths<'a> = BTreeMap<Reverse<((u8, usize), &'a PathPattern)>, Vec<usize>>;

/// The lists of a router under construction.
#[derive(Default)]
struct Lists {
    paths: Vec<Path>,
    candidates: Vec<u32>,
    text: Vec<u8>,
    /// Each text is stored once, however many hosts use it.
    known: FxHashMap<Box<[u8]>, Text>,
}

impl Router {
    /// Builds a router; the order of the routes is that of the configuration.
    pub fn new<'a>(routes: impl IntoIterator<Item = &'a Match>) -> Self {
        let routes: Vec<&Match> = routes.into_iter().collect();
        let mut by_host: BTreeMap<Box<[u8]>, Paths<'_>> = BTreeMap::new();
        for (route, matches) in routes.iter().enumerate() {
            for host in &matches.hosts {
                let paths = by_host.entry(name(host)).or_default();
                paths.entry(Reverse((matches.path.rank(), &matches.path))).or_default().push(route);
            }
        }
        let conditions: Vec<Conditions> = routes.iter().map(|matches| matches.conditions.clone()).collect();
        let mut lists = Lists::default();
        let any = by_host.remove(&b""[..]).unwrap_or_default();
        let any = lists.host(b"", any, &conditions);
        let hosts: Box<[Host]> =
            by_host.into_iter().map(|(name, paths)| lists.host(&name, paths, &conditions)).collect();

        let patterns = || routes.iter().flat_map(|matches| &matches.hosts);
        let mut router = Self {
            only: (routes.len() == 1 && routes[0].is_any()).then_some(0),
            reads_paths: routes.iter().any(|matches| matches.path != PathPattern::Any),
            names_hosts: patterns().any(|host| matches!(host, HostPattern::Exact(_))),
            any,
            hosts,
            paths: lists.paths.into(),
            candidates: lists.candidates.into(),
            text: lists.text.into(),
            conditions,
            ..Self::default()
        };
        for host in patterns() {
            if let HostPattern::Suffix(suffix) = host {
                router.labels.add(suffix.split('.').count());
            }
        }
        router.by_host = router.table_of_hosts();
        router.by_path = router.table_of_paths();
        router
    }

    fn table_of_hosts(&self) -> Table {
        let keys =
            (0..).zip(&self.hosts).map(|(place, host)| Key { place, scope: 0, text: self.text(host.name) });
        Table::new(&keys.collect::<Vec<_>>())
    }

    /// The table of the hosts that have many paths.
    fn table_of_paths(&self) -> Table {
        let mut keys = Vec::new();
        for host in self.hosts.iter().chain([&self.any]) {
            let paths = host.paths.of(&self.paths);
            if paths.len() > FEW {
                keys.extend((host.paths.from..).zip(paths).map(|(place, path)| Key {
                    place,
                    scope: scope(host.paths, path.is_exact),
                    text: self.text(path.text),
                }));
            }
        }
        Table::new(&keys)
    }
}

/// Distinguishes the paths of different hosts, and exact paths from prefixes.
pub(super) fn scope(paths: Places, is_exact: bool) -> u32 {
    paths.from << 1 | u32::from(is_exact)
}

/// A host pattern as the table's key; the empty key is any host.
fn name(host: &HostPattern) -> Box<[u8]> {
    match host {
        HostPattern::Exact(name) => name.as_bytes().into(),
        HostPattern::Suffix(suffix) => format!(".{suffix}").into_bytes().into(),
        HostPattern::Any => Box::default(),
    }
}

impl Lists {
    fn host(&mut self, name: &[u8], of: Paths<'_>, conditions: &[Conditions]) -> Host {
        let mut host = Host { name: self.text(name), ..Host::default() };
        host.paths.from = place(self.paths.len());
        for (Reverse((_, pattern)), routes) in of {
            let (is_exact, text) = match pattern {
                PathPattern::Exact(path) => (true, &**path),
                PathPattern::Prefix(prefix) => (false, &**prefix),
                PathPattern::Any => (false, &[][..]),
            };
            if is_exact {
                host.has_exact = true;
            } else {
                host.depths.add(path::depth(text));
            }
            let takers = self.takers(routes, conditions);
            let text = self.text(text);
            self.paths.push(Path { text, is_exact, takers });
        }
        host.paths.to = place(self.paths.len());
        host
    }

    fn takers(&mut self, mut routes: Vec<usize>, conditions: &[Conditions]) -> Takers {
        routes.sort_by_key(|route| Reverse(conditions[*route].count()));
        if let [route] = *routes
            && conditions[route].count() == 0
        {
            return Takers::One(place(route));
        }
        let from = place(self.candidates.len());
        self.candidates.extend(routes.into_iter().map(place));
        Takers::Several(Places { from, to: place(self.candidates.len()) })
    }

    fn text(&mut self, text: &[u8]) -> Text {
        if let Some(known) = self.known.get(text) {
            return *known;
        }
        // No host is longer than 255 bytes, and no path of a pattern longer than 1,024 bytes.
        let length = u16::try_from(text.len()).unwrap_or(u16::MAX);
        let kept = Text { at: place(self.text.len()), length };
        self.text.extend_from_slice(text);
        self.known.insert(text.into(), kept);
        kept
    }
}

/// Converts an index to `u32`; no configuration within the size limits has more items.
fn place(place: usize) -> u32 {
    u32::try_from(place).unwrap_or(u32::MAX)
}
