//! A case: one rule with its place in the RFC, and the play that shows whether a proxy keeps it.

use crate::{
    message::{End, Framing, Message, text},
    peer::{Verdict, brief},
    play::{bad_body, broken, exchange, lie, refused},
    stage::Stage,
    target::{Listener, Profile},
};

/// Source of the rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Level {
    /// The RFC: MUST, or its grammar.
    Must,
    /// The RFC: SHOULD, or a way that it recommends.
    Should,
    /// Weir: the RFC leaves it open, and other proxies may well do otherwise.
    Own,
}

/// The client's protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    Http1,
    Http2,
}

type Play = Box<dyn Fn(&Stage) -> Verdict + Send + Sync>;

/// One rule.
pub(crate) struct Case {
    pub(crate) group: &'static str,
    pub(crate) name: String,
    /// The section, as `9112 6.3`; empty for a rule of Weir's own.
    pub(crate) rfc: &'static str,
    pub(crate) level: Level,
    pub(crate) profile: Profile,
    pub(crate) version: Version,
    pub(crate) play: Play,
}

impl Case {
    /// The listeners at which it is played.
    pub(crate) fn listeners(&self) -> &'static [Listener] {
        match self.version {
            Version::Http1 => &[Listener::Http1, Listener::Http1Tls],
            Version::Http2 => &[Listener::H2c, Listener::H2],
        }
    }
}

/// The cases of one group, as they are written down.
pub(crate) struct Table {
    group: &'static str,
    pub(crate) cases: Vec<Case>,
}

impl Table {
    pub(crate) fn new(group: &'static str) -> Self {
        Self { group, cases: Vec::new() }
    }

    /// Any play.
    pub(crate) fn script(
        &mut self,
        name: impl Into<String>,
        rfc: &'static str,
        level: Level,
        play: impl Fn(&Stage) -> Verdict + Send + Sync + 'static,
    ) -> &mut Case {
        let at = self.cases.len();
        self.cases.push(Case {
            group: self.group,
            name: name.into(),
            rfc,
            level,
            profile: Profile::Usual,
            version: Version::Http1,
            play: Box::new(play),
        });
        &mut self.cases[at]
    }

    /// A request and its answer, and what each side must see of the other's.
    pub(crate) fn exchange(
        &mut self,
        name: &str,
        rfc: &'static str,
        level: Level,
        (request, answer): (impl AsRef<[u8]>, impl AsRef<[u8]>),
        at_backend: &'static [Check],
        at_client: &'static [Check],
    ) {
        let (request, answer) = (request.as_ref().to_vec(), answer.as_ref().to_vec());
        self.script(name, rfc, level, move |stage| exchange(stage, &request, &answer, at_backend, at_client));
    }

    /// A request that could be read in two ways or in none: refused with one of `statuses`, the connection closed,
    /// and nothing at the backend.
    pub(crate) fn refused(
        &mut self,
        name: &str,
        rfc: &'static str,
        level: Level,
        statuses: &'static [u16],
        request: impl AsRef<[u8]>,
    ) {
        let request = request.as_ref().to_vec();
        self.script(name, rfc, level, move |stage| refused(stage, &request, statuses));
    }

    /// A request whose body goes wrong once it runs: it is never completed, and the connections are closed.
    pub(crate) fn bad_body(&mut self, name: &str, rfc: &'static str, level: Level, body: impl AsRef<[u8]>) {
        let body = body.as_ref().to_vec();
        self.script(name, rfc, level, move |stage| bad_body(stage, &body));
    }

    /// A malformed response: 502, and the connection is not used again.
    pub(crate) fn lie(&mut self, name: &str, rfc: &'static str, level: Level, answer: impl AsRef<[u8]>) {
        let answer = answer.as_ref().to_vec();
        self.script(name, rfc, level, move |stage| lie(stage, &answer));
    }

    /// An answer that breaks off: the client can tell.
    pub(crate) fn broken(
        &mut self,
        name: &str,
        level: Level,
        version: &'static str,
        answer: &'static str,
        end: End,
    ) -> &mut Case {
        self.script(name, "9112 8", level, move |stage| broken(stage, version, answer, end))
    }
}

/// Requirement for a message.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Check {
    /// The request line, or the answer's status line.
    Line(&'static str),
    Status(u16),
    /// The field's values, joined with commas.
    Is(&'static str, &'static str),
    /// The field's lines, one by one.
    Lines(&'static str, &'static [&'static str]),
    /// The field as a list holds this member.
    Lists(&'static str, &'static str),
    /// The field as a list does not hold this member.
    Unlisted(&'static str, &'static str),
    /// The field begins so.
    Starts(&'static str, &'static str),
    /// The field as a list has so many members.
    Members(&'static str, usize),
    Has(&'static str),
    No(&'static str),
    Body(&'static str),
    Framed(Framing),
    Trailer(&'static str, &'static str),
    NoTrailer(&'static str),
    /// Number of interim responses before the final one.
    Interims(usize),
    /// The connection is closed afterwards.
    Closed,
    /// The connection carries another exchange.
    Open,
}

pub(crate) fn check(message: &Message, checks: &[Check]) -> Verdict {
    for check in checks {
        let holds = match *check {
            Check::Line(line) => message.line == line,
            Check::Status(status) => message.status() == status,
            Check::Is(name, value) => message.values(name).join(", ") == value,
            Check::Lines(name, values) => message.values(name) == values,
            Check::Lists(name, member) => message.list(name).iter().any(|one| one == member),
            Check::Unlisted(name, member) => !message.list(name).iter().any(|one| one == member),
            Check::Starts(name, start) => message.values(name).join(", ").starts_with(start),
            Check::Members(name, count) => message.list(name).len() == count,
            Check::Has(name) => !message.values(name).is_empty(),
            Check::No(name) => message.values(name).is_empty(),
            Check::Body(body) => text(&message.body) == body,
            Check::Framed(framing) => message.framing == framing,
            Check::Trailer(name, value) => message.trailers.iter().any(|(n, v)| n == name && v == value),
            Check::NoTrailer(name) => !message.trailers.iter().any(|(n, _)| n == name),
            Check::Interims(count) => message.interims.len() == count,
            Check::Closed | Check::Open => true,
        };
        if !holds {
            let body = brief(&message.body);
            return Err(format!("not {check:?}: {:?} {:?} {body:?}", message.line, message.fields));
        }
    }
    Ok(())
}

/// The answer that backends give where it does not matter.
pub(crate) const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// The request that clients send where it does not matter.
pub(crate) const GET: &str = "GET / HTTP/1.1\r\nHost: a.example\r\n\r\n";

/// A GET with these field lines.
pub(crate) fn get(fields: &str) -> String {
    format!("GET / HTTP/1.1\r\nHost: a.example\r\n{fields}\r\n")
}

/// A POST with these field lines, the ones that frame its body included.
pub(crate) fn post(fields: &str, body: &str) -> String {
    format!("POST / HTTP/1.1\r\nHost: a.example\r\n{fields}\r\n{body}")
}

/// A 200 with these field lines.
pub(crate) fn answer(fields: &str, body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\n{fields}\r\n{body}")
}
