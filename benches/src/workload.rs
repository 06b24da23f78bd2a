//! The workloads, and the figure by which proxies are compared in each.

use serde::{Deserialize, Serialize};

/// Size of an uploaded body in bytes.
pub const UPLOAD: usize = 10 * 1024;
/// Size of a large response in bytes.
pub const LARGE: usize = 100 * 1024;

/// A kind of load on a proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, clap::ValueEnum)]
pub enum Workload {
    /// A response that fits any buffer: the cost of a request itself.
    SmallGet,
    /// The same with two workers, placed by the kernel.
    TwoWorkers,
    /// A response of 100 KB: the cost of moving bytes to the client.
    LargeAnswer,
    /// A request of 10 KB: the cost of moving bytes to the backend.
    Upload,
    /// The small request over TLS on kept connections.
    Https,
    /// The small request over HTTP/2, cleartext.
    Http2,
    /// The small request, each on a new connection.
    NewConnection,
    /// Idle connections after one request.
    IdleConnection,
    /// The small request at half of the proxies' capacity, all at the same rate.
    HalfLoad,
}

/// The figure by which proxies are compared. Less is always better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Figure {
    /// CPU time of the proxy's processes, in microseconds per request.
    #[serde(rename = "cpu_us_per_request")]
    Cpu,
    /// Growth of the proxy's memory, in bytes per connection.
    #[serde(rename = "bytes_per_connection")]
    Memory,
    /// 99th percentile of the latency, in milliseconds.
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

    /// Name in the reports.
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

    /// The figure by which proxies are compared.
    #[must_use]
    pub fn figure(self) -> Figure {
        match self {
            Self::IdleConnection => Figure::Memory,
            Self::HalfLoad => Figure::Latency,
            _ => Figure::Cpu,
        }
    }

    /// Path of the requests; see [`crate::backend`] for the responses.
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
    /// Name with unit, for headings.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Cpu => "CPU µs per request",
            Self::Memory => "bytes per connection",
            Self::Latency => "p99, ms",
        }
    }

    /// Formats a value.
    #[must_use]
    pub fn show(self, value: f64) -> String {
        match self {
            Self::Cpu => format!("{value:.1}"),
            Self::Latency => format!("{value:.2}"),
            Self::Memory => thousands(value),
        }
    }
}

/// Formats `81920.4` as `81,920`.
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
