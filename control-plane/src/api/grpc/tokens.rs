//! Tokens of the admin API, and join tokens of nodes.

use weir_proto::v1;
use weir_snapshot::units::HumanDuration;

use super::{
    failure::{Answer, invalid},
    names::Named as _,
    page::page,
    values::{duration_of, time},
};
use crate::{
    access::{
        NewToken, Token, UnknownRole,
        nodes::{self, NewNodeToken},
    },
    app::{App, AppError, Author, page::Paged},
    store::StoredNodeToken,
    time::now_ms,
};

fn token(token: &Token) -> v1::Token {
    v1::Token {
        name: token.name.clone(),
        role: v1::Role::of(token.role.as_str()),
        state: v1::TokenState::of(token.state(now_ms()).as_str()),
        create_time: Some(time(token.created_ms)),
        created_by: token.created_by.clone(),
        expire_time: token.expires_ms.map(time),
        last_use_time: token.last_used_ms().map(time),
    }
}

pub(super) async fn list_tokens(app: &App, request: v1::ListTokensRequest) -> Answer<v1::ListTokensResponse> {
    let page = page("tokens", &[], request.page_size, &request.page_token)?;
    let Paged { items, next } = page.of(app.access().tokens(), |token| token.id.to_string());
    Ok(v1::ListTokensResponse {
        tokens: items.iter().map(|one| token(one)).collect(),
        next_page_token: next.unwrap_or_default(),
    })
}

pub(super) async fn get_token(app: &App, request: v1::GetTokenRequest) -> Answer<v1::Token> {
    let found = app.access().token(&request.name);
    Ok(token(&*found.ok_or_else(|| AppError::not_found("token", &request.name))?))
}

pub(super) async fn create_token(
    app: &App,
    author: &Author,
    request: v1::CreateTokenRequest,
) -> Answer<v1::CreateTokenResponse> {
    let v1::CreateTokenRequest { name, role, ttl, .. } = request;
    let role = v1::Role::name("role", role)?.ok_or_else(|| invalid("role", "is required"))?;
    let role = role.parse().map_err(|error: UnknownRole| invalid("role", error.to_string()))?;
    let new = NewToken { name, role, expires: duration_of("ttl", ttl)? };
    let (secret, created) = app.access().create_token(&new, &author.actor).await.map_err(expiry_is_ttl)?;
    Ok(v1::CreateTokenResponse { secret, token: Some(token(&created)) })
}

/// Renames the field of the lifetime, because the use case uses the name that REST has.
fn expiry_is_ttl(error: impl Into<AppError>) -> AppError {
    let mut error = error.into();
    if let AppError::Invalid(problems) = &mut error {
        for problem in problems.0.iter_mut().filter(|problem| problem.path == "expires") {
            problem.path = "ttl".into();
        }
    }
    error
}

pub(super) async fn delete_token(
    app: &App,
    _: &Author,
    request: v1::DeleteTokenRequest,
) -> Answer<v1::DeleteTokenResponse> {
    app.access().revoke_token(&request.name).await?;
    Ok(v1::DeleteTokenResponse {})
}

fn node_token(token: &StoredNodeToken) -> v1::NodeToken {
    v1::NodeToken {
        id: token.id.unsigned_abs(),
        state: v1::TokenState::of(nodes::state(token, now_ms()).as_str()),
        create_time: Some(time(token.created_ms)),
        created_by: token.created_by.clone(),
        expire_time: token.expires_ms.map(time),
        uses_left: token.uses_left.map(i64::unsigned_abs),
        used: token.used.unsigned_abs(),
        node_ids: token.node_ids.clone(),
    }
}

pub(super) async fn list_node_tokens(
    app: &App,
    request: v1::ListNodeTokensRequest,
) -> Answer<v1::ListNodeTokensResponse> {
    let page = page("node-tokens", &[], request.page_size, &request.page_token)?;
    let Paged { items, next } = page.of(app.access().nodes().tokens(), |token| token.id.to_string());
    Ok(v1::ListNodeTokensResponse {
        node_tokens: items.iter().map(node_token).collect(),
        next_page_token: next.unwrap_or_default(),
    })
}

pub(super) async fn get_node_token(app: &App, request: v1::GetNodeTokenRequest) -> Answer<v1::NodeToken> {
    let mut tokens = app.access().nodes().tokens().into_iter();
    let found = tokens.find(|token| token.id.unsigned_abs() == request.id);
    Ok(node_token(&found.ok_or_else(|| AppError::not_found("join token", &request.id.to_string()))?))
}

pub(super) async fn create_node_token(
    app: &App,
    author: &Author,
    request: v1::CreateNodeTokenRequest,
) -> Answer<v1::CreateNodeTokenResponse> {
    let v1::CreateNodeTokenRequest { ttl, never_expires, uses, node_ids, .. } = request;
    let ttl = match (duration_of("ttl", ttl)?, never_expires) {
        (Some(_), true) => {
            return Err(invalid("never_expires", "is set together with ttl; send one of them").into());
        }
        (None, true) => Some("never".to_owned()),
        (ttl, false) => ttl.map(|ttl| HumanDuration(ttl).to_string()),
    };
    let new = NewNodeToken::read(ttl.as_deref(), (uses > 0).then_some(uses), node_ids);
    let new = new.map_err(|problem| AppError::Invalid(problem.into()))?;
    let (secret, created) = app.access().nodes().create_token(new, &author.actor).await?;
    Ok(v1::CreateNodeTokenResponse { secret, node_token: Some(node_token(&created)) })
}

pub(super) async fn delete_node_token(
    app: &App,
    _: &Author,
    request: v1::DeleteNodeTokenRequest,
) -> Answer<v1::DeleteNodeTokenResponse> {
    let id = i64::try_from(request.id).unwrap_or_default();
    app.access().nodes().revoke_token(id).await?;
    Ok(v1::DeleteNodeTokenResponse {})
}
