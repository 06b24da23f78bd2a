//! A node with backends that echo their requests, and clients of both protocols.

use std::collections::BTreeMap;

use bytes::Bytes;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
};
use weir_snapshot::{config::Backend, file};

use crate::support::{FakeControlPlane, Node, wire::BoxIo, within};

/// A backend that responds with its name and the request head.
pub(crate) struct Echo {
    pub(crate) url: String,
    server: tokio::task::JoinHandle<()>,
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Echo {
    pub(crate) async fn start(name: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let name = name.to_owned();
        let server = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(echo(stream, name.clone()));
            }
        });
        Self { url, server }
    }
}

async fn echo(stream: TcpStream, name: String) {
    let mut stream = BufReader::new(stream);
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if stream.read_line(&mut head).await.unwrap_or(0) == 0 {
                return;
            }
        }
        if head.contains("Transfer-Encoding: chunked") {
            // Lines of chunks and trailers.
            let mut line = String::new();
            let mut last = false;
            while !(last && line == "\r\n") {
                last |= line == "0\r\n";
                line.clear();
                if stream.read_line(&mut line).await.unwrap_or(0) == 0 {
                    return;
                }
                head.push_str(&line);
            }
        }
        // The response that the client asks for.
        let said: String = head
            .lines()
            .filter_map(|line| line.strip_prefix("X-Say: "))
            .map(|line| format!("{line}\r\n"))
            .collect();
        let body = format!("{name}\n{head}");
        let length = if head.starts_with("HEAD ") { 0 } else { body.len() };
        let answer = format!(
            "HTTP/1.1 200 OK\r\nServer: secret\r\nX-Backend: {name}\r\n{said}Content-Length: {}\r\n\r\n{}",
            body.len(),
            &body[..length]
        );
        if stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

/// The response to a client.
#[derive(Debug, Default)]
pub(crate) struct Got {
    pub(crate) status: u16,
    pub(crate) fields: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Got {
    /// The values of a response header.
    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        let of_name = self.fields.iter().filter(|(own, _)| own.eq_ignore_ascii_case(name));
        of_name.map(|(_, value)| value.as_str()).collect()
    }

    /// The backend that answered.
    pub(crate) fn backend(&self) -> &str {
        self.body.lines().next().unwrap_or_default()
    }

    /// The request line that the backend saw.
    pub(crate) fn asked(&self) -> &str {
        self.body.lines().nth(1).unwrap_or_default()
    }

    /// The values of a request header that the backend saw.
    pub(crate) fn seen(&self, name: &str) -> Vec<&str> {
        let fields = self.body.lines().skip(2).filter_map(|line| line.split_once(':'));
        fields.filter(|(own, _)| own.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim()).collect()
    }
}

/// A node with one backend per pool.
pub(crate) struct Stage {
    _control: FakeControlPlane,
    pub(crate) node: Node,
    _echoes: Vec<Echo>,
}

impl Stage {
    /// Starts a node with this configuration and adds to each pool a backend that knows the pool's name.
    pub(crate) async fn start(text: &str) -> Self {
        let (mut config, _) = file::parse(text).unwrap();
        let mut echoes = Vec::new();
        for (n, pool) in
            config.pools.iter_mut().enumerate().filter(|(_, pool)| !pool.name.starts_with("empty"))
        {
            let echo = Echo::start(&pool.name).await;
            pool.backends.push(Backend {
                id: format!("b{}", n + 1),
                url: echo.url.clone(),
                weight: 1,
                state: Default::default(),
            });
            echoes.push(echo);
        }
        let control = FakeControlPlane::start(config).await;
        let node = Node::start(&control.url()).await;
        node.ready().await;
        Self { _control: control, node, _echoes: echoes }
    }

    /// Sends a raw HTTP/1.1 request.
    pub(crate) async fn raw(&self, request: &str) -> Got {
        let stream = TcpStream::connect(self.node.http).await.unwrap();
        Http1::on(Box::new(stream)).ask(request).await
    }

