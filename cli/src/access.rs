//! `weir tokens`, `weir node-tokens` and `weir audit`.

use anyhow::{Context as _, bail};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use weir_admin_api::{
    AuditEntry, AuditQuery, ListQuery, Name, NewNodeToken, NewToken, NodeToken, NodeTokenId, NodeTokenState,
    Outcome, Role, Token, TokenState, operations,
};

use crate::{
    arguments::{self, AuditList, AuditVerb, NodeTokensVerb, Noun, Output, Plain, TokensVerb},
    client::{Answer, Call, Client},
    output::{
        Cell, Column, failure, has_reader, print, print_card, print_items, print_one, print_outcome,
        print_value, tell, word,
    },
};

const TOKENS: [Column<Token>; 7] = [
    Column::new("name", |token| token.name.as_str().into()),
    Column::new("role", |token| token.role.as_str().into()),
    Column::new("state", |token| match token.state {
        TokenState::Active => Cell::from("active").good(),
        other => Cell::from(word(&other)).warning(),
    }),
    Column::new("created", |token| token.created.as_str().into()),
    Column::text("by", |token| token.created_by.as_str().into()),
    Column::new("expires", |token| token.expires.as_deref().into()),
    Column::new("last used", |token| token.last_used.as_deref().into()),
];

const NODE_TOKENS: [Column<NodeToken>; 8] = [
    Column::new("id", |token| token.id.to_string().into()),
    Column::new("state", |token| match token.state {
        NodeTokenState::Active => Cell::from("active").good(),
        other => Cell::from(other.as_str()).warning(),
    }),
    Column::new("created", |token| token.created.as_str().into()),
    Column::text("by", |token| token.created_by.as_str().into()),
    Column::new("expires", |token| token.expires.as_deref().into()),
    Column::new("uses left", |token| token.uses_left.map(|left| left.to_string()).as_deref().into()),
    Column::new("used", |token| token.used.to_string().into()),
    Column::text("nodes", |token| Some(token.node_ids.join(", ").as_str()).into()),
];

const AUDIT: [Column<AuditEntry>; 10] = [
    Column::new("id", |entry| entry.id.to_string().into()),
    Column::new("time", |entry| entry.time.as_str().into()),
    Column::text("actor", |entry| entry.actor.as_str().into()),
    Column::wide("role", |entry| Some(entry.role.as_str()).into()),
    Column::wide("source", |entry| entry.source.as_str().into()),
    Column::text("action", |entry| entry.action.as_str().into()),
    Column::new("outcome", |entry| {
        let cell = Cell::from(word(&entry.outcome));
        match entry.outcome {
            Outcome::Ok => cell,
            Outcome::Failed => cell.warning(),
            Outcome::Refused => cell.bad(),
        }
    }),
    Column::new("revision", |entry| entry.revision.map(|revision| revision.to_string()).as_deref().into()),
    Column::wide("times", |entry| entry.times.to_string().into()),
    Column::text("detail", |entry| Some(entry.detail.as_str()).into()),
];

pub(crate) async fn tokens(
    client: &Client,
    output: Output,
    noun: Noun<Plain, TokensVerb>,
) -> anyhow::Result<()> {
    match noun.verb.unwrap_or(TokensVerb::List(noun.list)) {
        TokensVerb::List(Plain {}) => {
            print_items(
                output,
                &client.ask(&operations::LIST_TOKENS, &(), &ListQuery::default()).await?,
                &TOKENS,
            )?;
            Ok(())
        }
        TokensVerb::Get { name } => {
            let answer = client.ask(&operations::GET_TOKEN, &Name { name }, &()).await?;
            print_one(output, &answer, &TOKENS)
        }
        TokensVerb::Create(typed) => create(client, output, typed).await,
        TokensVerb::Delete { name } => {
            let answer = client.ask(&operations::DELETE_TOKEN, &Name { name }, &()).await?;
            print_outcome(output, &answer, |revoked| format!("token {} revoked", revoked.name))
        }
    }
}

