//! Changes to a request on its way to a backend, as [`write_request`](crate::write_request) applies them.

/// The changes that a route makes to a request.
#[derive(Debug, Default)]
pub struct RequestEdit<'a> {
    /// Replaces path and query.
    pub target: Option<Vec<u8>>,
    /// Replaces the host.
    pub host: Option<&'a str>,
    /// Names of fields that are not forwarded, in lower case.
    pub removed: &'a [Box<str>],
    /// The path prefix that was stripped, sent as `X-Forwarded-Prefix`.
    pub prefix: Option<&'a str>,
    /// A second field for the stripped prefix; the client's field of this name is dropped.
    pub prefix_header: Option<&'a str>,
    /// Replaces the `Destination` field (RFC 4918 section 10.3).
    pub destination: Option<Destination>,
    /// Additional field lines, each with its CRLF.
    pub lines: Vec<u8>,
}

impl RequestEdit<'_> {
    /// Whether the client's fields of this name are not forwarded.
    pub fn removes(&self, name: &[u8]) -> bool {
        self.is_removed(name)
            || self.prefix_header.is_some_and(|own| own.as_bytes().eq_ignore_ascii_case(name))
    }

    /// Whether `removed` has this name.
    pub(crate) fn is_removed(&self, name: &[u8]) -> bool {
        self.removed.iter().any(|own| own.len() == name.len() && own.as_bytes().eq_ignore_ascii_case(name))
    }
}

/// The target of a WebDAV COPY or MOVE, as the backend sees it.
#[derive(Debug)]
pub struct Destination {
    /// The value is a URL; its scheme is that of the connection to the backend.
    pub is_absolute: bool,
    /// The part after `scheme://`, or the path.
    pub rest: Vec<u8>,
}
