//! The backends: two nginx processes that answer from memory, the same for every proxy under test.

use std::{fs, net::SocketAddr, path::Path};

use crate::{
    OTHER_CORE,
    process::{Process, free_addresses},
};

const LARGE_ANSWER: usize = 100 * 1024;

/// Two running backends.
#[derive(Debug)]
pub struct Backends {
    /// Where they answer.
    pub addresses: [SocketAddr; 2],
    _processes: Vec<Process>,
}

impl Backends {
    /// Starts them.
    ///
    /// # Errors
    /// nginx is missing or does not come up.
    pub fn start(folder: &Path) -> anyhow::Result<Self> {
        let addresses = free_addresses::<2>()?;
        let mut processes = Vec::new();
        for (name, address) in ["backend-1", "backend-2"].into_iter().zip(addresses) {
            let own = folder.join(name);
            fs::create_dir_all(&own)?;
            fs::write(own.join("large"), "x".repeat(LARGE_ANSWER))?;
            fs::write(own.join("nginx.conf"), configuration(&own, address))?;
            let arguments = ["-p", &own.to_string_lossy(), "-c", "nginx.conf", "-e", "error.log"];
            let mut process = Process::start(&own, "nginx", OTHER_CORE, Path::new("nginx"), &arguments)?;
            process.wait_for_port(address)?;
            processes.push(process);
        }
        Ok(Self { addresses, _processes: processes })
    }
}

fn configuration(own: &Path, address: SocketAddr) -> String {
    let own = own.display();
    format!(
        "daemon off;
user root;
worker_processes 1;
pid nginx.pid;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;
    sendfile on; tcp_nopush on;
    open_file_cache max=10 inactive=1h;
    keepalive_requests 100000000;
    keepalive_timeout 1h;
    server {{
        listen {address};
        location = /small {{ default_type text/plain; return 200 \"one small answer of a backend\\n\"; }}
        location = /large {{ root {own}; }}
    }}
}}
"
    )
}