async fn create(client: &Client, output: Output, typed: arguments::NewToken) -> anyhow::Result<()> {
    let arguments::NewToken { name, role, expires } = typed;
    let role = match role {
        arguments::Role::Viewer => Role::Viewer,
        arguments::Role::Operator => Role::Operator,
        arguments::Role::Admin => Role::Admin,
    };
    let new = NewToken { name: name.clone(), role, expires: expires.map(|expires| expires.to_string()) };
    has_reader()?;
    let made = client.send(&operations::CREATE_TOKEN, &(), &(), &new).await?;
    let delete = Call::of(&operations::DELETE_TOKEN, &Name { name: name.clone() }, &()).reads();
    let revoke = format!("weir tokens delete {name}");
    show_secret(client, output, &made, |made| &made.token, delete, &revoke).await?;
    if output.is_for_people() {
        tell!("token {name:?} with role {role}; it is shown only this once");
    }
    Ok(())
}

/// Writes a secret that the control plane shows only once. If it cannot be written, for example because the reader of a
/// pipe has closed it, the secret is lost, so it is revoked.
async fn show_secret<T: DeserializeOwned>(
    client: &Client,
    output: Output,
    made: &Answer<T>,
    secret: impl FnOnce(&T) -> &String,
    delete: Call<Value>,
    command: &str,
) -> anyhow::Result<()> {
    match output.is_for_people() {
        // Only the token, so that a script can capture it: TOKEN=$(weir tokens create …).
        true => print(secret(&made.read()?)),
        false => print_value(output, &made.json()?),
    }
    let Some(error) = failure() else { return Ok(()) };
    match client.call(delete).await {
        Ok(_) => bail!("the token could not be written ({error}) and is revoked"),
        Err(refused) => bail!("the token could not be written ({error}); revoke it: {command} ({refused})"),
    }
}

pub(crate) async fn node_tokens(
    client: &Client,
    output: Output,
    noun: Noun<Plain, NodeTokensVerb>,
) -> anyhow::Result<()> {
    match noun.verb.unwrap_or(NodeTokensVerb::List(noun.list)) {
        NodeTokensVerb::List(Plain {}) => {
            print_items(
                output,
                &client.ask(&operations::LIST_NODE_TOKENS, &(), &ListQuery::default()).await?,
                &NODE_TOKENS,
            )?;
            Ok(())
        }
        NodeTokensVerb::Get { id } => {
            let answer = client.ask(&operations::GET_NODE_TOKEN, &NodeTokenId { id }, &()).await?;
            print_one(output, &answer, &NODE_TOKENS)
        }
        NodeTokensVerb::Create(arguments::NewNodeToken { ttl, uses, nodes }) => {
            let new = NewNodeToken { ttl, uses, node_ids: nodes };
            has_reader()?;
            let made = client.send(&operations::CREATE_NODE_TOKEN, &(), &(), &new).await?;
            let id = made.read()?.info.id;
            let delete = Call::of(&operations::DELETE_NODE_TOKEN, &NodeTokenId { id }, &()).reads();
            let revoke = format!("weir node-tokens revoke {id}");
            show_secret(client, output, &made, |made| &made.token, delete, &revoke).await?;
            if output.is_for_people() {
                tell!("join token {id}; it is shown only this once");
            }
            Ok(())
        }
        NodeTokensVerb::Revoke { id } => {
            let answer = client.ask(&operations::DELETE_NODE_TOKEN, &NodeTokenId { id }, &()).await?;
            print_outcome(output, &answer, |_| format!("join token {id} revoked"))
        }
    }
}

pub(crate) async fn audit(
    client: &Client,
    output: Output,
    noun: Noun<AuditList, AuditVerb>,
) -> anyhow::Result<()> {
    match noun.verb.unwrap_or(AuditVerb::List(noun.list)) {
        AuditVerb::List(AuditList { limit, after }) => {
            let query = AuditQuery { limit: limit.or(Some(50)), after, ..AuditQuery::default() };
            print_items(output, &client.ask(&operations::LIST_AUDIT_ENTRIES, &(), &query).await?, &AUDIT)?;
        }
        AuditVerb::Get { id } => {
            // The list is newest first; the first entry older than the next id is this one.
            let after = Some(id.saturating_add(1));
            let query = AuditQuery { limit: Some(1), after, ..AuditQuery::default() };
            let entries = client.ask(&operations::LIST_AUDIT_ENTRIES, &(), &query).await?.read()?.items;
            let entry = entries.first().filter(|entry| entry.id == id);
            let entry = entry.with_context(|| format!("there is no audit entry {id}"))?;
            print_card(output, &json!(entry), &AUDIT, entry);
        }
    }
    Ok(())
}
