//! The proxies under test, configured alike: the same number of workers, kept upstream connections, round robin over
//! the same two backends, the usual forwarded headers, no access log.

use std::{
    env, fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Context as _;

use crate::{
    certificate::Certificate,
    process::{Process, free_addresses, on},
    weir,
    workload::Workload,
    wrk,
};

/// A proxy under test.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, clap::ValueEnum)]
pub enum Peer {
    /// This project: a control plane and a data-plane node.
    Weir,
    /// nginx with one process per worker.
    Nginx,
    /// HAProxy with one thread per worker.
    Haproxy,
    /// Envoy with one thread per worker, plus its main thread.
    Envoy,
    /// Caddy, whose runtime uses as many cores as there are workers.
    Caddy,
    /// Cloudflare's library in a minimal program: `benches/pingora`.
    Pingora,
}

/// Settings to start a proxy.
#[derive(Debug, Clone, Copy)]
pub struct Plan<'a> {
    /// Folder for its files.
    pub folder: &'a Path,
    /// Folder with Weir's programs.
    pub programs: &'a Path,
    /// Addresses of the backends.
    pub backends: [SocketAddr; 2],
    /// Number of workers.
    pub workers: u16,
    /// CPU cores that it may use.
    pub cores: &'a str,
    /// Its TLS certificate.
    pub certificate: &'a Certificate,
}

/// A running proxy.
#[derive(Debug)]
pub struct Running {
    /// The proxy.
    pub peer: Peer,
    /// Its listeners.
    pub listeners: Listeners,
    /// CPU time and memory are measured for this process and its descendants.
    pub pid: u32,
    /// The last one is the proxy.
    pub(crate) processes: Vec<Process>,
}

/// Listeners of a proxy.
#[derive(Debug, Clone, Copy)]
pub struct Listeners {
    /// HTTP/1.1, cleartext.
    pub http: SocketAddr,
    /// HTTP/2, cleartext.
    pub http2: SocketAddr,
    /// HTTP/1.1 over TLS.
    pub https: SocketAddr,
}

impl Peer {
    /// Every proxy, in the order of the report.
    pub const ALL: [Peer; 6] =
        [Self::Weir, Self::Nginx, Self::Haproxy, Self::Envoy, Self::Caddy, Self::Pingora];

    /// Name in the reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Weir => "weir",
            Self::Nginx => "nginx",
            Self::Haproxy => "haproxy",
            Self::Envoy => "envoy",
            Self::Caddy => "caddy",
            Self::Pingora => "pingora",
        }
    }

    /// The program: from `WEIR_BENCH_NGINX` and so on, or from the search path.
    fn program(self, programs: &Path) -> PathBuf {
        let variable = format!("WEIR_BENCH_{}", self.name().to_uppercase());
        match self {
            Self::Weir => programs.join("data-plane"),
            Self::Pingora => pingora_folder().join("target/release/pingora-peer"),
            _ => env::var_os(variable).map_or_else(|| self.name().into(), PathBuf::from),
        }
    }

    /// The program's version.
    ///
    /// # Errors
    /// The program is missing.
    pub fn version(self, programs: &Path) -> anyhow::Result<String> {
        let program = self.program(programs);
        let flag = match self {
            Self::Nginx | Self::Haproxy => "-v",
            Self::Caddy => "version",
            Self::Weir | Self::Envoy | Self::Pingora => "--version",
        };
        let output = Command::new(&program)
            .arg(flag)
            .output()
            .with_context(|| format!("cannot run {}; is it installed?", program.display()))?;
        let text = [output.stdout, output.stderr].concat();
        Ok(version_number(&String::from_utf8_lossy(&text)).unwrap_or("unknown").to_owned())
    }

    /// Starts the proxy and waits until it forwards requests.
    ///
    /// # Errors
    /// A program is missing or does not start.
    pub fn start(self, plan: Plan<'_>) -> anyhow::Result<Running> {
        let own = plan.folder.join(format!("{}-{}", self.name(), plan.workers));
        fs::create_dir_all(&own)?;
        let mut running = match self {
            Self::Weir => weir::start(&own, plan, &weir::configuration(&plan.backends)),
            _ => self.start_peer(&own, plan),
        }?;
        running.wait_until_it_forwards()?;
        Ok(running)
    }

    fn start_peer(self, own: &Path, plan: Plan<'_>) -> anyhow::Result<Running> {
        let [http, http2, https] = free_addresses::<3>()?;
        let listeners = Listeners { http, http2, https };
        let mut command = on(plan.cores, &self.program(plan.programs));
        let workers = plan.workers.to_string();
        let configure =
            |name: &str, template: &str| fs::write(own.join(name), fill(template, plan, listeners));
        match self {
            Self::Nginx => {
                configure("nginx.conf", include_str!("peer/nginx.conf"))?;
                command.arg("-p").arg(own).args(["-c", "nginx.conf", "-e", "error.log"]);
            }
            Self::Haproxy => {
                configure("haproxy.cfg", include_str!("peer/haproxy.cfg"))?;
                command.args(["-db", "-f", "haproxy.cfg"]);
            }
            Self::Envoy => {
                configure("envoy.yaml", include_str!("peer/envoy.yaml"))?;
                command.args(["-c", "envoy.yaml", "--concurrency", &workers, "-l", "off"]);
                command.args(["--use-dynamic-base-id", "--disable-hot-restart"]);
            }
            Self::Caddy => {
                configure("Caddyfile", include_str!("peer/Caddyfile"))?;
                command.args(["run", "--adapter", "caddyfile", "--config", "Caddyfile"]);
                command.env("GOMAXPROCS", &workers);
                command.env("HOME", own).env("XDG_DATA_HOME", own).env("XDG_CONFIG_HOME", own);
            }
            Self::Pingora | Self::Weir => {
                let listeners = [http, http2, https].map(|address| address.to_string());
                command.arg(&workers).args(listeners);
                command.arg(&plan.certificate.certificate).arg(&plan.certificate.key);
                command.args(plan.backends.map(|address| address.to_string()));
            }
        }
        let process = Process::start(own, self.name(), command)?;
        Ok(Running { peer: self, listeners, pid: process.pid(), processes: vec![process] })
    }
}

