//! What is asked of every proxy, and which figure of it counts.

use serde::{Deserialize, Serialize};

/// The bytes of an uploaded body.
pub const UPLOAD: usize = 10 * 1024;
/// The bytes of a large answer.
pub const LARGE: usize = 100 * 1024;

/// One way to use a proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, clap::ValueEnum)]
pub enum Workload {
    /// An answer that fits any buffer: the cost of a request as such.
    SmallGet,
    /// The same with two workers, which the kernel places as it likes.
    TwoWorkers,
    /// An answer of 100 KB: the cost of moving bytes down.
    LargeAnswer,
    /// A request of 10 KB: the cost of moving bytes up.
    Upload,
    /// The small request over TLS, on connections that are kept.
    Https,
    /// The small request over HTTP/2 in clear text.
    Http2,
    /// The small request, each on a connection of its own.
    NewConnection,
    /// Connections that did one request and wait.
    IdleConnection,
    /// The small request at half of what the proxies can do, all at the same rate.
    HalfLoad,
}

/// The figure of a workload that proxies are compared by. Less is better, always.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Figure {
    /// CPU time of the proxy's processes, in microseconds a request.
    #[serde(rename = "cpu_us_per_request")]
    Cpu,
    /// What the proxy's memory grew by, in bytes a connection.
    #[serde(rename = "bytes_per_connection")]
    Memory,
    /// The time that 99 of 100 answers kept within, in milliseconds.
    #[serde(rename = "p99_ms")]
    Latency,
}

impl Workload {
    /// Every workload, in the order of the report.
    pub const ALL: [Self; 9] = [
        Self::SmallGet,
        Self::TwoWorkers,
        Self::LargeAnswer,
        Self::Upload,
        Self::Https,
        Self::Http2,
        Self::NewConnection,
        Self::IdleConnection,
        Self::HalfLoad,
    ];

    /// Its name in the reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::SmallGet => "small GET",
            Self::TwoWorkers => "two workers",
            Self::LargeAnswer => "100 KB answer",
            Self::Upload => "POST 10 KB",
            Self::Https => "HTTPS",
            Self::Http2 => "HTTP/2",
            Self::NewConnection => "new connection",
            Self::IdleConnection => "idle connection",
            Self::HalfLoad => "half load",
        }
    }

    /// What proxies are compared by.
    #[must_use]
    pub fn figure(self) -> Figure {
        match self {
            Self::IdleConnection => Figure::Memory,
            Self::HalfLoad => Figure::Latency,
            _ => Figure::Cpu,
        }
    }

    /// What is asked for; the backends answer it, see [`crate::backend`].
    #[must_use]
    pub fn path(self) -> &'static str {
        match self {
            Self::LargeAnswer => "/large",
            Self::Upload => "/upload",
            _ => "/small",
        }
    }
}

impl Figure {
    /// What it is, for headings.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Cpu => "CPU µs per request",
            Self::Memory => "bytes per connection",
            Self::Latency => "p99, ms",
        }
    }

    /// A value as people read it.
    #[must_use]
    pub fn show(self, value: f64) -> String {
        match self {
            Self::Cpu => format!("{value:.1}"),
            Self::Latency => format!("{value:.2}"),
            Self::Memory => thousands(value),
        }
    }
}

/// `81920.4` is `81,920`.
fn thousands(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) && digit != '-' && !text.ends_with('-') {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_numbers_are_grouped() {
        let shown: Vec<String> =
            [-1234.0, -680.0, 0.0, 680.4, 1186.0, 81_920.0, 1_000_000.0].map(thousands).to_vec();
        assert_eq!(shown, ["-1,234", "-680", "0", "680", "1,186", "81,920", "1,000,000"]);
    }
}
