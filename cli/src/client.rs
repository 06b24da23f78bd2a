//! The admin API's client: one request a connection, with deadlines, problems as they were told.

use std::{path::Path, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{Method, Request, StatusCode, Uri, header};
use hyper_util::rt::TokioIo;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, PercentEncode, utf8_percent_encode};
use serde_json::Value;
use tokio::net::TcpStream;
use weir_snapshot::Problem;

use crate::{
    output::tell,
    tls::{Stream, Tls},
};

const CONNECT_DEADLINE: Duration = Duration::from_secs(3);
/// `apply --wait` adds its own time.
const ANSWER_DEADLINE: Duration = Duration::from_secs(30);

/// Why a call did not succeed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    #[error("--admin {0:?} is not an address such as http://127.0.0.1:8081 or https://weir.example:8081")]
    Address(String),
    #[error("--token: {0}")]
    Token(header::InvalidHeaderValue),
    #[error(
        "the control plane is not reachable at {authority}: {reason}\n\
         start one with `control-plane` or `weir dev`, or say where it is with --admin URL (WEIR_ADMIN)"
    )]
    Unreachable { authority: String, reason: String },
    #[error("the control plane at {authority} {reason}")]
    Broken { authority: String, reason: String },
    #[error("--ca: {0}")]
    Ca(String),
    #[error("{title}")]
    Refused { title: String, problems: Vec<Problem>, file: Option<String> },
}

impl ClientError {
    /// Writes the error to stderr, every problem on its own line.
    pub(crate) fn print(&self) {
        tell!("error: {self}");
        if let Self::Refused { problems, file, .. } = self {
            for problem in problems {
                match file {
                    Some(file) => tell!("{}", indented(&crate::check::place(file, problem))),
                    None => tell!("  {}", indented(&problem.to_string())),
                }
            }
        }
    }

    /// Says that the problems lie in a file.
    pub(crate) fn in_file(mut self, name: &str) -> Self {
        if let Self::Refused { file, .. } = &mut self {
            *file = Some(name.to_owned());
        }
        self
    }
}

/// Where the control plane is.
pub(crate) struct Client {
    tls: Option<Tls>,
    authority: String,
    prefix: String,
    token: Option<header::HeaderValue>,
}

/// What is sent.
pub(crate) struct Call<'a> {
    pub(crate) method: Method,
    /// With the query.
    pub(crate) path: &'a str,
    /// Content type and content.
    pub(crate) body: Option<(&'static str, String)>,
    pub(crate) accept: &'static str,
    /// Beyond the usual.
    pub(crate) patience: Duration,
    /// Refused unless this is the current revision.
    pub(crate) if_revision: Option<u64>,
}

impl Default for Call<'_> {
    /// Asks for JSON.
    fn default() -> Self {
        Self {
            method: Method::GET,
            path: "/",
            body: None,
            accept: "application/json",
            patience: Duration::ZERO,
            if_revision: None,
        }
    }
}