impl Running {
    /// Weir opens its port before it has a configuration.
    pub(crate) fn wait_until_it_forwards(&mut self) -> anyhow::Result<()> {
        let address = self.listeners.http;
        let Some(proxy) = self.processes.last_mut() else { return Ok(()) };
        proxy.wait_until("it forwards requests", || {
            wrk::status_of(address, Workload::SmallGet.path()).is_ok_and(|status| status == 200)
        })
    }
}

fn fill(template: &str, plan: Plan<'_>, listeners: Listeners) -> String {
    let [first, second] = plan.backends;
    let mut text = template.replace("@workers@", &plan.workers.to_string());
    for (name, address) in [
        ("http", listeners.http),
        ("http2", listeners.http2),
        ("https", listeners.https),
        ("first", first),
        ("second", second),
    ] {
        text = text
            .replace(&format!("@{name}@"), &address.to_string())
            .replace(&format!("@{name}_port@"), &address.port().to_string());
    }
    for (name, path) in [
        ("certificate", &plan.certificate.certificate),
        ("key", &plan.certificate.key),
        ("both", &plan.certificate.both),
    ] {
        text = text.replace(&format!("@{name}@"), &path.to_string_lossy());
    }
    text
}

fn pingora_folder() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/pingora"))
}

/// Builds the Pingora program, which is not a member of the workspace because it has 200 dependencies.
///
/// # Errors
/// The build failed.
pub fn build_pingora() -> anyhow::Result<()> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .args(["build", "--quiet", "--release", "--locked"])
        .current_dir(pingora_folder())
        .status()
        .context("cannot run cargo")?;
    anyhow::ensure!(status.success(), "the pingora program does not build");
    Ok(())
}

/// The first word that is a number with dots.
fn version_number(output: &str) -> Option<&str> {
    output
        .split(|c: char| c.is_whitespace() || c == '/')
        .map(|word| word.trim_start_matches('v'))
        .find(|word| word.contains('.') && word.starts_with(|first: char| first.is_ascii_digit()))
        .map(|word| word.split(['-', '+']).next().unwrap_or(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_found_in_the_output_of_each_program() {
        for (said, version) in [
            ("nginx version: nginx/1.22.1\n", "1.22.1"),
            ("HAProxy version 2.6.12-1+deb12u4 2026/10/17 - https://haproxy.org/\n", "2.6.12"),
            ("envoy  version: 9e55/1.40.0/Clean/RELEASE/BoringSSL\n", "1.40.0"),
            ("v2.11.7 h1:yj0Y\n", "2.11.7"),
            ("data-plane 0.1.0\n", "0.1.0"),
        ] {
            assert_eq!(version_number(said), Some(version));
        }
        assert_eq!(version_number("no idea"), None);
    }

    #[test]
    fn all_placeholders_are_filled() {
        let folder = tempfile::tempdir().unwrap();
        let certificate = Certificate::make(folder.path()).unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], 4711));
        let plan = Plan {
            folder: folder.path(),
            programs: folder.path(),
            backends: [address; 2],
            workers: 1,
            cores: "0",
            certificate: &certificate,
        };
        let listeners = Listeners { http: address, http2: address, https: address };
        for template in [
            include_str!("peer/nginx.conf"),
            include_str!("peer/haproxy.cfg"),
            include_str!("peer/envoy.yaml"),
            include_str!("peer/Caddyfile"),
        ] {
            let filled = fill(template, plan, listeners).replace("\"@type\"", "");
            assert!(!filled.contains('@'), "{filled}");
            assert!(filled.contains("4711"), "{filled}");
        }
    }
}
