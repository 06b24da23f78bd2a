//! Incremental difference between two configurations. The cost depends on the number of changed resources: of 15,000
//! resources, a changed weight writes one. The result equals that of splitting both configurations and comparing all
//! resources, which a property test checks.

use rustc_hash::{FxHashMap, FxHashSet};

use crate::{
    config::{Backend, Config, Pool},
    diff::Change,
    position::Positions,
    resource::{Key, Kind, Resources, backend_spec, bare, pool_spec, positioned_spec, settings_spec},
};

/// Returns the changes that lead from one configuration to another, sorted by key, and the new positions. Every
/// backend must have its id, and `resources` and `positions` must belong to `before`.
pub fn changes(
    before: &Config,
    resources: &Resources,
    positions: &Positions,
    after: &Config,
) -> (Vec<Change>, Positions) {
    let mut walk = Walk {
        resources,
        before: positions,
        after: positions.clone(),
        changes: Vec::new(),
        gone: Vec::new(),
    };
    if before.settings != after.settings {
        walk.write(Kind::Settings, "", settings_spec(&after.settings));
    }
    let is_same = |old: &Pool, new: &Pool| old == new || bare(old) == bare(new);
    walk.list(Kind::Pool, &before.pools, &after.pools, |pool| &pool.name, is_same, pool_spec);
    walk.backends(before, after);
    let (old, new) = (&before.routes, &after.routes);
    walk.list(Kind::Route, old, new, |route| &route.name, |old, new| old == new, positioned_spec);
    let (old, new) = (&before.certificates, &after.certificates);
    walk.list(Kind::Certificate, old, new, |one| &one.name, |old, new| old == new, positioned_spec);
    walk.end()
}

/// Applies changes to resources.
pub fn apply(resources: &Resources, changes: &[Change]) -> Resources {
    let mut resources = resources.clone();
    for Change { key, after, .. } in changes {
        match after {
            Some(spec) => resources.insert(key.clone(), spec.clone()),
            None => resources.remove(key),
        };
    }
    resources
}

struct Walk<'a> {
    resources: &'a Resources,
    before: &'a Positions,
    after: Positions,
    changes: Vec<Change>,
    /// Resources that are no longer where they were; a backend may have moved to another pool.
    gone: Vec<Key>,
}

