//! The only place that writes to standard output and standard error: tables for people and JSON for scripts.
//!
//! What is shown may come from clients, backends and nodes, so everything for people is made safe for a terminal here.

use std::{
    borrow::Cow,
    fs::File,
    io::{self, IsTerminal as _, Write as _},
    os::fd::{AsFd as _, BorrowedFd},
    sync::{LazyLock, OnceLock},
    time::Duration,
};

use serde_json::Value;
use tabled::{
    builder::Builder,
    settings::{Padding, Style},
};
use weir_snapshot::{units::HumanDuration, visible, visible_json};

use crate::arguments::Output;

/// A column: its heading, and the field it shows; of several fields with `|` the first that is there.
pub(crate) type Column = (&'static str, &'static str);

/// Why standard output could not be written to.
static FAILURE: OnceLock<io::Error> = OnceLock::new();

/// Standard output as a file: `std::io::Stdout` ignores some errors.
static STDOUT: LazyLock<io::Result<File>> =
    LazyLock::new(|| Ok(File::from(io::stdout().as_fd().try_clone_to_owned()?)));

/// Writes to standard output as it is. After a failure nothing more is written, and the program ends with that failure
/// (see [`failure`]), so that no command has to look at it.
fn write(text: &str) {
    if FAILURE.get().is_some() {
        return;
    }
    let written = match &*STDOUT {
        Ok(out) => (&*out).write_all(text.as_bytes()),
        Err(error) => Err(io::Error::new(error.kind(), error.to_string())),
    };
    if let Err(error) = written {
        let _ = FAILURE.set(error);
    }
}

/// Why not everything was written to standard output.
pub(crate) fn failure() -> Option<&'static io::Error> {
    FAILURE.get()
}

/// The failure as an error of the program. That the reader has left, as `head` does, is none.
pub(crate) fn error() -> Option<String> {
    let error = failure().filter(|error| error.kind() != io::ErrorKind::BrokenPipe)?;
    Some(format!("cannot write to standard output: {error}"))
}

/// Refuses to make a secret that could not be written to standard output.
pub(crate) fn has_reader() -> anyhow::Result<()> {
    anyhow::ensure!(
        !is_closed(io::stdout().as_fd()),
        "standard output is closed, and what is shown only once would be lost"
    );
    Ok(())
}

/// Whether a standard stream was closed at the start: the standard library puts the null device, open for reading and
/// writing, in its place, and writes to that succeed. A shell's `> /dev/null` opens it for writing only.
fn is_closed(stream: BorrowedFd<'_>) -> bool {
    let (Ok(stat), Ok(null)) = (rustix::fs::fstat(stream), rustix::fs::stat("/dev/null")) else {
        return true;
    };
    let is_null =
        rustix::fs::FileType::from_raw_mode(stat.st_mode).is_char_device() && stat.st_rdev == null.st_rdev;
    let mode = rustix::fs::fcntl_getfl(stream).map(|flags| flags & rustix::fs::OFlags::RWMODE);
    is_null && mode.is_ok_and(|mode| mode == rustix::fs::OFlags::RDWR)
}

/// Text from outside as it is shown: nothing in it ends a line, steers a terminal or changes the reading order.
pub(crate) fn shown(text: &str) -> Cow<'_, str> {
    visible(text, usize::MAX)
}

/// Several lines as they are shown.
pub(crate) fn shown_lines(text: &str) -> String {
    text.lines().map(shown).collect::<Vec<_>>().join("\n")
}

/// Writes lines for people.
pub(crate) fn print(text: &str) {
    write(&format!("{}\n", shown_lines(text.trim_end())));
}

/// Writes a line for people in a colour, an SGR parameter.
pub(crate) fn print_coloured(colour: &str, text: &str) {
    write(&format!("\x1b[{colour}m{}\x1b[0m\n", shown(text)));
}

/// Writes what programs read: byte for byte, except on a terminal.
pub(crate) fn print_exact(text: &str) {
    let end = if text.ends_with('\n') { "" } else { "\n" };
    if io::stdout().is_terminal() {
        let line = |line: &str| line.split('\t').map(shown).collect::<Vec<_>>().join("\t");
        write(&format!("{}\n", text.lines().map(line).collect::<Vec<_>>().join("\n")));
    } else {
        write(&format!("{text}{end}"));
    }
}

/// Shows the same again and again, in place on a terminal, until it fails or its reader has left.
pub(crate) async fn watch<E>(
    every: HumanDuration,
    in_place: bool,
    mut show: impl AsyncFnMut() -> Result<(), E>,
) -> Result<(), E> {
    let mut ticks = tokio::time::interval(every.0.max(Duration::from_millis(100)));
    while failure().is_none() {
        ticks.tick().await;
        if in_place && io::stdout().is_terminal() {
            // Home, and clear what is below: less flicker than clearing first.
            write("\x1b[H\x1b[J");
        }
        show().await?;
    }
    Ok(())
}

/// Writes lines to standard error. Where that cannot be written, the exit status has to do.
macro_rules! tell {
    ($($said:tt)*) => { $crate::output::tell_text(&format!($($said)*)) };
}
pub(crate) use tell;

/// As the macro.
pub(crate) fn tell_text(text: &str) {
    let _ = io::stderr().write_all(format!("{}\n", shown_lines(text)).as_bytes());
}

/// Writes the value as JSON.
pub(crate) fn print_json(value: &Value) {
    print_json_text(&serde_json::to_string_pretty(value).unwrap_or_default());
}

/// Writes JSON in which each character that does not print is escaped.
pub(crate) fn print_json_text(text: &str) {
    write(&format!("{}\n", visible_json(text.trim_end())));
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
    builder.push_record(headings.iter().map(|heading| shown(heading)));
    for row in rows {
        builder.push_record(row.iter().map(|cell| shown(cell)));
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
        Some(Value::String(text)) => shown(text).into_owned(),
        Some(Value::Bool(true)) => "yes".to_owned(),
        Some(Value::Bool(false)) => "no".to_owned(),
        Some(Value::Array(list)) => list.iter().map(|item| cell(item, "")).collect::<Vec<_>>().join("; "),
        Some(value) => shown(&value.to_string()).into_owned(),
    }
}
