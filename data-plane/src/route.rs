//! The route step: what routing asks of a request, and what comes of it where no route takes one.

use weir_snapshot::{Snapshot, config::WebScheme, routing::Request};

use crate::{
    answer::Local,
    http::{Field, RequestHead},
};

/// A request as routing sees it.
struct Asked<'a> {
    head: &'a RequestHead,
    scheme: WebScheme,
}

impl Request for Asked<'_> {
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

/// The route that takes a request, by its place, or what to answer where there is none.
pub(crate) fn find(snapshot: &Snapshot, head: &RequestHead, scheme: &[u8]) -> Result<usize, Local> {
    // Where one route takes everything, nothing needs to be looked at.
    if let Some(route) = snapshot.router.only() {
        return Ok(route);
    }
    let scheme = if scheme == b"https" { WebScheme::Https } else { WebScheme::Http };
    match snapshot.router.find(&Asked { head, scheme }) {
        Ok(Some(route)) => Ok(route),
        Ok(None) => Err(Local::NO_ROUTE),
        Err(fault) => Err(Local::bad_request(fault.text())),
    }
}
