//! The only place that writes to standard output and standard error.
//!
//! Text may come from clients, backends and nodes, so all output for people is made safe for a terminal here.
//! `table` lays out rows, `units` formats numbers, `format` writes output for programs.

mod format;
mod progress;
mod table;
mod units;

use std::{
    borrow::Cow,
    fs::File,
    io::{self, IsTerminal as _, Write as _},
    os::fd::{AsFd as _, BorrowedFd},
    sync::{LazyLock, OnceLock},
    time::Duration,
};

use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use weir_admin_api::List;
use weir_snapshot::{units::HumanDuration, visible, visible_json};

pub(crate) use self::{
    progress::{Bar, Waiting},
    table::{Cell, Column, Table, Tone},
    units::{bytes, count, milliseconds, share},
};
use crate::{
    arguments::Output,
    client::{Answer, ClientError},
};

/// First error of writing to standard output.
static FAILURE: OnceLock<io::Error> = OnceLock::new();

/// Standard output as a file: `std::io::Stdout` ignores some errors.
static STDOUT: LazyLock<io::Result<File>> =
    LazyLock::new(|| Ok(File::from(io::stdout().as_fd().try_clone_to_owned()?)));

/// Writes text to standard output unchanged. After an error nothing more is written, and the program exits with that
/// error (see [`failure`]), so that commands need not check for it.
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

/// Returns the error that stopped output to standard output, if any.
pub(crate) fn failure() -> Option<&'static io::Error> {
    FAILURE.get()
}

/// Returns the failure as an error message. A pipe closed by its reader, as `head` does, is not an error.
pub(crate) fn error() -> Option<String> {
    let error = failure().filter(|error| error.kind() != io::ErrorKind::BrokenPipe)?;
    Some(format!("cannot write to standard output: {error}"))
}

/// Returns an error if standard output is closed, so that no secret is created that could not be shown.
pub(crate) fn has_reader() -> anyhow::Result<()> {
    anyhow::ensure!(
        !is_closed(io::stdout().as_fd()),
        "standard output is closed, and what is shown only once would be lost"
    );
    Ok(())
}

/// Whether a standard stream was closed when the program started. The standard library replaces a closed stream with
/// the null device, open for reading and writing, and writes to it succeed. A shell's `> /dev/null` opens it for
/// writing only.
fn is_closed(stream: BorrowedFd<'_>) -> bool {
    let (Ok(stat), Ok(null)) = (rustix::fs::fstat(stream), rustix::fs::stat("/dev/null")) else {
        return true;
    };
    let is_null =
        rustix::fs::FileType::from_raw_mode(stat.st_mode).is_char_device() && stat.st_rdev == null.st_rdev;
    let mode = rustix::fs::fcntl_getfl(stream).map(|flags| flags & rustix::fs::OFlags::RWMODE);
    is_null && mode.is_ok_and(|mode| mode == rustix::fs::OFlags::RDWR)
}

/// Makes external text safe to show: it cannot end a line, control the terminal or change the reading order.
pub(crate) fn shown(text: &str) -> Cow<'_, str> {
    visible(text, usize::MAX)
}

/// Makes several lines of external text safe to show.
pub(crate) fn shown_lines(text: &str) -> String {
    text.lines().map(shown).collect::<Vec<_>>().join("\n")
}

/// Writes lines for people.
pub(crate) fn print(text: &str) {
    write(&format!("{}\n", shown_lines(text.trim_end())));
}

/// Text for people that is safe to show and may contain colours.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Safe(String);

impl Safe {
    /// Makes text safe.
    pub(crate) fn new(text: &str) -> Self {
        Self(shown_lines(text.trim_end()))
    }

    /// Makes a line safe and colours it.
    pub(crate) fn toned(text: &str, tone: Tone) -> Self {
        Self(tone.paint(&shown(text)))
    }

    /// Adds one or more lines.
    pub(crate) fn push(&mut self, more: &Self) {
        if !self.0.is_empty() {
            self.0.push('\n');
        }
        self.0.push_str(&more.0);
    }

    /// Makes text safe and adds it.
    pub(crate) fn push_text(&mut self, text: &str) {
        self.push(&Self::new(text));
    }

    /// Adds an empty line.
    pub(crate) fn gap(&mut self) {
        self.0.push('\n');
    }

