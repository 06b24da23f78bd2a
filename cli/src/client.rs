//! Client of the admin API: one request per connection, with deadlines. Errors show every problem that the control plane
//! lists.

use std::{marker::PhantomData, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{Method, Request, Response, StatusCode, Uri, body::Incoming, header};
use hyper_util::rt::TokioIo;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use tokio::net::TcpStream;
use weir_admin_api::{
    Problem,
    answer::{self as api, Json},
    endpoint::Endpoint,
    operations,
};

use crate::{
    connection::Connection,
    output::{Waiting, shown, tell},
    tls::{Stream, Tls},
};

const CONNECT_DEADLINE: Duration = Duration::from_secs(3);
const ANSWER_DEADLINE: Duration = Duration::from_secs(30);

/// Error of a call.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    #[error("--admin {0:?} is not an address such as http://127.0.0.1:8081 or https://weir.example:8081")]
    Address(String),
    #[error("--token: {0}")]
    Token(header::InvalidHeaderValue),
    #[error(
        "the control plane is not reachable at {authority}: {reason}\n\
         start one with `control-plane` or `weir dev`, or give its address with --admin URL, WEIR_ADMIN or `weir login`"
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
    /// Writes the error to stderr, each problem on its own line.
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

    /// Adds the name of the file that the problems are in.
    pub(crate) fn in_file(mut self, name: &str) -> Self {
        if let Self::Refused { file, .. } = &mut self {
            *file = Some(name.to_owned());
        }
        self
    }
}

/// A response of the control plane: a `T` as JSON.
pub(crate) struct Answer<T> {
    text: String,
    place: String,
    /// The configuration revision of the response, from its `ETag`.
    pub(crate) revision: Option<u64>,
    of: PhantomData<fn() -> T>,
}

impl<T: DeserializeOwned> Answer<T> {
    /// Parses the response.
    pub(crate) fn read(&self) -> Result<T, ClientError> {
        serde_json::from_str(&self.text).map_err(|error| self.broken(&error))
    }

    /// The response body as JSON, unchanged; null if it is empty.
    pub(crate) fn json(&self) -> Result<Value, ClientError> {
        if self.text.trim().is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_str(&self.text).map_err(|error| self.broken(&error))
    }

    fn broken(&self, error: &serde_json::Error) -> ClientError {
        let reason = match error.classify() {
            serde_json::error::Category::Data => {
                format!(
                    "has another version than this program (see `weir version`): its answer: {}",
                    shown(&error.to_string())
                )
            }
            _ => format!("answers no JSON: {}", shown(&error.to_string())),
        };
        ClientError::Broken { authority: self.place.clone(), reason }
    }
}

/// Client of one control plane.
pub(crate) struct Client {
    tls: Option<Tls>,
    authority: String,
    prefix: String,
    token: Option<header::HeaderValue>,
}

/// A call of an operation that returns a `T`.
pub(crate) struct Call<T> {
    method: Method,
    /// Path and query.
    target: String,
    /// Content type and body.
    body: Option<(&'static str, String)>,
    accept: &'static str,
    if_revision: Option<u64>,
    of: PhantomData<fn() -> T>,
}

impl<T> Call<T> {
    /// Creates a call of an operation with its parameters. It accepts JSON.
    pub(crate) fn of<P, Q, B, A>(endpoint: &Endpoint<P, Q, B, A>, path: &P, query: &Q) -> Self
    where
        P: Serialize,
        Q: Serialize,
        A: api::Answer<Value = T>,
    {
        Self {
            // The API uses only standard HTTP methods, so this cannot fail.
            method: endpoint.operation.method.as_str().parse().unwrap_or_default(),
            target: endpoint.target(path, query),
            body: None,
            accept: "application/json",
            if_revision: None,
            of: PhantomData,
        }
    }

    /// Sets a JSON body.
    pub(crate) fn json(self, body: &impl Serialize) -> Self {
        // The types of the API can always be serialized as JSON.
        self.body("application/json", serde_json::to_string(body).unwrap_or_default())
    }

    pub(crate) fn body(self, content_type: &'static str, content: String) -> Self {
        Self { body: Some((content_type, content)), ..self }
    }

    pub(crate) fn accept(self, accept: &'static str) -> Self {
        Self { accept, ..self }
    }

    /// Reads the response as another type, for example when only some of its fields are needed.
    pub(crate) fn reads<U>(self) -> Call<U> {
        let Self { method, target, body, accept, if_revision, of: _ } = self;
        Call { method, target, body, accept, if_revision, of: PhantomData }
    }

