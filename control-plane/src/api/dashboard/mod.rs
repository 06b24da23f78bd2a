//! The dashboard on the admin port: pages rendered on the server, kept live by server-sent events, and plain forms that
//! call the use cases. It works offline and without scripts. The content security policy allows only the dashboard's
//! own two files.
//!
//! A page is a function from the current state to HTML. The same function serves the page and, whenever its output
//! changes, the stream that keeps it live. Access is decided by the gate in front of it (`api::access`).

mod actions;
mod attention;
mod audit;
mod certificates;
mod chart;
mod explain;
mod format;
mod layout;
mod live;
mod nodes;
mod overview;
mod page_query;
mod pools;
mod reports;
mod revisions;
mod routes;
mod tail;
mod time_axis;

use axum::{
    Router,
    extract::{Query, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use maud::Markup;
use serde::Deserialize;

use self::page_query::PageQuery;
use crate::{
    access::{Need, Role, table},
    app::{App, AppError},
    stats::ReportError,
    store::StoreError,
};

/// Allows no external and no inline resources.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; \
                      form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// The pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Page {
    Overview,
    Pools,
    Routes,
    Explain,
    Nodes,
    Reports,
    Tail,
    Revisions,
    Audit,
}

impl Page {
    const ALL: [Self; 9] = [
        Self::Overview,
        Self::Pools,
        Self::Routes,
        Self::Explain,
        Self::Nodes,
        Self::Reports,
        Self::Tail,
        Self::Revisions,
        Self::Audit,
    ];

    fn path(self) -> &'static str {
        match self {
            Self::Overview => "/",
            Self::Pools => "/ui/pools",
            Self::Routes => "/ui/routes",
            Self::Explain => "/ui/explain",
            Self::Nodes => "/ui/nodes",
            Self::Reports => "/ui/reports",
            Self::Tail => "/ui/tail",
            Self::Revisions => "/ui/revisions",
            Self::Audit => "/ui/audit",
        }
    }

    fn title(self) -> &'static str {
        match self {
            Self::Overview => "Overview",
            Self::Pools => "Pools and backends",
            Self::Routes => "Routes",
            Self::Explain => "Explain a request",
            Self::Nodes => "Nodes",
            Self::Reports => "Reports",
            Self::Tail => "Live requests",
            Self::Revisions => "Revisions",
            Self::Audit => "Audit",
        }
    }

    /// A short name for the navigation.
    fn name(self) -> &'static str {
        match self {
            Self::Pools => "Pools",
            Self::Explain => "Explain",
            Self::Tail => "Tail",
            page => page.title(),
        }
    }

    /// Returns true if this role may see the page.
    fn is_for(self, role: Role) -> bool {
        match table::http("GET", Some(self.path())).need {
            Need::Role(needed) => role >= needed,
            Need::Nothing => true,
        }
    }

    /// The part that does not change while the page is open.
    async fn still(self, app: &App, params: &PageQuery) -> Result<Markup, Trouble> {
        Ok(match self {
            Self::Reports => reports::form(app, params),
            Self::Tail => tail::page(app, params),
            Self::Explain => explain::form(params),
            _ => Markup::default(),
        })
    }

    /// The part that is updated while the page is open.
    async fn live(self, app: &App, params: &PageQuery) -> Result<Markup, Trouble> {
        match self {
            Self::Overview => overview::page(app).await,
            Self::Pools => pools::page(app).await,
            Self::Routes => Ok(maud::html! { (routes::page(app).await?) (certificates::section(app)) }),
            Self::Explain => explain::page(app, params),
            Self::Nodes => Ok(nodes::page(app)),
            Self::Reports => reports::page(app, params).await,
            Self::Tail => Ok(Markup::default()),
            Self::Revisions => revisions::page(app, params).await,
            Self::Audit => audit::page(app, params).await,
        }
    }
}

/// Why a page cannot be shown, or a form had no effect.
struct Trouble {
    status: StatusCode,
    says: String,
}

impl From<AppError> for Trouble {
    fn from(error: AppError) -> Self {
        let status = match &error {
            AppError::Invalid(_) => StatusCode::BAD_REQUEST,
            AppError::NotFound(..) | AppError::Missing(_) => StatusCode::NOT_FOUND,
            AppError::Conflict(_) => StatusCode::CONFLICT,
            AppError::Outdated { .. } => StatusCode::PRECONDITION_FAILED,
            AppError::Internal(_) => StatusCode::INTERNAL_SERVER_ERROR,
            AppError::Store(error) => {
                tracing::error!(%error, "the dashboard cannot use the database");
                match error {
                    StoreError::Unavailable { .. } => StatusCode::SERVICE_UNAVAILABLE,
                    _ => StatusCode::INTERNAL_SERVER_ERROR,
                }
            }
        };
        Self { status, says: error.to_string() }
    }
}

