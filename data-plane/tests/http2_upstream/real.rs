//! Third-party backends: nginx, which closes a connection after a number of requests, and nghttpd, which allows few
//! streams. Without these programs the tests are skipped, and fail if `CI` is set.

use std::{
    net::SocketAddr,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use futures_util::future::join_all;
use tokio::{io::AsyncWriteExt as _, net::TcpStream};

use crate::{
    frames::{GET, Stage},
    read_until,
    support::within,
};

/// A third-party program; dropping it ends the program.
struct Program {
    child: Child,
    address: SocketAddr,
    _folder: tempfile::TempDir,
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Finds a program, even if the search path has no system programs.
fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]);
    let found = folders.map(|folder| folder.join(name)).find(|file| file.is_file());
    assert!(found.is_some() || std::env::var_os("CI").is_none(), "no {name}");
    if found.is_none() {
        println!("skipped: no {name}");
    }
    found
}

impl Program {
    /// Starts the program on a free port and waits until it listens; `command` gets the port and a folder.
    async fn start(command: impl Fn(u16, &std::path::Path) -> Command) -> Self {
        for _ in 0..5 {
            // Another process may take the port in between; then the start is repeated.
            let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
            let folder = tempfile::tempdir().unwrap();
            let mut child = command(free.port(), folder.path())
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            let listens = async {
                loop {
                    if TcpStream::connect(free).await.is_ok() {
                        return true;
                    }
                    if child.try_wait().unwrap().is_some() {
                        return false;
                    }
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            };
            if within(listens).await {
                return Self { child, address: free, _folder: folder };
            }
        }
        panic!("it does not listen");
    }
}

fn nginx(program: PathBuf) -> impl Fn(u16, &std::path::Path) -> Command {
    move |port, folder| {
        let at = folder.display();
        let config = format!(
            "daemon off; master_process off; pid {at}/pid; error_log {at}/error.log; events {{}}
             http {{
                 access_log off; client_body_temp_path {at}/body; proxy_temp_path {at}/proxy;
                 fastcgi_temp_path {at}/fastcgi; uwsgi_temp_path {at}/uwsgi; scgi_temp_path {at}/scgi;
                 keepalive_requests 20;
                 server {{
                     listen 127.0.0.1:{port} http2;
                     location / {{ return 200 'well'; }}
                     location /slow {{ root {at}; limit_rate 4k; }}
                 }}
             }}"
        );
        let file = folder.join("nginx.conf");
        std::fs::write(&file, config).unwrap();
        std::fs::write(folder.join("slow"), vec![b'x'; 256 << 10]).unwrap();
        let mut command = Command::new(&program);
        command.arg("-p").arg(folder).arg("-c").arg(file);
        command
    }
}

#[tokio::test]
async fn nginx_with_few_requests_a_connection_fails_none_beside_a_long_download() {
    let Some(program) = find("nginx") else { return };
    let nginx = Program::start(nginx(program)).await;
    let stage = Stage::new(&[nginx.address]).await;
    let mut slow = stage.client().await;
    slow.write_all(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    let head = read_until(&mut slow, "\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    let post = "POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
    for _ in 0..40 {
        let requests = (0..8).map(|i| stage.status(if i % 2 == 0 { GET } else { post }));
        assert_eq!(join_all(requests).await, [200; 8]);
    }
    // The download still runs on a connection that accepts no new requests since the twentieth.
    assert!(!within(read_until(&mut slow, "x")).await.is_empty());
    stage.holds_nothing_against_backends().await;
}

#[tokio::test]
async fn nghttpd_with_few_streams_fails_none_of_many_at_once() {
    let Some(program) = find("nghttpd") else { return };
    let nghttpd = Program::start(|port, folder| {
        std::fs::write(folder.join("index.html"), "well").unwrap();
        let mut command = Command::new(&program);
        command.args(["--no-tls", "--address=127.0.0.1", "--max-concurrent-streams=4", "--htdocs"]);
        command.arg(folder).arg(port.to_string());
        command
    })
    .await;
    let stage = Stage::new(&[nghttpd.address]).await;
    for _ in 0..5 {
        assert_eq!(join_all((0..20).map(|_| stage.status(GET))).await, [200; 20]);
    }
    stage.holds_nothing_against_backends().await;
}
