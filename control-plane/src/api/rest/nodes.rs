//! Who may be a node: `/node-tokens`, and `/nodes/{id}` revoked, allowed again, left out of reports.

use axum::{
    Json,
    extract::{Request, State},
    http::{StatusCode, header},
    response::{IntoResponse as _, Response},
};
use serde::Deserialize;
use serde_json::{Value, json};
use weir_snapshot::{Problem, Problems};

use super::extract::Path;
use super::{Asking, Items, body, problem::Refusal};
use crate::{
    access::nodes::{self, Allowed, NewNodeToken},
    app::{App, AppError},
    store::StoredNodeToken,
    time::{now_ms, rfc3339},
};

fn info(token: &StoredNodeToken) -> Value {
    json!({
        "id": token.id,
        "state": nodes::ended(token, now_ms()).unwrap_or("active"),
        "created": rfc3339(token.created_ms),
        "created_by": token.created_by,
        "expires": token.expires_ms.map(rfc3339),
        "uses_left": token.uses_left,
        "used": token.used,
        "node_ids": token.node_ids,
    })
}

pub(super) async fn tokens(State(app): State<App>) -> Json<Items<Value>> {
    Json(Items { items: app.access().nodes().tokens().iter().map(info).collect() })
}

#[derive(Deserialize)]
struct Create {
    ttl: Option<String>,
    uses: Option<u32>,
    #[serde(default)]
    node_ids: Vec<String>,
}

pub(super) async fn create_token(
    State(app): State<App>,
    Asking(author): Asking,
    request: Request,
) -> Result<Response, Refusal> {
    let Create { ttl, uses, node_ids } = body::object(request).await?;
    let new = NewNodeToken::read(ttl.as_deref(), uses, node_ids)
        .map_err(|problem: Problem| Refusal::bad_request(Problems::from(problem)))?;
    let (text, token) =
        app.access().nodes().create_token(new, &author.actor).await.map_err(AppError::from)?;
    let mut told = info(&token);
    told["token"] = text.into();
    Ok((StatusCode::CREATED, [(header::CACHE_CONTROL, "no-store")], Json(told)).into_response())
}

pub(super) async fn delete_token(
    State(app): State<App>,
    Path(id): Path<i64>,
) -> Result<Json<Value>, Refusal> {
    app.access().nodes().revoke_token(id).await.map_err(AppError::from)?;
    Ok(Json(json!({ "id": id, "state": "revoked" })))
}

pub(super) async fn revoke(
    State(app): State<App>,
    Asking(author): Asking,
    Path(id): Path<String>,
) -> Result<Json<Value>, Refusal> {
    app.access().nodes().revoke(&id, &author.actor).await.map_err(AppError::from)?;
    Ok(Json(json!({ "id": id, "revoked": true, "known": app.knows_node(&id) })))
}

pub(super) async fn allow(
    State(app): State<App>,
    Asking(author): Asking,
    Path(id): Path<String>,
) -> Result<Json<Value>, Refusal> {
    let permit_expires = match app.allow_node(&id, &author.actor).await? {
        Allowed::Rejoin => None,
        Allowed::Beside(until) => Some(rfc3339(until)),
    };
    Ok(Json(json!({ "id": id, "revoked": false, "permit_expires": permit_expires })))
}

pub(super) async fn exclude(
    State(app): State<App>,
    Asking(author): Asking,
    Path(id): Path<String>,
) -> Result<Json<Value>, Refusal> {
    app.exclude_node(&id, true, &author.actor).await?;
    Ok(Json(json!({ "id": id, "excluded": true })))
}

pub(super) async fn include(
    State(app): State<App>,
    Asking(author): Asking,
    Path(id): Path<String>,
) -> Result<Json<Value>, Refusal> {
    app.exclude_node(&id, false, &author.actor).await?;
    Ok(Json(json!({ "id": id, "excluded": false })))
}
