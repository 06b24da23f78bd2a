//! The dashboard's login: exchanges a token for a session. The token is sent once, in a form, and is not stored.

use axum::{
    Form, Router,
    extract::{ConnectInfo, DefaultBodyLimit, State},
    http::{HeaderMap, StatusCode, Uri, header},
    response::{IntoResponse as _, Redirect, Response},
    routing::{get, post},
};
use maud::html;
use serde::Deserialize;

use super::{Gate, Peer, cookie};
use crate::{access::Outcome, api::dashboard, store::AuditEntry};

/// Login and logout.
pub(crate) fn router(gate: Gate) -> Router {
    Router::new()
        .route("/ui/login", get(async |uri: Uri| page(&uri)).post(log_in))
        .route("/ui/logout", post(log_out))
        // Every client may send this form, and it only holds a token and a path.
        .layer(DefaultBodyLimit::max(16 << 10))
        .with_state(gate)
}

/// The login page. After the login it redirects to the page that was requested.
pub(super) fn page(uri: &Uri) -> Response {
    let next = if uri.path() == "/ui/login" { "/".to_owned() } else { back(&uri.to_string()) };
    form(&next, None)
}

fn form(next: &str, wrong: Option<&str>) -> Response {
    dashboard::plain(
        "Log in",
        &html! {
            section class="card login" {
                @if let Some(says) = wrong { p class="wrong" role="alert" { (says) } }
                form class="session" method="post" action="/ui/login" {
                    input type="hidden" name="next" value=(next);
                    label {
                        "Token"
                        input name="token" type="password" required autofocus autocomplete="off" spellcheck="false" placeholder="weir_…";
                    }
                    button class="primary" { "Log in" }
                }
                p class="soft" {
                    "An admin makes one: " code { "weir tokens create NAME --role viewer" }
                    ". The first one is in the file that the control plane's --token-file names, or else in the log of its first start."
                }
            }
        },
    )
}

/// A path within this dashboard; anything that leads elsewhere is dropped.
fn back(path: &str) -> String {
    let is_own = path.starts_with('/')
        && !path.starts_with("//")
        && !path.contains('\\')
        && !path.starts_with("/ui/log");
    let is_page = path == "/" || path.starts_with("/?") || path.starts_with("/ui/");
    if is_own && is_page && !path.contains(char::is_control) { path.to_owned() } else { "/".to_owned() }
}

#[derive(Deserialize)]
struct LogIn {
    token: String,
    #[serde(default)]
    next: String,
}

async fn log_in(
    State(gate): State<Gate>,
    peer: Option<axum::Extension<ConnectInfo<Peer>>>,
    Form(LogIn { token, next }): Form<LogIn>,
) -> Response {
    let peer = peer.map(|peer| peer.0.0);
    let actor = peer
        .map_or_else(|| "anonymous".into(), |peer| format!("anonymous@{}", peer.address.ip().to_canonical()));
    let entry =
        AuditEntry { source: "dashboard".into(), action: "POST /ui/login".into(), ..AuditEntry::default() };
    let begun = match gate.access.log_in(token.trim()) {
        Ok(begun) => begun,
        Err(error) => {
            tracing::error!(%error, "no session can be begun");
            return StatusCode::INTERNAL_SERVER_ERROR.into_response();
        }
    };
    match begun {
        Ok((secret, token)) => {
            let entry = AuditEntry {
                actor: token.name.clone(),
                role: token.role.to_string(),
                outcome: Outcome::Ok.as_str().into(),
                ..entry
            };
            gate.access.record(entry).await;
            let mut answer = Redirect::to(&back(&next)).into_response();
            let set = cookie::set(&secret, peer.is_some_and(|peer| peer.tls));
            answer.headers_mut().extend(set.map(|value| (header::SET_COOKIE, value)));
            answer
        }
        Err(unknown) => {
            gate.access.record_refusal(AuditEntry { actor, detail: unknown.to_string(), ..entry }).await;
            let mut answer = form(&back(&next), Some(&unknown.to_string()));
            *answer.status_mut() = StatusCode::UNAUTHORIZED;
            answer
        }
    }
}

async fn log_out(
    State(gate): State<Gate>,
    peer: Option<axum::Extension<ConnectInfo<Peer>>>,
    headers: HeaderMap,
) -> Response {
    let is_tls = peer.is_some_and(|peer| peer.0.0.tls);
    if let Some(secret) = cookie::read(&headers, is_tls) {
        gate.access.log_out(secret);
    }
    let mut answer = Redirect::to("/ui/login").into_response();
    answer.headers_mut().extend(cookie::clear(is_tls).map(|value| (header::SET_COOKIE, value)));
    answer
}

#[cfg(test)]
mod tests {
    use super::back;

    #[test]
    fn a_login_leads_nowhere_else() {
        for fine in ["/", "/ui/pools", "/ui/reports?from=a", "/?x=1"] {
            assert_eq!(back(fine), fine);
        }
        for wrong in [
            "",
            "//evil.example",
            "https://evil.example",
            "/\\evil.example",
            "/ui/\\x",
            "/status",
            "/ui/logout",
            "/ui/a\r\nb",
        ] {
            assert_eq!(back(wrong), "/", "{wrong}");
        }
    }
}
