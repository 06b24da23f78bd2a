//! The same report in its other formats. JSON was compared with the generated requests, so the other formats are
//! compared with JSON.

use std::collections::{BTreeMap, HashMap};

use e2e::{
    Fleet, get,
    played::{REASONS, SIDES},
};
use serde_json::{Value, json};
use tonic::transport::{Channel, Endpoint};
use weir_proto::v1::{self, ReportQuery, reports_client::ReportsClient};

use crate::{
    expect::minute,
    report,
    trace::{MINUTES, Trace, time},
};

fn latency(latency: Option<v1::Latency>) -> Value {
    let v1::Latency { p50, p90, p99, max } = latency.unwrap();
    let [p50, p90, p99, max] = [p50, p90, p99, max].map(|value| {
        let value = value.unwrap();
        value.seconds as f64 * 1000.0 + f64::from(value.nanos) / 1e6
    });
    json!({ "p50": p50, "p90": p90, "p99": p99, "max": max })
}

fn refused(refused: &HashMap<String, u64>) -> Value {
    REASONS.into_iter().map(|reason| (reason, json!(refused.get(reason).copied().unwrap_or(0)))).collect()
}

fn cut(cut: Option<v1::Cut>) -> Value {
    let v1::Cut { client, backend, node } = cut.unwrap_or_default();
    json!({ "client": client, "backend": backend, "node": node })
}

/// The common counts of periods, summaries and names in a gRPC message.
fn counted(measures: Option<v1::Measures>) -> Value {
    let measures = measures.unwrap();
    json!({
        "requests": measures.requests,
        "status": measures.status,
        "bytes_in": measures.bytes_in,
        "bytes_out": measures.bytes_out,
        "retries": measures.retries,
        "latency_ms": latency(measures.latency),
        "upstream_ms": latency(measures.upstream_latency),
        "refused": refused(&measures.refused),
        "cut": cut(measures.cut),
        "streams": measures.streams,
        "stream_ms": latency(measures.stream_duration),
    })
}

/// Like [`counted`], from JSON.
fn of_json(is: &Value) -> Value {
    let names = [
        "requests",
        "status",
        "bytes_in",
        "bytes_out",
        "retries",
        "latency_ms",
        "upstream_ms",
        "refused",
        "cut",
        "streams",
        "stream_ms",
    ];
    names.into_iter().map(|name| (name, is[name].clone())).collect()
}

/// Like [`counted`], from a CSV row. The first column that is not a count is the subject of the row.
fn of_csv(names: &[&str], row: &str) -> Value {
    let cells: BTreeMap<&str, &str> = names.iter().copied().zip(row.split(',')).collect();
    let number = |name: &str| -> Value { serde_json::from_str(cells[name]).unwrap() };
    let float = |name: &str| json!(cells[name].parse::<f64>().unwrap());
    let latencies = |before: &str| -> Value {
        ["p50", "p90", "p99", "max"].into_iter().map(|p| (p, float(&format!("{before}{p}_ms")))).collect()
    };
    let status: BTreeMap<&str, Value> = cells
        .keys()
        .filter_map(|name| Some((name.strip_prefix("status_")?, number(name))))
        // A status has a column if it occurs in any row.
        .filter(|(_, count)| *count != 0)
        .collect();
    json!({
        "requests": number("requests"),
        "status": status,
        "bytes_in": number("bytes_in"),
        "bytes_out": number("bytes_out"),
        "retries": number("retries"),
        "latency_ms": latencies(""),
        "upstream_ms": latencies("upstream_"),
        "refused": REASONS.into_iter().map(|reason| (reason, number(&format!("refused_{reason}")))).collect::<Value>(),
        "cut": SIDES.into_iter().map(|side| (side, number(&format!("cut_by_{side}")))).collect::<Value>(),
        "streams": number("streams"),
        "stream_ms": latencies("stream_"),
    })
}

async fn csv(fleet: &Fleet, path: &str) -> Vec<Value> {
    let answer = get(fleet.admin(), &format!("{path}&format=csv")).await.unwrap();
    let text = answer.text();
    let (names, rows) = text.split_once('\n').unwrap();
    let names: Vec<&str> = names.split(',').collect();
    rows.lines().map(|row| of_csv(&names, row)).collect()
}

fn all(items: &Value) -> Vec<Value> {
    items.as_array().unwrap().iter().map(of_json).collect()
}

