//! `weir reports`: traffic by minute, hour or day, of a range, or ranked.

use serde_json::json;
use weir_admin_api::{Report, Summary, Top};

use crate::{
    arguments::{Filters, Kind, Noun, OldReport, Output, Plain, Ranking, ReportsVerb},
    client::{Client, ClientError, encode},
    output::{Column, print_answer, print_exact, print_list, watch},
    report_table,
};

/// A report that was asked for.
pub(crate) struct Asked {
    kind: Kind,
    filters: Filters,
    ranking: Option<Ranking>,
    compare: bool,
}

impl Asked {
    fn plain(kind: Kind, filters: Filters) -> Self {
        Self { kind, filters, ranking: None, compare: false }
    }
}

impl From<OldReport> for Asked {
    fn from(report: OldReport) -> Self {
        let OldReport { kind, filters, top, compare } = report;
        Self { kind, filters, ranking: Some(top), compare }
    }
}

/// A report there is.
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
    let asked = match noun.verb.unwrap_or(ReportsVerb::List(noun.list)) {
        ReportsVerb::List(Plain {}) => {
            let items: Vec<_> =
                KNOWN.iter().map(|known| json!({ "name": known.name, "shows": known.shows })).collect();
            print_list(output, &json!({ "items": items }), &COLUMNS, &KNOWN);
            return Ok(());
        }
        ReportsVerb::Get(report) => report.into(),
        ReportsVerb::Minutely(filters) => Asked::plain(Kind::Minutely, filters),
        ReportsVerb::Hourly(filters) => Asked::plain(Kind::Hourly, filters),
        ReportsVerb::Daily(filters) => Asked::plain(Kind::Daily, filters),
        ReportsVerb::Summary { filters, compare } => {
            Asked { compare, ..Asked::plain(Kind::Summary, filters) }
        }
        ReportsVerb::Top { filters, top } => Asked { ranking: Some(top), ..Asked::plain(Kind::Top, filters) },
    };
    Ok(show(&connect()?, output, asked).await?)
}

pub(crate) async fn show(client: &Client, output: Output, asked: Asked) -> Result<(), ClientError> {
    let output = asked.filters.format.unwrap_or(output);
    let path = path(&asked, output);
    watch(asked.filters.watch.watch, output, async || {
        if output == Output::Csv {
            print_exact(&client.text(&path, "text/csv").await?);
            return Ok(());
        }
        match asked.kind {
            Kind::Summary => {
                let summary = client.get::<Summary>(&path).await?;
                print_answer(output, &summary, |summary| report_table::summary(&summary, output))
            }
            Kind::Top => {
                let top = client.get::<Top>(&path).await?;
                print_answer(output, &top, |top| report_table::top(&top, output))
            }
            Kind::Minutely | Kind::Hourly | Kind::Daily => {
                let report = client.get::<Report>(&path).await?;
                print_answer(output, &report, |report| report_table::periods(&report, output))
            }
        }
    })
    .await
}

fn path(asked: &Asked, output: Output) -> String {
    let Asked { kind, filters, ranking, compare } = asked;
    let ranking = ranking.as_ref();
    let limit = ranking.and_then(|ranking| ranking.limit).map(|limit| limit.to_string());
    let compare = compare.then(|| "true".to_owned());
    let format = if output == Output::Csv { "csv" } else { "json" };
    let mut path = format!("/reports/{}?format={format}", kind.name());
    for (name, value) in [
        ("from", filters.from.as_ref()),
        ("to", filters.to.as_ref()),
        ("route", filters.route.as_ref()),
        ("pool", filters.pool.as_ref()),
        ("backend", filters.backend.as_ref()),
        ("method", filters.method.as_ref()),
        ("host", filters.host.as_ref()),
        ("tz", filters.tz.as_ref()),
        ("by", ranking.and_then(|ranking| ranking.by.as_ref())),
        ("sort", ranking.and_then(|ranking| ranking.sort.as_ref())),
        ("limit", limit.as_ref()),
        ("compare", compare.as_ref()),
    ] {
        if let Some(value) = value {
            path.push_str(&format!("&{name}={}", encode(value)));
        }
    }
    path
}
