//! `/backends`.

use weir_admin_api::{
    Backend, BackendByUrl, BackendQuery, BackendUpdate, CheckResult, Id, List, NewBackend, Revised,
};
use weir_snapshot::{Problem, Problems};

use super::{answer::New, page::Wanted, problem::Refusal, serve::Call};
use crate::app::{AppError, Named};

pub(super) async fn list(call: Call<(), BackendQuery, ()>) -> Result<List<Backend>, Refusal> {
    let BackendQuery { pool, route, limit, page_token } = call.query;
    let (pool, route) = (pool.as_deref(), route.as_deref());
    let items = call.app.list_backends(pool, route)?;
    let wanted = Wanted { limit, page_token: page_token.as_deref() };
    wanted.of("backends", &[pool, route], items, |backend| backend.id.clone())
}

pub(super) async fn get(call: Call<Id, (), ()>) -> Result<Backend, Refusal> {
    Ok(call.app.backend(&call.path.id)?)
}

pub(super) async fn create(call: Call<(), (), NewBackend>) -> Result<New<Backend>, Refusal> {
    let NewBackend { url, pool, weight } = call.body;
    let created = call.app.create_backend(&call.author, &url, pool.as_deref(), weight).await?;
    Ok(New::in_list("/backends", &created.id.clone(), created))
}

pub(super) async fn update(call: Call<Id, (), BackendUpdate>) -> Result<Backend, Refusal> {
    let BackendUpdate { weight, state } = call.body;
    Ok(call.app.update_backend(&call.author, &call.path.id, weight, state).await?)
}

pub(super) async fn delete(call: Call<Id, (), ()>) -> Result<Revised, Refusal> {
    let revision = call.app.delete_backend(&call.author, &Named::Id(call.path.id)).await?;
    Ok(Revised { revision })
}

pub(super) async fn delete_by_url(
    call: Call<(), BackendByUrl, Option<BackendByUrl>>,
) -> Result<Revised, Refusal> {
    let (query, body) = (call.query, call.body.unwrap_or_default());
    let mut problems = Problems::default();
    for (name, in_query, in_body) in [("url", &query.url, &body.url), ("pool", &query.pool, &body.pool)] {
        if in_query.is_some() && in_body.is_some() && in_query != in_body {
            problems.add(name, "the query and the body have different values");
        }
    }
    let problems = problems.into_result(()).map_err(Refusal::bad_request);
    problems?;
    let url = query.url.or(body.url);
    let url = url.ok_or_else(|| Problem::new("url", "is missing; give it in the query or in the body"));
    let url = url.map_err(|problem| Refusal::from(AppError::Invalid(problem.into())))?;
    let named = Named::Url { url, pool: query.pool.or(body.pool) };
    Ok(Revised { revision: call.app.delete_backend(&call.author, &named).await? })
}

pub(super) async fn check(call: Call<Id, (), ()>) -> Result<CheckResult, Refusal> {
    let found = call.app.check_backend(&call.path.id).await?;
    Ok(CheckResult { ok: found.ok, detail: found.detail, latency_ms: found.latency.as_secs_f64() * 1000.0 })
}