/// Every kind of report, over gRPC and as CSV.
pub async fn every_format_has_the_same_counts(fleet: &Fleet, trace: &Trace) {
    let range = trace.range();
    let endpoint = Endpoint::from_shared(format!("http://{}", fleet.admin())).unwrap();
    let mut reports: ReportsClient<Channel> = ReportsClient::new(endpoint.connect().await.unwrap());
    let [from, to] = [trace.begin(), trace.begin() + MINUTES].map(|minute| {
        Some(prost_types::Timestamp { seconds: i64::try_from(minute * 60).unwrap(), nanos: 0 })
    });
    let asked = ReportQuery { from, to, ..ReportQuery::default() };
    let of_route = ReportQuery { route: "shop".into(), ..asked.clone() };
    for (parameters, asked) in [("", asked), ("&route=shop", of_route)] {
        for kind in ["minutely", "hourly", "daily"] {
            let path = format!("/reports/{kind}?{range}{parameters}");
            let says = all(&report(fleet, &path).await["periods"]);
            let query = Some(asked.clone());
            let grpc = match kind {
                "minutely" => reports.get_minutely(v1::GetMinutelyRequest { query }).await,
                "hourly" => reports.get_hourly(v1::GetHourlyRequest { query }).await,
                _ => reports.get_daily(v1::GetDailyRequest { query }).await,
            };
            let grpc: Vec<Value> = grpc
                .unwrap()
                .into_inner()
                .periods
                .into_iter()
                .map(|period| counted(period.measures))
                .collect();
            assert_eq!(grpc, says, "gRPC: {path}");
            assert_eq!(csv(fleet, &path).await, says, "CSV: {path}");
        }
        let path = format!("/reports/summary?{range}{parameters}");
        let says = of_json(&report(fleet, &path).await);
        let query = Some(asked);
        let summary = v1::GetSummaryRequest { query: query.clone(), compare: false };
        let grpc = reports.get_summary(summary).await.unwrap().into_inner();
        assert_eq!((counted(grpc.measures), csv(fleet, &path).await), (says.clone(), vec![says]), "{path}");
        let path = format!("/reports/top?{range}{parameters}&by=backend");
        let says = all(&report(fleet, &path).await["items"]);
        let by = v1::TopBy::Backend.into();
        let top = v1::GetTopRequest { query, by, ..v1::GetTopRequest::default() };
        let grpc = reports.get_top(top).await.unwrap().into_inner();
        let grpc: Vec<Value> = grpc.items.into_iter().map(|item| counted(item.measures)).collect();
        assert_eq!(grpc, says, "gRPC: {path}");
        assert_eq!(csv(fleet, &path).await, says, "CSV: {path}");
    }
}

/// Values derived from a report's counts: extremes, comparison, sort orders.
pub async fn derived_values_are_correct(fleet: &Fleet, trace: &Trace) {
    let range = trace.range();
    let hours = report(fleet, &format!("/reports/hourly?{range}")).await["periods"].clone();
    let summary = report(fleet, &format!("/reports/summary?{range}")).await;
    let requests = |hour: &Value| hour["requests"].as_u64().unwrap();
    let hours = hours.as_array().unwrap();
    // An hour that the range cuts is not complete.
    let is_whole = |hour: &&Value| {
        let start = minute(hour["start"].as_str().unwrap());
        start >= trace.begin() && start + 60 <= trace.begin() + MINUTES && hour["state"] == "complete"
    };
    let peak = hours.iter().max_by_key(|hour| requests(hour));
    let lowest = hours.iter().filter(is_whole).min_by_key(|hour| requests(hour));
    let told = |hour: Option<&Value>| {
        hour.map(|hour| json!({ "start": hour["start"], "requests": hour["requests"] }))
    };
    assert_eq!((&summary["peak"], &summary["lowest"]), (&json!(told(peak)), &json!(told(lowest))));

    let (begin, middle, end) = (trace.begin(), trace.begin() + MINUTES / 2, trace.begin() + MINUTES);
    let part = |from, to| format!("/reports/summary?from={}&to={}", time(from), time(to));
    let later = report(fleet, &format!("{}&compare=true", part(middle, end))).await;
    let earlier = report(fleet, &part(begin, middle)).await;
    assert_eq!(of_json(&later["before"]), of_json(&earlier));
    assert_eq!(requests(&later) + requests(&earlier), requests(&summary));

    let key = |item: &Value, sort: &str| match sort {
        "errors" => item["errors"].as_u64().unwrap(),
        "refused" => REASONS.iter().map(|reason| item["refused"][reason].as_u64().unwrap()).sum(),
        "cut" => SIDES.iter().map(|side| item["cut"][side].as_u64().unwrap()).sum(),
        "bytes" => item["bytes_in"].as_u64().unwrap() + item["bytes_out"].as_u64().unwrap(),
        _ => (item["latency_ms"]["p99"].as_f64().unwrap() * 1000.0).round() as u64,
    };
    let names = |items: &Value| -> BTreeMap<String, Value> {
        items.as_array().unwrap().iter().map(|item| (item["name"].to_string(), item.clone())).collect()
    };
    let by_requests = report(fleet, &format!("/reports/top?{range}&by=host")).await;
    for sort in ["errors", "refused", "cut", "bytes", "slowest"] {
        let top = report(fleet, &format!("/reports/top?{range}&by=host&sort={sort}")).await;
        let keys: Vec<u64> = top["items"].as_array().unwrap().iter().map(|item| key(item, sort)).collect();
        assert!(keys.is_sorted_by(|a, b| a >= b), "{sort}: {keys:?}");
        assert_eq!(names(&top["items"]), names(&by_requests["items"]), "{sort}");
    }
}
