//! A configuration split into named resources, for storage, differences and transfer.
//!
//! Backends are resources of their own, so that changing one weight is a small message however large the pool. A
//! resource's content is JSON in the schema of the file. The content hash over all resources does not depend on their
//! order and can be updated per resource.

use std::{collections::BTreeMap, fmt, str::FromStr};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use sha2::{Digest, Sha256};

use crate::{
    config::{Backend, BackendState, Certificate, Config, Pool, Route, Settings},
    position::Positions,
    problem::Problems,
};

/// Kind of a resource.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// The fleet's settings; a single resource without a name.
    Settings,
    /// A pool without its backends.
    Pool,
    /// A backend, named by its id.
    Backend,
    /// A route.
    Route,
    /// A certificate without its private key.
    Certificate,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Settings => "settings",
            Self::Pool => "pool",
            Self::Backend => "backend",
            Self::Route => "route",
            Self::Certificate => "certificate",
        })
    }
}

impl FromStr for Kind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        [Self::Settings, Self::Pool, Self::Backend, Self::Route, Self::Certificate]
            .into_iter()
            .find(|kind| kind.to_string() == text)
            .ok_or_else(|| format!("unknown kind of resource {text:?}"))
    }
}

/// Kind and name of a resource. A backend's name is its id.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Key {
    /// Kind of the resource.
    pub kind: Kind,
    /// Name of the resource.
    pub name: String,
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            Kind::Settings => f.write_str("settings"),
            kind => write!(f, "{kind} {:?}", self.name),
        }
    }
}

/// A named part of a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resource {
    /// Kind and name.
    pub key: Key,
    /// Content as JSON.
    pub spec: String,
}

/// A configuration as resources.
pub type Resources = BTreeMap<Key, String>;

/// A pool, route or certificate with its position, which keeps the order of the file.
#[derive(Serialize, Deserialize)]
struct Positioned<T> {
    #[serde(rename = "place")]
    position: i64,
    spec: T,
}

/// A backend as a resource, with the name of its pool.
#[derive(Serialize, Deserialize)]
struct PositionedBackend {
    pool: String,
    #[serde(rename = "place")]
    position: i64,
    url: String,
    weight: u32,
    state: BackendState,
}

/// Splits a configuration into resources. Every backend must have its id.
pub fn to_resources(config: &Config) -> Resources {
    split(config, &Positions::default()).0
}

/// Splits a configuration into resources that differ from the previous ones as little as possible: see [`Positions`].
pub fn split(config: &Config, before: &Positions) -> (Resources, Positions) {
    let mut resources = Resources::new();
    let mut positions = Positions::default();
    let mut add = |kind: Kind, name: &str, position: i64, spec: String| {
        positions.set(kind, name, position);
        resources.insert(Key { kind, name: name.to_owned() }, spec);
    };
    let positioned = before.arrange(Kind::Pool, config.pools.iter().map(|pool| pool.name.as_str()));
    for (pool, position) in config.pools.iter().zip(positioned) {
        add(Kind::Pool, &pool.name, position, pool_spec(pool, position));
        let positioned = before.arrange(Kind::Backend, pool.backends.iter().map(|one| one.id.as_str()));
        for (backend, position) in pool.backends.iter().zip(positioned) {
            add(Kind::Backend, &backend.id, position, backend_spec(&pool.name, backend, position));
        }
    }
    let positioned = before.arrange(Kind::Route, config.routes.iter().map(|route| route.name.as_str()));
    for (route, position) in config.routes.iter().zip(positioned) {
        add(Kind::Route, &route.name, position, positioned_spec(route, position));
    }
    let names = config.certificates.iter().map(|certificate| certificate.name.as_str());
    for (certificate, position) in config.certificates.iter().zip(before.arrange(Kind::Certificate, names)) {
        add(Kind::Certificate, &certificate.name, position, positioned_spec(certificate, position));
    }
    resources.insert(Key { kind: Kind::Settings, name: String::new() }, settings_spec(&config.settings));
    (resources, positions)
}

pub(crate) fn settings_spec(settings: &Settings) -> String {
    json(settings)
}

/// The content of a pool without its backends.
pub(crate) fn pool_spec(pool: &Pool, position: i64) -> String {
    json(&Positioned { position, spec: bare(pool) })
}

pub(crate) fn backend_spec(pool: &str, backend: &Backend, position: i64) -> String {
    let Backend { url, weight, state, .. } = backend.clone();
    json(&PositionedBackend { pool: pool.to_owned(), position, url, weight, state })
}

