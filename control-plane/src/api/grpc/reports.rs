//! The gRPC service `Reports`: a translation of the use cases in [`crate::stats`].

use std::{
    collections::{BTreeMap, HashMap},
    pin::Pin,
};

use futures_util::Stream;
use tonic::{Request, Response, Status};
use weir_proto::v1::{self, reports_server};

use crate::stats::{
    Cut, Latency, Nodes, PeriodCount, Query, Rejected, Report, ReportError, Stats, Summary, TailQuery, Top,
    TopQuery,
};

/// The service, to be wrapped in [`reports_server::ReportsServer`].
#[derive(Debug, Clone)]
pub struct Reports {
    stats: Stats,
}

impl Reports {
    /// Reports from these statistics.
    pub fn new(stats: Stats) -> Self {
        Self { stats }
    }

    /// The service, ready to be added to a server.
    pub fn service(stats: Stats) -> reports_server::ReportsServer<Self> {
        reports_server::ReportsServer::new(Self::new(stats))
    }
}

#[tonic::async_trait]
impl reports_server::Reports for Reports {
    type TailStream = Pin<Box<dyn Stream<Item = Result<v1::TailResponse, Status>> + Send>>;

    async fn tail(&self, request: Request<v1::TailRequest>) -> Result<Response<Self::TailStream>, Status> {
        let request = request.into_inner();
        let given = |value: String| Some(value).filter(|value| !value.is_empty());
        let query = TailQuery {
            route: given(request.route),
            pool: given(request.pool),
            backend: given(request.backend),
            host: given(request.host),
            method: given(request.method),
            path: given(request.path_prefix),
            status: given(request.status),
            min_latency: given(request.min_latency),
            client: given(request.client),
            outcome: given(request.outcome),
        };
        let watching = self.stats.watch(&query).await.map_err(refuse)?;
        let stream = futures_util::stream::unfold(watching, async |mut watching| {
            let (events, dropped) = watching.next().await;
            Some((Ok(v1::TailResponse { events, dropped }), watching))
        });
        Ok(Response::new(Box::pin(stream)))
    }

    async fn get_hourly(
        &self,
        request: Request<v1::GetReportRequest>,
    ) -> Result<Response<v1::Report>, Status> {
        let report = self.stats.hourly(&query(request.into_inner())).await;
        Ok(Response::new(report_message(report.map_err(refuse)?)))
    }

    async fn get_daily(
        &self,
        request: Request<v1::GetReportRequest>,
    ) -> Result<Response<v1::Report>, Status> {
        let report = self.stats.daily(&query(request.into_inner())).await;
        Ok(Response::new(report_message(report.map_err(refuse)?)))
    }

    async fn get_summary(
        &self,
        request: Request<v1::GetReportRequest>,
    ) -> Result<Response<v1::Summary>, Status> {
        let summary = self.stats.summary(&query(request.into_inner())).await;
        Ok(Response::new(summary_message(summary.map_err(refuse)?)))
    }

    async fn get_minutely(
        &self,
        request: Request<v1::GetReportRequest>,
    ) -> Result<Response<v1::Report>, Status> {
        let report = self.stats.minutely(&query(request.into_inner())).await;
        Ok(Response::new(report_message(report.map_err(refuse)?)))
    }

    async fn get_top(&self, request: Request<v1::GetTopRequest>) -> Result<Response<v1::Top>, Status> {
        let v1::GetTopRequest { report, by, sort, limit } = request.into_inner();
        let limit = Some(limit).filter(|limit| *limit > 0).map(|limit| limit.to_string());
        let query = query(report.unwrap_or_default());
        let top = self.stats.top(&TopQuery { query, by: Some(by), sort: Some(sort), limit }).await;
        Ok(Response::new(top_message(top.map_err(refuse)?)))
    }
}

fn query(request: v1::GetReportRequest) -> Query {
    let given = |value: String| Some(value).filter(|value| !value.is_empty());
    Query {
        from: given(request.from),
        to: given(request.to),
        route: given(request.route),
        pool: given(request.pool),
        backend: given(request.backend),
        tz: given(request.tz),
        method: given(request.method),
        host: given(request.host),
        compare: request.compare,
    }
}

fn refuse(error: ReportError) -> Status {
    match error {
        ReportError::Invalid(problems) => Status::invalid_argument(problems.to_string()),
        ReportError::Store(error) => {
            tracing::error!(%error, "report failed");
            Status::internal("report failed, see the log")
        }
    }
}

