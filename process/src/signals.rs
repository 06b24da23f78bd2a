//! Signals: which of them stop a program, which make it read its files again, and that no other ends it by accident.

use std::io::{self, IsTerminal as _};

use tokio::signal::unix::{Signal as Stream, SignalKind, signal};

/// What a signal asks a program to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// `SIGTERM` or `SIGINT`: stop gracefully.
    Stop,
    /// `SIGHUP`: read files again and go on.
    Reload,
}

/// Every signal that would otherwise end the process, except for those that report a fault of the program itself
/// (`SIGSEGV` and the like), `SIGQUIT`, which is meant to end it at once, and `SIGKILL`, which cannot be handled.
/// `SIGPIPE` is ignored by the standard library.
pub struct Signals {
    terminate: Stream,
    interrupt: Stream,
    hang_up: Stream,
    /// Whether a terminal was there at the start: one of the standard streams was it.
    has_terminal: bool,
}

/// Signals that are logged and have no effect.
#[rustfmt::skip]
const IGNORED: &[(i32, &str)] = &[
    (24, "SIGXCPU"), (25, "SIGXFSZ"), (26, "SIGVTALRM"), (27, "SIGPROF"),
    #[cfg(target_os = "linux")]
    (16, "SIGSTKFLT"),
    #[cfg(target_os = "linux")]
    (30, "SIGPWR"),
];

/// The real-time signals that applications may use.
#[cfg(target_os = "linux")]
const REAL_TIME: std::ops::RangeInclusive<i32> = 34..=64;
#[cfg(not(target_os = "linux"))]
const REAL_TIME: std::ops::Range<i32> = 0..0;

impl Signals {
    /// Handles signals from now on. A program calls it before it does anything that takes time.
    ///
    /// # Errors
    /// The system refuses a handler.
    pub fn handle() -> io::Result<Self> {
        let known = [
            (SignalKind::user_defined1(), "SIGUSR1"),
            (SignalKind::user_defined2(), "SIGUSR2"),
            (SignalKind::alarm(), "SIGALRM"),
            (SignalKind::io(), "SIGIO"),
        ];
        let numbered = IGNORED.iter().map(|(number, name)| (SignalKind::from_raw(*number), *name));
        let real_time = REAL_TIME.map(|number| (SignalKind::from_raw(number), "real-time signal"));
        for (kind, name) in known.into_iter().chain(numbered).chain(real_time) {
            // A signal that a system does not have needs no handler.
            if let Ok(stream) = signal(kind) {
                tokio::spawn(ignore(stream, kind, name));
            }
        }
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
            has_terminal: io::stdin().is_terminal()
                || io::stdout().is_terminal()
                || io::stderr().is_terminal(),
        })
    }

    /// The next signal that asks for something.
    pub async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.terminate.recv() => Signal::Stop,
            _ = self.interrupt.recv() => Signal::Stop,
            _ = self.hang_up.recv() => Signal::Reload,
        }
    }

    /// Waits for the signal to stop. For times at which there is nothing to read again.
    pub async fn stop(&mut self) {
        while self.next().await != Signal::Stop {
            no_files();
        }
    }

    /// Waits for the signal to stop, or for the end of the terminal that the program was started from. For programs
    /// that people run by hand: `SIGHUP` stops these when their terminal is closed, and nothing would stop them later.
    pub async fn stop_or_hangup(&mut self) {
        while self.next().await != Signal::Stop && !self.has_terminal {
            no_files();
        }
    }
}

/// Logs a `SIGHUP` that changes nothing.
pub fn no_files() {
    tracing::info!(signal = "SIGHUP", "signal received: there are no files to read again");
}

async fn ignore(mut stream: Stream, kind: SignalKind, name: &'static str) {
    while stream.recv().await.is_some() {
        tracing::warn!(signal = name, number = kind.as_raw_value(), "signal ignored");
    }
}