    /// Sends an HTTP/1.1 GET with these field lines.
    pub(crate) async fn get(&self, host: &str, target: &str, fields: &str) -> Got {
        self.raw(&format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n{fields}\r\n")).await
    }

    pub(crate) async fn http1(&self) -> Http1 {
        Http1::on(Box::new(TcpStream::connect(self.node.http).await.unwrap()))
    }

    pub(crate) async fn http2(&self) -> Http2 {
        let stream = TcpStream::connect(self.node.http).await.unwrap();
        let (send, connection) = h2::client::handshake(stream).await.unwrap();
        tokio::spawn(connection);
        Http2(send)
    }
}

/// An HTTP/1.1 client connection.
pub(crate) struct Http1(BufReader<BoxIo>);

impl Http1 {
    pub(crate) fn on(stream: BoxIo) -> Self {
        Self(BufReader::new(stream))
    }

    pub(crate) async fn ask(&mut self, request: &str) -> Got {
        self.0.write_all(request.as_bytes()).await.unwrap();
        within(self.answer(request.starts_with("HEAD "))).await
    }

    async fn answer(&mut self, is_head: bool) -> Got {
        let mut got = Got::default();
        let mut line = String::new();
        self.0.read_line(&mut line).await.unwrap();
        got.status =
            line.split(' ').nth(1).unwrap_or_else(|| panic!("an answer, not {line:?}")).parse().unwrap();
        let mut length = 0;
        loop {
            line.clear();
            self.0.read_line(&mut line).await.unwrap();
            let Some((name, value)) = line.trim_end().split_once(": ") else { break };
            if name.eq_ignore_ascii_case("content-length") {
                length = value.parse().unwrap();
            }
            got.fields.push((name.to_owned(), value.to_owned()));
        }
        if !is_head {
            let mut body = vec![0; length];
            self.0.read_exact(&mut body).await.unwrap();
            got.body = String::from_utf8(body).unwrap();
        }
        got
    }
}

/// An HTTP/2 client connection.
pub(crate) struct Http2(pub(crate) h2::client::SendRequest<Bytes>);

impl Http2 {
    pub(crate) async fn ask(
        &mut self,
        method: &str,
        host: &str,
        target: &str,
        fields: &[(String, String)],
    ) -> Got {
        self.send(method, host, target, fields, Bytes::new()).await
    }

    /// A request with a body.
    pub(crate) async fn send(
        &mut self,
        method: &str,
        host: &str,
        target: &str,
        fields: &[(String, String)],
        sent: Bytes,
    ) -> Got {
        let uri = http::Uri::builder().scheme("http").authority(host).path_and_query(target).build().unwrap();
        let mut request = http::Request::builder().method(method).uri(uri);
        for (name, value) in fields {
            request = request.header(name, value);
        }
        within(async {
            let mut send = self.0.clone().ready().await.unwrap();
            let (answer, mut stream) = send.send_request(request.body(()).unwrap(), sent.is_empty()).unwrap();
            if !sent.is_empty() {
                stream.send_data(sent, true).unwrap();
            }
            let (parts, mut body) = answer.await.unwrap().into_parts();
            let mut bytes = Vec::new();
            while let Some(piece) = body.data().await {
                let piece = piece.unwrap();
                body.flow_control().release_capacity(piece.len()).unwrap();
                bytes.extend_from_slice(&piece);
            }
            let field = |(name, value): (&http::HeaderName, &http::HeaderValue)| {
                (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned())
            };
            let fields = parts.headers.iter().map(field).collect();
            Got { status: parts.status.as_u16(), fields, body: String::from_utf8(bytes).unwrap() }
        })
        .await
    }
}

/// Number of occurrences of each value.
pub(crate) fn counts(values: impl IntoIterator<Item = String>) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    values.into_iter().for_each(|value| *counts.entry(value).or_default() += 1);
    counts
}
