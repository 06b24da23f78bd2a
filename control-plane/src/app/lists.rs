//! Lists of backends, pools and routes, with their filters by pool and route.

use weir_admin_api::Backend;
use weir_snapshot::{
    Config, Problem,
    config::{Pool, Route},
    nearest,
};

use super::{App, AppError};

impl App {
    /// The backends: all, those of a pool, or those that a route can send requests to.
    ///
    /// # Errors
    /// The pool or route does not exist.
    pub fn list_backends(&self, pool: Option<&str>, route: Option<&str>) -> Result<Vec<Backend>, AppError> {
        let current = self.current();
        if let Some(pool) = pool {
            check_pool(&current.config, pool)?;
        }
        let of_route = route.map(|name| pools_of_named(&current.config, name)).transpose()?;
        let mut backends = self.backends(None)?;
        backends.retain(|backend| {
            let is_in = |pools: &Vec<&str>| pools.contains(&backend.pool.as_str());
            pool.is_none_or(|pool| pool == backend.pool) && of_route.as_ref().is_none_or(is_in)
        });
        Ok(backends)
    }

    /// The pools: all, or those that a route can send requests to.
    ///
    /// # Errors
    /// The route does not exist.
    pub fn list_pools(&self, route: Option<&str>) -> Result<Vec<Pool>, AppError> {
        let config = &self.current().config;
        let mut pools = config.pools.clone();
        if let Some(name) = route {
            let of_route = pools_of_named(config, name)?;
            pools.retain(|pool| of_route.contains(&pool.name.as_str()));
        }
        Ok(pools)
    }

    /// The routes, as far as the caller may see them: all, or those that can send requests to a pool.
    ///
    /// # Errors
    /// The pool does not exist.
    pub fn list_routes(&self, pool: Option<&str>) -> Result<Vec<Route>, AppError> {
        let shown = self.shown();
        let mut routes = shown.routes();
        if let Some(pool) = pool {
            check_pool(&shown.config(), pool)?;
            routes.retain(|route| pools_of(route).any(|name| name == pool));
        }
        Ok(routes)
    }
}

/// The pools that a route can send requests to.
fn pools_of(route: &Route) -> impl Iterator<Item = &str> {
    let split = route.split.iter().map(|share| share.pool.as_str());
    let fallback = route.fallback.iter().filter_map(|fallback| fallback.pool.as_deref());
    [route.pool.as_str()].into_iter().chain(split).chain(fallback).filter(|name| !name.is_empty())
}

fn pools_of_named<'a>(config: &'a Config, name: &str) -> Result<Vec<&'a str>, AppError> {
    match config.routes.iter().find(|route| route.name == name) {
        Some(route) => Ok(pools_of(route).collect()),
        None => Err(unknown("route", name, config.routes.iter().map(|route| route.name.as_str()))),
    }
}

fn check_pool(config: &Config, name: &str) -> Result<(), AppError> {
    if config.pools.iter().any(|pool| pool.name == name) {
        return Ok(());
    }
    Err(unknown("pool", name, config.pools.iter().map(|pool| pool.name.as_str())))
}

fn unknown<'a>(kind: &str, name: &str, known: impl Iterator<Item = &'a str>) -> AppError {
    let hint = nearest(name, known).map_or_else(String::new, |near| format!("; did you mean {near:?}?"));
    AppError::Invalid(Problem::new(kind, format!("there is no {kind} {name:?}{hint}")).into())
}
