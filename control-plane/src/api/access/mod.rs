//! The gate: one layer in front of everything on the admin port: REST, gRPC and the dashboard. It identifies the
//! caller, decides by [`table`](crate::access::table) alone, writes the audit log, and ends open streams when their
//! token ends. The code behind the gate does not decide again, and no call bypasses the gate: an operation that is
//! missing from the table needs an admin.

mod caller_limits;
mod cookie;
mod host;
mod login;
mod refusal;
mod until;

use std::{net::SocketAddr, sync::Arc};

use axum::{
    extract::{ConnectInfo, FromRequestParts, MatchedPath, Request, State},
    http::{HeaderMap, Method, StatusCode, header, request::Parts},
    middleware::Next,
    response::Response,
};

pub(crate) use self::{caller_limits::CallerLimits, host::Hosts, login::router as login, until::until};
use self::{
    caller_limits::{CallPermit, CallerKey, OPEN_CALLS},
    refusal::{Kind, Refusal},
};
use crate::{
    access::{
        Access, Need, Outcome, Role, Token,
        table::{self, Rule},
        trail::{self, Caller},
    },
    app::Author,
    connections::{Connection, network},
    store::AuditEntry,
};

/// The other end of a connection to the admin port.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer {
    /// The client's address.
    pub(crate) address: SocketAddr,
    /// True if the connection uses TLS.
    pub(crate) tls: bool,
}

/// The state that the gate's decisions depend on. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Gate {
    /// The tokens.
    pub(crate) access: Access,
    /// The host names that this port accepts.
    pub(crate) hosts: Hosts,
    /// The usage and limits of each caller.
    pub(crate) limits: CallerLimits,
}

/// The parts of a request that the gate looks at.
struct CallInfo {
    kind: Kind,
    /// Method and path, or the gRPC method.
    action: String,
    rule: Rule,
    peer: Option<Peer>,
}

impl CallInfo {
    fn read(request: &Request) -> Self {
        let path = request.uri().path();
        let content = request.headers().get(header::CONTENT_TYPE).map_or(&b""[..], |value| value.as_bytes());
        let matched = request.extensions().get::<MatchedPath>().map(MatchedPath::as_str);
        // The router's own path identifies gRPC services. A request that the router sends to a service is decided as
        // gRPC, however its path is written.
        let is_service = matched.is_some_and(|path| path.ends_with("/{*rest}"));
        let (kind, rule) = if is_service || content.starts_with(b"application/grpc") {
            (
                if content.starts_with(b"application/grpc") { Kind::Grpc } else { Kind::Rest },
                table::grpc(path),
            )
        } else {
            let kind = if path == "/" || path.starts_with("/ui/") { Kind::Dashboard } else { Kind::Rest };
            (kind, table::http(request.method().as_str(), matched))
        };
        let action = if kind == Kind::Grpc {
            path.trim_start_matches('/').to_owned()
        } else {
            format!("{} {path}", request.method())
        };
        Self { kind, action, rule, peer: request.extensions().get::<ConnectInfo<Peer>>().map(|peer| peer.0) }
    }

    fn anonymous(&self) -> String {
        match self.peer {
            Some(peer) => format!("anonymous@{}", peer.address.ip().to_canonical()),
            None => "anonymous".to_owned(),
        }
    }

    fn is_probe(&self) -> bool {
        matches!(self.action.as_str(), "GET /healthz" | "GET /readyz")
    }

    fn is_tls(&self) -> bool {
        self.peer.is_some_and(|peer| peer.tls)
    }

    fn entry(&self, actor: String, role: Option<Role>, outcome: Outcome, detail: String) -> AuditEntry {
        AuditEntry {
            actor,
            role: role.map_or("", Role::as_str).to_owned(),
            source: self.kind.source().into(),
            action: self.action.clone(),
            outcome: outcome.as_str().into(),
            detail,
            ..AuditEntry::default()
        }
    }
}

/// Allows or rejects a call.
pub(crate) async fn gate(State(gate): State<Gate>, mut request: Request, next: Next) -> Response {
    let call = CallInfo::read(&request);
    let caller = match gate.decide(&call, &request) {
        Ok(caller) => caller,
        Err(refusal) => {
            let actor = refusal.token.as_ref().map_or_else(|| call.anonymous(), |(name, _)| name.clone());
            let role = refusal.token.as_ref().map(|(_, role)| *role);
            let entry = call.entry(actor, role, Outcome::Refused, refusal.says.clone());
            gate.access.record_refusal(entry).await;
            return refusal.answer(call.kind, request.uri());
        }
    };
    let permit = match gate.permit(&call, &caller, &request) {
        Ok(permit) => permit,
        Err(says) => return Refusal::busy(says).answer(call.kind, request.uri()),
    };
    let active = match &permit {
        Some(permit) => match permit.activate().await {
            Ok(turn) => turn,
            Err(says) => return Refusal::busy(says).answer(call.kind, request.uri()),
        },
        None => None,
    };
    if permit.is_some() && !call.rule.changes {
        // hyper answers pipelined requests in one poll of a connection's task. Many such connections would keep the
        // threads from polling for probes. Changes run in tasks of their own, which start before the client's
        // disconnect can be noticed.
        tokio::task::yield_now().await;
    }
    let uri = request.uri().clone();
    if let Some(peer) = call.peer {
        request.extensions_mut().insert(ConnectInfo(peer.address));
    }
    request.extensions_mut().insert(caller.clone());
    let token = caller.token.clone();
    let changes = call.rule.changes;
    let kind = call.kind;
    // The permit to process is released once the response is made, not once the client has read it.
    let (answer, permit, _active) = if changes {
        // If the client disconnects, the change and its audit entry are still completed, and the call counts for its
        // caller until then.
        let access = gate.access.clone();
        let made = async move { (change(access, call, caller, request, next).await, permit, active) };
        gate.access.detached().run(made).await
    } else {
        (trail::follow(caller, next.run(request)).await.0, permit, active)
    };
    let answer = match permit {
        Some(permit) => match permit.keep(answer, changes).await {
            Ok(answer) => answer,
            Err(says) => return Refusal::busy(says).answer(kind, &uri),
        },
        None => answer,
    };
    match token {
        Some(token) if until::is_stream(&answer) => until::ended(answer, token),
        _ => answer,
    }
}

