//! HTTP/1.1 load by wrk, with 64 connections, as fast as the proxy responds.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::Context as _;

use crate::{CONNECTIONS, Seen, workload::UPLOAD};

/// Runs wrk on the given cores.
#[derive(Debug, Clone)]
pub struct Wrk {
    cores: &'static str,
    upload: PathBuf,
    openssl: PathBuf,
}

/// Difference of a request from a cleartext GET on a kept connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// None.
    Get,
    /// It has a body.
    Upload,
    /// It uses TLS.
    Https,
    /// It closes the connection.
    Close,
}

impl Wrk {
    /// Writes wrk's script for uploads, and a setting that offers only one cipher suite, to the folder.
    ///
    /// # Errors
    /// The folder cannot be written to.
    pub fn new(folder: &Path, cores: &'static str) -> anyhow::Result<Self> {
        let (upload, openssl) = (folder.join("upload.lua"), folder.join("openssl.cnf"));
        fs::write(
            &upload,
            format!(
                "wrk.method = \"POST\"\nwrk.body = string.rep(\"x\", {UPLOAD})\nwrk.headers[\"Content-Type\"] = \"text/plain\"\n"
            ),
        )?;
        // Otherwise each proxy chooses its preferred cipher suite, and AES-256 would be compared with AES-128.
        fs::write(
            &openssl,
            "openssl_conf = init\n[init]\nssl_conf = ssl\n[ssl]\nsystem_default = one\n\
             [one]\nMinProtocol = TLSv1.3\nCiphersuites = TLS_AES_128_GCM_SHA256\nGroups = X25519\n",
        )?;
        Ok(Self { cores, upload, openssl })
    }

    /// Loads a proxy for some seconds.
    ///
    /// # Errors
    /// wrk is missing, or a request failed: figures with failures are meaningless.
    pub fn run(&self, kind: Kind, address: SocketAddr, path: &str, seconds: u32) -> anyhow::Result<Seen> {
        let scheme = if kind == Kind::Https { "https" } else { "http" };
        let mut command = Command::new("taskset");
        command.args(["--cpu-list", self.cores, "wrk", "--latency", "-t1"]);
        command.args([format!("-c{CONNECTIONS}"), format!("-d{seconds}s")]);
        match kind {
            Kind::Upload => command.arg("-s").arg(&self.upload),
            Kind::Https => command.env("OPENSSL_CONF", &self.openssl),
            Kind::Close => command.args(["-H", "Connection: close"]),
            Kind::Get => &mut command,
        };
        let output = command
            .arg(format!("{scheme}://{address}{path}"))
            .stdin(Stdio::null())
            .output()
            .context("cannot run wrk through taskset")?;
        let text = String::from_utf8_lossy(&output.stdout);
        anyhow::ensure!(
            output.status.success(),
            "wrk failed: {text}{}",
            String::from_utf8_lossy(&output.stderr)
        );
        parse(&text).with_context(|| format!("wrk printed:\n{text}"))
    }
}

fn parse(text: &str) -> anyhow::Result<Seen> {
    for failure in ["Socket errors:", "Non-2xx or 3xx responses:"] {
        anyhow::ensure!(!text.contains(failure), "requests failed");
    }
    let after = |label: &str| {
        text.lines()
            .find_map(|line| line.trim().strip_prefix(label))
            .map(str::trim)
            .with_context(|| format!("no {label:?}"))
    };
    let requests = text
        .lines()
        .find_map(|line| line.split_once(" requests in "))
        .context("no number of requests")?
        .0
        .trim()
        .parse()?;
    let requests_per_second = after("Requests/sec:")?.parse()?;
    Ok(Seen {
        requests,
        requests_per_second,
        p50_ms: milliseconds(after("50%")?)?,
        p99_ms: milliseconds(after("99%")?)?,
    })
}

/// wrk prints `712.00us`, `1.43ms`, `2.01s`, `1.10m`.
fn milliseconds(text: &str) -> anyhow::Result<f64> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "us" => 0.001,
        "ms" => 1.0,
        "s" => 1000.0,
        "m" => 60_000.0,
        other => anyhow::bail!("unknown unit {other:?} of {text:?}"),
    };
    Ok(digits.parse::<f64>()? * unit)
}

/// The status of one GET on a new connection.
///
/// # Errors
/// No connection, or no response in time.
pub fn status_of(address: SocketAddr, path: &str) -> anyhow::Result<u16> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    write!(stream, "GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n")?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line)?;
    Ok(line.split(' ').nth(1).context("no status")?.parse()?)
}
#[cfg(test)]
mod tests {
    use super::*;

    const SAID: &str = "Running 5s test @ http://127.0.0.1:1/small
  1 threads and 64 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     1.32ms  712.00us  20.10ms   90.00%
    Req/Sec    48.10k     1.20k   50.00k    70.00%
  Latency Distribution
     50%    1.25ms
     75%    1.50ms
     90%    1.90ms
     99%  980.00us
  239123 requests in 5.00s, 40.00MB read
Requests/sec:  47801.22
Transfer/sec:      8.00MB
";

    #[test]
    fn figures_are_parsed_from_the_output_of_wrk() {
        let seen = parse(SAID).unwrap();
        assert_eq!(
            seen,
            Seen { requests: 239_123, requests_per_second: 47801.22, p50_ms: 1.25, p99_ms: 0.98 }
        );
    }

    #[test]
    fn a_run_with_a_failed_request_gives_no_figures() {
        assert!(parse(&format!("{SAID}  Non-2xx or 3xx responses: 1\n")).is_err());
        assert!(parse(&format!("{SAID}  Socket errors: connect 0, read 1, write 0, timeout 0\n")).is_err());
        assert!(parse("").is_err());
    }
}
