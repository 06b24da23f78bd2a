//! The service `Reports`: reports from exact counts.

use tonic::{Request, Response, Status};
use weir_admin_api::{Cut, Latency, Measures, PeriodCount, Report, ReportingNodes, Summary, Top};
use weir_proto::v1::{self, reports_server};
use weir_snapshot::Problems;

use super::{
    failure::{Failure, invalid_argument, join},
    given,
    names::Named as _,
    tail,
    values::{float_millis, rfc3339, time_of},
};
use crate::{
    app::AppError,
    stats::{Query, ReportError, Stats, TopQuery},
};

/// The gRPC service `Reports`.
#[derive(Debug, Clone)]
pub struct Reports {
    stats: Stats,
}

impl Reports {
    /// Creates the service over these statistics.
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
    type TailStream = tail::Events;

    async fn get_minutely(
        &self,
        request: Request<v1::GetMinutelyRequest>,
    ) -> Result<Response<v1::Report>, Status> {
        let found = self.stats.minutely(&query(request.into_inner().query)?).await;
        Ok(Response::new(report(found.map_err(refuse)?)))
    }

    async fn get_hourly(
        &self,
        request: Request<v1::GetHourlyRequest>,
    ) -> Result<Response<v1::Report>, Status> {
        let found = self.stats.hourly(&query(request.into_inner().query)?).await;
        Ok(Response::new(report(found.map_err(refuse)?)))
    }

    async fn get_daily(&self, request: Request<v1::GetDailyRequest>) -> Result<Response<v1::Report>, Status> {
        let found = self.stats.daily(&query(request.into_inner().query)?).await;
        Ok(Response::new(report(found.map_err(refuse)?)))
    }

    async fn get_summary(
        &self,
        request: Request<v1::GetSummaryRequest>,
    ) -> Result<Response<v1::Summary>, Status> {
        let v1::GetSummaryRequest { query: requested, compare } = request.into_inner();
        let found = self.stats.summary(&Query { compare, ..query(requested)? }).await;
        Ok(Response::new(summary(found.map_err(refuse)?)))
    }

    async fn get_top(&self, request: Request<v1::GetTopRequest>) -> Result<Response<v1::Top>, Status> {
        let v1::GetTopRequest { query: requested, by, sort, limit } = request.into_inner();
        let found = TopQuery {
            query: query(requested)?,
            by: v1::TopBy::name("by", by).map_err(invalid)?,
            sort: v1::TopSort::name("sort", sort).map_err(invalid)?,
            limit: (limit > 0).then(|| limit.to_string()),
        };
        Ok(Response::new(top(self.stats.top(&found).await.map_err(refuse)?)))
    }

    async fn tail(&self, request: Request<v1::TailRequest>) -> Result<Response<tail::Events>, Status> {
        Ok(Response::new(tail::tail(&self.stats, request.into_inner()).await?))
    }
}

fn query(query: Option<v1::ReportQuery>) -> Result<Query, Status> {
    let v1::ReportQuery { from, to, route, pool, backend, method, host, tz } = query.unwrap_or_default();
    let mut problems = Problems::default();
    let mut time = |field: &str, time: Option<prost_types::Timestamp>| {
        let text = time.map(rfc3339)?;
        if text.is_none() {
            problems.add(format!("query.{field}"), "is out of range");
        }
        text
    };
    let (from, to) = (time("from", from), time("to", to));
    let query = Query {
        from,
        to,
        route: given(route),
        pool: given(pool),
        backend: given(backend),
        method: given(method),
        host: given(host),
        tz: given(tz),
        compare: false,
    };
    problems.into_result(query).map_err(|problems| invalid_argument(&problems))
}

fn invalid(error: AppError) -> Status {
    Failure::from(error).into()
}

/// Names errors by the fields of the request.
fn refuse(error: ReportError) -> Status {
    failed(error, |path| match path {
        "" | "by" | "sort" | "limit" => path.to_owned(),
        path => join("query", path),
    })
}

/// The status for an error. `field` is the field of the request that a parameter was in.
pub(super) fn failed(error: ReportError, field: impl Fn(&str) -> String) -> Status {
    match error {
        ReportError::Invalid(mut problems) => {
            problems.0.iter_mut().for_each(|problem| problem.path = field(&problem.path));
            invalid_argument(&problems)
        }
        ReportError::Store(error) => {
            tracing::error!(%error, "report failed");
            Status::internal("report failed, see the log")
        }
    }
}

fn measures(of: Measures) -> v1::Measures {
    v1::Measures {
        requests: of.requests,
        status: of.status.into_iter().map(|(status, requests)| (status.into(), requests)).collect(),
        bytes_in: of.bytes_in,
        bytes_out: of.bytes_out,
        latency: Some(latency(of.latency_ms)),
        upstream_latency: Some(latency(of.upstream_ms)),
        retries: of.retries,
        refused: of.refused.to_names(),
        cut: Some(cut(of.cut)),
        streams: of.streams,
        stream_duration: Some(latency(of.stream_ms)),
    }
}

fn report(report: Report) -> v1::Report {
    let periods = report.periods.into_iter().map(|period| v1::Period {
        start: time_of(&period.start),
        state: v1::Completeness::of(period.state.as_str()),
        nodes: Some(nodes(period.nodes)),
        measures: Some(measures(period.measures)),
    });
    v1::Report {
        from: time_of(&report.from),
        to: time_of(&report.to),
        periods: periods.collect(),
        exact: report.exact,
    }
}

fn summary(summary: Summary) -> v1::Summary {
    v1::Summary {
        from: time_of(&summary.from),
        to: time_of(&summary.to),
        peak: summary.peak.map(period_count),
        lowest: summary.lowest.map(period_count),
        state: v1::Completeness::of(summary.state.as_str()),
        gaps: summary.gaps,
        nodes: Some(nodes(summary.nodes)),
        before: summary.before.map(|before| v1::SummaryBefore {
            from: time_of(&before.from),
            to: time_of(&before.to),
            complete: before.complete,
            measures: Some(measures(before.measures)),
        }),
        measures: Some(measures(summary.measures)),
    }
}

fn top(top: Top) -> v1::Top {
    let items = top.items.into_iter().map(|item| v1::TopItem {
        name: item.name,
        url: item.url.unwrap_or_default(),
        share: item.share,
        errors: item.errors,
        measures: Some(measures(item.measures)),
    });
    v1::Top {
        from: time_of(&top.from),
        to: time_of(&top.to),
        by: v1::TopBy::of(&top.by),
        sort: v1::TopSort::of(&top.sort),
        requests: top.requests,
        names: top.names,
        items: items.collect(),
        state: v1::Completeness::of(top.state.as_str()),
    }
}

fn cut(Cut { client, backend, node }: Cut) -> v1::Cut {
    v1::Cut { client, backend, node }
}

fn nodes(ReportingNodes { expected, reported }: ReportingNodes) -> v1::ReportingNodes {
    v1::ReportingNodes { expected, reported }
}

fn latency(Latency { p50, p90, p99, max }: Latency) -> v1::Latency {
    let [p50, p90, p99, max] = [p50, p90, p99, max].map(|ms| Some(float_millis(ms)));
    v1::Latency { p50, p90, p99, max }
}

fn period_count(PeriodCount { start, requests }: PeriodCount) -> v1::PeriodCount {
    v1::PeriodCount { start: time_of(&start), requests }
}
