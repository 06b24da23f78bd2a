//! `/health`, which can be made to fail: `PUT /health {"healthy": false}`, or `POST /health/fail`.

use std::sync::{Arc, atomic::Ordering};

use axum::{
    Json,
    extract::{State, rejection::JsonRejection},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::{Shop, problem};

/// The body of `PUT /health`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Wish {
    healthy: bool,
}

pub(crate) async fn read(State(shop): State<Arc<Shop>>) -> Response {
    if shop.healthy.load(Ordering::Relaxed) {
        Json(json!({"status": "ok"})).into_response()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, Json(json!({"status": "failing"}))).into_response()
    }
}

pub(crate) async fn write(
    State(shop): State<Arc<Shop>>,
    body: Result<Json<Wish>, JsonRejection>,
) -> Response {
    match body {
        Ok(Json(wish)) => set(&shop, wish.healthy).into_response(),
        Err(rejection) => problem(rejection.status(), &rejection.body_text()),
    }
}

pub(crate) async fn fail(State(shop): State<Arc<Shop>>) -> Json<Wish> {
    set(&shop, false)
}

pub(crate) async fn heal(State(shop): State<Arc<Shop>>) -> Json<Wish> {
    set(&shop, true)
}

fn set(shop: &Shop, healthy: bool) -> Json<Wish> {
    tracing::info!(healthy, "health set");
    shop.healthy.store(healthy, Ordering::Relaxed);
    Json(Wish { healthy })
}
