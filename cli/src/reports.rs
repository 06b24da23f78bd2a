//! `weir reports`: traffic by minute, hour or day, as a summary of a time range, or as a ranking.

use serde::de::DeserializeOwned;
use serde_json::json;
use weir_admin_api::{Format, Report, ReportQuery, Summary, SummaryQuery, Top, TopQuery, operations};

use crate::{
    arguments::{Filters, Kind, Noun, OldReport, Output, Plain, Ranking, ReportsVerb, Watch},
    client::{Call, Client, ClientError},
    output::{Column, Safe, print_answer, print_exact, print_list, watch},
    report_table,
};

/// A requested report.
pub(crate) struct ReportRequest {
    kind: Kind,
    filters: Filters,
    ranking: Option<Ranking>,
    compare: bool,
}

impl ReportRequest {
    fn plain(kind: Kind, filters: Filters) -> Self {
        Self { kind, filters, ranking: None, compare: false }
    }
}

impl From<OldReport> for ReportRequest {
    fn from(report: OldReport) -> Self {
        let OldReport { kind, filters, top, compare } = report;
        Self { kind, filters, ranking: Some(top), compare }
    }
}

/// An available report.
struct Known {
    name: &'static str,
    shows: &'static str,
}

const KNOWN: [Known; 5] = [
    Known { name: "minutely", shows: "traffic by minute, the last hour" },
    Known { name: "hourly", shows: "traffic by hour, the last day" },
    Known { name: "daily", shows: "traffic by day, the last 30 days" },
    Known { name: "summary", shows: "a range as one, with its peak and its lowest hour" },
    Known { name: "top", shows: "routes, hosts, pools, backends, methods or statuses with the most traffic" },
];

const COLUMNS: [Column<Known>; 2] =
    [Column::new("report", |known| known.name.into()), Column::new("shows", |known| known.shows.into())];

pub(crate) async fn run(
    connect: impl FnOnce() -> anyhow::Result<Client>,
    output: Output,
    noun: Noun<Plain, ReportsVerb>,
) -> anyhow::Result<()> {
    let request = match noun.verb.unwrap_or(ReportsVerb::List(noun.list)) {
        ReportsVerb::List(Plain {}) => {
            let items: Vec<_> =
                KNOWN.iter().map(|known| json!({ "name": known.name, "shows": known.shows })).collect();
            print_list(output, &json!({ "items": items }), &COLUMNS, &KNOWN);
            return Ok(());
        }
        ReportsVerb::Get(report) => report.into(),
        ReportsVerb::Minutely(filters) => ReportRequest::plain(Kind::Minutely, filters),
        ReportsVerb::Hourly(filters) => ReportRequest::plain(Kind::Hourly, filters),
        ReportsVerb::Daily(filters) => ReportRequest::plain(Kind::Daily, filters),
        ReportsVerb::Summary { filters, compare } => {
            ReportRequest { compare, ..ReportRequest::plain(Kind::Summary, filters) }
        }
        ReportsVerb::Top { filters, top } => {
            ReportRequest { ranking: Some(top), ..ReportRequest::plain(Kind::Top, filters) }
        }
    };
    Ok(show(&connect()?, output, request).await?)
}

pub(crate) async fn show(client: &Client, output: Output, request: ReportRequest) -> Result<(), ClientError> {
    let ReportRequest { kind, filters, ranking, compare } = request;
    let output = filters.format.unwrap_or(output);
    let format = Some(if output == Output::Csv { Format::Csv } else { Format::Json });
    let Filters { from, to, route, pool, backend, method, host, tz, watch: Watch { watch: every }, .. } =
        filters;
    match kind {
        Kind::Minutely | Kind::Hourly | Kind::Daily => {
            let query = ReportQuery { from, to, route, pool, backend, method, host, tz, format };
            let operation = match kind {
                Kind::Minutely => &operations::GET_MINUTELY,
                Kind::Daily => &operations::GET_DAILY,
                _ => &operations::GET_HOURLY,
            };
            let call = || Call::of(operation, &(), &query);
            let table = |report: Report| report_table::periods(&report, output);
            watch(every, output, async || print_report(client, output, call(), table).await).await
        }
        Kind::Summary => {
            let query = SummaryQuery { from, to, route, pool, backend, method, host, tz, format, compare };
            let call = || Call::of(&operations::GET_SUMMARY, &(), &query);
            let table = |summary: Summary| report_table::summary(&summary, output);
            watch(every, output, async || print_report(client, output, call(), table).await).await
        }
        Kind::Top => {
            let (by, sort, limit) = match ranking {
                Some(Ranking { by, sort, limit }) => (by, sort, limit.map(|limit| limit.to_string())),
                None => (None, None, None),
            };
            let query =
                TopQuery { from, to, route, pool, backend, method, host, tz, format, by, sort, limit };
            let call = || Call::of(&operations::GET_TOP, &(), &query);
            let table = |top: Top| report_table::top(&top, output);
            watch(every, output, async || print_report(client, output, call(), table).await).await
        }
    }
}

/// CSV comes from the control plane, which can write reports in this format.
async fn print_report<T: DeserializeOwned>(
    client: &Client,
    output: Output,
    call: Call<T>,
    table: impl Fn(T) -> Safe,
) -> Result<(), ClientError> {
    if output == Output::Csv {
        print_exact(&client.text(call.accept("text/csv")).await?);
        return Ok(());
    }
    print_answer(output, &client.call(call).await?, table)
}
