//! Responses of the node itself: a small page for each reason, as problem details (RFC 9457) or as text.

use std::{io::Write as _, sync::Arc};

use weir_http::{RequestError, RequestHead, push_field};

use crate::edit::LocalHeaders;

/// An answer that no backend gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Local {
    /// The status.
    pub(crate) status: u16,
    title: &'static str,
    detail: &'static str,
    /// The configured body of a fallback, instead of a page.
    fixed: Option<Arc<str>>,
    /// Fields of this one answer: names in lower case, values of visible ASCII.
    fields: Vec<(&'static str, String)>,
    /// Header changes of the route.
    pub(crate) extra: Option<Box<LocalHeaders>>,
}

impl Local {
    pub(crate) const NO_ROUTE: Self = Self::new(404, "Not Found", "no route matches this request");
    pub(crate) const NO_BACKEND: Self =
        Self::new(503, "Service Unavailable", "the pool has no active backend");
    pub(crate) const NO_CONFIGURATION: Self =
        Self::new(503, "Service Unavailable", "this node has no configuration yet");
    pub(crate) const NO_ROOM: Self =
        Self::new(503, "Service Unavailable", "every backend of the pool is at its limit");
    pub(crate) const NO_CONNECTION: Self =
        Self::new(503, "Service Unavailable", "no backend accepts connections");
    pub(crate) const CONNECT_TIMEOUT: Self =
        Self::new(504, "Gateway Timeout", "no backend accepted the connection in time");
    pub(crate) const NO_HANDSHAKE: Self =
        Self::new(502, "Bad Gateway", "no trusted TLS connection to the backend");
    pub(crate) const RESPONSE_TIMEOUT: Self =
        Self::new(504, "Gateway Timeout", "the backend did not answer in time");
    pub(crate) const BROKEN: Self =
        Self::new(502, "Bad Gateway", "the backend closed the connection without an answer");
    pub(crate) const INVALID_ANSWER: Self =
        Self::new(502, "Bad Gateway", "the backend's answer is not valid HTTP");
    pub(crate) const NO_RESOURCES: Self =
        Self::new(503, "Service Unavailable", "this node cannot open another connection to a backend");
    pub(crate) const REFUSED: Self =
        Self::new(503, "Service Unavailable", "the backend accepts no more requests at the moment");
    pub(crate) const CALM: Self =
        Self::new(429, "Too Many Requests", "the backend rejected the request as excessive load");
    pub(crate) const CALM_CONNECTION: Self =
        Self::new(503, "Service Unavailable", "the backend closed the connection because of excessive load");
    pub(crate) const HEAD_TOO_LARGE: Self = Self::new(
        431,
        "Request Header Fields Too Large",
        "the request's head is larger than the backend accepts",
    );
    pub(crate) const ANSWER_HEAD_TOO_LARGE: Self = Self::new(
        502,
        "Bad Gateway",
        "the head of the backend's answer is larger than the pool's limits.max_response_head or max_response_headers",
    );
    pub(crate) const REQUEST_TIMEOUT: Self =
        Self::new(408, "Request Timeout", "the request did not arrive in time");
    pub(crate) const DEADLINE: Self =
        Self::new(504, "Gateway Timeout", "the request took longer than its route allows");
    pub(crate) const TOO_LARGE: Self =
        Self::new(413, "Content Too Large", "the request's body is larger than its route allows");
    pub(crate) const CIRCLE: Self =
        Self::new(508, "Loop Detected", "the route redirects this request to its own URL");
    pub(crate) const UNKNOWN_PROTOCOL: Self =
        Self::new(501, "Not Implemented", "an extended CONNECT supports only the protocol websocket");
    pub(crate) const NO_SWITCH: Self =
        Self::new(502, "Bad Gateway", "the backend did not switch to the WebSocket protocol");
    pub(crate) const OTHER_NAMESPACE: Self =
        Self::new(502, "Bad Gateway", "the Destination is outside of this route's paths");
    pub(crate) const FORBIDDEN: Self = Self::new(403, "Forbidden", "the route does not allow this address");
    pub(crate) const METHOD_NOT_ALLOWED: Self =
        Self::new(405, "Method Not Allowed", "the route does not allow this method");
    pub(crate) const TOO_MANY: Self =
        Self::new(429, "Too Many Requests", "the rate limit of the route is reached, try again later");
    pub(crate) const TOO_MANY_VALUES: Self = Self::new(
        429,
        "Too Many Requests",
        "this address sent too many new values of the header that the route's rate limit uses, try again later",
    );
    pub(crate) const UNAUTHORIZED: Self =
        Self::new(401, "Unauthorized", "the route requires a user name and a password");
    pub(crate) const NO_TOKEN: Self = Self::new(401, "Unauthorized", "the route requires a valid token");
    pub(crate) const TOO_MANY_AT_ONCE: Self = Self::new(
        429,
        "Too Many Requests",
        "this client address has too many requests in flight (max_requests_per_ip), try again later",
    );
    pub(crate) const HEADS_TOO_LARGE: Self = Self::new(
        431,
        "Request Header Fields Too Large",
        "the heads of the requests in flight on this connection are too large together",
    );
    pub(crate) const BUSY: Self =
        Self::new(503, "Service Unavailable", "too many password checks are pending");

