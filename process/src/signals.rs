//! Signal handling: which signals stop a program, which reload its files, and which are ignored so that they do not
//! end it by accident.

use std::io::{self, IsTerminal as _};

use tokio::signal::unix::{Signal as Stream, SignalKind, signal};

/// A request that a signal makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// `SIGTERM` or `SIGINT`: stop gracefully.
    Stop,
    /// `SIGHUP`: reload files and continue.
    Reload,
}

/// Handles every signal that would otherwise end the process. Exceptions are signals that report a fault of the
/// program itself (`SIGSEGV` and the like), `SIGQUIT`, which ends it at once, and `SIGKILL`, which cannot be handled.
/// The standard library ignores `SIGPIPE`.
pub struct Signals {
    terminate: Stream,
    interrupt: Stream,
    hang_up: Stream,
    /// True if a standard stream was a terminal at the start.
    has_terminal: bool,
}

/// Signals that are logged and otherwise ignored.
#[rustfmt::skip]
const IGNORED: &[(i32, &str)] = &[
    (24, "SIGXCPU"), (25, "SIGXFSZ"), (26, "SIGVTALRM"), (27, "SIGPROF"),
    #[cfg(target_os = "linux")]
    (16, "SIGSTKFLT"),
    #[cfg(target_os = "linux")]
    (30, "SIGPWR"),
];

/// Real-time signals available to applications.
#[cfg(target_os = "linux")]
const REAL_TIME: std::ops::RangeInclusive<i32> = 34..=64;
#[cfg(not(target_os = "linux"))]
const REAL_TIME: std::ops::Range<i32> = 0..0;

impl Signals {
    /// Starts handling signals. Call it before anything that takes time.
    ///
    /// # Errors
    /// The system rejects a handler.
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
            // A signal that the system does not have needs no handler.
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

    /// Waits for the next signal that makes a request.
    pub async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.terminate.recv() => Signal::Stop,
            _ = self.interrupt.recv() => Signal::Stop,
            _ = self.hang_up.recv() => Signal::Reload,
        }
    }

    /// Waits for the signal to stop, while there are no files to reload.
    pub async fn stop(&mut self) {
        while self.next().await != Signal::Stop {
            no_files();
        }
    }

    /// Waits for the signal to stop, or for the end of the terminal that the program was started from. For programs
    /// that are started by hand: closing the terminal sends them `SIGHUP`, and nothing would stop them later.
    pub async fn stop_or_hangup(&mut self) {
        while self.next().await != Signal::Stop && !self.has_terminal {
            no_files();
        }
    }
}

/// Logs a `SIGHUP` that has no effect.
pub fn no_files() {
    tracing::info!(signal = "SIGHUP", "signal ignored: there are no files to reload");
}

async fn ignore(mut stream: Stream, kind: SignalKind, name: &'static str) {
    while stream.recv().await.is_some() {
        tracing::warn!(signal = name, number = kind.as_raw_value(), "signal ignored");
    }
}
