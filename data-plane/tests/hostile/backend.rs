//! A backend that reads complete requests and responds according to their path.

use std::{net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
};

use super::stage::Leave;

/// A running backend; dropping it ends it.
pub(super) struct Backend {
    pub(super) address: SocketAddr,
    server: tokio::task::JoinHandle<()>,
}

impl Backend {
    pub(super) async fn start() -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").await.unwrap())
    }

    /// Starts on an existing listener.
    pub(super) fn on(listener: TcpListener) -> Self {
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream));
            }
        });
        Self { address, server }
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// Complete responses by name.
pub(super) fn answer(name: &str) -> Vec<u8> {
    match name {
        "chunked" => b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n5;a=b\r\nhello\r\n6\r\n world\r\n0\r\nX-Sum: 11\r\n\r\n".to_vec(),
        "interim" => b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello".to_vec(),
        "close" => b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhello".to_vec(),
        "upgrade" => b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\nhello".to_vec(),
        "huge" => [b"HTTP/1.1 200 OK\r\nContent-Length: 32000000\r\n\r\n".to_vec(), vec![b'x'; 32_000_000]].concat(),
        "hints" => b"HTTP/1.1 103 Early Hints\r\n\r\n".repeat(10_000),
        "field" => [b"HTTP/1.1 200 OK\r\nX: ".to_vec(), vec![b'x'; 4_000_000]].concat(),
        "fields" => [b"HTTP/1.1 200 OK\r\n".to_vec(), b"X: y\r\n".repeat(500_000)].concat(),
        "reason" => [b"HTTP/1.1 200 ".to_vec(), vec![b'x'; 4_000_000]].concat(),
        "length-absurd" => b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999999999\r\n\r\nhello".to_vec(),
        "length-words" => b"HTTP/1.1 200 OK\r\nContent-Length: \xd9\xa3\r\n\r\nhello".to_vec(),
        "lengths" => b"HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\n\r\nhello".to_vec(),
        "bytes" => b"HTTP/1.1 200 \xc3\x28\r\nX: \xff\xfe\xc3\x28\r\nContent-Length: 3\r\n\r\n\x80\xff\0".to_vec(),
        "large" => [b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n".to_vec(), vec![b'x'; 1_000_000]].concat(),
        _ => b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello".to_vec(),
    }
}

/// `/NAME` is answered well, `/NAME/COUNT/close` and `/NAME/COUNT/reset` with so many bytes and an end, `/NAME/drip`
/// byte by byte for ever, `/NAME/trickle` with a whole head and chunks for ever.
async fn serve(stream: TcpStream) {
    let mut stream = BufReader::new(stream);
    while let Some(path) = request(&mut stream).await {
        let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
        let whole = answer(parts.first().copied().unwrap_or_default());
        match parts.as_slice() {
            [_, count, how] => {
                let count: usize = count.parse().unwrap();
                let _ = stream.write_all(&whole[..count]).await;
                let how = if *how == "reset" { Leave::Reset } else { Leave::Close };
                return how.leave(stream.into_inner()).await;
            }
            [_, "drip"] => {
                for byte in whole.iter().chain(std::iter::repeat(&b'x')) {
                    if stream.write_all(&[*byte]).await.is_err() {
                        return;
                    }
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
            [_, "trickle"] => {
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await;
                while stream.write_all(b"1\r\nx\r\n").await.is_ok() {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                return;
            }
            _ if stream.write_all(&whole).await.is_err() => return,
            ["close"] => return,
            _ => {}
        }
    }
}

/// Reads one request with its body and returns its path; for `/early` only the head.
async fn request(stream: &mut BufReader<TcpStream>) -> Option<String> {
    let (mut path, mut length, mut chunked) = (None, 0, false);
    loop {
        let line = line(stream).await?;
        if line.is_empty() {
            break;
        }
        let (name, value) = line.split_once(": ").unwrap_or((&line, ""));
        match name.to_ascii_lowercase().as_str() {
            _ if path.is_none() => path = line.split(' ').nth(1).map(str::to_owned),
            "content-length" => length = value.parse().unwrap(),
            "transfer-encoding" => chunked = true,
            _ => {}
        }
    }
    if path.as_ref().is_some_and(|path: &String| path.starts_with("/early")) {
        return path;
    }
    if chunked {
        loop {
            let size = line(stream).await?;
            let size = usize::from_str_radix(&size, 16).unwrap();
            if size == 0 {
                break;
            }
            stream.read_exact(&mut vec![0; size + 2]).await.ok()?;
        }
        while !line(stream).await?.is_empty() {}
    }
    stream.read_exact(&mut vec![0; length]).await.ok()?;
    path
}

async fn line(stream: &mut BufReader<TcpStream>) -> Option<String> {
    let mut line = Vec::new();
    let read = stream.read_until(b'\n', &mut line).await;
    read.ok().filter(|_| line.ends_with(b"\r\n"))?;
    Some(String::from_utf8_lossy(&line[..line.len() - 2]).into_owned())
}
