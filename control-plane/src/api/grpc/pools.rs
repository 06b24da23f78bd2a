//! Pools and their strategies.

use serde::de::DeserializeOwned;
use serde_json::Value;
use weir_proto::v1;
use weir_snapshot::{
    Problems,
    config::{Pool, UnknownStrategy},
    file,
};

use super::{
    failure::{Answer, in_field, invalid, join},
    given,
    page::page,
    values::{fields, object},
};
use crate::app::{App, AppError, Author, page::Paged};

fn message(pool: &Pool, revision: u64) -> v1::Pool {
    v1::Pool { name: pool.name.clone(), config: object(pool), revision }
}

pub(super) async fn list_pools(app: &App, request: v1::ListPoolsRequest) -> Answer<v1::ListPoolsResponse> {
    let v1::ListPoolsRequest { page_size, page_token, route } = request;
    let page = page("pools", &[&route], page_size, &page_token)?;
    let revision = app.current().revision;
    let Paged { items, next } = page.of(app.list_pools(given(route).as_deref())?, |pool| pool.name.clone());
    Ok(v1::ListPoolsResponse {
        pools: items.iter().map(|pool| message(pool, revision)).collect(),
        next_page_token: next.unwrap_or_default(),
        revision,
    })
}

pub(super) async fn get_pool(app: &App, request: v1::GetPoolRequest) -> Answer<v1::Pool> {
    let current = app.current();
    let pool = current.config.pools.iter().find(|pool| pool.name == request.name);
    let pool = pool.ok_or_else(|| AppError::not_found("pool", &request.name))?;
    Ok(message(pool, current.revision))
}

pub(super) async fn put_pool(
    app: &App,
    author: &Author,
    request: v1::PutPoolRequest,
) -> Answer<v1::PutPoolResponse> {
    let v1::PutPoolRequest { name, config, .. } = request;
    let pool: Pool = named("pools[0]", &name, config)?;
    let created = app.put_pool(author, pool).await.map_err(|error| in_field("pools", "config", error))?;
    let pool = get_pool(app, v1::GetPoolRequest { name }).await?;
    Ok(v1::PutPoolResponse { pool: Some(pool), created })
}

pub(super) async fn delete_pool(
    app: &App,
    author: &Author,
    request: v1::DeletePoolRequest,
) -> Answer<v1::DeletePoolResponse> {
    Ok(v1::DeletePoolResponse { revision: app.delete_pool(author, &request.name).await? })
}

pub(super) async fn set_strategy(
    app: &App,
    author: &Author,
    request: v1::SetStrategyRequest,
) -> Answer<v1::SetStrategyResponse> {
    let strategy = request.strategy.parse();
    let strategy = strategy.map_err(|error: UnknownStrategy| invalid("strategy", error.to_string()))?;
    let revision = app.set_strategy(author, &request.pool, strategy).await?;
    Ok(v1::SetStrategyResponse { revision })
}

/// Reads the `config` of a request as the object that a configuration has at the path `like`. The `config` may repeat
/// the name.
pub(super) fn named<T: DeserializeOwned>(
    like: &str,
    name: &str,
    config: Option<prost_types::Struct>,
) -> Result<T, AppError> {
    if name.is_empty() {
        return Err(invalid("name", "is required"));
    }
    let config = config.ok_or_else(|| invalid("config", "is required"))?;
    let mut config = fields(config).ok_or_else(|| invalid("config", "holds a number that is not finite"))?;
    let given = config.entry("name").or_insert_with(|| name.into());
    if given != name {
        return Err(invalid("config.name", format!("is {given}, but the request's name is {name:?}")));
    }
    let mut problems = Problems::default();
    match file::read(Some(like), Value::Object(config), &mut problems) {
        Some(read) if problems.0.is_empty() => Ok(read),
        _ => {
            problems.0.iter_mut().for_each(|problem| problem.path = join("config", &problem.path));
            Err(AppError::Invalid(problems))
        }
    }
}