    /// Indents each line.
    pub(crate) fn indented(&self) -> Self {
        Self(self.0.lines().map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n"))
    }

    #[cfg(test)]
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// Writes text that is already safe.
pub(crate) fn print_safe(text: &Safe) {
    write(&format!("{}\n", text.0));
}

/// Whether output is coloured: decided by `NO_COLOR`, `CLICOLOR_FORCE`, `CLICOLOR` and `TERM`, otherwise by whether
/// standard output is a terminal.
pub(crate) fn is_coloured() -> bool {
    static COLOURED: LazyLock<bool> =
        LazyLock::new(|| anstream::AutoStream::choice(&io::stdout()) != anstream::ColorChoice::Never);
    *COLOURED
}

/// Writes output for programs: byte for byte, except on a terminal, where it is made safe.
pub(crate) fn print_exact(text: &str) {
    let end = if text.ends_with('\n') { "" } else { "\n" };
    if io::stdout().is_terminal() {
        let line = |line: &str| line.split('\t').map(shown).collect::<Vec<_>>().join("\t");
        write(&format!("{}\n", text.lines().map(line).collect::<Vec<_>>().join("\n")));
    } else {
        write(&format!("{text}{end}"));
    }
}

/// Shows something once, or repeatedly if `every` is set. On a terminal it is redrawn in place. It ends on an error, or
/// when the reader has closed the pipe.
pub(crate) async fn watch<E>(
    every: Option<HumanDuration>,
    output: Output,
    mut show: impl AsyncFnMut() -> Result<(), E>,
) -> Result<(), E> {
    let Some(every) = every else { return show().await };
    let mut ticks = tokio::time::interval(every.0.max(Duration::from_millis(100)));
    while failure().is_none() {
        ticks.tick().await;
        if output.is_for_people() && io::stdout().is_terminal() {
            // Moves the cursor home and clears everything below it: less flicker than clearing the screen first.
            write("\x1b[H\x1b[J");
        }
        show().await?;
    }
    Ok(())
}

/// Writes lines to standard error. Write errors are ignored: the exit status still shows the failure.
macro_rules! tell {
    ($($said:tt)*) => { $crate::output::tell_text(&format!($($said)*)) };
}
pub(crate) use tell;

/// Function behind the macro `tell`.
pub(crate) fn tell_text(text: &str) {
    let _ = io::stderr().write_all(format!("{}\n", shown_lines(text)).as_bytes());
}

/// Writes the value as JSON.
pub(crate) fn print_json(value: &Value) {
    print_json_text(&serde_json::to_string_pretty(value).unwrap_or_default());
}

/// Writes JSON text with every non-printable character escaped.
pub(crate) fn print_json_text(text: &str) {
    write(&format!("{}\n", visible_json(text.trim_end())));
}

/// Writes a response: unchanged for programs, formatted by `show` for people.
pub(crate) fn print_answer<T: DeserializeOwned>(
    output: Output,
    answer: &Answer<T>,
    show: impl FnOnce(T) -> Safe,
) -> Result<(), ClientError> {
    match output.is_for_people() {
        true => print_safe(&show(answer.read()?)),
        false => print_value(output, &answer.json()?),
    }
    Ok(())
}

/// Writes a list from the control plane; for people as a table.
pub(crate) fn print_items<T: DeserializeOwned>(
    output: Output,
    answer: &Answer<List<T>>,
    columns: &[Column<T>],
) -> Result<(), ClientError> {
    print_answer(output, answer, |list| Table::of(columns, &list.items, output).render(output))
}

/// Writes one item from the control plane; for people with a line for each column.
pub(crate) fn print_one<T: DeserializeOwned>(
    output: Output,
    answer: &Answer<T>,
    columns: &[Column<T>],
) -> anyhow::Result<()> {
    Ok(print_answer(output, answer, |item| Table::card(columns, &item).render(Output::Wide))?)
}

/// Writes the result of a change on the control plane; for people as a sentence.
pub(crate) fn print_outcome<T: DeserializeOwned>(
    output: Output,
    answer: &Answer<T>,
    say: impl FnOnce(T) -> String,
) -> anyhow::Result<()> {
    Ok(print_answer(output, answer, |done| Safe::toned(&say(done), Tone::Plain))?)
}

/// Writes a list that this program made.
pub(crate) fn print_list<T>(output: Output, value: &Value, columns: &[Column<T>], items: &[T]) {
    match output.is_for_people() {
        true => print_safe(&Table::of(columns, items, output).render(output)),
        false => print_value(output, value),
    }
}

/// Writes one item that this program made.
pub(crate) fn print_card<T>(output: Output, value: &Value, columns: &[Column<T>], item: &T) {
    match output.is_for_people() {
        true => print_safe(&Table::card(columns, item).render(Output::Wide)),
        false => print_value(output, value),
    }
}

/// Writes the result of a local action.
pub(crate) fn print_done(output: Output, value: &Value, said: &str) {
    match output.is_for_people() {
        true => print(&shown(said)),
        false => print_value(output, value),
    }
}

/// Writes a value for programs.
pub(crate) fn print_value(output: Output, value: &Value) {
    match output {
        Output::Yaml => print_yaml(value),
        Output::Csv => print_exact(&format::csv(value)),
        Output::Json | Output::Table | Output::Wide => print_json(value),
    }
}

/// Writes a value as YAML.
pub(crate) fn print_yaml(value: &Value) {
    print(&format::yaml(value));
}

/// CSV output in several parts: the header is written once.
#[derive(Default)]
pub(crate) struct CsvLines {
    has_header: bool,
}

impl CsvLines {
    pub(crate) fn print(&mut self, value: &Value) {
        let text = format::csv(value);
        match std::mem::replace(&mut self.has_header, true) {
            false => print_exact(&text),
            true => print_exact(text.split_once('\n').map_or("", |(_, rest)| rest)),
        }
    }
}

/// Formats a value of an enum as in the API.
pub(crate) fn word(value: &impl Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(Value::String(word)) => word,
        Ok(other) => other.to_string(),
        Err(_) => String::new(),
    }
}

/// Formats a JSON string with non-printable characters escaped.
fn json_string(text: &str) -> String {
    visible_json(&Value::from(text).to_string()).into_owned()
}
