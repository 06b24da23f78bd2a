//! What a route asks for besides host and path.

use std::fmt;

use super::Request;
use crate::config::WebScheme;

/// Methods, scheme and headers; all of it must hold.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Conditions {
    /// One of them; empty: any.
    pub methods: Vec<Box<str>>,
    /// How the client came.
    pub scheme: Option<WebScheme>,
    /// Each of them; names in lower case, in their order.
    pub headers: Vec<HeaderCondition>,
}

/// What one header must be.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HeaderCondition {
    /// In lower case.
    pub name: Box<str>,
    /// What it must be.
    pub wanted: Wanted,
}

/// What a header must be.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Wanted {
    /// One of its lines has this value.
    Value(Box<str>),
    /// It is there.
    Present,
    /// It is not there.
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
    /// How many there are: the methods are one, the scheme is one, each header is one.
    pub(super) fn count(&self) -> usize {
        usize::from(!self.methods.is_empty()) + usize::from(self.scheme.is_some()) + self.headers.len()
    }

    pub(super) fn hold(&self, request: &impl Request) -> bool {
        self.unmet(request).is_none()
    }

    /// The first that does not hold.
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