    /// Makes the control plane reject the call unless this is the current revision.
    pub(crate) fn at(self, if_revision: Option<u64>) -> Self {
        Self { if_revision, ..self }
    }
}

impl Client {
    /// Creates a client of the control plane at the connection's address.
    pub(crate) fn new(connection: &Connection) -> Result<Self, ClientError> {
        let Connection { admin, token, ca } = connection;
        let wrong = || ClientError::Address(admin.clone());
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
        let tls = if is_tls { Some(Tls::new(authority.host(), ca.as_deref())?) } else { None };
        let token = match token.as_deref().filter(|token| !token.is_empty()) {
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

    /// Calls an operation without a body.
    pub(crate) async fn ask<P, Q, B, A>(
        &self,
        endpoint: &Endpoint<P, Q, B, A>,
        path: &P,
        query: &Q,
    ) -> Result<Answer<A::Value>, ClientError>
    where
        P: Serialize,
        Q: Serialize,
        A: api::Answer,
    {
        self.call(Call::of(endpoint, path, query)).await
    }

    /// Calls an operation with a JSON body.
    pub(crate) async fn send<P, Q, B, A>(
        &self,
        endpoint: &Endpoint<P, Q, Json<B>, A>,
        path: &P,
        query: &Q,
        body: &B,
    ) -> Result<Answer<A::Value>, ClientError>
    where
        P: Serialize,
        Q: Serialize,
        B: Serialize,
        A: api::Answer,
    {
        self.call(Call::of(endpoint, path, query).json(body)).await
    }

    /// Sends a call and returns the response if it succeeded.
    pub(crate) async fn call<T>(&self, call: Call<T>) -> Result<Answer<T>, ClientError> {
        let _waiting = Waiting::new(format!("waiting for {}", self.place()));
        let (status, revision, body) = match tokio::time::timeout(ANSWER_DEADLINE, self.exchange(call)).await
        {
            Ok(answer) => answer?,
            Err(_) => {
                return Err(self.broken(format!("did not answer within {} s", ANSWER_DEADLINE.as_secs())));
            }
        };
        let text = String::from_utf8_lossy(&body).into_owned();
        match status.is_success() {
            true => Ok(Answer { text, place: self.place(), revision, of: PhantomData }),
            false => Err(self.refused(status, &text)),
        }
    }

    /// Returns the text of a successful response, in the format that the call accepts.
    pub(crate) async fn text<T>(&self, call: Call<T>) -> Result<String, ClientError> {
        Ok(self.call(call).await?.text)
    }

    /// Reads a streamed response line by line, until it ends or `take` returns false.
    pub(crate) async fn lines<T>(
        &self,
        call: Call<T>,
        mut take: impl FnMut(&str) -> bool,
    ) -> Result<(), ClientError> {
        let response = self.open(call.accept("text/event-stream")).await?;
        let (status, mut body) = (response.status(), response.into_body());
        let broken = |error: hyper::Error| self.broken(format!("broke off: {error}"));
        if !status.is_success() {
            let bytes = body.collect().await.map_err(broken)?.to_bytes();
            return Err(refusal(status, &String::from_utf8_lossy(&bytes)));
        }
        let mut rest = Vec::new();
        while let Some(frame) = body.frame().await {
            let frame = match frame {
                Ok(frame) => frame,
                Err(error) => return Err(self.why_ended(format!("broke off: {error}")).await),
            };
            rest.extend(frame.into_data().unwrap_or_default());
            while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = rest.drain(..=end).collect();
                if !take(String::from_utf8_lossy(&line).trim_end()) {
                    return Ok(());
                }
            }
        }
        Err(self.why_ended("ended the stream".to_owned()).await)
    }

    /// Returns why a stream ended. A revoked or expired token ends it without a message, so another call is sent, which
    /// returns the reason.
    async fn why_ended(&self, otherwise: String) -> ClientError {
        match self.ask(&operations::GET_STATUS, &(), &()).await {
            Err(error @ ClientError::Refused { .. }) => error,
            _ => self.broken(otherwise),
        }
    }

    async fn exchange<T>(&self, call: Call<T>) -> Result<(StatusCode, Option<u64>, Bytes), ClientError> {
        let response = self.open(call).await?;
        let broken = |error: hyper::Error| self.broken(format!("broke off: {error}"));
        let tag = response.headers().get(header::ETAG).and_then(|tag| tag.to_str().ok());
        let revision = tag.and_then(|tag| tag.trim_matches('"').parse().ok());
        let status = response.status();
        Ok((status, revision, response.into_body().collect().await.map_err(broken)?.to_bytes()))
    }

    async fn open<T>(&self, call: Call<T>) -> Result<Response<Incoming>, ClientError> {
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
            .uri(format!("{}{}", self.prefix, call.target))
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
            // A server that expects TLS does not answer in HTTP.
            None if error.is_parse() => {
                self.broken("does not answer in HTTP: if it speaks TLS, write https:// in --admin".to_owned())
            }
            _ => broken(error),
        })?;
        Ok(response)
    }

    /// Error of a rejected call. Without a token, it also says how to log in.
    fn refused(&self, status: StatusCode, text: &str) -> ClientError {
        let mut error = refusal(status, text);
        if let ClientError::Refused { title, .. } = &mut error
            && status == StatusCode::UNAUTHORIZED
            && self.token.is_none()
        {
            title.push_str(": log in with `weir login`, or give --token-file FILE");
        }
        error
    }

    fn place(&self) -> String {
        format!("{}://{}", if self.tls.is_some() { "https" } else { "http" }, self.authority)
    }

    fn broken(&self, reason: String) -> ClientError {
        ClientError::Broken { authority: self.place(), reason }
    }
}

/// Indents the second and later lines of external text, so that they do not look like lines of this program.
fn indented(text: &str) -> String {
    text.replace('\n', "\n    ")
}

/// Explains why a TLS handshake failed.
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
        // The detail repeats the problems, which are printed separately.
        (Some(title), _) if !problems.is_empty() => title.to_owned(),
        (Some(title), Some(detail)) if title != detail => format!("{title}: {detail}"),
        (Some(text), _) | (None, Some(text)) => text.to_owned(),
        (None, None) => {
            let title = format!(
                "{status} came back, but not as a control plane answers: is this the admin port of one?"
            );
            return ClientError::Refused { title, problems, file: None };
        }
    };
    let title = format!("{} ({})", indented(&title), status.as_u16());
    ClientError::Refused { title, problems, file: None }
}
