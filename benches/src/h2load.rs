//! HTTP/2 load by h2load, with prior knowledge: eight connections with eight streams, as many concurrent requests as
//! in the other loads.

use std::{
    fs,
    net::SocketAddr,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::Context as _;

use crate::{CONNECTIONS, OTHER_CORE, Seen};

const STREAMS: u32 = 8;

/// Loads a proxy for some seconds. h2load does not print percentiles, so its log of all requests is written to the
/// folder.
///
/// # Errors
/// h2load is missing, or a request failed.
pub fn run(folder: &Path, address: SocketAddr, path: &str, seconds: u32) -> anyhow::Result<Seen> {
    let log = folder.join("h2load.log");
    // h2load appends to its log.
    let _ = fs::remove_file(&log);
    let output = Command::new("taskset")
        .args(["--cpu-list", OTHER_CORE, "h2load", "--no-tls-proto=h2c", "--threads=1"])
        .args([format!("--clients={}", CONNECTIONS / STREAMS), format!("--max-concurrent-streams={STREAMS}")])
        .args([format!("--duration={seconds}"), format!("--log-file={}", log.display())])
        .arg(format!("http://{address}{path}"))
        .stdin(Stdio::null())
        .output()
        .context("cannot run h2load through taskset")?;
    let text = String::from_utf8_lossy(&output.stdout);
    anyhow::ensure!(
        output.status.success(),
        "h2load failed: {text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let requests = successes(&text).with_context(|| format!("h2load printed:\n{text}"))?;
    let mut times = latencies(&fs::read_to_string(&log)?).context("h2load's log")?;
    times.sort_unstable();
    Ok(Seen {
        requests,
        requests_per_second: per_second(requests, seconds),
        p50_ms: percentile(&times, 50),
        p99_ms: percentile(&times, 99),
    })
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^52 requests")]
fn per_second(requests: u64, seconds: u32) -> f64 {
    requests as f64 / f64::from(seconds)
}

/// `requests: 9 total, 9 started, 9 done, 8 succeeded, 1 failed, 1 errored, 0 timeout`. Requests in flight at the end
/// count as failed only; those with a wrong status are in another line.
fn successes(text: &str) -> anyhow::Result<u64> {
    let numbers = |label: &str| -> anyhow::Result<Vec<(u64, String)>> {
        text.lines()
            .find_map(|line| line.strip_prefix(label))
            .with_context(|| format!("no {label:?}"))?
            .split(',')
            .map(|part| {
                let (number, word) = part.trim().split_once(' ').context("no number")?;
                Ok((number.parse()?, word.to_owned()))
            })
            .collect()
    };
    let of = |numbers: &[(u64, String)], word: &str| {
        numbers
            .iter()
            .find(|(_, name)| name == word)
            .map(|(number, _)| *number)
            .with_context(|| word.to_owned())
    };
    let requests = numbers("requests: ")?;
    anyhow::ensure!(of(&requests, "errored")? == 0 && of(&requests, "timeout")? == 0, "requests failed");
    let statuses = numbers("status codes: ")?;
    for class in ["3xx", "4xx", "5xx"] {
        anyhow::ensure!(of(&statuses, class)? == 0, "requests failed");
    }
    of(&requests, "succeeded")
}

/// One line per request: its start, its status, and its duration in microseconds.
fn latencies(log: &str) -> anyhow::Result<Vec<u64>> {
    log.lines()
        .map(|line| {
            let mut fields = line.split('\t').skip(1);
            anyhow::ensure!(fields.next() == Some("200"), "not 200: {line:?}");
            Ok(fields.next().context("a short line")?.parse()?)
        })
        .collect()
}

/// A percentile of sorted microseconds, in milliseconds.
fn percentile(sorted: &[u64], percent: usize) -> f64 {
    let index = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52 microseconds")]
    sorted.get(index).map_or(0.0, |micros| *micros as f64 / 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAID: &str = "finished in 3.00s, 51234.67 req/s, 2.3MB/s
requests: 153704 total, 153768 started, 153704 done, 153704 succeeded, 0 failed, 0 errored, 0 timeout
status codes: 153704 2xx, 0 3xx, 0 4xx, 0 5xx
traffic: 6.9MB (7230000) total
";

    #[test]
    fn requests_are_parsed_from_the_output_of_h2load() {
        assert_eq!(successes(SAID).unwrap(), 153_704);
        assert!(successes(&SAID.replace("0 5xx", "1 5xx")).is_err());
        assert!(successes(&SAID.replace("0 errored", "1 errored")).is_err());
        assert!(successes("").is_err());
    }

    #[test]
    fn times_are_parsed_from_the_log() {
        assert_eq!(latencies("1700\t200\t950\n1800\t200\t1200\n").unwrap(), [950, 1200]);
        assert!(latencies("1700\t503\t950\n").is_err());
        assert!(latencies("1700\n").is_err());
    }

    #[test]
    fn a_percentile_is_a_value_that_occurred() {
        let times: Vec<u64> = (1..=200).map(|i| i * 1000).collect();
        assert!((percentile(&times, 50) - 100.0).abs() < f64::EPSILON);
        assert!((percentile(&times, 99) - 198.0).abs() < f64::EPSILON);
        assert!(percentile(&[], 99).abs() < f64::EPSILON);
    }
}