fn report_message(report: Report) -> v1::Report {
    let periods = report.periods.into_iter().map(|period| v1::Period {
        start: period.start,
        requests: period.requests,
        status: statuses(period.status),
        bytes_in: period.bytes_in,
        bytes_out: period.bytes_out,
        latency_ms: Some(latency(period.latency_ms)),
        retries: period.retries,
        complete: period.complete,
        upstream_ms: Some(latency(period.upstream_ms)),
        state: period.state.name().to_owned(),
        nodes: Some(node_count(period.nodes)),
        rejected: Some(rejected(period.rejected)),
        cut: Some(cut(period.cut)),
        streams: period.streams,
        stream_ms: Some(latency(period.stream_ms)),
    });
    v1::Report { from: report.from, to: report.to, periods: periods.collect(), exact: report.exact }
}

fn summary_message(summary: Summary) -> v1::Summary {
    v1::Summary {
        from: summary.from,
        to: summary.to,
        requests: summary.requests,
        status: statuses(summary.status),
        bytes_in: summary.bytes_in,
        bytes_out: summary.bytes_out,
        latency_ms: Some(latency(summary.latency_ms)),
        retries: summary.retries,
        peak: summary.peak.map(period_count),
        lowest: summary.lowest.map(period_count),
        complete: summary.complete,
        state: summary.state.name().to_owned(),
        upstream_ms: Some(latency(summary.upstream_ms)),
        gaps: summary.gaps,
        nodes: Some(node_count(summary.nodes)),
        rejected: Some(rejected(summary.rejected)),
        cut: Some(cut(summary.cut)),
        streams: summary.streams,
        stream_ms: Some(latency(summary.stream_ms)),
        before: summary.before.map(|before| {
            Box::new(v1::Summary {
                from: before.from,
                to: before.to,
                requests: before.requests,
                status: statuses(before.status),
                bytes_in: before.bytes_in,
                bytes_out: before.bytes_out,
                latency_ms: Some(latency(before.latency_ms)),
                upstream_ms: Some(latency(before.upstream_ms)),
                retries: before.retries,
                complete: before.complete,
                rejected: Some(rejected(before.rejected)),
                cut: Some(cut(before.cut)),
                streams: before.streams,
                stream_ms: Some(latency(before.stream_ms)),
                ..v1::Summary::default()
            })
        }),
    }
}

fn top_message(top: Top) -> v1::Top {
    let items = top.items.into_iter().map(|item| v1::TopItem {
        name: item.name,
        url: item.url.unwrap_or_default(),
        requests: item.requests,
        share: item.share,
        errors: item.errors,
        status: statuses(item.status),
        bytes_in: item.bytes_in,
        bytes_out: item.bytes_out,
        latency_ms: Some(latency(item.latency_ms)),
        upstream_ms: Some(latency(item.upstream_ms)),
        retries: item.retries,
        rejected: Some(rejected(item.rejected)),
        cut: Some(cut(item.cut)),
        streams: item.streams,
        stream_ms: Some(latency(item.stream_ms)),
    });
    v1::Top {
        from: top.from,
        to: top.to,
        by: top.by,
        sort: top.sort,
        requests: top.requests,
        names: top.names,
        items: items.collect(),
        complete: top.complete,
        state: top.state.name().to_owned(),
    }
}

fn rejected(rejected: Rejected) -> v1::Rejected {
    let Rejected { ip_filter, method, auth, rate_limit, breaker, no_room, no_backend } = rejected;
    v1::Rejected { ip_filter, method, auth, rate_limit, breaker, no_room, no_backend }
}

fn cut(Cut { client, backend, node }: Cut) -> v1::Cut {
    v1::Cut { client, backend, node }
}

fn node_count(Nodes { expected, reported }: Nodes) -> v1::NodeCount {
    v1::NodeCount { expected, reported }
}

fn statuses(counts: BTreeMap<u16, u64>) -> HashMap<String, u64> {
    counts.into_iter().map(|(status, requests)| (status.to_string(), requests)).collect()
}

fn latency(latency: Latency) -> v1::Latency {
    let Latency { p50, p90, p99, max } = latency;
    v1::Latency { p50, p90, p99, max }
}

fn period_count(PeriodCount { start, requests }: PeriodCount) -> v1::PeriodCount {
    v1::PeriodCount { start, requests }
}
