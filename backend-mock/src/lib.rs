//! A mock backend for trying Weir: a bookstore API, health checks that can be made to fail, simulated faults,
//! streams.
//!
//! A request passes through `server` (sockets, the mock's name in each response), `faults` (simulated capacity) and
//! then the routes below, one file for each kind of response. All state is in memory.

mod books;
mod echo;
mod faults;
mod health;
mod live;
mod server;
mod streams;
mod tls;

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, atomic::AtomicBool},
};

use axum::{
    Json, Router,
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{any, get, post},
};
use serde_json::json;
use weir_process::FormerName;

pub use self::{
    faults::Faults,
    server::{Running, start, start_with_faults},
};

/// A mock backend to try Weir with: a bookstore API, injected faults, WebSocket, event streams.
#[derive(Debug, clap::Parser)]
#[command(name = "backend-mock", version)]
pub struct Arguments {
    /// Address, name and TLS.
    #[command(flatten)]
    pub config: Config,
    /// Injected faults.
    #[command(flatten)]
    pub faults: Faults,
    /// Format of the log on standard error.
    #[arg(long, env = "WEIR_LOG_FORMAT", default_value = "text", value_parser = ["text", "json"])]
    pub log_format: String,
}

impl Arguments {
    /// Former names of environment variables. `WEIR_TLS_CERT` and `WEIR_TLS_KEY` are not among them: they are a node's.
    pub const FORMER_NAMES: &[FormerName] = &[
        FormerName { argument: "listen", name: "WEIR_LISTEN", accepts: is_address, is_shared: false },
        FormerName { argument: "name", name: "WEIR_NAME", accepts: |_| true, is_shared: false },
        FormerName { argument: "tls", name: "WEIR_TLS", accepts: |_| true, is_shared: false },
        FormerName {
            argument: "tls_client_ca",
            name: "WEIR_TLS_CLIENT_CA",
            accepts: |_| true,
            is_shared: false,
        },
        FormerName { argument: "concurrency", name: "WEIR_CONCURRENCY", accepts: |_| true, is_shared: false },
        FormerName {
            argument: "service_time",
            name: "WEIR_SERVICE_TIME",
            accepts: |_| true,
            is_shared: false,
        },
        FormerName { argument: "error_rate", name: "WEIR_ERROR_RATE", accepts: |_| true, is_shared: false },
    ];
}

fn is_address(value: &std::ffi::OsStr) -> bool {
    value.to_str().is_some_and(|text| text.parse::<SocketAddr>().is_ok())
}

/// Address, name and TLS settings of a mock.
#[derive(Debug, Clone, clap::Args)]
pub struct Config {
    /// Address to listen on; port 0 takes a free one.
    #[arg(long, env = "WEIR_MOCK_LISTEN", default_value = "127.0.0.1:8082")]
    pub listen: SocketAddr,
    /// Name in the header `x-backend` of each answer [default: mock-PORT].
    #[arg(long, env = "WEIR_MOCK_NAME")]
    pub name: Option<String>,
    /// Speaks TLS with a certificate for localhost that is created at start.
    #[arg(long, env = "WEIR_MOCK_TLS", conflicts_with = "tls_cert")]
    pub tls: bool,
    /// Certificate with its chain, as PEM; the mock then speaks TLS.
    #[arg(long, env = "WEIR_MOCK_TLS_CERT", value_name = "FILE", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,
    /// Private key of --tls-cert, as PEM.
    #[arg(long, env = "WEIR_MOCK_TLS_KEY", value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
    /// CA certificates, as PEM, that the certificate of a client must be signed by.
    #[arg(long, env = "WEIR_MOCK_TLS_CLIENT_CA", value_name = "FILE")]
    pub tls_client_ca: Option<PathBuf>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8082)),
            name: None,
            tls: false,
            tls_cert: None,
            tls_key: None,
            tls_client_ca: None,
        }
    }
}

/// State shared by all requests of a mock.
struct Shop {
    name: String,
    books: books::Books,
    healthy: AtomicBool,
    faults: faults::Gate,
    /// Becomes true when the mock stops, so that WebSockets and event streams end.
    stopping: server::Stopping,
}

fn routes(shop: Arc<Shop>) -> Router {
    Router::new()
        .route("/", get(index))
        .route("/books", get(books::list).post(books::create))
        .route("/books/{id}", get(books::read).put(books::replace).patch(books::update).delete(books::delete))
        .route("/health", get(health::read).put(health::write))
        .route("/health/fail", post(health::fail))
        .route("/health/heal", post(health::heal))
        .route("/faults", get(faults::read).put(faults::write))
        .route("/echo", any(echo::echo))
        .route("/echo/{*rest}", any(echo::echo))
        .route("/slow", any(streams::slow))
        .route("/status/{code}", any(streams::status))
        .route("/bytes/{n}", get(streams::bytes))
        .route("/ws", any(live::websocket))
        .route("/events", get(live::events))
        .fallback(unknown_path)
        .method_not_allowed_fallback(unknown_method)
        .with_state(shop)
}

async fn index(axum::extract::State(shop): axum::extract::State<Arc<Shop>>) -> Response {
    let paths = [
        "/books",
        "/books/{id}",
        "/health",
        "/faults",
        "/echo",
        "/slow?ms=",
        "/status/{code}",
        "/bytes/{n}",
        "/ws",
        "/events?n=&ms=",
    ];
    Json(json!({"backend": shop.name, "paths": paths})).into_response()
}

async fn unknown_path() -> Response {
    problem(StatusCode::NOT_FOUND, "no such path")
}

async fn unknown_method() -> Response {
    problem(StatusCode::METHOD_NOT_ALLOWED, "this path does not support this method")
}

/// A response that says what is wrong with the request.
fn problem(status: StatusCode, error: &str) -> Response {
    (status, Json(json!({"error": error}))).into_response()
}
