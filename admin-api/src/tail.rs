//! Requests as they complete: `/reports/tail`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Query of `GET /reports/tail`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct TailQuery {
    /// Only requests of this route.
    pub route: Option<String>,
    /// Only requests of this pool.
    pub pool: Option<String>,
    /// Only requests of this backend: its id or its URL.
    pub backend: Option<String>,
    /// Only requests for this host.
    pub host: Option<String>,
    /// Only requests with this method.
    pub method: Option<String>,
    /// Only requests whose path begins with this.
    pub path: Option<String>,
    /// Only answers with this status: `404`, `5xx` or `400-499`.
    pub status: Option<String>,
    /// Only requests that took at least this long, such as `200ms`.
    pub min_latency: Option<String>,
    /// Only requests from this address or network, such as `10.0.0.0/8`.
    pub client: Option<String>,
    /// Only requests that ended so: `finished`, `cut`, `cut_by_client`, `cut_by_backend` or `cut_by_node`.
    pub outcome: Option<String>,
}

/// A request that has ended: the data of an event named `request`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TailEvent {
    /// When it ended, RFC 3339 with milliseconds.
    pub time: String,
    /// The node that served it.
    pub node: String,
    /// The client's address.
    pub client: String,
    /// Its method.
    pub method: String,
    /// Its host.
    pub host: String,
    /// Its path, without the query.
    pub path: String,
    /// The route that took it; empty: none.
    pub route: String,
    /// The pool that it went to; empty: none.
    pub pool: String,
    /// The backend that answered it; empty: none.
    pub backend: String,
    /// The status of the answer.
    pub status: u32,
    /// Kind of the answer.
    pub kind: AnswerKind,
    /// The outcome; null when the node has an older version.
    pub outcome: Option<RequestOutcome>,
    /// Its latency; null for tunnels and streams.
    pub latency_ms: Option<f64>,
    /// From the request's head to the end of the answer.
    pub duration_ms: f64,
    /// From the request's head to the head of the answer; null: unknown.
    pub head_ms: Option<f64>,
    /// From the start of the attempt to the head of the backend's answer; null: no backend answered.
    pub upstream_ms: Option<f64>,
    /// Body bytes received from the client.
    pub bytes_in: u64,
    /// Body bytes sent to the client.
    pub bytes_out: u64,
    /// Attempts after the first.
    pub retries: u32,
    /// The request's id in `X-Request-Id`.
    pub request_id: String,
}

/// Kinds of answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AnswerKind {
    /// An ordinary answer.
    Answer,
    /// A tunnel, such as a WebSocket.
    Tunnel,
    /// Server-sent events.
    EventStream,
    /// A gRPC stream.
    GrpcStream,
}

names!(AnswerKind { Answer = "answer", Tunnel = "tunnel", EventStream = "event_stream", GrpcStream = "grpc_stream" });

/// Outcomes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RequestOutcome {
    /// The answer was sent whole.
    Finished,
    /// The client left.
    CutByClient,
    /// The backend broke off.
    CutByBackend,
    /// The node ended it.
    CutByNode,
}

names!(RequestOutcome { Finished = "finished", CutByClient = "cut_by_client", CutByBackend = "cut_by_backend", CutByNode = "cut_by_node" });
