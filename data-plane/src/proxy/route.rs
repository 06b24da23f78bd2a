//! Routing: finds the route of a request, and its redirect, share of a split and header changes.

use weir_http::{Field, RequestEdit, RequestHead};
use weir_snapshot::{Redirect, RedirectError, Route, Snapshot, Split, config::WebScheme, routing::Request};

use crate::{
    answer::Local,
    edit::{self, Facts},
    origin::Origin,
    pool::sticky::{Session, Sticky},
    url_map,
};

/// A request as routing sees it.
struct RoutingInput<'a> {
    head: &'a RequestHead,
    scheme: WebScheme,
}

impl Request for RoutingInput<'_> {
    fn host(&self) -> Option<&[u8]> {
        self.head.host()
    }

    fn path(&self) -> &[u8] {
        self.head.path()
    }

    fn method(&self) -> &[u8] {
        self.head.method()
    }

    fn scheme(&self) -> WebScheme {
        self.scheme
    }

    fn any_header(&self, name: &str, accepts: impl Fn(&[u8]) -> bool) -> bool {
        let of_name = |field: &&Field| self.head.name(field).eq_ignore_ascii_case(name.as_bytes());
        self.head.fields.iter().filter(of_name).any(|field| accepts(self.head.value(field)))
    }
}

/// Returns the index of the route that matches a request, or the response to send if no route matches.
pub(crate) fn find(snapshot: &Snapshot, head: &RequestHead, origin: &Origin<'_>) -> Result<usize, Local> {
    // With a single route that matches everything nothing is compared.
    if let Some(route) = snapshot.router.only() {
        return Ok(route);
    }
    match snapshot.router.find(&RoutingInput { head, scheme: scheme(origin) }) {
        Ok(Some(route)) => Ok(route),
        Ok(None) => Err(Local::NO_ROUTE),
        Err(fault) => Err(Local::bad_request(fault.text())),
    }
}

fn scheme(origin: &Origin<'_>) -> WebScheme {
    if origin.https { WebScheme::Https } else { WebScheme::Http }
}

/// The redirect to another URL.
pub(crate) fn redirect(redirect: &Redirect, head: &RequestHead, origin: &Origin<'_>) -> Local {
    match redirect.location(scheme(origin), origin.host(head), head.path_and_query()) {
        Ok(location) => Local::redirect(redirect.status, &location),
        Err(RedirectError::NoHost) => Local::bad_request("the request has no host to redirect to"),
        Err(RedirectError::Path(fault)) => Local::bad_request(fault.text()),
        Err(RedirectError::Loop) => Local::CIRCLE,
    }
}

/// The route's changes to a request, if it has any.
pub(crate) fn edit<'a>(route: &'a Route, facts: &Facts<'_>) -> Result<Option<RequestEdit<'a>>, Local> {
    let rewrite = &route.rewrite;
    if rewrite.path.is_none()
        && rewrite.host.is_none()
        && rewrite.map.is_none()
        && route.request_headers.is_none()
    {
        return Ok(None);
    }
    let mut edit = RequestEdit { host: rewrite.host.as_deref(), ..RequestEdit::default() };
    if let Some(path) = &rewrite.path {
        let target = path.apply(facts.head.path_and_query());
        edit.target = target.map_err(|fault| Local::bad_request(fault.text()))?;
    }
    if edit.target.is_some() {
        edit.prefix = rewrite.prefix.as_deref();
    }
    edit.prefix_header = rewrite.prefix_header.as_deref();
    if rewrite.map.is_some() && matches!(facts.head.method(), b"MOVE" | b"COPY") {
        edit.destination = url_map::destination(rewrite, facts.head, facts.origin)?;
    }
    if let Some(rules) = &route.request_headers {
        edit::add_headers(&mut edit, rules, facts);
    }
    Ok(Some(edit))
}

/// The chosen share of a split, and the session that keeps the client there.
pub(crate) struct SplitChoice<'a> {
    pub(crate) pool: usize,
    sticky: Option<&'a Sticky>,
    share: usize,
    /// The session of the request.
    session: Option<Session>,
    now: u64,
}

/// Chooses a share of the split: that of the client's session, or one by weight.
pub(crate) fn choose<'a>(split: &Split, sticky: Option<&'a Sticky>, head: &RequestHead) -> SplitChoice<'a> {
    let mut now = 0;
    let session = sticky.and_then(|sticky| {
        now = crate::pool::sticky::now();
        sticky.read(head, now)
    });
    // A share without weight keeps no sessions.
    let session = session.filter(|session| split.shares[session.member].weight > 0);
    let share = session.map_or_else(|| split.pick(fastrand::u32(..split.total)), |session| session.member);
    SplitChoice { pool: split.shares[share].pool, sticky, share, session, now }
}

impl SplitChoice<'_> {
    /// The value of `Set-Cookie` that keeps the client at the share; `None` if the client has it, or needs none.
    pub(crate) fn cookie(&self, secure: bool) -> Option<String> {
        let sticky = self.sticky?;
        if self.session.is_some_and(|session| !session.is_old) {
            return None;
        }
        let id = self.session.map_or_else(|| fastrand::u32(..), |session| session.id);
        sticky.write(self.share, id, self.now, secure)
    }
}
