//! The programs under test: Weir, and the peers with a configuration that comes as near to Weir's as theirs allows.

use std::{
    io::{BufRead, BufReader},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use weir_snapshot::config::{Backend, Config};

use crate::{control, stage::pause, tls};

/// A program under test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    Weir,
    Nginx,
    Haproxy,
    Envoy,
    Caddy,
}

/// How clients reach it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Listener {
    Http1,
    Http1Tls,
    /// HTTP/2 in clear text, with prior knowledge.
    H2c,
    /// HTTP/2 over TLS.
    H2,
}

impl Listener {
    pub(crate) const ALL: [Self; 4] = [Self::Http1, Self::Http1Tls, Self::H2c, Self::H2];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Http1 => "HTTP/1.1",
            Self::Http1Tls => "HTTP/1.1 over TLS",
            Self::H2c => "HTTP/2",
            Self::H2 => "HTTP/2 over TLS",
        }
    }

    pub(crate) fn is_http2(self) -> bool {
        matches!(self, Self::H2c | Self::H2)
    }

    pub(crate) fn is_tls(self) -> bool {
        matches!(self, Self::Http1Tls | Self::H2)
    }
}

/// Configuration of the proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Profile {
    /// Deadlines that no case reaches.
    Usual,
    /// All deadlines at [`SHORT`].
    Short,
    /// The backend refuses connections.
    Refusing,
    /// The backend takes no connection and refuses none.
    Deaf,
    /// A backend that refuses, and one that works.
    Spare,
    /// Each case ends its program itself.
    Drained,
}

impl Profile {
    pub(crate) const ALL: [Self; 6] =
        [Self::Usual, Self::Short, Self::Refusing, Self::Deaf, Self::Spare, Self::Drained];
}

/// The deadlines of [`Profile::Short`].
pub(crate) const SHORT: Duration = Duration::from_millis(500);

impl Target {
    pub(crate) const PEERS: [Self; 4] = [Self::Nginx, Self::Haproxy, Self::Envoy, Self::Caddy];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Weir => "weir",
            Self::Nginx => "nginx",
            Self::Haproxy => "haproxy",
            Self::Envoy => "envoy",
            Self::Caddy => "caddy",
        }
    }

    /// How long a case waits for what should come. A peer that breaks a rule often does so by silence.
    pub(crate) fn patience(self) -> Duration {
        Duration::from_secs(if self == Self::Weir { 8 } else { 2 })
    }

    /// Whether its configuration here has such a listener.
    pub(crate) fn is_set_up_for(self, listener: Listener) -> bool {
        listener == Listener::Http1 || matches!(self, Self::Weir | Self::Nginx | Self::Haproxy)
    }

    /// The program: `WEIR_CONFORMANCE_NGINX` and so on, or the one in the path.
    fn program(self) -> PathBuf {
        let variable = format!("WEIR_CONFORMANCE_{}", self.name().to_uppercase());
        match self {
            Self::Weir => env!("CARGO_BIN_EXE_data-plane").into(),
            _ => std::env::var_os(variable).map_or_else(|| self.name().into(), PathBuf::from),
        }
    }

    /// The program's version, if it is installed.
    pub(crate) fn version(self) -> Option<String> {
        let argument = match self {
            Self::Weir => return Some(env!("CARGO_PKG_VERSION").to_owned()),
            Self::Nginx | Self::Haproxy => "-v",
            Self::Envoy => "--version",
            Self::Caddy => "version",
        };
        let output = Command::new(self.program()).arg(argument).output().ok()?;
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said).into_owned();
        // The first word that is a number with dots.
        said.split(|c: char| c.is_whitespace() || c == '/')
            .map(|word| word.trim_start_matches('v'))
            .find(|word| word.contains('.') && word.starts_with(|c: char| c.is_ascii_digit()))
            .map(|word| word.split(['-', '+']).next().unwrap_or(word).to_owned())
    }
}

