//! The gRPC service `Reports`: a translation of the use cases in [`crate::stats`].

use std::collections::{BTreeMap, HashMap};

use tonic::{Request, Response, Status};
use weir_proto::v1::{self, reports_server};

use crate::stats::{Latency, PeriodCount, Query, Report, ReportError, Stats, Summary};

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
        ..Query::default()
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
    });
    v1::Report { from: report.from, to: report.to, periods: periods.collect() }
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
    }
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
