//! `/reports/tail`: requests as they end, as server-sent events.

use std::convert::Infallible;

use axum::{
    extract::{Query as Parameters, State, rejection::QueryRejection},
    response::{
        IntoResponse, Response,
        sse::{Event, KeepAlive, Sse},
    },
};
use serde_json::{Value, json};
use weir_proto::v1::{AnswerKind, TailEvent};
use weir_snapshot::Problems;

use crate::stats::{ReportError, Stats, TailQuery, outcome_name};

type Given = Result<Parameters<Vec<(String, String)>>, QueryRejection>;

/// Events named `request`, and `dropped` with a number when there were too many.
pub(super) async fn tail(State(stats): State<Stats>, given: Given) -> Result<Response, ReportError> {
    let mut watching = stats.watch(&read(given)?).await?;
    let (send, receive) = tokio::sync::mpsc::channel::<Result<Event, Infallible>>(16);
    tokio::spawn(async move {
        loop {
            let (events, dropped) = tokio::select! {
                next = watching.next() => next,
                () = send.closed() => return,
            };
            let told =
                events.iter().map(|event| Event::default().event("request").data(to_json(event).to_string()));
            let lost = (dropped > 0).then(|| Event::default().event("dropped").data(dropped.to_string()));
            for event in told.chain(lost) {
                if send.send(Ok(event)).await.is_err() {
                    return;
                }
            }
        }
    });
    let stream = tokio_stream::wrappers::ReceiverStream::new(receive);
    Ok(Sse::new(stream).keep_alive(KeepAlive::default()).into_response())
}

fn read(given: Given) -> Result<TailQuery, ReportError> {
    let mut problems = Problems::default();
    let Parameters(given) = given.map_err(|error| {
        let mut problems = Problems::default();
        problems.add("", error.body_text());
        ReportError::Invalid(problems)
    })?;
    let mut query = TailQuery::default();
    for (name, value) in given {
        let value = Some(value);
        match name.as_str() {
            "route" => query.route = value,
            "pool" => query.pool = value,
            "backend" => query.backend = value,
            "host" => query.host = value,
            "method" => query.method = value,
            "path" => query.path = value,
            "status" => query.status = value,
            "min_latency" => query.min_latency = value,
            "client" => query.client = value,
            "outcome" => query.outcome = value,
            unknown => {
                let known = "route, pool, backend, host, method, path, status, min_latency, client, outcome";
                problems.add(unknown, format!("unknown parameter (known: {known})"));
            }
        }
    }
    problems.into_result(query).map_err(ReportError::Invalid)
}

#[allow(clippy::cast_precision_loss, reason = "microseconds of a request are far below 2^53")]
fn to_json(event: &TailEvent) -> Value {
    let is_stream = !matches!(event.kind(), AnswerKind::Unspecified | AnswerKind::Answer);
    let millis = |micros: u64| micros as f64 / 1000.0;
    json!({
        "time": crate::time::rfc3339_ms(i64::try_from(event.time_ms).unwrap_or_default()),
        "node": event.node,
        "client": event.client,
        "method": event.method,
        "host": event.host,
        "path": event.path,
        "route": event.route,
        "pool": event.pool,
        "backend": event.backend,
        "status": event.status,
        "kind": match event.kind() {
            AnswerKind::Unspecified | AnswerKind::Answer => "answer",
            AnswerKind::Tunnel => "tunnel",
            AnswerKind::EventStream => "event_stream",
            AnswerKind::GrpcStream => "grpc_stream",
        },
        "outcome": outcome_name(event.outcome()),
        "latency_ms": if is_stream { Value::Null } else { millis(event.latency_us).into() },
        "duration_ms": millis(event.latency_us),
        "head_ms": if event.head_us == 0 { Value::Null } else { millis(event.head_us).into() },
        "upstream_ms": if event.upstream_us == 0 { Value::Null } else { millis(event.upstream_us).into() },
        "bytes_in": event.bytes_in,
        "bytes_out": event.bytes_out,
        "retries": event.retries,
        "request_id": event.request_id,
    })
}
