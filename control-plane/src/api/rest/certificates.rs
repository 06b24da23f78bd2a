//! `/certificates`. A private key goes in, and never out.

use axum::{
    Json,
    extract::{Request, State},
    http::StatusCode,
};
use serde_json::{Value, json};
use weir_snapshot::config::Certificate;

use super::extract::Path;
use super::{
    Asking, Items, body,
    guard::{Guarded, Tag, Tagged},
    pools::created_or_ok,
    problem::Refusal,
};
use crate::app::{App, CertificateInfo};

pub(super) async fn list(State(app): State<App>) -> Tagged<Json<Items<CertificateInfo>>> {
    Tagged(Tag::of(&app), Json(Items { items: app.certificates() }))
}

pub(super) async fn one(
    State(app): State<App>,
    Path(name): Path<String>,
) -> Result<Tagged<Json<Value>>, Refusal> {
    let tag = Tag::of(&app);
    let (info, cert) = app.certificate(&name)?;
    let mut told = json!(info);
    told["cert"] = cert.into();
    Ok(Tagged(tag, Json(told)))
}

pub(super) async fn put(
    Guarded(app): Guarded,
    Asking(author): Asking,
    Path(name): Path<String>,
    request: Request,
) -> Result<(StatusCode, Tagged<Json<Value>>), Refusal> {
    let certificate: Certificate = body::named("certificates[0]", &name, request).await?;
    let created = app.put_certificate(&author, certificate).await;
    let created = created.map_err(|error| Refusal::of_one("certificates", error))?;
    Ok((created_or_ok(created), one(State(app), Path(name)).await?))
}

pub(super) async fn delete(
    Guarded(app): Guarded,
    Asking(author): Asking,
    Path(name): Path<String>,
) -> Result<Json<Value>, Refusal> {
    Ok(Json(json!({ "revision": app.delete_certificate(&author, &name).await? })))
}