/// Runs a call that may change something, and writes its outcome to the audit log.
async fn change(access: Access, call: CallInfo, caller: Caller, request: Request, next: Next) -> Response {
    let (name, role) = (caller.name.clone(), caller.role);
    let (answer, left) = trail::follow(caller, next.run(request)).await;
    // The login writes its own audit entry: only it knows which token was presented.
    if call.rule.need != Need::Nothing && !left.dry_run {
        let (outcome, detail) = refusal::outcome(&answer);
        let detail = if outcome == Outcome::Ok { left.note } else { detail };
        let entry = AuditEntry { revision: left.revision, ..call.entry(name, Some(role), outcome, detail) };
        access.record(entry).await;
    }
    answer
}

impl Gate {
    fn decide(&self, call: &CallInfo, request: &Request) -> Result<Caller, Refusal> {
        let headers = request.headers();
        let is_needed = self.access.is_needed();
        if !call.is_probe() {
            self.hosts.check(request.uri(), headers, is_needed).map_err(Refusal::misdirected)?;
        }
        let is_safe = matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
        if !is_safe && !super::dashboard::is_own(headers, request.uri()) {
            return Err(Refusal::forbidden("this request comes from a page of another site"));
        }
        let token = self.token(call, headers, is_safe)?;
        let caller = match token {
            Some(token) => {
                let (name, role) = (token.name.clone(), token.role);
                Caller { name, role, token: Some(token), source: call.kind.source() }
            }
            None if is_needed && call.rule.need != Need::Nothing => {
                return Err(Refusal::unknown("a token is needed", false));
            }
            None => {
                // A caller without a token is an admin while authentication is off, and otherwise a viewer.
                let role = if is_needed { Role::Viewer } else { Role::Admin };
                Caller { name: call.anonymous(), role, token: None, source: call.kind.source() }
            }
        };
        match call.rule.need {
            Need::Role(needed) if caller.role < needed => {
                let says =
                    format!("this needs role {needed}; token {:?} has role {}", caller.name, caller.role);
                Err(Refusal::forbidden(says).of(caller.name, caller.role))
            }
            _ => Ok(caller),
        }
    }

    /// Registers the call with its caller's limits. Probes do not count: they are always answered.
    fn permit(
        &self,
        call: &CallInfo,
        caller: &Caller,
        request: &Request,
    ) -> Result<Option<CallPermit>, String> {
        if call.is_probe() || call.action == "grpc.health.v1.Health/Check" {
            return Ok(None);
        }
        let is_open = call.rule.need == Need::Nothing;
        let is_stream = table::lasts(request.uri().path());
        if let Some(connection) = request.extensions().get::<Arc<Connection>>() {
            if !is_open {
                connection.mark_authenticated();
            } else if connection.in_flight() > OPEN_CALLS {
                return Err(format!("{OPEN_CALLS} calls on this connection are in flight"));
            }
        }
        let address = || call.peer.map(|peer| network(peer.address.ip()));
        let holder = match &caller.token {
            Some(token) => CallerKey::Token(token.name.clone()),
            None if is_open && !is_stream => CallerKey::Open(address()),
            None => CallerKey::Address(address()),
        };
        self.limits.take(holder, is_stream).map(Some)
    }

    /// Returns the token of the call. An invalid token is rejected even if the operation needs none.
    fn token(
        &self,
        call: &CallInfo,
        headers: &HeaderMap,
        is_safe: bool,
    ) -> Result<Option<Arc<Token>>, Refusal> {
        if let Some(shown) = headers.get(header::AUTHORIZATION) {
            if headers.get_all(header::AUTHORIZATION).iter().count() > 1 {
                return Err(Refusal::unknown("there is more than one header authorization", true));
            }
            let text = shown.to_str().ok().and_then(bearer);
            let text =
                text.ok_or_else(|| Refusal::unknown("the header authorization is not: Bearer TOKEN", true))?;
            return match self.access.authenticate(text) {
                Ok(token) => Ok(Some(token)),
                Err(unknown) => Err(Refusal::of_unknown(&unknown)),
            };
        }
        // A session is valid for the dashboard only: its pages and forms, and the data that its pages read.
        if call.kind == Kind::Dashboard || (call.kind == Kind::Rest && is_safe) {
            return Ok(cookie::read(headers, call.is_tls()).and_then(|secret| self.access.session(secret)));
        }
        Ok(None)
    }
}

/// The token in `Bearer TOKEN`.
fn bearer(value: &str) -> Option<&str> {
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// The caller, as the author of a change.
pub(crate) struct Asking(pub(crate) Author);

/// Converts a caller to an author.
pub(crate) fn author(caller: Option<&Caller>, source: &'static str) -> Author {
    match caller {
        Some(caller) => Author { actor: caller.name.clone(), source: caller.source },
        None => Author { actor: "anonymous".to_owned(), source },
    }
}

impl<S: Sync> FromRequestParts<S> for Asking {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        Ok(Self(author(parts.extensions.get::<Caller>(), "rest")))
    }
}

/// Status codes of the gate's own responses.
const MISDIRECTED: StatusCode = StatusCode::MISDIRECTED_REQUEST;