pub(crate) fn positioned_spec<T: Serialize>(spec: &T, position: i64) -> String {
    json(&Positioned { position, spec })
}

/// A pool without its backends.
pub(crate) fn bare(pool: &Pool) -> Pool {
    Pool { backends: Vec::new(), ..pool.clone() }
}

fn json<T: Serialize>(value: &T) -> String {
    // Serializing plain structs with string keys cannot fail.
    serde_json::to_string(value).unwrap_or_default()
}

/// Joins resources to a configuration. The result still has to be [checked](crate::check()).
///
/// # Errors
/// Every invalid resource: broken JSON, an unknown field, a wrong type, a backend of an unknown pool.
pub fn from_resources(resources: &Resources) -> Result<Config, Problems> {
    let mut problems = Problems::default();
    let mut settings = Settings::default();
    let mut pools: Vec<Positioned<Pool>> = Vec::new();
    let mut routes: Vec<Positioned<Route>> = Vec::new();
    let mut certificates: Vec<Positioned<Certificate>> = Vec::new();
    let mut backends: Vec<(&str, PositionedBackend)> = Vec::new();
    for (key, spec) in resources {
        match key.kind {
            Kind::Settings => settings = read(key, spec, &mut problems).unwrap_or_default(),
            Kind::Pool => pools.extend(read(key, spec, &mut problems)),
            Kind::Route => routes.extend(read(key, spec, &mut problems)),
            Kind::Certificate => certificates.extend(read(key, spec, &mut problems)),
            Kind::Backend => {
                backends.extend(read(key, spec, &mut problems).map(|backend| (key.name.as_str(), backend)));
            }
        }
    }
    // A resource whose content has another name would have two identities.
    let named = |kind, name: &String| resources.contains_key(&Key { kind, name: name.clone() });
    for (kind, name) in pools
        .iter()
        .map(|pool| (Kind::Pool, &pool.spec.name))
        .chain(routes.iter().map(|route| (Kind::Route, &route.spec.name)))
        .chain(certificates.iter().map(|certificate| (Kind::Certificate, &certificate.spec.name)))
        .filter(|(kind, name)| !named(*kind, name))
    {
        problems.add(format!("{kind} {name:?}.name"), "does not match the name of the resource");
    }
    for pool in pools.iter().filter(|pool| !pool.spec.backends.is_empty()) {
        problems.add(format!("pool {:?}.backends", pool.spec.name), "must be separate resources");
    }
    if backends.iter().any(|(id, _)| id.is_empty()) {
        problems.add("backend", "has no id");
    }
    if resources.keys().any(|key| key.kind == Kind::Settings && !key.name.is_empty()) {
        problems.add("settings", "must be a single resource without a name");
    }
    pools.sort_by_key(|pool| pool.position);
    routes.sort_by_key(|route| route.position);
    certificates.sort_by_key(|certificate| certificate.position);
    backends.sort_by_key(|(_, backend)| backend.position);

    let mut pools: Vec<Pool> = pools.into_iter().map(|pool| pool.spec).collect();
    let positions: std::collections::HashMap<String, usize> =
        pools.iter().enumerate().map(|(position, pool)| (pool.name.clone(), position)).collect();
    for (id, backend) in backends {
        let PositionedBackend { pool, url, weight, state, .. } = backend;
        match positions.get(&pool) {
            Some(&position) => {
                pools[position].backends.push(Backend { id: id.to_owned(), url, weight, state })
            }
            None => problems.add(format!("backend {id:?}.pool"), format!("unknown pool {pool:?}")),
        }
    }
    let routes = routes.into_iter().map(|route| route.spec).collect();
    let certificates = certificates.into_iter().map(|certificate| certificate.spec).collect();
    problems.into_result(Config { settings, pools, routes, certificates })
}

/// Parses one resource. Unknown fields are errors, so that a node never applies only half of a newer control plane's
/// configuration.
fn read<T: DeserializeOwned>(key: &Key, spec: &str, problems: &mut Problems) -> Option<T> {
    let mut deserializer = serde_json::Deserializer::from_str(spec);
    let mut unknown = Vec::new();
    let value = serde_ignored::deserialize(&mut deserializer, |path| unknown.push(path.to_string()));
    for path in unknown {
        problems.add(format!("{key}.{path}"), "unknown field");
    }
    value.map_err(|error| problems.add(key.to_string(), error.to_string())).ok()
}

/// A hash over the resources of a configuration, equal on both sides of the stream if their contents are.
///
/// It is the sum of the SHA-256 hashes of all resources (their first 16 bytes), so adding and removing resources
/// updates it. It detects mistakes, not attacks: the channel protects against those.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ContentHash(u128);