    const fn new(status: u16, title: &'static str, detail: &'static str) -> Self {
        Self { status, title, detail, fixed: None, fields: Vec::new(), extra: None }
    }

    /// The same with one more field.
    #[must_use]
    pub(crate) fn with(mut self, name: &'static str, value: String) -> Self {
        self.fields.push((name, value));
        self
    }

    /// A route's configured fallback.
    pub(crate) fn fixed(status: u16, body: &Arc<str>) -> Self {
        let code = http::StatusCode::from_u16(status).ok();
        let title = code.and_then(|code| code.canonical_reason()).unwrap_or_default();
        Self { status, title, detail: "", fixed: Some(Arc::clone(body)), fields: Vec::new(), extra: None }
    }

    /// Sends the client elsewhere.
    pub(crate) fn redirect(status: u16, location: &[u8]) -> Self {
        let code = http::StatusCode::from_u16(status).ok();
        let title = code.and_then(|code| code.canonical_reason()).unwrap_or_default();
        let mut local = Self::new(status, title, "the resource is at another URL");
        local.extra_mut().add("location", location);
        local
    }

    /// Fields beside its own.
    pub(crate) fn extra_mut(&mut self) -> &mut LocalHeaders {
        self.extra.get_or_insert_default()
    }

    /// Whether a field of its own is sent.
    pub(crate) fn sends(&self, name: &str) -> bool {
        self.extra.as_ref().is_none_or(|extra| !extra.removes(name))
    }

    /// The client's mistake.
    pub(crate) const fn bad_request(detail: &'static str) -> Self {
        Self::new(400, "Bad Request", detail)
    }

    /// The answer to a head that was refused.
    pub(crate) fn refused(error: &RequestError) -> Self {
        let detail = match error {
            RequestError::BadRequest(why) => why,
            RequestError::HeadTooLarge => "the request's head is too large",
            RequestError::UriTooLong => "the request's target is too long",
            RequestError::VersionNotSupported => "this port supports HTTP/1.0, HTTP/1.1 and HTTP/2",
            RequestError::NotImplemented("method") => "the request's method is too long",
            RequestError::NotImplemented(_) => "the request's transfer coding is not supported",
        };
        Self::new(error.status(), error.reason(), detail)
    }

    /// Methods that are not forwarded.
    pub(crate) fn for_method(head: &RequestHead) -> Option<Self> {
        if head.is_forwardable() {
            return None;
        }
        Some(match head.method() {
            b"CONNECT" => Self::new(405, "Method Not Allowed", "this is not a forward proxy"),
            // RFC 9110, 9.3.8: the answer would show the client the headers that proxies add to its request.
            b"TRACE" => Self::new(405, "Method Not Allowed", "TRACE is not forwarded"),
            _ => Self::new(200, "OK", "the options of this proxy"),
        })
    }

