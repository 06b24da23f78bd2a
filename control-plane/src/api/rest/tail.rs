//! `/reports/tail`: requests as they complete, as server-sent events.

use std::convert::Infallible;

use axum::response::{
    IntoResponse as _, Response,
    sse::{Event, KeepAlive, Sse},
};
use weir_admin_api::{AnswerKind, RequestOutcome, TailEvent, TailQuery};
use weir_proto::v1;

use super::{problem::Refusal, serve::Call};
use crate::{
    stats::{Stats, TailQuery as Filter},
    time::rfc3339_ms,
};

/// Events named `request`. An event named `dropped` holds the number of events that were dropped because there were too
/// many.
pub(super) async fn tail(call: Call<(), TailQuery, (), Stats>) -> Result<Response, Refusal> {
    let mut watching = call.app.watch(&filter(call.query)).await?;
    let (send, receive) = tokio::sync::mpsc::channel::<Result<Event, Infallible>>(16);
    tokio::spawn(async move {
        loop {
            let (events, dropped) = tokio::select! {
                next = watching.next() => next,
                () = send.closed() => return,
            };
            let requests = events
                .into_iter()
                .filter_map(|event| Event::default().event("request").json_data(tail_event(event)).ok());
            let lost = (dropped > 0).then(|| Event::default().event("dropped").data(dropped.to_string()));
            for event in requests.chain(lost) {
                if send.send(Ok(event)).await.is_err() {
                    return;
                }
            }
        }
    });
    let stream = tokio_stream::wrappers::ReceiverStream::new(receive);
    Ok(Sse::new(stream).keep_alive(KeepAlive::default()).into_response())
}

fn filter(query: TailQuery) -> Filter {
    let TailQuery { route, pool, backend, host, method, path, status, min_latency, client, outcome } = query;
    Filter { route, pool, backend, host, method, path, status, min_latency, client, outcome }
}

#[allow(clippy::cast_precision_loss, reason = "microseconds of a request are far below 2^53")]
fn tail_event(event: v1::TailEvent) -> TailEvent {
    let kind = match event.kind() {
        v1::AnswerKind::Unspecified | v1::AnswerKind::Answer => AnswerKind::Answer,
        v1::AnswerKind::Tunnel => AnswerKind::Tunnel,
        v1::AnswerKind::EventStream => AnswerKind::EventStream,
        v1::AnswerKind::GrpcStream => AnswerKind::GrpcStream,
    };
    let outcome = match event.outcome() {
        v1::Outcome::Unspecified => None,
        v1::Outcome::Finished => Some(RequestOutcome::Finished),
        v1::Outcome::CutByClient => Some(RequestOutcome::CutByClient),
        v1::Outcome::CutByBackend => Some(RequestOutcome::CutByBackend),
        v1::Outcome::CutByNode => Some(RequestOutcome::CutByNode),
    };
    let millis = |micros: u64| micros as f64 / 1000.0;
    let known = |micros: u64| (micros > 0).then(|| millis(micros));
    TailEvent {
        time: rfc3339_ms(i64::try_from(event.time_ms).unwrap_or_default()),
        latency_ms: (kind == AnswerKind::Answer).then(|| millis(event.latency_us)),
        duration_ms: millis(event.latency_us),
        head_ms: known(event.head_us),
        upstream_ms: known(event.upstream_us),
        node: event.node,
        client: event.client,
        method: event.method,
        host: event.host,
        path: event.path,
        route: event.route,
        pool: event.pool,
        backend: event.backend,
        status: event.status,
        kind,
        outcome,
        bytes_in: event.bytes_in,
        bytes_out: event.bytes_out,
        retries: event.retries,
        request_id: event.request_id,
    }
}