impl Walk<'_> {
    /// Writes the items that changed or have a new position.
    fn list<T>(
        &mut self,
        kind: Kind,
        before: &[T],
        after: &[T],
        name: impl Fn(&T) -> &str,
        is_same: impl Fn(&T, &T) -> bool,
        spec: impl Fn(&T, i64) -> String,
    ) {
        let is_in_order =
            before.len() == after.len() && before.iter().zip(after).all(|(old, new)| name(old) == name(new));
        if is_in_order {
            // Nothing moved: only changed items need to be written.
            let differing = before.iter().zip(after).filter(|(old, new)| !is_same(old, new));
            let positioned: Option<Vec<(&T, i64)>> =
                differing.map(|(_, new)| Some((new, self.before.get(kind, name(new))?))).collect();
            if let Some(positioned) = positioned {
                positioned
                    .into_iter()
                    .for_each(|(new, position)| self.write(kind, name(new), spec(new, position)));
                return;
            }
        }
        let known: FxHashMap<&str, &T> = before.iter().map(|old| (name(old), old)).collect();
        let positioned = self.before.arrange(kind, after.iter().map(&name));
        for (new, position) in after.iter().zip(positioned) {
            let is_there = self.before.get(kind, name(new)) == Some(position);
            if !is_there || !known.get(name(new)).is_some_and(|old| is_same(old, new)) {
                self.after.set(kind, name(new), position);
                self.write(kind, name(new), spec(new, position));
            }
        }
        let stays: FxHashSet<&str> = after.iter().map(&name).collect();
        let gone = before.iter().map(&name).filter(|name| !stays.contains(name));
        self.gone.extend(gone.map(|name| Key { kind, name: name.to_owned() }));
    }

    fn backends(&mut self, before: &Config, after: &Config) {
        let mut known: FxHashMap<&str, &[Backend]> =
            before.pools.iter().map(|pool| (pool.name.as_str(), pool.backends.as_slice())).collect();
        let lists = after.pools.iter().map(|pool| {
            let old = known.remove(pool.name.as_str()).unwrap_or_default();
            (pool.name.as_str(), old, pool.backends.as_slice())
        });
        let mut lists: Vec<_> = lists.collect();
        lists.extend(known.into_iter().map(|(name, old)| (name, old, &[][..])));
        for (pool, old, new) in lists {
            let spec = |backend: &Backend, position| backend_spec(pool, backend, position);
            self.list(Kind::Backend, old, new, |backend| &backend.id, |old, new| old == new, spec);
        }
    }

    fn write(&mut self, kind: Kind, name: &str, spec: String) {
        let key = Key { kind, name: name.to_owned() };
        let before = self.resources.get(&key);
        if before != Some(&spec) {
            self.changes.push(Change { before: before.cloned(), after: Some(spec), key });
        }
    }

    fn end(self) -> (Vec<Change>, Positions) {
        let Self { resources, mut after, mut changes, gone, .. } = self;
        let came: FxHashSet<Key> = match gone.is_empty() {
            true => FxHashSet::default(),
            false => changes.iter().map(|change| change.key.clone()).collect(),
        };
        for key in gone.into_iter().filter(|key| !came.contains(key)) {
            after.remove(key.kind, &key.name);
            let before = resources.get(&key).cloned();
            changes.push(Change { key, before, after: None });
        }
        changes.sort_by(|a, b| a.key.cmp(&b.key));
        (changes, after)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{config::Route, diff::diff, resource::split};

    /// Pools with backends by id and weight, in any order and any pool; routes likewise.
    fn config() -> impl Strategy<Value = Config> {
        let names = Just((0..6u32).collect::<Vec<_>>()).prop_shuffle();
        let ids = Just((0..12u32).collect::<Vec<_>>()).prop_shuffle();
        let parts = (names, 0..6usize, ids, prop::collection::vec((0..6usize, 1..3u32), 12), 0..12usize);
        let more = (Just((0..8u32).collect::<Vec<_>>()).prop_shuffle(), 0..8usize, 0..2u32);
        (parts, more).prop_map(|((names, count, ids, of, backends), (routes, some, attempts))| {
            let mut pools: Vec<Pool> = names[..count]
                .iter()
                .map(|n| Pool { name: format!("pool-{n}"), ..Pool::default() })
                .collect();
            pools.iter_mut().take(2).for_each(|pool| pool.retry.attempts = 1 + attempts);
            for (id, (pool, weight)) in ids.iter().zip(of).take(backends) {
                if let Some(pool) = pools.get_mut(pool) {
                    let (id, url) = (format!("b{id}"), format!("http://{id}:1"));
                    pool.backends.push(Backend { id, url, weight, state: Default::default() });
                }
            }
            let route = |n: &u32| Route {
                name: format!("r{n}"),
                pool: format!("pool-{attempts}"),
                ..Route::default()
            };
            let routes = routes[..some].iter().map(route).collect();
            Config { pools, routes, ..Config::default() }
        })
    }

    proptest! {
        #[test]
        fn the_incremental_difference_equals_the_full_one(configs in prop::collection::vec(config(), 2..5)) {
            let (mut resources, mut positions) = split(&configs[0], &Positions::default());
            for pair in configs.windows(2) {
                let (all, all_positions) = split(&pair[1], &positions);
                let (changes, stepped) = changes(&pair[0], &resources, &positions, &pair[1]);
                prop_assert_eq!(&changes, &diff(&resources, &all));
                prop_assert_eq!(&stepped, &all_positions);
                prop_assert_eq!(&apply(&resources, &changes), &all);
                (resources, positions) = (all, all_positions);
            }
        }
    }
}
