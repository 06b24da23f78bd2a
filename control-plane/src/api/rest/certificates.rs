//! `/certificates`. A private key goes in, and never out.

use axum::{
    Json,
    extract::{Request, State},
    http::StatusCode,
};
use serde_json::{Value, json};
use weir_snapshot::config::Certificate;

use super::extract::Path;
use super::{Asking, Items, body, pools::created_or_ok, problem::Refusal};
use crate::app::{App, CertificateInfo};

pub(super) async fn list(State(app): State<App>) -> Json<Items<CertificateInfo>> {
    Json(Items { items: app.certificates() })
}

pub(super) async fn one(State(app): State<App>, Path(name): Path<String>) -> Result<Json<Value>, Refusal> {
    let (info, cert) = app.certificate(&name)?;
    let mut told = json!(info);
    told["cert"] = cert.into();
    Ok(Json(told))
}

pub(super) async fn put(
    State(app): State<App>,
    Asking(author): Asking,
    Path(name): Path<String>,
    request: Request,
) -> Result<(StatusCode, Json<Value>), Refusal> {
    let certificate: Certificate = body::named("certificates[0]", &name, request).await?;
    let created = app.put_certificate(&author, certificate).await;
    let created = created.map_err(|error| Refusal::of_one("certificates", error))?;
    Ok((created_or_ok(created), one(State(app), Path(name)).await?))
}

pub(super) async fn delete(
    State(app): State<App>,
    Asking(author): Asking,
    Path(name): Path<String>,
) -> Result<Json<Value>, Refusal> {
    Ok(Json(json!({ "revision": app.delete_certificate(&author, &name).await? })))
}