    /// The same as a status of gRPC, whose own HTTP mapping is coarser: a deadline is known to be one here.
    pub(crate) fn grpc(&self) -> (u16, &'static str) {
        let code = match self.status {
            400 | 405 | 414 | 431 => 3,
            401 => 16,
            403 => 7,
            404 => 12,
            408 | 504 => 4,
            413 | 429 => 8,
            502 | 503 => 14,
            _ => 2,
        };
        (code, self.detail)
    }

    /// Its fields: what belongs to the status, unless it has its own, and its own; without those that its route removes.
    pub(crate) fn fields(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let usual = match self.status {
            200 | 405 => Some(("allow", "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS")),
            503 => Some(("retry-after", "1")),
            _ => None,
        };
        let own = self.fields.iter().map(|(name, value)| (*name, value.as_str()));
        let usual = usual.filter(|(name, _)| self.fields.iter().all(|(own, _)| own != name));
        usual.into_iter().chain(own).filter(|(name, _)| self.sends(name))
    }

    /// Content type and body.
    pub(crate) fn page(&self, media: Media, request_id: &str) -> (&'static str, String) {
        let Self { status, title, detail, fixed, .. } = self;
        if let Some(fixed) = fixed {
            return ("text/plain; charset=utf-8", fixed.to_string());
        }
        // Problem details (RFC 9457) are for errors only.
        let media = if *status < 400 { Media::Text } else { media };
        match media {
            Media::Problem => (
                "application/problem+json",
                format!(
                    "{{\"type\":\"about:blank\",\"title\":\"{title}\",\"status\":{status},\"detail\":\"{detail}\",\"request_id\":\"{request_id}\"}}\n"
                ),
            ),
            Media::Text => {
                ("text/plain; charset=utf-8", format!("{status} {title}: {detail}\nrequest {request_id}\n"))
            }
        }
    }

    /// Appends the whole answer; returns the length of its body.
    pub(crate) fn write(
        &self,
        out: &mut Vec<u8>,
        date: &str,
        keep_alive: bool,
        is_head: bool,
        media: Media,
        request_id: &str,
    ) -> usize {
        let Self { status, title, .. } = self;
        let (content_type, body) = self.page(media, request_id);
        let length = body.len();
        // Writing to a Vec cannot fail.
        let _ = write!(out, "HTTP/1.1 {status} {title}\r\nDate: {date}\r\nContent-Length: {length}\r\n");
        if self.sends("content-type") {
            push_field(out, b"Content-Type", content_type.as_bytes());
        }
        for (name, value) in self.fields() {
            let _ = write!(out, "{name}: {value}\r\n");
        }
        for (name, value) in self.extra.iter().flat_map(|extra| &extra.lines) {
            push_field(out, name.as_bytes(), value);
        }
        if !keep_alive {
            out.extend_from_slice(b"Connection: close\r\n");
        }
        out.extend_from_slice(b"\r\n");
        if is_head {
            return 0;
        }
        out.extend_from_slice(body.as_bytes());
        length
    }
}

/// The form of an answer's body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Media {
    /// `application/problem+json`.
    Problem,
    /// For people: `text/plain`.
    Text,
}

impl Media {
    /// The media type for errors: text if the client accepts text and not JSON.
    pub(crate) fn accepted(head: &RequestHead) -> Self {
        let accepts = |what: &[u8]| {
            head.fields
                .iter()
                .filter(|field| head.name(field).eq_ignore_ascii_case(b"accept"))
                .any(|field| memchr::memmem::find(head.value(field), what).is_some())
        };
        if accepts(b"text/") && !accepts(b"json") { Self::Text } else { Self::Problem }
    }
}
