//! Tables for people and JSON for scripts.

use std::{
    io::{IsTerminal as _, Write as _},
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    time::Duration,
};

use serde_json::Value;
use tabled::{
    builder::Builder,
    settings::{Padding, Style},
};
use weir_snapshot::units::HumanDuration;

use crate::arguments::Output;

/// A column: its heading, and the field it shows; of several fields with `|` the first that is there.
pub(crate) type Column = (&'static str, &'static str);

/// Whoever read stdout has left.
static READER_LEFT: AtomicBool = AtomicBool::new(false);

/// Writes to stdout; that nobody reads it is no error.
pub(crate) fn print(text: &str) {
    let mut out = std::io::stdout();
    if writeln!(out, "{}", text.trim_end()).and_then(|()| out.flush()).is_err() {
        READER_LEFT.store(true, Relaxed);
    }
}

/// Shows the same again and again, in place on a terminal, until it fails or whoever read it has left.
pub(crate) async fn watch<E>(
    every: HumanDuration,
    in_place: bool,
    mut show: impl AsyncFnMut() -> Result<(), E>,
) -> Result<(), E> {
    let mut ticks = tokio::time::interval(every.0.max(Duration::from_millis(100)));
    while !READER_LEFT.load(Relaxed) {
        ticks.tick().await;
        if in_place && std::io::stdout().is_terminal() {
            // Home, and clear what is below: less flicker than clearing first.
            let _ = write!(std::io::stdout(), "\x1b[H\x1b[J");
        }
        show().await?;
    }
    Ok(())
}

/// Writes a line to stderr; that nobody reads it is no error, and no panic as with `eprintln`.
macro_rules! tell {
    ($($said:tt)*) => {{
        let _ = ::std::io::Write::write_fmt(&mut ::std::io::stderr(), format_args!("{}\n", format_args!($($said)*)));
    }};
}
pub(crate) use tell;

/// Writes the value as JSON.
pub(crate) fn print_json(value: &Value) {
    print(&serde_json::to_string_pretty(value).unwrap_or_default());
}

/// Writes a list as a table or as JSON.
pub(crate) fn print_list(output: Output, list: &Value, columns: &[Column]) {
    match output {
        Output::Json => print_json(list),
        Output::Table => print(&table(columns, items(list))),
    }
}

/// The items of `{"items":[…]}`, or of a plain list.
pub(crate) fn items(list: &Value) -> &[Value] {
    list.get("items").unwrap_or(list).as_array().map_or(&[], Vec::as_slice)
}

pub(crate) fn table(columns: &[Column], items: &[Value]) -> String {
    let rows = items.iter().map(|item| columns.iter().map(|(_, field)| cell(item, field)).collect());
    rows_table(columns.iter().map(|(heading, _)| (*heading).to_owned()).collect(), rows)
}

pub(crate) fn rows_table(headings: Vec<String>, rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut builder = Builder::default();
    builder.push_record(headings);
    for row in rows {
        builder.push_record(row);
    }
    let mut table = builder.build();
    table.with(Style::empty()).with(Padding::new(0, 2, 0, 0));
    let lines: Vec<String> = table.to_string().lines().map(|line| line.trim_end().to_owned()).collect();
    lines.join("\n")
}

/// A field of an item, as a table shows it.
pub(crate) fn cell(item: &Value, fields: &str) -> String {
    let value = fields.split('|').find_map(|field| {
        let value =
            if field.is_empty() { item } else { item.pointer(&format!("/{}", field.replace('.', "/")))? };
        (!value.is_null()).then_some(value)
    });
    match value {
        None => "-".to_owned(),
        Some(Value::String(text)) if text.is_empty() => "-".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(Value::Bool(true)) => "yes".to_owned(),
        Some(Value::Bool(false)) => "no".to_owned(),
        Some(Value::Array(list)) => list.iter().map(|item| cell(item, "")).collect::<Vec<_>>().join("; "),
        Some(value) => value.to_string(),
    }
}
