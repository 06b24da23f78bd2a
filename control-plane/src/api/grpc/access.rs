//! Tokens and the audit as messages.

use tonic::Status;
use weir_proto::v1;
use weir_snapshot::{Problem, units::HumanDuration};

use super::admin::refuse;
use crate::{
    access::{
        Ended, NewToken, Token,
        nodes::{self, NewNodeToken},
    },
    app::{AppError, rfc3339},
    store::{AuditEntry, StoredNodeToken},
};

pub(super) fn new_token(asked: v1::CreateTokenRequest) -> Result<NewToken, Status> {
    let wrong = |path: &str, message: String| refuse(AppError::Invalid(Problem::new(path, message).into()));
    let role =
        asked.role.parse().map_err(|error: crate::access::UnknownRole| wrong("role", error.to_string()))?;
    let expires = Some(asked.expires).filter(|text| !text.is_empty());
    let expires = expires.map(|text| text.parse::<HumanDuration>()).transpose();
    let expires = expires.map_err(|error| wrong("expires", error.to_string()))?;
    Ok(NewToken { name: asked.name, role, expires: expires.map(|lasts| lasts.0) })
}

pub(super) fn token(token: &Token) -> v1::Token {
    let time = |ms: Option<i64>| ms.map_or_else(String::new, rfc3339);
    v1::Token {
        name: token.name.clone(),
        role: token.role.to_string(),
        created: rfc3339(token.created_ms),
        created_by: token.created_by.clone(),
        expires: time(token.expires_ms),
        last_used: time(token.last_used_ms()),
        state: token.ended(crate::access::now_ms()).map_or("active", Ended::as_str).to_owned(),
    }
}

pub(super) fn new_node_token(asked: &v1::CreateNodeTokenRequest) -> Result<NewNodeToken, Status> {
    let read =
        NewNodeToken::read(Some(&asked.ttl), (asked.uses > 0).then_some(asked.uses), asked.node_ids.clone());
    read.map_err(|problem| refuse(AppError::Invalid(problem.into())))
}

pub(super) fn node_token(token: &StoredNodeToken) -> v1::NodeToken {
    v1::NodeToken {
        id: token.id.unsigned_abs(),
        state: nodes::ended(token, crate::access::now_ms()).unwrap_or("active").to_owned(),
        created: rfc3339(token.created_ms),
        created_by: token.created_by.clone(),
        expires: token.expires_ms.map_or_else(String::new, rfc3339),
        uses_left: token.uses_left.map(i64::unsigned_abs),
        used: token.used.unsigned_abs(),
        node_ids: token.node_ids.clone(),
    }
}

pub(super) fn entry(entry: AuditEntry) -> v1::AuditEntry {
    v1::AuditEntry {
        id: entry.id.unsigned_abs(),
        time: rfc3339(entry.time_ms),
        actor: entry.actor,
        role: entry.role,
        source: entry.source,
        action: entry.action,
        outcome: entry.outcome,
        detail: entry.detail,
        revision: entry.revision.unwrap_or_default(),
        times: entry.times,
    }
}