impl Client {
    /// Asks at an address; what `ca` has signed is believed, or what the system believes.
    pub(crate) fn new(admin: &str, token: Option<String>, ca: Option<&Path>) -> Result<Self, ClientError> {
        let wrong = || ClientError::Address(admin.to_owned());
        let uri: Uri = admin.parse().map_err(|_| wrong())?;
        let authority = uri.authority().ok_or_else(wrong)?;
        let is_tls = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(wrong()),
        };
        if authority.as_str().contains('@') || uri.query().is_some() {
            return Err(wrong());
        }
        let tls = if is_tls { Some(Tls::new(authority.host(), ca)?) } else { None };
        let token = match token.filter(|token| !token.is_empty()) {
            Some(token) => {
                let mut value =
                    header::HeaderValue::from_str(&format!("Bearer {token}")).map_err(ClientError::Token)?;
                value.set_sensitive(true);
                Some(value)
            }
            None => None,
        };
        let port = authority.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
        let authority = format!("{}:{port}", authority.host());
        Ok(Self { tls, authority, prefix: uri.path().trim_end_matches('/').to_owned(), token })
    }

    pub(crate) async fn get(&self, path: &str) -> Result<Value, ClientError> {
        self.json(Method::GET, path, None).await
    }

    /// Sends JSON, reads JSON; null when the answer is empty.
    pub(crate) async fn json(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Result<Value, ClientError> {
        let body = body.map(|body| ("application/json", body.to_string()));
        let call = Call { method, path, body, ..Call::default() };
        let text = self.call(call).await?;
        self.parse(&text)
    }

    pub(crate) fn parse(&self, text: &str) -> Result<Value, ClientError> {
        if text.trim().is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_str(text).map_err(|error| self.broken(format!("answers no JSON: {error}")))
    }

    /// Sends a call and answers the text of a success.
    pub(crate) async fn call(&self, call: Call<'_>) -> Result<String, ClientError> {
        let deadline = ANSWER_DEADLINE + call.patience;
        let (status, body) = match tokio::time::timeout(deadline, self.exchange(call)).await {
            Ok(answer) => answer?,
            Err(_) => return Err(self.broken(format!("did not answer within {} s", deadline.as_secs()))),
        };
        let text = String::from_utf8_lossy(&body).into_owned();
        if status.is_success() { Ok(text) } else { Err(refusal(status, &text)) }
    }

    /// Reads an answer without end, line by line, until it ends or `take` has enough.
    pub(crate) async fn lines(
        &self,
        path: &str,
        mut take: impl FnMut(&str) -> bool,
    ) -> Result<(), ClientError> {
        let accept = "text/event-stream";
        let call = Call { path, accept, ..Call::default() };
        let (status, mut body) = self.open(call).await?;
        let broken = |error: hyper::Error| self.broken(format!("broke off: {error}"));
        if !status.is_success() {
            let bytes = body.collect().await.map_err(broken)?.to_bytes();
            return Err(refusal(status, &String::from_utf8_lossy(&bytes)));
        }
        let mut rest = Vec::new();
        while let Some(frame) = body.frame().await {
            rest.extend(frame.map_err(broken)?.into_data().unwrap_or_default());
            while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = rest.drain(..=end).collect();
                if !take(String::from_utf8_lossy(&line).trim_end()) {
                    return Ok(());
                }
            }
        }
        Err(self.broken("ended the stream".to_owned()))
    }

    async fn exchange(&self, call: Call<'_>) -> Result<(StatusCode, Bytes), ClientError> {
        let (status, body) = self.open(call).await?;
        let broken = |error: hyper::Error| self.broken(format!("broke off: {error}"));
        Ok((status, body.collect().await.map_err(broken)?.to_bytes()))
    }

    async fn open(&self, call: Call<'_>) -> Result<(StatusCode, hyper::body::Incoming), ClientError> {
        let unreachable = |reason: String| ClientError::Unreachable { authority: self.place(), reason };
        let stream = tokio::time::timeout(CONNECT_DEADLINE, TcpStream::connect(&self.authority))
            .await
            .map_err(|_| unreachable(format!("no connection within {} s", CONNECT_DEADLINE.as_secs())))?
            .map_err(|error| unreachable(error.to_string()))?;
        let broken = |error: hyper::Error| self.broken(format!("broke off: {error}"));
        let stream: Box<dyn Stream> = match &self.tls {
            None => Box::new(stream),
            Some(tls) => {
                let shaken = tokio::time::timeout(CONNECT_DEADLINE, tls.connect(stream)).await;
                let shaken = shaken.map_err(|_| unreachable("no TLS in time".to_owned()))?;
                Box::new(shaken.map_err(|error| unreachable(tls_reason(&error)))?)
            }
        };
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
        tokio::spawn(connection);
        let mut request = Request::builder()
            .method(call.method)
            .uri(format!("{}{}", self.prefix, call.path))
            .header(header::HOST, &self.authority)
            .header(header::ACCEPT, call.accept)
            .header(header::USER_AGENT, concat!("weir/", env!("CARGO_PKG_VERSION")));
        if let Some(token) = &self.token {
            request = request.header(header::AUTHORIZATION, token);
        }
        if let Some(revision) = call.if_revision {
            request = request.header(header::IF_MATCH, format!("\"{revision}\""));
        }
        let mut content = String::new();
        if let Some((content_type, text)) = call.body {
            request = request.header(header::CONTENT_TYPE, content_type);
            content = text;
        }
        let request = request
            .body(Full::new(Bytes::from(content)))
            .map_err(|error| self.broken(format!("cannot be asked: {error}")))?;
        let response = sender.send_request(request).await.map_err(|error| match &self.tls {
            // What a server that expects TLS sends back is no HTTP.
            None if error.is_parse() => {
                self.broken("does not answer in HTTP: if it speaks TLS, write https:// in --admin".to_owned())
            }
            _ => broken(error),
        })?;
        Ok((response.status(), response.into_body()))
    }

    fn place(&self) -> String {
        format!("{}://{}", if self.tls.is_some() { "https" } else { "http" }, self.authority)
    }

    fn broken(&self, reason: String) -> ClientError {
        ClientError::Broken { authority: self.place(), reason }
    }
}

/// Text from outside whose further lines cannot be taken for lines of this program.
fn indented(text: &str) -> String {
    text.replace('\n', "\n    ")
}

/// Why there is no TLS connection.
fn tls_reason(error: &std::io::Error) -> String {
    match weir_tls::speaks_no_tls(error) {
        true => {
            "it does not speak TLS there: if its port is without TLS, write http:// in --admin".to_owned()
        }
        false => error.to_string(),
    }
}

/// Reads problem+json: `title`, `detail` and the list of `errors`.
fn refusal(status: StatusCode, text: &str) -> ClientError {
    let value: Value = serde_json::from_str(text).unwrap_or_default();
    let field = |name: &str| value.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    let list = value.get("errors").or_else(|| value.get("problems")).and_then(Value::as_array);
    let problems: Vec<Problem> = list
        .into_iter()
        .flatten()
        .map(|item| match serde_json::from_value(item.clone()) {
            Ok(problem) => problem,
            Err(_) => Problem::new("", item.as_str().map_or_else(|| item.to_string(), str::to_owned)),
        })
        .collect();
    let title = match (field("title"), field("detail")) {
        // The detail repeats the problems, which are printed one by one.
        (Some(title), _) if !problems.is_empty() => title.to_owned(),
        (Some(title), Some(detail)) if title != detail => format!("{title}: {detail}"),
        (Some(text), _) | (None, Some(text)) => text.to_owned(),
        (None, None) => {
            let title = format!(
                "{status} came back, and not as a control plane says it: does --admin name one's admin port?"
            );
            return ClientError::Refused { title, problems, file: None };
        }
    };
    let title = format!("{} ({})", indented(&title), status.as_u16());
    ClientError::Refused { title, problems, file: None }
}

/// All but the unreserved characters (RFC 3986, 2.3).
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Writes a text so that it can stand in a path or a query.
pub(crate) fn encode(text: &str) -> PercentEncode<'_> {
    utf8_percent_encode(text, RESERVED)
}
