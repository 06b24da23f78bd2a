//! `probe URL`: exits with status 0 if the URL returns 200 to 299. This is the health check of Weir's images, which
//! contain no shell and no curl. The standard library is enough for one plain GET to the container's own address.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    process::ExitCode,
    time::Duration,
};

/// Shorter than the timeout of the images' health check.
const TIMEOUT: Duration = Duration::from_millis(1500);

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [url] = arguments.as_slice() else {
        eprintln!("usage: probe http://HOST:PORT/PATH");
        return ExitCode::from(2);
    };
    match probe(url) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{url}: {error}");
            ExitCode::FAILURE
        }
    }
}

fn probe(url: &str) -> Result<(), String> {
    let rest = url.strip_prefix("http://").ok_or("not an http:// URL")?;
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let mut stream = TcpStream::connect(authority).map_err(|error| error.to_string())?;
    stream.set_read_timeout(Some(TIMEOUT)).map_err(|error| error.to_string())?;
    stream.set_write_timeout(Some(TIMEOUT)).map_err(|error| error.to_string())?;
    let request = format!("GET /{path} HTTP/1.1\r\nhost: {authority}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).map_err(|error| error.to_string())?;
    let mut start = [0; "HTTP/1.1 200".len()];
    stream.read_exact(&mut start).map_err(|error| error.to_string())?;
    let start = String::from_utf8_lossy(&start);
    match start.strip_prefix("HTTP/1.1 ") {
        Some(status) if status.starts_with('2') => Ok(()),
        Some(status) => Err(format!("status {status}")),
        None => Err("not an HTTP/1.1 response".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use std::{io::Write as _, net::TcpListener, thread};

    use super::*;

    fn answered_with(answer: &'static str) -> Result<(), String> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/readyz", listener.local_addr().unwrap());
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                head.push(byte[0]);
            }
            stream.write_all(answer.as_bytes()).unwrap();
            String::from_utf8(head).unwrap()
        });
        let result = probe(&url);
        assert!(server.join().unwrap().starts_with("GET /readyz HTTP/1.1\r\n"));
        result
    }

    #[test]
    fn only_a_success_status_is_healthy() {
        assert_eq!(answered_with("HTTP/1.1 200 OK\r\n\r\n"), Ok(()));
        assert_eq!(answered_with("HTTP/1.1 204 No Content\r\n\r\n"), Ok(()));
        assert_eq!(answered_with("HTTP/1.1 503 Service Unavailable\r\n\r\n"), Err("status 503".to_owned()));
        assert_eq!(answered_with("SSH-2.0-OpenSSH_9.2\r\n"), Err("not an HTTP/1.1 response".to_owned()));
    }

    #[test]
    fn a_closed_port_and_an_unsupported_scheme_are_unhealthy() {
        let address = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).unwrap();
        assert!(probe(&format!("http://{address}/")).is_err());
        assert!(probe("https://127.0.0.1/").is_err());
    }
}
