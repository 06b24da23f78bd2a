//! `/pools`, `/routes` and `/strategy`.

use weir_admin_api::{
    List, Name, Pool, PoolQuery, Revised, Route, RouteQuery, SavedRoute, SetStrategy, StrategySet,
};

use super::{answer::Put, page::Wanted, problem::Refusal, serve::Call};
use crate::app::{App, AppError};

pub(super) async fn list_pools(call: Call<(), PoolQuery, ()>) -> Result<List<Pool>, Refusal> {
    let PoolQuery { route, limit, page_token } = call.query;
    let items = call.app.list_pools(route.as_deref())?;
    let wanted = Wanted { limit, page_token: page_token.as_deref() };
    wanted.of("pools", &[route.as_deref()], items, |pool| pool.name.clone())
}

pub(super) async fn get_pool(call: Call<Name, (), ()>) -> Result<Pool, Refusal> {
    pool(&call.app, &call.path.name)
}

fn pool(app: &App, name: &str) -> Result<Pool, Refusal> {
    let current = app.current();
    let pool = current.config.pools.iter().find(|pool| pool.name == name).cloned();
    Ok(pool.ok_or_else(|| AppError::not_found("pool", name))?)
}

pub(super) async fn put_pool(call: Call<Name, (), Pool>) -> Result<Put<Pool>, Refusal> {
    let put = call.app.put_pool(&call.author, call.body).await;
    let is_new = put.map_err(|error| Refusal::of_one("pools", error))?;
    Ok(Put { is_new, value: pool(&call.app, &call.path.name)? })
}

pub(super) async fn delete_pool(call: Call<Name, (), ()>) -> Result<Revised, Refusal> {
    Ok(Revised { revision: call.app.delete_pool(&call.author, &call.path.name).await? })
}

pub(super) async fn set_strategy(call: Call<(), (), SetStrategy>) -> Result<StrategySet, Refusal> {
    let SetStrategy { pool, strategy } = call.body;
    let revision = call.app.set_strategy(&call.author, &pool, strategy).await?;
    Ok(StrategySet { revision, pool, strategy })
}

pub(super) async fn list_routes(call: Call<(), RouteQuery, ()>) -> Result<List<Route>, Refusal> {
    let RouteQuery { pool, limit, page_token } = call.query;
    let items = call.app.list_routes(pool.as_deref())?;
    let wanted = Wanted { limit, page_token: page_token.as_deref() };
    wanted.of("routes", &[pool.as_deref()], items, |route| route.name.clone())
}

pub(super) async fn get_route(call: Call<Name, (), ()>) -> Result<Route, Refusal> {
    route(&call.app, &call.path.name)
}

fn route(app: &App, name: &str) -> Result<Route, Refusal> {
    Ok(app.shown().route(name).ok_or_else(|| AppError::not_found("route", name))?)
}

pub(super) async fn put_route(call: Call<Name, (), Route>) -> Result<Put<SavedRoute>, Refusal> {
    let put = call.app.put_route(&call.author, call.body).await;
    let (is_new, warnings) = put.map_err(|error| Refusal::of_one("routes", error))?;
    let route = route(&call.app, &call.path.name)?;
    let warnings = warnings.iter().map(ToString::to_string).collect();
    Ok(Put { is_new, value: SavedRoute { route, warnings } })
}

pub(super) async fn delete_route(call: Call<Name, (), ()>) -> Result<Revised, Refusal> {
    Ok(Revised { revision: call.app.delete_route(&call.author, &call.path.name).await? })
}