/// A running program, ended when dropped.
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    target: Target,
    child: Child,
    _folder: tempfile::TempDir,
    _held: (socket2::Socket, Option<(socket2::Socket, TcpStream)>),
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Proxy {
    pub(crate) fn start(
        target: &Target,
        listener: Listener,
        profile: Profile,
        backend: SocketAddr,
    ) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        tls::write(folder.path())?;
        // Bound but not listening: no other program gets the port, and the kernel refuses connections.
        let refuser = bound()?;
        let refusing = refuser.local_addr()?.as_socket().context("an address of IPv4")?;
        let deaf = if profile == Profile::Deaf { Some(deaf()?) } else { None };
        let backends = match (profile, &deaf) {
            (Profile::Refusing, _) => vec![refusing],
            (Profile::Spare, _) => vec![refusing, backend],
            (Profile::Deaf, Some((socket, _))) => {
                vec![socket.local_addr()?.as_socket().context("an address of IPv4")?]
            }
            _ => vec![backend],
        };
        let (child, address) = match target {
            Target::Weir => weir(listener, profile, &backends, folder.path())?,
            _ => peer(*target, listener, profile, &backends, folder.path())?,
        };
        Ok(Self { address, target: *target, child, _folder: folder, _held: (refuser, deaf) })
    }

    /// Asks it to end in order, by the signal that means so to it.
    pub(crate) fn terminate(&self) -> Result<(), String> {
        let signal = match self.target {
            Target::Nginx => "-QUIT",
            Target::Haproxy => "-USR1",
            _ => "-TERM",
        };
        let status = Command::new("kill").args([signal, &self.child.id().to_string()]).status();
        match status {
            Ok(status) if status.success() => Ok(()),
            other => Err(format!("cannot signal: {other:?}")),
        }
    }

    /// Its resident memory, in bytes.
    pub(crate) fn memory(&self) -> Result<usize, String> {
        let path = format!("/proc/{}/status", self.child.id());
        let status = std::fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<usize>().ok());
        kilobytes.map(|kilobytes| kilobytes * 1024).ok_or_else(|| format!("{path}: no VmRSS"))
    }
}

fn free_port() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

fn bound() -> anyhow::Result<socket2::Socket> {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into())?;
    Ok(socket)
}

/// A listener whose queue is full: the kernel drops what would connect.
fn deaf() -> anyhow::Result<(socket2::Socket, TcpStream)> {
    let socket = bound()?;
    socket.listen(0)?;
    let address = socket.local_addr()?.as_socket().context("an address of IPv4")?;
    let filler = TcpStream::connect(address)?;
    Ok((socket, filler))
}

fn weir(
    listener: Listener,
    profile: Profile,
    backends: &[SocketAddr],
    folder: &Path,
) -> anyhow::Result<(Child, SocketAddr)> {
    static NODES: AtomicUsize = AtomicUsize::new(1);
    let node_id = format!("conformance-{}", NODES.fetch_add(1, Relaxed));
    let mut config = Config::default();
    config.pools[0].backends = backends
        .iter()
        .enumerate()
        .map(|(i, address)| Backend {
            id: format!("b{}", i + 1),
            url: format!("http://{address}"),
            weight: 1,
            state: Default::default(),
        })
        .collect();
    let short = || format!("{}ms", SHORT.as_millis()).parse().map_err(anyhow::Error::msg);
    if profile == Profile::Short {
        let downstream = &mut config.settings.downstream;
        downstream.header_timeout = short()?;
        downstream.body_timeout = short()?;
        downstream.send_timeout = short()?;
        downstream.idle_timeout = short()?;
        config.pools[0].timeouts.response = short()?;
        config.pools[0].timeouts.response_body = short()?;
    }
    config.pools[0].timeouts.connect = short()?;
    let control_plane = control::prepare(&node_id, config);
    let mut command = Command::new(Target::Weir.program());
    if listener.is_tls() {
        command.args(["--https", "127.0.0.1:0"]);
        command.arg("--tls-cert").arg(folder.join("cert.pem"));
        command.arg("--tls-key").arg(folder.join("key.pem"));
    }
    let mut child = command
        .args(["--control-plane", &control_plane, "--node-id", &node_id])
        .args(["--http", "127.0.0.1:0", "--status", "127.0.0.1:0", "--workers", "1"])
        .stdout(Stdio::piped())
        .stderr(if std::env::var_os("WEIR_LOG").is_some() { Stdio::inherit() } else { Stdio::null() })
        .spawn()?;
    let output = child.stdout.take().context("the program's output")?;
    let wanted = if listener.is_tls() { "https https://" } else { "http http://" };
    let (mut http, mut status) = (None, false);
    // All lines are read: who prints to a closed pipe dies of it.
    for line in BufReader::new(output).lines() {
        let line = line?;
        http = line.strip_prefix(wanted).map(str::parse).or(http);
        status |= line.starts_with("status ");
        if let (Some(address), true) = (&http, status) {
            return Ok((child, address.clone()?));
        }
    }
    bail!("data-plane ended: {}", child.wait()?)
}

