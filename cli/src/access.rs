//! Tokens and the audit.

use std::path::Path;

use anyhow::{Context as _, bail};
use clap::ValueEnum as _;
use hyper::Method;
use serde_json::{Value, json};

use crate::{
    arguments::{NodeAccess, NodeToken, Output, Token},
    client::{Client, encode},
    output::{Column, cell, failure, has_reader, print, print_json, print_list, tell},
};

const TOKENS: [Column; 7] = [
    ("name", "name"),
    ("role", "role"),
    ("state", "state"),
    ("created", "created"),
    ("by", "created_by"),
    ("expires", "expires"),
    ("last used", "last_used"),
];
const NODE_TOKENS: [Column; 8] = [
    ("id", "id"),
    ("state", "state"),
    ("created", "created"),
    ("by", "created_by"),
    ("expires", "expires"),
    ("uses left", "uses_left"),
    ("used", "used"),
    ("nodes", "node_ids"),
];
const AUDIT: [Column; 10] = [
    ("id", "id"),
    ("time", "time"),
    ("actor", "actor"),
    ("role", "role"),
    ("source", "source"),
    ("action", "action"),
    ("outcome", "outcome"),
    ("revision", "revision"),
    ("times", "times"),
    ("detail", "detail"),
];

/// The token that is meant: given itself, or in a file.
pub(crate) fn given(token: Option<String>, file: Option<&Path>) -> anyhow::Result<Option<String>> {
    let token = token.filter(|token| !token.is_empty());
    let (None, Some(file)) = (&token, file) else { return Ok(token) };
    let text = std::fs::read_to_string(file)
        .with_context(|| format!("cannot read --token-file {}", file.display()))?;
    Ok(Some(text.trim().to_owned()))
}

pub(crate) async fn token(client: &Client, output: Output, command: Token) -> anyhow::Result<()> {
    match command {
        Token::Create { name, role, expires } => {
            let role = role.to_possible_value().map(|role| role.get_name().to_owned());
            let mut body = json!({ "name": name, "role": role });
            if let Some(expires) = expires {
                body["expires"] = expires.to_string().into();
            }
            has_reader()?;
            let made = client.json(Method::POST, "/tokens", Some(body)).await?;
            let path = format!("/tokens/{}", encode(&name));
            show_secret(client, output, &made, &path, &format!("weir token revoke {name}")).await?;
            if output == Output::Table {
                tell!("token {name:?} with role {}; it is shown only this once", cell(&made, "role"));
            }
        }
        Token::List => print_list(output, &client.get("/tokens").await?, &TOKENS),
        Token::Revoke { name } => {
            let answer = client.json(Method::DELETE, &format!("/tokens/{}", encode(&name)), None).await?;
            match output {
                Output::Json => print_json(&answer),
                Output::Table => print(&format!("token {name} revoked")),
            }
        }
    }
    Ok(())
}

/// Writes a secret that the control plane shows only once. One that cannot be written, not even to a pipe that was
/// closed, is of no use to its user, so it is revoked.
async fn show_secret(
    client: &Client,
    output: Output,
    made: &Value,
    path: &str,
    command: &str,
) -> anyhow::Result<()> {
    match output {
        Output::Json => print_json(made),
        // The token alone, so that a script can take it: TOKEN=$(weir token create …).
        Output::Table => print(&cell(made, "token")),
    }
    let Some(error) = failure() else { return Ok(()) };
    match client.json(Method::DELETE, path, None).await {
        Ok(_) => bail!("the token could not be written ({error}) and is revoked"),
        Err(refused) => bail!("the token could not be written ({error}); revoke it: {command} ({refused})"),
    }
}

pub(crate) async fn audit(
    client: &Client,
    output: Output,
    limit: u32,
    after: Option<u64>,
) -> anyhow::Result<()> {
    let after = after.map_or_else(String::new, |id| format!("&after={id}"));
    print_list(output, &client.get(&format!("/audit?limit={limit}{after}")).await?, &AUDIT);
    Ok(())
}

pub(crate) async fn node_token(client: &Client, output: Output, command: NodeToken) -> anyhow::Result<()> {
    match command {
        NodeToken::Create { ttl, uses, nodes } => {
            let mut body = json!({});
            if let Some(ttl) = ttl {
                body["ttl"] = ttl.into();
            }
            if let Some(uses) = uses {
                body["uses"] = uses.into();
            }
            if !nodes.is_empty() {
                body["node_ids"] = nodes.into();
            }
            has_reader()?;
            let made = client.json(Method::POST, "/node-tokens", Some(body)).await?;
            let id = cell(&made, "id");
            let path = format!("/node-tokens/{}", encode(&id));
            show_secret(client, output, &made, &path, &format!("weir node-token revoke {id}")).await?;
            if output == Output::Table {
                tell!("join token {id}; it is shown only this once");
            }
        }
        NodeToken::List => print_list(output, &client.get("/node-tokens").await?, &NODE_TOKENS),
        NodeToken::Revoke { id } => {
            let answer = client.json(Method::DELETE, &format!("/node-tokens/{id}"), None).await?;
            match output {
                Output::Json => print_json(&answer),
                Output::Table => print(&format!("join token {id} revoked")),
            }
        }
    }
    Ok(())
}

pub(crate) async fn node(client: &Client, output: Output, command: NodeAccess) -> anyhow::Result<()> {
    let (id, what) = match &command {
        NodeAccess::Revoke { id } => (id, "revoke"),
        NodeAccess::Allow { id } => (id, "allow"),
        NodeAccess::Exclude { id } => (id, "exclude"),
        NodeAccess::Include { id } => (id, "include"),
    };
    let answer = client.json(Method::POST, &format!("/nodes/{}/{what}", encode(id)), None).await?;
    let said = match (&command, answer.get("permit_expires").and_then(Value::as_str)) {
        (NodeAccess::Revoke { .. }, _) => "is revoked".to_owned(),
        (NodeAccess::Allow { .. }, None) => "may join again".to_owned(),
        (NodeAccess::Allow { .. }, Some(until)) => {
            format!("is not revoked; until {until} one more process may join under this id")
        }
        (NodeAccess::Exclude { .. }, _) => "is left out of reports from now on".to_owned(),
        (NodeAccess::Include { .. }, _) => "is counted again from now on".to_owned(),
    };
    match output {
        Output::Json => print_json(&answer),
        Output::Table => print(&format!("node {id} {said}")),
    }
    if answer.get("known").is_some_and(|known| known == false) {
        tell!("no node of this name is known: should it ever come, it will be refused");
    }
    Ok(())
}