impl ContentHash {
    /// The hash of a whole configuration.
    pub fn of(resources: &Resources) -> Self {
        let mut hash = Self::default();
        resources.iter().for_each(|(key, spec)| hash.add(key, spec));
        hash
    }

    /// Adds a resource.
    pub fn add(&mut self, key: &Key, spec: &str) {
        self.0 = self.0.wrapping_add(piece(key, spec));
    }

    /// Removes a resource.
    pub fn remove(&mut self, key: &Key, spec: &str) {
        self.0 = self.0.wrapping_sub(piece(key, spec));
    }
}

fn piece(key: &Key, spec: &str) -> u128 {
    let mut sha = Sha256::new();
    for part in [key.kind.to_string().as_str(), key.name.as_str(), spec] {
        sha.update((part.len() as u64).to_be_bytes());
        sha.update(part);
    }
    let digest = sha.finalize();
    digest.iter().take(16).fold(0, |number, byte| number << 8 | u128::from(*byte))
}

impl fmt::Display for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn config() -> impl Strategy<Value = Config> {
        let backends = prop::collection::vec(("[a-z]{1,5}", 1..=1000u32), 0..5);
        prop::collection::vec(backends, 0..5).prop_map(|pools| {
            let mut next = 0;
            let pools: Vec<Pool> = pools
                .into_iter()
                .enumerate()
                .map(|(i, backends)| Pool {
                    name: format!("pool-{i}"),
                    backends: backends
                        .into_iter()
                        .map(|(host, weight)| {
                            next += 1;
                            Backend {
                                id: format!("b{next}"),
                                url: format!("http://{host}:1"),
                                weight,
                                state: Default::default(),
                            }
                        })
                        .collect(),
                    ..Pool::default()
                })
                .collect();
            let routes = pools.first().map(|pool| Route {
                name: "r".into(),
                pool: pool.name.clone(),
                ..Route::default()
            });
            let routes = routes.into_iter().collect();
            Config { settings: Settings::default(), pools, routes, ..Config::default() }
        })
    }

    proptest! {
        #[test]
        fn joining_resources_restores_the_configuration(config in config()) {
            prop_assert_eq!(from_resources(&to_resources(&config)), Ok(config));
        }

        #[test]
        fn resources_with_kept_positions_restore_the_configuration(before in config(), after in config()) {
            let positions = split(&before, &Positions::default()).1;
            let (resources, positions) = split(&after, &positions);
            prop_assert_eq!(&Positions::of(&resources), &positions);
            prop_assert_eq!(from_resources(&resources), Ok(after));
        }

        #[test]
        fn the_hash_can_be_updated_per_resource(before in config(), after in config()) {
            let (before, after) = (to_resources(&before), to_resources(&after));
            let mut hash = ContentHash::of(&before);
            before.iter().for_each(|(key, spec)| hash.remove(key, spec));
            prop_assert_eq!(hash, ContentHash::default());
            after.iter().rev().for_each(|(key, spec)| hash.add(key, spec));
            prop_assert_eq!(hash, ContentHash::of(&after));
        }
    }

    #[test]
    fn a_resource_with_another_name_in_its_content_is_rejected() {
        let mut resources = to_resources(&Config::default());
        let spec = resources.remove(&Key { kind: Kind::Route, name: "default".into() }).unwrap();
        resources.insert(Key { kind: Kind::Route, name: "other".into() }, spec);
        resources.insert(Key { kind: Kind::Settings, name: "more".into() }, "{}".into());
        let problems = from_resources(&resources).unwrap_err().to_string();
        assert!(problems.contains("route \"default\".name: does not match"), "{problems}");
        assert!(problems.contains("settings: must be a single resource"), "{problems}");
    }

    #[test]
    fn all_invalid_resources_are_reported() {
        let key = |kind, name: &str| Key { kind, name: name.into() };
        let resources = Resources::from([
            (key(Kind::Settings, ""), r#"{"colour":1}"#.to_owned()),
            (key(Kind::Pool, "p"), "{".to_owned()),
            (
                key(Kind::Backend, "b1"),
                r#"{"pool":"q","place":0,"url":"http://x","weight":1,"state":"active"}"#.to_owned(),
            ),
        ]);
        let problems = from_resources(&resources).unwrap_err().to_string();
        for part in ["settings.colour: unknown field", "pool \"p\"", "unknown pool \"q\""] {
            assert!(problems.contains(part), "{part}: {problems}");
        }
    }
}
