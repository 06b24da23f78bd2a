//! Weir's shipped programs: control plane, one node, one backend.

use std::{
    fs::{self, File},
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::Context as _;

use crate::flow;

const DEADLINE: Duration = Duration::from_secs(30);

/// The running programs.
pub(crate) struct Weir {
    pub(crate) http: SocketAddr,
    pub(crate) https: SocketAddr,
    status: SocketAddr,
    /// Process id of the node.
    pub(crate) pid: u32,
    log: PathBuf,
    programs: Vec<Child>,
    _folder: tempfile::TempDir,
}

impl Drop for Weir {
    fn drop(&mut self) {
        for program in self.programs.iter_mut().rev() {
            // The program may have ended already; the figures show that.
            let _ = program.kill();
            let _ = program.wait();
        }
    }
}

impl Weir {
    pub(crate) fn start(workers: u16) -> anyhow::Result<Self> {
        let programs = build()?;
        let folder = tempfile::tempdir()?;
        let own = folder.path();
        let mut weir = Self {
            http: ([127, 0, 0, 1], 0).into(),
            https: ([127, 0, 0, 1], 0).into(),
            status: ([127, 0, 0, 1], 0).into(),
            pid: 0,
            log: own.join("data-plane.log"),
            programs: Vec::new(),
            _folder: tempfile::tempdir()?,
        };
        let backend =
            weir.run(own, &programs, "backend-mock", &["--listen", "127.0.0.1:0"], &["listening"])?;
        let config = format!(
            "settings:
  downstream: {{ idle_timeout: 1h }}
pools:
  - name: default
    backends: [{{ url: \"http://{}\" }}]
routes:
  - {{ name: default, pool: default }}
",
            backend[0]
        );
        fs::write(own.join("weir.yaml"), config)?;
        let database = format!("sqlite:{}", own.join("weir.db").display());
        let arguments = ["--database", &database, "--admin", "127.0.0.1:0", "--nodes", "127.0.0.1:0"];
        let arguments = [&arguments[..], &["--config", "weir.yaml"]].concat();
        let planes = weir.run(own, &programs, "control-plane", &arguments, &["admin", "nodes"])?;
        let certificate = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
        fs::write(own.join("cert.pem"), certificate.cert.pem())?;
        fs::write(own.join("key.pem"), certificate.signing_key.serialize_pem())?;
        let (control, workers) = (format!("http://{}", planes[1]), workers.to_string());
        let arguments = ["--control-plane", &control, "--http", "127.0.0.1:0", "--https", "127.0.0.1:0"];
        let more = ["--tls-cert", "cert.pem", "--tls-key", "key.pem", "--status", "127.0.0.1:0"];
        let arguments = [&arguments[..], &more, &["--workers", &workers]].concat();
        let said = weir.run(own, &programs, "data-plane", &arguments, &["http", "https", "status"])?;
        (weir.http, weir.https, weir.status) = (said[0], said[1], said[2]);
        weir.pid = weir.programs.last().map_or(0, Child::id);
        weir._folder = folder;
        let begun = Instant::now();
        while flow::get(weir.http, "/health").is_err() {
            anyhow::ensure!(begun.elapsed() < DEADLINE, "the node does not serve traffic: {}", weir.log());
            std::thread::park_timeout(Duration::from_millis(50));
        }
        Ok(weir)
    }

    /// Starts a program with the maximum number of file descriptors, and reads the addresses that it prints, by name.
    fn run(
        &mut self,
        own: &Path,
        programs: &Path,
        name: &str,
        arguments: &[&str],
        addresses: &[&str],
    ) -> anyhow::Result<Vec<SocketAddr>> {
        let mut child = Command::new("sh")
            .args(["-c", "ulimit -n $(ulimit -Hn); exec \"$@\"", "sh"])
            .arg(programs.join(name))
            .args(arguments)
            .current_dir(own)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(File::create(own.join(format!("{name}.log")))?)
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        let output = child.stdout.take();
        self.programs.push(child);
        let mut found = vec![None; addresses.len()];
        for line in BufReader::new(output.context("no output")?).lines() {
            let line = line?;
            let Some((what, address)) = line.split_once("://") else { continue };
            let what = what.split(' ').next().unwrap_or_default();
            if let Some(at) = addresses.iter().position(|name| *name == what) {
                found[at] = Some(address.trim().parse()?);
            }
            if found.iter().all(Option::is_some) {
                return Ok(found.into_iter().flatten().collect());
            }
        }
        let log = fs::read_to_string(own.join(format!("{name}.log"))).unwrap_or_default();
        anyhow::bail!("{name} ended before it printed its addresses: {log}")
    }

    /// The node's log.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// A metric of the node.
    pub(crate) fn metric(&self, name: &str) -> anyhow::Result<u64> {
        let text = flow::get(self.status, "/metrics")?;
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        Ok(line.with_context(|| format!("no metric {name}"))?.trim().parse()?)
    }
}

/// Builds Weir's programs in the soak's own profile if cargo runs the soak; returns their folder.
fn build() -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe()?;
    let folder = own.parent().context("the soak's own path has no folder")?.to_owned();
    if let Some(cargo) = std::env::var_os("CARGO") {
        let profile = match folder.file_name().and_then(|name| name.to_str()) {
            Some("debug") | None => "dev",
            Some(name) => name,
        };
        let status = Command::new(cargo)
            .args(["build", "--quiet", "-p", "control-plane", "-p", "data-plane", "-p", "backend-mock"])
            .args(["--profile", profile])
            .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")))
            .status()?;
        anyhow::ensure!(status.success(), "weir does not build");
    }
    Ok(folder)
}
