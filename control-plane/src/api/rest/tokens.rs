//! `/tokens`, `/node-tokens` and `/audit`.

use weir_admin_api::{
    AuditEntry, AuditQuery, CreatedNodeToken, CreatedToken, List, ListQuery, Name, NewNodeToken, NewToken,
    NodeToken, NodeTokenId, NodeTokenState, Outcome, RevokedNodeToken, RevokedToken, Token, TokenState,
};
use weir_snapshot::{Problem, Problems, units::HumanDuration};

use super::{
    answer::New,
    page::{self, Wanted},
    problem::Refusal,
    serve::Call,
};
use crate::{
    access,
    app::{AppError, page::Page},
    store::{self, StoredNodeToken},
    time::{now_ms, rfc3339},
};

fn token(token: &access::Token) -> Token {
    Token {
        name: token.name.clone(),
        role: token.role,
        state: token.state(now_ms()),
        created: rfc3339(token.created_ms),
        created_by: token.created_by.clone(),
        expires: token.expires_ms.map(rfc3339),
        last_used: token.last_used_ms().map(rfc3339),
    }
}

pub(super) async fn list(call: Call<(), ListQuery, ()>) -> Result<List<Token>, Refusal> {
    let ListQuery { limit, page_token } = call.query;
    let (tokens, wanted) = (call.app.access().tokens(), Wanted { limit, page_token: page_token.as_deref() });
    // Revoked tokens can share a name, so the page token holds an id.
    let List { items, next_page_token } = wanted.of("tokens", &[], tokens, |token| token.id.to_string())?;
    Ok(List { items: items.iter().map(|one| token(one)).collect(), next_page_token })
}

pub(super) async fn get(call: Call<Name, (), ()>) -> Result<Token, Refusal> {
    let name = &call.path.name;
    let found = call.app.access().token(name);
    Ok(token(&*found.ok_or_else(|| AppError::not_found("token", name))?))
}

pub(super) async fn create(call: Call<(), (), NewToken>) -> Result<New<CreatedToken>, Refusal> {
    let NewToken { name, role, expires } = call.body;
    let expires = expires.map(|text| text.parse::<HumanDuration>()).transpose();
    let expires =
        expires.map_err(|error| Refusal::bad_request(Problem::new("expires", error.to_string()).into()))?;
    let new = access::NewToken { name, role, expires: expires.map(|lasts| lasts.0) };
    let created = call.app.access().create_token(&new, &call.author.actor).await;
    let (secret, created) = created.map_err(AppError::from)?;
    let value = CreatedToken { info: token(&created), token: secret };
    Ok(New::in_list("/tokens", &created.name, value))
}

pub(super) async fn delete(call: Call<Name, (), ()>) -> Result<RevokedToken, Refusal> {
    call.app.access().revoke_token(&call.path.name).await.map_err(AppError::from)?;
    Ok(RevokedToken { name: call.path.name, state: TokenState::Revoked })
}

fn node_token(token: &StoredNodeToken) -> NodeToken {
    NodeToken {
        id: token.id,
        state: access::nodes::state(token, now_ms()),
        created: rfc3339(token.created_ms),
        created_by: token.created_by.clone(),
        expires: token.expires_ms.map(rfc3339),
        uses_left: token.uses_left,
        used: token.used,
        node_ids: token.node_ids.clone(),
    }
}

pub(super) async fn list_of_nodes(call: Call<(), ListQuery, ()>) -> Result<List<NodeToken>, Refusal> {
    let ListQuery { limit, page_token } = call.query;
    let items: Vec<NodeToken> = call.app.access().nodes().tokens().iter().map(node_token).collect();
    let wanted = Wanted { limit, page_token: page_token.as_deref() };
    wanted.of("node-tokens", &[], items, |token| token.id.to_string())
}

pub(super) async fn get_of_nodes(call: Call<NodeTokenId, (), ()>) -> Result<NodeToken, Refusal> {
    let id = call.path.id;
    let found = call.app.access().nodes().tokens().into_iter().find(|token| token.id == id);
    Ok(node_token(&found.ok_or_else(|| AppError::not_found("join token", &id.to_string()))?))
}

pub(super) async fn create_for_nodes(
    call: Call<(), (), NewNodeToken>,
) -> Result<New<CreatedNodeToken>, Refusal> {
    let NewNodeToken { ttl, uses, node_ids } = call.body;
    let new = access::nodes::NewNodeToken::read(ttl.as_deref(), uses, node_ids)
        .map_err(|problem: Problem| Refusal::bad_request(Problems::from(problem)))?;
    let created = call.app.access().nodes().create_token(new, &call.author.actor).await;
    let (secret, created) = created.map_err(AppError::from)?;
    let value = CreatedNodeToken { info: node_token(&created), token: secret };
    Ok(New::in_list("/node-tokens", &created.id.to_string(), value))
}

pub(super) async fn delete_of_nodes(call: Call<NodeTokenId, (), ()>) -> Result<RevokedNodeToken, Refusal> {
    let NodeTokenId { id } = call.path;
    call.app.access().nodes().revoke_token(id).await.map_err(AppError::from)?;
    Ok(RevokedNodeToken { id, state: NodeTokenState::Revoked })
}

pub(super) async fn audit(call: Call<(), AuditQuery, ()>) -> Result<List<AuditEntry>, Refusal> {
    let AuditQuery { after, limit, page_token } = call.query;
    page::one_of(("after", after.is_some()), page_token.as_deref())?;
    let page = Page::read("audit", &[], limit, page_token.as_deref())?;
    let after = page.after()?.or(after);
    let read = call.app.access().audit(after, page.read_size()).await.map_err(AppError::from)?;
    Ok(page::list_of(page.of_read(read, |entry| entry.id.to_string()).map(entry)))
}

fn entry(entry: store::AuditEntry) -> AuditEntry {
    AuditEntry {
        id: entry.id,
        time: rfc3339(entry.time_ms),
        actor: entry.actor,
        role: entry.role,
        source: entry.source,
        action: entry.action,
        outcome: match entry.outcome.as_str() {
            "ok" => Outcome::Ok,
            "failed" => Outcome::Failed,
            _ => Outcome::Refused,
        },
        detail: entry.detail,
        revision: entry.revision,
        times: entry.times,
    }
}
