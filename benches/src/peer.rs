//! The proxies under test: each with one worker, kept upstream connections, round robin over the same two backends,
//! the usual forwarded headers, and no access log.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Context as _;

use crate::{
    OTHER_CORE, PROXY_CORE, load,
    process::{Process, free_addresses},
    workload,
};

/// A proxy that can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Peer {
    /// This project: a control plane and a data-plane node with one worker.
    Weir,
    /// nginx with one worker process.
    Nginx,
    /// HAProxy with one thread.
    Haproxy,
}

/// A proxy that runs.
#[derive(Debug)]
pub struct Running {
    /// Which one.
    pub peer: Peer,
    /// Where it takes traffic.
    pub address: SocketAddr,
    /// The processes whose CPU time counts are this one and its descendants.
    pub pid: u32,
    processes: Vec<Process>,
}

impl Peer {
    /// Every peer, in the order of the report.
    pub const ALL: [Peer; 3] = [Peer::Weir, Peer::Nginx, Peer::Haproxy];

    /// Its name in the reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Weir => "weir",
            Self::Nginx => "nginx",
            Self::Haproxy => "haproxy",
        }
    }

    /// What the program says of its version.
    ///
    /// # Errors
    /// It is missing.
    pub fn version(self, programs: &Path) -> anyhow::Result<String> {
        let (program, flag) = match self {
            Self::Weir => (programs.join("data-plane"), "--version"),
            Self::Nginx => (PathBuf::from("nginx"), "-v"),
            Self::Haproxy => (PathBuf::from("haproxy"), "-v"),
        };
        let output = Command::new(&program)
            .arg(flag)
            .output()
            .with_context(|| format!("cannot run {}; is it installed?", program.display()))?;
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text);
        Ok(text.split_whitespace().find_map(version_number).unwrap_or("unknown").to_owned())
    }

    /// Starts it on the proxy's core, and waits until it forwards.
    ///
    /// # Errors
    /// A program is missing, or does not come up.
    pub fn start(
        self,
        folder: &Path,
        programs: &Path,
        backends: &[SocketAddr; 2],
    ) -> anyhow::Result<Running> {
        let own = folder.join(self.name());
        fs::create_dir_all(&own)?;
        let mut running = match self {
            Self::Weir => weir(&own, programs, backends),
            Self::Nginx => nginx(&own, backends),
            Self::Haproxy => haproxy(&own, backends),
        }?;
        let (address, path) = (running.address, workload::SMALL_GET.path);
        if let Some(proxy) = running.processes.last_mut() {
            proxy.wait_until("it forwards", || {
                load::status_of(address, path).is_ok_and(|status| status == 200)
            })?;
        }
        Ok(running)
    }
}

fn version_number(word: &str) -> Option<&str> {
    let word = word.rsplit('/').next()?;
    word.starts_with(|first: char| first.is_ascii_digit()).then_some(word)
}

fn nginx(own: &Path, [first, second]: &[SocketAddr; 2]) -> anyhow::Result<Running> {
    let [address] = free_addresses::<1>()?;
    let configuration = format!(
        "daemon off;
user root;
worker_processes 1;
pid nginx.pid;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;
    keepalive_requests 100000000;
    tcp_nopush on;
    upstream backends {{
        server {first}; server {second};
        keepalive 128; keepalive_requests 100000000; keepalive_timeout 1h;
    }}
    server {{
        listen {address};
        location / {{
            proxy_pass http://backends;
            proxy_http_version 1.1;
            proxy_set_header Connection \"\";
            proxy_set_header Host $http_host;
            proxy_set_header X-Real-IP $remote_addr;
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
            proxy_set_header X-Forwarded-Proto $scheme;
            proxy_set_header X-Forwarded-Host $http_host;
            # Large answers stay in memory: the defaults would write them to temporary files.
            proxy_buffer_size 16k; proxy_buffers 16 16k; proxy_busy_buffers_size 64k; proxy_max_temp_file_size 0;
        }}
    }}
}}
"
    );
    fs::write(own.join("nginx.conf"), configuration)?;
    let arguments = ["-p", &own.to_string_lossy(), "-c", "nginx.conf", "-e", "error.log"];
    let process = Process::start(own, "nginx", PROXY_CORE, Path::new("nginx"), &arguments)?;
    Ok(Running { peer: Peer::Nginx, address, pid: process.pid(), processes: vec![process] })
}

fn haproxy(own: &Path, [first, second]: &[SocketAddr; 2]) -> anyhow::Result<Running> {
    let [address] = free_addresses::<1>()?;
    let configuration = format!(
        "global
    nbthread 1
    maxconn 400
defaults
    mode http
    timeout connect 1s
    timeout client 60s
    timeout server 30s
    option http-keep-alive
    http-reuse always
    option forwardfor
frontend clients
    bind {address}
    http-request set-header x-real-ip %[src]
    http-request set-header x-forwarded-proto http
    http-request set-header x-forwarded-host %[req.hdr(host)]
    default_backend backends
backend backends
    balance roundrobin
    server first {first}
    server second {second}
"
    );
    fs::write(own.join("haproxy.cfg"), configuration)?;
    let arguments = ["-db", "-f", "haproxy.cfg"];
    let process = Process::start(own, "haproxy", PROXY_CORE, Path::new("haproxy"), &arguments)?;
    Ok(Running { peer: Peer::Haproxy, address, pid: process.pid(), processes: vec![process] })
}

fn weir(own: &Path, programs: &Path, [first, second]: &[SocketAddr; 2]) -> anyhow::Result<Running> {
    let [admin, nodes, http, status] = free_addresses::<4>()?;
    let configuration = format!(
        "pools:
  - name: default
    backends: [{{ url: \"http://{first}\" }}, {{ url: \"http://{second}\" }}]
routes:
  - {{ name: default, pool: default }}
"
    );
    fs::write(own.join("weir.yaml"), configuration)?;
    let (admin, nodes_text) = (admin.to_string(), nodes.to_string());
    let database = format!("sqlite:{}", own.join("weir.db").display());
    let arguments =
        ["--admin", &admin, "--nodes", &nodes_text, "--database", &database, "--config", "weir.yaml"];
    let program = programs.join("control-plane");
    let mut control_plane = Process::start(own, "control-plane", OTHER_CORE, &program, &arguments)?;
    control_plane.wait_for_port(nodes)?;
    let (control, http_text, status) = (format!("http://{nodes}"), http.to_string(), status.to_string());
    let arguments =
        ["--control-plane", &control, "--http", &http_text, "--status", &status, "--workers", "1"];
    let node = Process::start(own, "data-plane", PROXY_CORE, &programs.join("data-plane"), &arguments)?;
    Ok(Running { peer: Peer::Weir, address: http, pid: node.pid(), processes: vec![control_plane, node] })
}
