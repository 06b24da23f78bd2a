//! `weir tail`: shows requests of all nodes as they complete.

use serde_json::Value;
use weir_admin_api::{AnswerKind, RequestOutcome, TailEvent, TailQuery, operations};

use crate::{
    arguments::{Output, Tail},
    client::{Call, Client, ClientError},
    output::{CsvLines, Safe, Tone, failure, print_json_text, print_safe, print_value, shown, tell, word},
};

pub(crate) async fn run(client: &Client, output: Output, tail: Tail) -> Result<(), ClientError> {
    let Tail { route, pool, backend, host, method, path, status, min_latency, client: from, outcome, count } =
        tail;
    let query =
        TailQuery { route, pool, backend, host, method, path, status, min_latency, client: from, outcome };
    let mut left = count.unwrap_or(u64::MAX);
    let mut event = String::new();
    let mut csv = CsvLines::default();
    client
        .lines(Call::of(&operations::TAIL, &(), &query), |line| {
            if let Some(name) = line.strip_prefix("event:") {
                name.trim().clone_into(&mut event);
            } else if let Some(data) = line.strip_prefix("data:") {
                match event.as_str() {
                    "request" => {
                        left = left.saturating_sub(1);
                        show(output, &mut csv, data.trim());
                    }
                    "dropped" => tell!("{} requests are not shown: too many at once", data.trim()),
                    _ => {}
                }
                return failure().is_none() && left > 0;
            }
            true
        })
        .await
}

fn show(output: Output, csv: &mut CsvLines, data: &str) {
    match output {
        Output::Json => print_json_text(data),
        Output::Csv | Output::Yaml => {
            let value: Value = serde_json::from_str(data).unwrap_or_default();
            match output {
                Output::Csv => csv.print(&value),
                // Each event is written as a list of one item, so the output is one list without end.
                _ => print_value(output, &Value::Array(vec![value])),
            }
        }
        Output::Table | Output::Wide => match serde_json::from_str(data) {
            Ok(event) => print_safe(&line(&event)),
            Err(error) => tell!("an event that this program does not know ({error}): {data}"),
        },
    }
}

fn line(event: &TailEvent) -> Safe {
    let upstream = event.upstream_ms.map_or("-".to_owned(), |ms| format!("{ms:.1}"));
    // The usual case, a response that was sent completely, is not labelled.
    let kind = match event.kind {
        AnswerKind::Answer => String::new(),
        other => format!(" {}", word(&other).replace('_', " ")),
    };
    let cut = match event.outcome {
        None | Some(RequestOutcome::Finished) => String::new(),
        Some(other) => format!("  {}", word(&other).replace('_', " ")),
    };
    let dash = |text: &str| if text.is_empty() { "-".to_owned() } else { shown(text).into_owned() };
    let text = format!(
        "{} {} {:>9.1} ms{kind} ({upstream} backend)  {} {}{}  {} {}  {} {}{cut}",
        event.time,
        event.status,
        event.duration_ms,
        dash(&event.method),
        dash(&event.host),
        dash(&event.path),
        dash(&event.route),
        dash(&event.backend),
        dash(&event.client),
        dash(&event.node),
    );
    let tone = match event.status {
        500.. => Tone::Bad,
        400.. => Tone::Warning,
        _ => Tone::Plain,
    };
    Safe::toned(&text, tone)
}
