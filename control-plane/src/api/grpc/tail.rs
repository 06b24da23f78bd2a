//! `Tail`: requests as they end.

use std::pin::Pin;

use futures_util::Stream;
use tonic::Status;
use weir_proto::v1;
use weir_snapshot::units::HumanDuration;

use super::{
    failure::Failure,
    given,
    names::Named as _,
    reports,
    values::{duration_of, micros, time},
};
use crate::stats::{Stats, TailQuery};

/// The responses of one call.
pub(super) type Events = Pin<Box<dyn Stream<Item = Result<v1::TailResponse, Status>> + Send>>;

pub(super) async fn tail(stats: &Stats, request: v1::TailRequest) -> Result<Events, Status> {
    let query = query(request).map_err(|error| Status::from(Failure::from(error)))?;
    let watching = stats.watch(&query).await.map_err(|error| reports::failed(error, field))?;
    let stream = futures_util::stream::unfold(watching, async |mut watching| {
        let (events, dropped) = watching.next().await;
        let events = events.into_iter().map(event).collect();
        Some((Ok(v1::TailResponse { events, dropped }), watching))
    });
    Ok(Box::pin(stream))
}

/// The field of the request that a parameter was in.
fn field(parameter: &str) -> String {
    match parameter {
        "path" => "path_prefix",
        "outcome" => "outcomes",
        same => same,
    }
    .to_owned()
}

fn query(request: v1::TailRequest) -> Result<TailQuery, crate::app::AppError> {
    let v1::TailRequest { route, pool, backend, host, method, path_prefix, status, .. } = request;
    let status =
        status.map(|v1::StatusRange { from, to }| format!("{from}-{}", if to == 0 { from } else { to }));
    let min_latency = duration_of("min_latency", request.min_latency)?;
    let outcomes = request.outcomes.into_iter().map(|outcome| v1::Outcome::name("outcomes", outcome));
    let outcomes = outcomes.collect::<Result<Vec<_>, _>>()?;
    Ok(TailQuery {
        route: given(route),
        pool: given(pool),
        backend: given(backend),
        host: given(host),
        method: given(method),
        path: given(path_prefix),
        status,
        min_latency: min_latency.map(|latency| HumanDuration(latency).to_string()),
        client: given(request.client),
        outcome: given(outcomes.into_iter().flatten().collect::<Vec<_>>().join(",")),
    })
}

fn event(event: v1::TailEvent) -> v1::RequestEvent {
    let known = |us: u64| (us > 0).then(|| micros(us));
    v1::RequestEvent {
        time: Some(time(i64::try_from(event.time_ms).unwrap_or(i64::MAX))),
        kind: event.kind,
        outcome: event.outcome,
        duration: Some(micros(event.latency_us)),
        head_latency: known(event.head_us),
        upstream_latency: known(event.upstream_us),
        node: event.node,
        client: event.client,
        method: event.method,
        host: event.host,
        path: event.path,
        route: event.route,
        pool: event.pool,
        backend: event.backend,
        status: event.status,
        bytes_in: event.bytes_in,
        bytes_out: event.bytes_out,
        retries: event.retries,
        request_id: event.request_id,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_read_as_the_query_that_rest_has() {
        let request = v1::TailRequest {
            path_prefix: "/v1".into(),
            status: Some(v1::StatusRange { from: 404, to: 0 }),
            min_latency: Some(prost_types::Duration { seconds: 1, nanos: 500_000_000 }),
            outcomes: vec![v1::Outcome::CutByNode.into(), v1::Outcome::Finished.into()],
            ..Default::default()
        };
        let expected = TailQuery {
            path: Some("/v1".into()),
            status: Some("404-404".into()),
            min_latency: Some("1500ms".into()),
            outcome: Some("cut_by_node,finished".into()),
            ..Default::default()
        };
        assert_eq!(query(request).unwrap(), expected);
        assert_eq!(query(v1::TailRequest::default()).unwrap(), TailQuery::default());
        let negative = prost_types::Duration { seconds: -1, nanos: 0 };
        for wrong in [
            v1::TailRequest { min_latency: Some(negative), ..Default::default() },
            v1::TailRequest { outcomes: vec![99], ..Default::default() },
        ] {
            assert!(query(wrong).is_err());
        }
    }

    #[test]
    fn an_event_has_no_latency_that_is_not_known() {
        let read =
            event(v1::TailEvent { time_ms: 1_500, latency_us: 2_000_001, head_us: 7, ..Default::default() });
        let duration = |seconds, nanos| Some(prost_types::Duration { seconds, nanos });
        assert_eq!(read.duration, duration(2, 1_000));
        assert_eq!((read.head_latency, read.upstream_latency), (duration(0, 7_000), None));
    }
}
