//! The backends: nginx processes that answer from memory, the same for every proxy under test.

use std::{fs, net::SocketAddr, path::Path};

use crate::{
    process::{Process, free_addresses, on},
    workload::{LARGE, UPLOAD},
};

/// Two running backends.
#[derive(Debug)]
pub struct Backends {
    /// Addresses of the backends.
    pub addresses: [SocketAddr; 2],
    _processes: Vec<Process>,
}

impl Backends {
    /// Starts the backends on the given cores.
    ///
    /// # Errors
    /// nginx is missing or does not start.
    pub fn start(folder: &Path, cores: &str) -> anyhow::Result<Self> {
        let addresses = free_addresses::<2>()?;
        let mut processes = Vec::new();
        for (name, address) in ["backend-1", "backend-2"].into_iter().zip(addresses) {
            processes.push(start(&folder.join(name), cores, &[address])?);
        }
        Ok(Self { addresses, _processes: processes })
    }
}

/// One nginx process that serves as many backends, each with its own loopback address.
#[derive(Debug)]
pub struct Crowd {
    /// Addresses of the backends.
    pub addresses: Vec<SocketAddr>,
    _process: Process,
}

impl Crowd {
    /// Starts the process on the given cores.
    ///
    /// # Errors
    /// nginx is missing or does not start.
    pub fn start(folder: &Path, cores: &str, count: u16) -> anyhow::Result<Self> {
        let [port] = free_addresses::<1>()?.map(|address| address.port());
        let addresses: Vec<SocketAddr> = (0..count)
            .map(|index| {
                let [high, low] = index.to_be_bytes();
                SocketAddr::from(([127, 1, high, low], port))
            })
            .collect();
        let process = start(&folder.join("crowd"), cores, &addresses)?;
        Ok(Self { addresses, _process: process })
    }
}

fn start(own: &Path, cores: &str, addresses: &[SocketAddr]) -> anyhow::Result<Process> {
    fs::create_dir_all(own)?;
    fs::write(own.join("large"), "x".repeat(LARGE))?;
    fs::write(own.join("upload"), "")?;
    fs::write(own.join("nginx.conf"), configuration(own, addresses))?;
    let mut command = on(cores, Path::new("nginx"));
    command.arg("-p").arg(own).args(["-c", "nginx.conf", "-e", "error.log"]);
    let mut process = Process::start(own, "nginx", command)?;
    if let Some(address) = addresses.last() {
        process.wait_for_port(*address)?;
    }
    Ok(process)
}

/// An upload is read completely before the response. `return` alone would respond while the upload is still being
/// sent, and proxies handle that differently. `mirror` makes nginx read the body, and static files reject POST.
fn configuration(own: &Path, addresses: &[SocketAddr]) -> String {
    let own = own.display();
    let listen: String = addresses.iter().map(|address| format!("listen {address}; ")).collect();
    format!(
        "daemon off;
user root;
worker_processes 1;
pid nginx.pid;
events {{ worker_connections 16384; }}
http {{
    access_log off;
    client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;
    client_body_buffer_size {UPLOAD};
    sendfile on; tcp_nopush on;
    open_file_cache max=10 inactive=1h;
    keepalive_requests 100000000;
    keepalive_timeout 1h;
    server {{
        {listen}
        location = /small {{ default_type text/plain; return 200 \"one small answer of a backend\\n\"; }}
        location = /large {{ root {own}; }}
        location = /upload {{ mirror /read; root {own}; error_page 405 =200 @uploaded; }}
        location = /read {{ internal; return 204; }}
        location @uploaded {{ default_type text/plain; return 200 \"one small answer of a backend\\n\"; }}
    }}
}}
"
    )
}