impl From<ReportError> for Trouble {
    fn from(error: ReportError) -> Self {
        let status = match &error {
            ReportError::Invalid(_) => StatusCode::BAD_REQUEST,
            ReportError::Store(_) => {
                tracing::error!(%error, "report failed");
                StatusCode::INTERNAL_SERVER_ERROR
            }
        };
        Self { status, says: error.to_string() }
    }
}

impl IntoResponse for Trouble {
    fn into_response(self) -> Response {
        let mut response = layout::trouble(&self.says).into_response();
        *response.status_mut() = self.status;
        response
    }
}

/// The dashboard's routes.
pub fn router(app: App) -> Router {
    let mut router = Router::new();
    for page in Page::ALL {
        router = router.route(
            page.path(),
            get(move |State(app): State<App>, Query(params): Query<PageQuery>| async move {
                show(&app, page, params).await
            }),
        );
    }
    router
        .route("/ui/revisions/{n}", get(revisions::one))
        .route("/ui/events", get(live::events))
        .route("/ui/backends", post(actions::add))
        .route("/ui/backends/{id}", post(actions::update))
        .route("/ui/pools/{name}/strategy", post(actions::strategy))
        .route("/ui/revisions/{n}/rollback", post(actions::rollback))
        .route("/ui/icon.svg", get(async || file("image/svg+xml", include_str!("icon.svg"))))
        .route("/ui/style.css", get(async || file("text/css; charset=utf-8", include_str!("style.css"))))
        .route(
            "/ui/script.js",
            get(async || file("text/javascript; charset=utf-8", include_str!("script.js"))),
        )
        .layer(axum::Extension(live::Live::default()))
        .layer(axum::middleware::map_response(async |answer| with_policy(answer)))
        .with_state(app)
}

async fn show(app: &App, page: Page, params: PageQuery) -> Result<Markup, Trouble> {
    let still = page.still(app, &params).await?;
    let live = match page.live(app, &params).await {
        Ok(live) => live,
        // A form with invalid input is shown again, with the errors below it.
        Err(trouble) if trouble.status == StatusCode::BAD_REQUEST => layout::problem(&trouble.says),
        Err(trouble) => return Err(trouble),
    };
    Ok(layout::page(page, &live::address(page, &params), &still, &live))
}

fn file(kind: &'static str, text: &'static str) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, "no-cache")], text)
}

/// A page without navigation, for a client that is not logged in.
pub(crate) fn plain(title: &str, content: &Markup) -> Response {
    with_policy(layout::plain(title, content).into_response())
}

/// A page that says why a request was rejected.
pub(crate) fn refused(says: &str) -> Response {
    with_policy(layout::trouble(says).into_response())
}

fn with_policy(mut response: Response) -> Response {
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "same-origin"),
        (header::X_FRAME_OPTIONS, "DENY"),
    ] {
        headers.insert(name, header::HeaderValue::from_static(value));
    }
    if !headers.contains_key(header::CACHE_CONTROL) {
        headers.insert(header::CACHE_CONTROL, header::HeaderValue::from_static("no-store"));
    }
    response
}

/// Returns true if a request that may change something comes from this dashboard or from a program that is not a
/// browser, rather than from another site's page. Browsers send headers that name the origin; other programs do not.
pub(crate) fn is_own(headers: &axum::http::HeaderMap, uri: &axum::http::Uri) -> bool {
    let text = |name: &str| headers.get(name).map(|value| value.as_bytes());
    match text("sec-fetch-site") {
        Some(b"same-origin" | b"none") => return true,
        Some(_) => return false,
        None => {}
    }
    let Some(origin) = text("origin") else { return true };
    let host = text("host").or(uri.authority().map(|authority| authority.as_str().as_bytes()));
    let origin = std::str::from_utf8(origin).ok().and_then(|origin| origin.split_once("://"));
    origin.is_some_and(|(_, authority)| Some(authority.as_bytes()) == host)
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderMap, HeaderName, HeaderValue, Uri};

    use super::is_own;

    #[test]
    fn only_pages_of_this_origin_and_programs_may_change_something() {
        let params = |given: &[(&'static str, &'static str)]| {
            let name = |name| HeaderName::from_static(name);
            let headers: HeaderMap =
                given.iter().map(|(key, value)| (name(key), HeaderValue::from_static(value))).collect();
            is_own(&headers, &Uri::from_static("/ui/backends"))
        };
        assert!(params(&[("host", "127.0.0.1:8081")]));
        assert!(params(&[("sec-fetch-site", "same-origin")]));
        assert!(params(&[("host", "a:1"), ("origin", "http://a:1")]));
        assert!(!params(&[("sec-fetch-site", "cross-site")]));
        assert!(!params(&[("sec-fetch-site", "same-site")]));
        assert!(!params(&[("host", "a:1"), ("origin", "http://b:1")]));
        assert!(!params(&[("host", "a:1"), ("origin", "null")]));
    }
}
