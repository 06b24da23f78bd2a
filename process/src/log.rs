//! The log on standard error: one event per line, safe to show on a terminal.
//!
//! Fields contain text from clients, backends and nodes. `tracing-subscriber` writes most of it unchanged: line
//! breaks would forge events, and control characters would control the terminal. So each event is escaped as a whole
//! after formatting.

use std::{
    borrow::Cow,
    io::{self, IsTerminal as _, Stderr, Write},
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use tracing_subscriber::{EnvFilter, fmt::MakeWriter};
use weir_snapshot::{is_visible, visible_bytes, visible_json};

/// Starts the log on standard error in the format `text` or `json`. `WEIR_LOG` overrides the filter `usual`.
pub fn init(format: &str, usual: &str) {
    let filter = EnvFilter::try_from_env("WEIR_LOG").unwrap_or_else(|_| usual.into());
    let wants_colour = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let format = match format {
        "json" => Format::Json,
        _ if wants_colour && io::stderr().is_terminal() => Format::Coloured,
        _ => Format::Text,
    };
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(format == Format::Coloured)
        .with_writer(Events { format });
    if format == Format::Json { log.json().init() } else { log.init() }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Text,
    /// Text with colour sequences (SGR). `tracing-subscriber` itself escapes ESC in values.
    Coloured,
    Json,
}

/// Creates a writer for each event.
struct Events {
    format: Format,
}

impl<'a> MakeWriter<'a> for Events {
    type Writer = Event<Stderr>;

    fn make_writer(&'a self) -> Self::Writer {
        Event { format: self.format, out: io::stderr() }
    }
}

/// Events lost since the last one that could be written.
static LOST: AtomicU64 = AtomicU64::new(0);

/// Writes one event, which arrives in one piece. It never returns an error: `tracing-subscriber` would report it with
/// a macro that panics if standard error cannot be written, and a full disk would end a thread that serves traffic.
struct Event<W> {
    format: Format,
    out: W,
}

impl<W: Write> Write for Event<W> {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let lost = LOST.load(Relaxed);
        if self.out.write_all(safe(event, self.format).as_bytes()).is_err() {
            LOST.fetch_add(1, Relaxed);
        } else if lost > 0 && LOST.compare_exchange(lost, 0, Relaxed, Relaxed).is_ok() {
            let told = match self.format {
                Format::Json => {
                    format!("{{\"level\":\"WARN\",\"message\":\"log events were lost\",\"events\":{lost}}}\n")
                }
                Format::Text | Format::Coloured => format!("WARN log events were lost events={lost}\n"),
            };
            if self.out.write_all(told.as_bytes()).is_err() {
                LOST.fetch_add(lost, Relaxed);
            }
        }
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let _ = self.out.flush();
        Ok(())
    }
}

/// Escapes an event to one line. Only the colour sequences of the format itself are kept.
fn safe(event: &[u8], format: Format) -> Cow<'_, str> {
    let line = event.strip_suffix(b"\n").unwrap_or(event);
    if let (Ok(event), Ok(line)) = (str::from_utf8(event), str::from_utf8(line))
        && is_visible(line)
    {
        return Cow::Borrowed(event);
    }
    let mut text = match format {
        // In JSON, such characters only occur in strings, so escaping keeps the value.
        Format::Json => visible_json(&String::from_utf8_lossy(line)).into_owned(),
        Format::Text => visible_bytes(line, usize::MAX),
        Format::Coloured => coloured(line),
    };
    text.push('\n');
    Cow::Owned(text)
}

/// Escapes text and keeps its colour sequences.
fn coloured(mut line: &[u8]) -> String {
    let mut text = String::new();
    while let Some(at) = line.iter().position(|byte| *byte == 0x1b) {
        let (before, rest) = line.split_at(at);
        text.push_str(&visible_bytes(before, usize::MAX));
        let end = rest.iter().skip(2).position(|byte| !matches!(byte, b'0'..=b'9' | b';')).map(|end| end + 2);
        match (rest.get(1), end.and_then(|end| rest.get(end).zip(Some(end)))) {
            (Some(b'['), Some((b'm', end))) => {
                let (colour, after) = rest.split_at(end + 1);
                text.push_str(&String::from_utf8_lossy(colour));
                line = after;
            }
            _ => {
                text.push_str("\\u{1b}");
                line = rest.get(1..).unwrap_or_default();
            }
        }
    }
    text.push_str(&visible_bytes(line, usize::MAX));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_line_without_terminal_controls() {
        for (event, text) in [
            ("INFO done name=\"a\"\n", "INFO done name=\"a\"\n"),
            ("WARN e=a\nINFO forged\r\n", "WARN e=a\\u{a}INFO forged\\u{d}\n"),
            ("x=\x1b]52;c;aGk=\x07\n", "x=\\u{1b}]52;c;aGk=\\u{7}\n"),
            ("x=\x1b[2J\x1b[\x1b\n", "x=\\u{1b}[2J\\u{1b}[\\u{1b}\n"),
            ("x=\u{9b}2J \u{202e}abc\u{2066}\n", "x=\\u{9b}2J \\u{202e}abc\\u{2066}\n"),
        ] {
            assert_eq!(safe(event.as_bytes(), Format::Text), text);
            assert_eq!(safe(event.as_bytes(), Format::Coloured), text);
        }
        assert_eq!(safe(b"a\xff\n", Format::Text), "a\\xff\n");
        let coloured = "\x1b[2mnow\x1b[0m \x1b[38;5;1mERROR\x1b[0m x=\u{202e}\n";
        assert_eq!(safe(coloured.as_bytes(), Format::Coloured), coloured.replace('\u{202e}', "\\u{202e}"));
        assert!(!safe(coloured.as_bytes(), Format::Text).contains('\x1b'));
        let json = "{\"x\":\"\u{9b}2J\u{202e}\u{7f}\"}\n";
        assert_eq!(safe(json.as_bytes(), Format::Json), "{\"x\":\"\\u009b2J\\u202e\\u007f\"}\n");
    }

    #[test]
    fn failed_writes_are_ignored_and_lost_events_are_counted() {
        struct Full(Vec<u8>, bool);
        impl Write for Full {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                if self.1 {
                    return Err(io::ErrorKind::StorageFull.into());
                }
                self.0.write(bytes)
            }
            fn flush(&mut self) -> io::Result<()> {
                self.write(b"").map(drop)
            }
        }
        let mut log = Event { format: Format::Text, out: Full(Vec::new(), true) };
        for _ in 0..3 {
            log.write_all(b"INFO a\n").unwrap();
            log.flush().unwrap();
        }
        log.out.1 = false;
        log.write_all(b"INFO b\n").unwrap();
        log.write_all(b"INFO c\n").unwrap();
        let text = String::from_utf8(log.out.0).unwrap();
        assert_eq!(text, "INFO b\nWARN log events were lost events=3\nINFO c\n");
    }
}
