//! `/tokens` and `/audit`.

use axum::{
    Json,
    extract::{Request, State},
    http::{StatusCode, header},
    response::{IntoResponse as _, Response},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use weir_snapshot::{Problem, units::HumanDuration};

use super::extract::{Path, Query};
use super::{Asking, Items, body, problem::Refusal};
use crate::{
    access::{Ended, NewToken, Token},
    app::{App, AppError},
    store::AuditEntry,
    time::{now_ms, rfc3339},
};

#[derive(Serialize)]
pub(super) struct TokenInfo {
    name: String,
    role: &'static str,
    state: &'static str,
    created: String,
    created_by: String,
    expires: Option<String>,
    last_used: Option<String>,
}

fn info(token: &Token) -> TokenInfo {
    TokenInfo {
        name: token.name.clone(),
        role: token.role.as_str(),
        state: token.ended(now_ms()).map_or("active", Ended::as_str),
        created: rfc3339(token.created_ms),
        created_by: token.created_by.clone(),
        expires: token.expires_ms.map(rfc3339),
        last_used: token.last_used_ms().map(rfc3339),
    }
}

pub(super) async fn tokens(State(app): State<App>) -> Json<Items<TokenInfo>> {
    Json(Items { items: app.access().tokens().iter().map(|token| info(token)).collect() })
}

#[derive(Deserialize)]
struct Create {
    name: String,
    role: String,
    expires: Option<String>,
}

pub(super) async fn create_token(
    State(app): State<App>,
    Asking(author): Asking,
    request: Request,
) -> Result<Response, Refusal> {
    let Create { name, role, expires } = body::object(request).await?;
    let wrong = |path: &str, message: String| Refusal::bad_request(Problem::new(path, message).into());
    let role = role.parse().map_err(|error: crate::access::UnknownRole| wrong("role", error.to_string()))?;
    let expires = expires.map(|text| text.parse::<HumanDuration>()).transpose();
    let expires = expires.map_err(|error| wrong("expires", error.to_string()))?.map(|lasts| lasts.0);
    let new = NewToken { name, role, expires };
    let (text, token) = app.access().create_token(&new, &author.actor).await.map_err(AppError::from)?;
    let mut told = json!(info(&token));
    told["token"] = text.into();
    Ok((StatusCode::CREATED, [(header::CACHE_CONTROL, "no-store")], Json(told)).into_response())
}

pub(super) async fn delete_token(
    State(app): State<App>,
    Path(name): Path<String>,
) -> Result<Json<Value>, Refusal> {
    app.access().revoke_token(&name).await.map_err(AppError::from)?;
    Ok(Json(json!({ "name": name, "state": "revoked" })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Page {
    /// The id of the last entry that was seen.
    after: Option<i64>,
    limit: Option<u32>,
}

pub(super) async fn audit(
    State(app): State<App>,
    Query(page): Query<Page>,
) -> Result<Json<Items<Value>>, Refusal> {
    let limit = page.limit.unwrap_or(100).clamp(1, 1000);
    let entries = app.access().audit(page.after, limit).await.map_err(AppError::from)?;
    Ok(Json(Items { items: entries.iter().map(tell).collect() }))
}

fn tell(entry: &AuditEntry) -> Value {
    json!({
        "id": entry.id,
        "time": rfc3339(entry.time_ms),
        "actor": entry.actor,
        "role": entry.role,
        "source": entry.source,
        "action": entry.action,
        "outcome": entry.outcome,
        "detail": entry.detail,
        "revision": entry.revision,
        "times": entry.times,
    })
}
