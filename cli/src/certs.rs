//! `weir certs`: the certificates that nodes show to clients.

use hyper::Method;
use serde_json::json;

use crate::{
    arguments::{Certs, Output},
    check,
    client::{Client, encode},
    commands::done,
    output::{Column, cell, print_list},
};

/// What is shown of a certificate.
pub(crate) const COLUMNS: [Column; 6] = [
    ("certificate", "name"),
    ("hosts", "hosts"),
    ("state", "state"),
    ("days left", "days_left"),
    ("not after", "not_after"),
    ("issuer", "issuer"),
];

pub(crate) async fn run(client: &Client, output: Output, command: Certs) -> anyhow::Result<()> {
    match command {
        Certs::List => print_list(output, &client.get("/certificates").await?, &COLUMNS),
        Certs::Add { name, cert, key } => {
            let mut body = json!({ "cert": check::read(&cert)? });
            if let Some(key) = key {
                body["key"] = check::read(&key)?.into();
            }
            let path = format!("/certificates/{}", encode(&name));
            let added = client.json(Method::PUT, &path, Some(body)).await?;
            let said = format!(
                "certificate {name} for {}, good until {} ({} days)",
                cell(&added, "hosts"),
                cell(&added, "not_after"),
                cell(&added, "days_left")
            );
            done(output, &added, &said);
        }
        Certs::Remove { name } => {
            let path = format!("/certificates/{}", encode(&name));
            let answer = client.json(Method::DELETE, &path, None).await?;
            done(output, &answer, &format!("certificate {name} removed"));
        }
    }
    Ok(())
}
