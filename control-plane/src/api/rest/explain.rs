//! `/explain`: where a request would go.

use axum::{Json, extract::State};
use weir_snapshot::{Problems, explain::Asked};

use super::extract::Query;
use super::problem::Refusal;
use crate::app::{App, Explained};

/// `?method=GET&url=http://host/path&header=name: value&header=…&client=IP`.
pub(super) async fn get(
    State(app): State<App>,
    Query(pairs): Query<Vec<(String, String)>>,
) -> Result<Json<Explained>, Refusal> {
    let (mut method, mut url, mut headers, mut client) = ("GET".to_owned(), String::new(), Vec::new(), None);
    let mut problems = Problems::default();
    for (name, value) in pairs {
        match name.as_str() {
            "method" => method = value,
            "url" => url = value,
            "header" => headers.push(value),
            "client" => client = Some(value),
            _ => problems.add(name, "unknown parameter (known: method, url, header, client)"),
        }
    }
    if !problems.0.is_empty() {
        return Err(Refusal::bad_request(problems));
    }
    let asked = Asked::read(&method, &url, &headers, client.as_deref());
    Ok(Json(app.explain(&asked.map_err(Refusal::bad_request)?)))
}
