//! The only place that writes to standard output and standard error.
//!
//! What is shown may come from clients, backends and nodes, so everything for people is made safe for a terminal here.
//! `table` lays out rows, `units` formats numbers, `format` writes answers for programs.

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

/// Text for people that is safe to show and may hold colours.
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

    /// Adds a line, or several.
    pub(crate) fn push(&mut self, more: &Self) {
        if !self.0.is_empty() {
            self.0.push('\n');
        }
        self.0.push_str(&more.0);
    }

    /// Adds text that is made safe.
    pub(crate) fn push_text(&mut self, text: &str) {
        self.push(&Self::new(text));
    }

    /// Adds an empty line.
    pub(crate) fn gap(&mut self) {
        self.0.push('\n');
    }

    /// The same with spaces before each line.
    pub(crate) fn indented(&self) -> Self {
        Self(self.0.lines().map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n"))
    }

    #[cfg(test)]
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// Writes text that is safe already.
pub(crate) fn print_safe(text: &Safe) {
    write(&format!("{}\n", text.0));
}

/// Whether standard output takes colours: by `NO_COLOR`, `CLICOLOR_FORCE`, `CLICOLOR` and `TERM`, else where it is a
/// terminal.
pub(crate) fn is_coloured() -> bool {
    static COLOURED: LazyLock<bool> =
        LazyLock::new(|| anstream::AutoStream::choice(&io::stdout()) != anstream::ColorChoice::Never);
    *COLOURED
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

/// Shows something once, or again and again where that is asked for: in place on a terminal, until it fails or its reader
/// has left.
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

/// Writes an answer: for programs as it came, for people as `show` makes it.
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

/// Writes a list of the control plane: for people as a table.
pub(crate) fn print_items<T: DeserializeOwned>(
    output: Output,
    answer: &Answer<List<T>>,
    columns: &[Column<T>],
) -> Result<(), ClientError> {
    print_answer(output, answer, |list| Table::of(columns, &list.items, output).render(output))
}

/// Writes one item of the control plane: for people with a line for each column.
pub(crate) fn print_one<T: DeserializeOwned>(
    output: Output,
    answer: &Answer<T>,
    columns: &[Column<T>],
) -> anyhow::Result<()> {
    Ok(print_answer(output, answer, |item| Table::card(columns, &item).render(Output::Wide))?)
}

/// Writes what the control plane did: for people a sentence.
pub(crate) fn print_outcome<T: DeserializeOwned>(
    output: Output,
    answer: &Answer<T>,
    say: impl FnOnce(T) -> String,
) -> anyhow::Result<()> {
    Ok(print_answer(output, answer, |done| Safe::toned(&say(done), Tone::Plain))?)
}

/// Writes a list of this program.
pub(crate) fn print_list<T>(output: Output, value: &Value, columns: &[Column<T>], items: &[T]) {
    match output.is_for_people() {
        true => print_safe(&Table::of(columns, items, output).render(output)),
        false => print_value(output, value),
    }
}

/// Writes one item of this program.
pub(crate) fn print_card<T>(output: Output, value: &Value, columns: &[Column<T>], item: &T) {
    match output.is_for_people() {
        true => print_safe(&Table::card(columns, item).render(Output::Wide)),
        false => print_value(output, value),
    }
}

/// Writes what this program did.
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

/// CSV that grows: the header is written once.
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

/// A value of an enum, as the API writes it.
pub(crate) fn word(value: &impl Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(Value::String(word)) => word,
        Ok(other) => other.to_string(),
        Err(_) => String::new(),
    }
}

/// Escapes of JSON in place of what does not print.
fn json_string(text: &str) -> String {
    visible_json(&Value::from(text).to_string()).into_owned()
}
