//! Header changes of a route, with their variables, for requests and responses.

use std::sync::Arc;

use weir_http::{RequestEdit, RequestHead, push_field};
use weir_snapshot::headers::{HeaderRules, Piece, Variable};

use crate::origin::Origin;

/// Adds the header rules of a route to the changes of a request.
pub(crate) fn add_headers<'a>(edit: &mut RequestEdit<'a>, rules: &'a HeaderRules, facts: &Facts<'_>) {
    edit.removed = &rules.removed;
    facts.render(rules, |name, value| push_field(&mut edit.lines, name.as_bytes(), value));
}

/// Values of the variables of one request.
pub(crate) struct Facts<'a> {
    pub(crate) head: &'a RequestHead,
    pub(crate) origin: &'a Origin<'a>,
    /// Address of the peer, as text.
    pub(crate) peer: &'a str,
    pub(crate) request_id: &'a [u8],
    pub(crate) route: &'a str,
    /// Empty before there is a response.
    pub(crate) answer: ResponseFacts<'a>,
}

/// Values that are known once there is a response.
#[derive(Default)]
pub(crate) struct ResponseFacts<'a> {
    pub(crate) pool: &'a str,
    pub(crate) backend: &'a str,
    pub(crate) status: u16,
}

impl Facts<'_> {
    /// Calls `put` with each field that the rules write.
    pub(crate) fn render(&self, rules: &HeaderRules, mut put: impl FnMut(&str, &[u8])) {
        let mut value = Vec::new();
        for line in &rules.lines {
            value.clear();
            line.value.iter().for_each(|piece| self.push(piece, &mut value));
            // A field whose value is empty is not written.
            let trimmed = value.trim_ascii();
            if !trimmed.is_empty() {
                put(&line.name, trimmed);
            }
        }
    }

    fn push(&self, piece: &Piece, out: &mut Vec<u8>) {
        let head = self.head;
        let variable = match piece {
            Piece::Text(text) => return out.extend_from_slice(text.as_bytes()),
            Piece::Variable(variable) => variable,
        };
        match variable {
            Variable::ClientIp => out.extend_from_slice(self.origin.text().as_bytes()),
            Variable::PeerIp => out.extend_from_slice(self.peer.as_bytes()),
            Variable::Host => out.extend_from_slice(self.origin.host(head).unwrap_or_default()),
            Variable::Scheme => out.extend_from_slice(self.origin.scheme()),
            Variable::Method => out.extend_from_slice(head.method()),
            Variable::Path => out.extend_from_slice(head.path()),
            Variable::Query => out.extend_from_slice(head.query().unwrap_or_default()),
            Variable::Uri => out.extend_from_slice(head.path_and_query()),
            Variable::RequestId => out.extend_from_slice(self.request_id),
            Variable::Route => out.extend_from_slice(self.route.as_bytes()),
            Variable::Header(name) => {
                out.extend_from_slice(head.get_named(name.as_bytes()).unwrap_or_default());
            }
            Variable::Pool => out.extend_from_slice(self.answer.pool.as_bytes()),
            Variable::Backend => out.extend_from_slice(self.answer.backend.as_bytes()),
            Variable::Status => out.extend_from_slice(self.answer.status.to_string().as_bytes()),
        }
    }
}

/// Changes of a route to a response of the node itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct LocalHeaders {
    rules: Option<Arc<HeaderRules>>,
    /// Written after the other fields.
    pub(crate) lines: Vec<(Box<str>, Box<[u8]>)>,
}

impl LocalHeaders {
    /// Adds a field.
    pub(crate) fn add(&mut self, name: &str, value: &[u8]) {
        self.lines.push((name.into(), value.into()));
    }

    /// Applies the rules of a route, with the values of the request.
    pub(crate) fn headers(&mut self, rules: &Arc<HeaderRules>, facts: &Facts<'_>) {
        self.lines.retain(|(name, _)| !rules.removes(name.as_bytes()));
        facts.render(rules, |name, value| self.lines.push((name.into(), value.into())));
        self.rules = Some(Arc::clone(rules));
    }

    /// Whether fields of this name are not sent.
    pub(crate) fn removes(&self, name: &str) -> bool {
        self.rules.as_ref().is_some_and(|rules| rules.removes(name.as_bytes()))
    }
}
