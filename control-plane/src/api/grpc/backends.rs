//! Backends.

use weir_admin_api::{Backend, BackendState};
use weir_proto::v1::{self, delete_backend_request::Backend as By};

use super::{
    failure::{Answer, invalid, join},
    given,
    names::Named as _,
    page::page,
    values::duration,
};
use crate::app::{App, AppError, Author, Named, page::Paged};

pub(super) fn message(info: Backend, revision: u64) -> v1::Backend {
    v1::Backend {
        id: info.id,
        url: info.url,
        pool: info.pool,
        weight: Some(info.weight),
        state: v1::BackendState::of(&info.state.to_string()),
        health: v1::Health::of(info.health.as_str()),
        alive: info.alive,
        last_check: info.last_check,
        active_connections: info.active_connections,
        breaker: v1::Breaker::of(info.breaker.as_str()),
        ejected_by: info.ejected_by,
        ejections: info.ejections,
        sessions: info.sessions,
        revision,
    }
}

pub(super) async fn list_backends(
    app: &App,
    request: v1::ListBackendsRequest,
) -> Answer<v1::ListBackendsResponse> {
    let v1::ListBackendsRequest { page_size, page_token, pool, route } = request;
    let page = page("backends", &[&pool, &route], page_size, &page_token)?;
    let revision = app.current().revision;
    let found = app.list_backends(given(pool).as_deref(), given(route).as_deref())?;
    let Paged { items, next } = page.of(found, |backend| backend.id.clone());
    Ok(v1::ListBackendsResponse {
        backends: items.into_iter().map(|backend| message(backend, revision)).collect(),
        next_page_token: next.unwrap_or_default(),
        revision,
    })
}

pub(super) async fn get_backend(app: &App, request: v1::GetBackendRequest) -> Answer<v1::Backend> {
    let revision = app.current().revision;
    Ok(message(app.backend(&request.id)?, revision))
}

pub(super) async fn create_backend(
    app: &App,
    author: &Author,
    request: v1::CreateBackendRequest,
) -> Answer<v1::Backend> {
    let v1::Backend { url, pool, weight, state, .. } =
        request.backend.ok_or_else(|| invalid("backend", "is required"))?;
    if state > v1::BackendState::Active.into() {
        return Err(invalid("backend.state", "a new backend is active; UpdateBackend changes it").into());
    }
    let created =
        app.create_backend(author, &url, given(pool).as_deref(), weight).await.map_err(in_backend)?;
    let revision = app.current().revision;
    Ok(message(app.backend(&created.id)?, revision))
}

pub(super) async fn update_backend(
    app: &App,
    author: &Author,
    request: v1::UpdateBackendRequest,
) -> Answer<v1::Backend> {
    let v1::UpdateBackendRequest { backend, update_mask, .. } = request;
    let v1::Backend { id, weight, state, .. } = backend.ok_or_else(|| invalid("backend", "is required"))?;
    let mut changes = (weight.is_some(), state != 0);
    if let Some(mask) = update_mask {
        changes = (false, false);
        for path in &mask.paths {
            match path.as_str() {
                "weight" => changes.0 = true,
                "state" => changes.1 = true,
                "*" => changes = (true, true),
                path => {
                    let message = format!("{path:?} cannot be changed (known: weight, state, *)");
                    return Err(invalid("update_mask", message).into());
                }
            }
        }
    }
    if changes == (false, false) {
        return Err(invalid("update_mask", "selects no field: set weight or state").into());
    }
    let required = |field: &str| invalid(field, "is required, because update_mask selects it");
    let weight = match changes.0 {
        true => Some(weight.ok_or_else(|| required("backend.weight"))?),
        false => None,
    };
    let state = match changes.1 {
        true => {
            let state = v1::BackendState::name("backend.state", state)?;
            let state = state.ok_or_else(|| required("backend.state"))?;
            Some(state.parse::<BackendState>().map_err(|error| invalid("backend.state", error))?)
        }
        false => None,
    };
    app.update_backend(author, &id, weight, state).await.map_err(in_backend)?;
    let revision = app.current().revision;
    Ok(message(app.backend(&id)?, revision))
}

/// Names errors by the fields of the request's `backend`.
fn in_backend(mut error: AppError) -> AppError {
    if let AppError::Invalid(problems) = &mut error {
        problems.0.iter_mut().for_each(|problem| problem.path = join("backend", &problem.path));
    }
    error
}

pub(super) async fn delete_backend(
    app: &App,
    author: &Author,
    request: v1::DeleteBackendRequest,
) -> Answer<v1::DeleteBackendResponse> {
    let v1::DeleteBackendRequest { backend, pool, .. } = request;
    let named = match backend {
        Some(By::Id(id)) => Named::Id(id),
        Some(By::Url(url)) => Named::Url { url, pool: given(pool) },
        None => return Err(invalid("id", "is required, or url").into()),
    };
    Ok(v1::DeleteBackendResponse { revision: app.delete_backend(author, &named).await? })
}

pub(super) async fn check_backend(
    app: &App,
    _: &Author,
    request: v1::CheckBackendRequest,
) -> Answer<v1::CheckBackendResponse> {
    let found = app.check_backend(&request.id).await?;
    Ok(v1::CheckBackendResponse {
        ok: found.ok,
        detail: found.detail,
        latency: Some(duration(found.latency)),
    })
}