fn peer(
    target: Target,
    listener: Listener,
    profile: Profile,
    backends: &[SocketAddr],
    folder: &Path,
) -> anyhow::Result<(Child, SocketAddr)> {
    let address = free_port()?;
    let deadline = if profile == Profile::Short { SHORT } else { Duration::from_secs(20) };
    let mut command = Command::new(target.program());
    let file = folder.join(match target {
        Target::Caddy => "Caddyfile",
        Target::Envoy => "envoy.yaml",
        _ => "proxy.conf",
    });
    let servers = |form: &dyn Fn(usize, &SocketAddr) -> String| {
        backends.iter().enumerate().map(|(i, backend)| form(i, backend)).collect::<String>()
    };
    let both = folder.join("both.pem").display().to_string();
    let haproxy_tls = |alpn: &str| format!("ssl crt {both} alpn {alpn}");
    let kind = match (target, listener) {
        (Target::Nginx, Listener::Http1Tls) => "ssl".to_owned(),
        (Target::Nginx, Listener::H2c) => "http2".to_owned(),
        (Target::Nginx, Listener::H2) => "ssl http2".to_owned(),
        (Target::Haproxy, Listener::Http1Tls) => haproxy_tls("http/1.1"),
        (Target::Haproxy, Listener::H2c) => "proto h2".to_owned(),
        (Target::Haproxy, Listener::H2) => haproxy_tls("h2"),
        (_, Listener::Http1) | (Target::Weir, _) => String::new(),
        // Their configurations here know clear text and HTTP/1.1.
        _ => bail!("{} is not set up for {}", target.name(), listener.name()),
    };
    let kind = kind.as_str();
    let place = |template: &str, servers: String| {
        template
            .replace("@kind@", kind)
            .replace("@listen@", &address.to_string())
            .replace("@port@", &address.port().to_string())
            .replace("@folder@", &folder.display().to_string())
            .replace("@ms@", &deadline.as_millis().to_string())
            .replace("@seconds@", &deadline.as_secs_f64().to_string())
            .replace("@servers@", &servers)
    };
    let configuration = match target {
        Target::Nginx => {
            command.arg("-p").arg(folder).arg("-c").arg(&file);
            place(include_str!("peers/nginx.conf"), servers(&|_, at| format!("server {at} max_fails=0; ")))
        }
        Target::Haproxy => {
            command.arg("-db").arg("-f").arg(&file);
            place(include_str!("peers/haproxy.cfg"), servers(&|i, at| format!("    server s{i} {at}\n")))
        }
        Target::Envoy => {
            command.arg("-c").arg(&file);
            command.args([
                "--concurrency",
                "1",
                "--use-dynamic-base-id",
                "--disable-hot-restart",
                "-l",
                "off",
            ]);
            let form = |_, at: &SocketAddr| {
                format!(
                    "        - endpoint: {{ address: {{ socket_address: {{ address: 127.0.0.1, port_value: {} }} }} }}\n",
                    at.port()
                )
            };
            place(include_str!("peers/envoy.yaml"), servers(&form))
        }
        Target::Caddy | Target::Weir => {
            command.args(["run", "--adapter", "caddyfile", "--config"]).arg(&file);
            command.env("HOME", folder).env("XDG_DATA_HOME", folder).env("XDG_CONFIG_HOME", folder);
            place(include_str!("peers/Caddyfile"), servers(&|_, at| format!("{at} ")))
        }
    };
    std::fs::write(&file, configuration)?;
    let log = std::fs::File::create(folder.join("log"))?;
    let mut child = command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn()?;
    let begun = Instant::now();
    while TcpStream::connect(address).is_err() {
        if begun.elapsed() > Duration::from_secs(20) || child.try_wait()?.is_some() {
            let _ = child.kill();
            bail!("{} did not start: {}", target.name(), std::fs::read_to_string(folder.join("log"))?);
        }
        pause();
    }
    Ok((child, address))
}
