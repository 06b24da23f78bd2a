//! Conditions of a route besides host and path.

use std::fmt;

use super::Request;
use crate::config::WebScheme;

/// Conditions on method, scheme and headers; all must hold.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Conditions {
    /// Allowed methods; empty: any.
    pub methods: Vec<Box<str>>,
    /// Required scheme.
    pub scheme: Option<WebScheme>,
    /// Required headers, sorted; names in lower case.
    pub headers: Vec<HeaderCondition>,
}

/// A condition on one header.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HeaderCondition {
    /// Name in lower case.
    pub name: Box<str>,
    /// The required value or presence.
    pub wanted: Wanted,
}

/// Required value or presence of a header.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Wanted {
    /// One of the header's lines has this value.
    Value(Box<str>),
    /// The header is present.
    Present,
    /// The header is absent.
    Absent,
}

impl HeaderCondition {
    fn holds(&self, request: &impl Request) -> bool {
        match &self.wanted {
            Wanted::Value(value) => request.any_header(&self.name, |found| found == value.as_bytes()),
            Wanted::Present => request.any_header(&self.name, |_| true),
            Wanted::Absent => !request.any_header(&self.name, |_| true),
        }
    }
}

/// A condition that does not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unmet<'a> {
    Method,
    Scheme(WebScheme),
    Header(&'a HeaderCondition),
}

impl Conditions {
    /// The number of conditions: the methods count as one, the scheme as one, each header as one.
    pub(super) fn count(&self) -> usize {
        usize::from(!self.methods.is_empty()) + usize::from(self.scheme.is_some()) + self.headers.len()
    }

    pub(super) fn hold(&self, request: &impl Request) -> bool {
        self.unmet(request).is_none()
    }

    /// Returns the first condition that does not hold.
    pub(super) fn unmet(&self, request: &impl Request) -> Option<Unmet<'_>> {
        let method = || request.method();
        if !self.methods.is_empty() && !self.methods.iter().any(|one| one.as_bytes() == method()) {
            return Some(Unmet::Method);
        }
        if let Some(scheme) = self.scheme.filter(|scheme| *scheme != request.scheme()) {
            return Some(Unmet::Scheme(scheme));
        }
        self.headers.iter().find(|header| !header.holds(request)).map(Unmet::Header)
    }
}

impl fmt::Display for HeaderCondition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.wanted {
            Wanted::Value(value) => write!(f, "header {}: {value}", self.name),
            Wanted::Present => write!(f, "a header {}", self.name),
            Wanted::Absent => write!(f, "no header {}", self.name),
        }
    }
}
