//! `weir certs`: the certificates that nodes present to clients.

use anyhow::bail;
use hyper::Method;
use weir_admin_api::{Certificate, CertificateState, List, NewCertificate, Revised};

use weir_snapshot::config::PrivateKey;

use crate::{
    arguments::{CertsVerb, NewCertificate as Typed, Noun, Output, Watch},
    check,
    client::{Answer, Call, Client, encode},
    each::{Done, each},
    output::{Cell, Column, print_items, print_one, print_outcome, watch, word},
};

/// Certificates as people read them.
pub(crate) const COLUMNS: [Column<Certificate>; 7] = [
    Column::new("certificate", |certificate| certificate.name.as_str().into()),
    Column::text("hosts", |certificate| Some(certificate.hosts.join(", ").as_str()).into()),
    Column::new("state", |certificate| state(certificate.state)),
    Column::new("days left", |certificate| certificate.days_left.to_string().into()),
    Column::new("not after", |certificate| certificate.not_after.as_str().into()),
    Column::text("issuer", |certificate| Some(certificate.issuer.as_str()).into()),
    Column::wide("sha-256", |certificate| certificate.fingerprint.as_str().into()),
];

fn state(state: CertificateState) -> Cell {
    let cell = Cell::from(word(&state));
    match state {
        CertificateState::Good => cell.good(),
        CertificateState::Soon | CertificateState::Early => cell.warning(),
        CertificateState::Expired => cell.bad(),
    }
}

pub(crate) async fn run(client: &Client, output: Output, noun: Noun<Watch, CertsVerb>) -> anyhow::Result<()> {
    match noun.verb.unwrap_or(CertsVerb::List(noun.list)) {
        CertsVerb::List(Watch { watch: every }) => {
            let show = async || -> anyhow::Result<()> {
                Ok(print_items(output, &client.get::<List<Certificate>>("/certificates").await?, &COLUMNS)?)
            };
            watch(every, output, show).await
        }
        CertsVerb::Get { name } => {
            let answer = client.get::<Certificate>(&path(&name)).await?;
            print_one(output, &answer, &COLUMNS)
        }
        CertsVerb::Add(typed) => {
            let known: Answer<List<Certificate>> = client.get("/certificates").await?;
            if known.read()?.items.iter().any(|known| known.name == typed.name) {
                bail!("certificate {:?} exists; `weir certs set {}` replaces it", typed.name, typed.name);
            }
            put(client, output, typed, known.revision).await
        }
        CertsVerb::Set(typed) => put(client, output, typed, None).await,
        CertsVerb::Delete { names } => {
            each(output, &names, async |name| {
                let answer: Answer<Revised> = client.ask(Method::DELETE, &path(name)).await?;
                Ok(Done::new(answer.json()?, format!("certificate {name} deleted")))
            })
            .await
        }
    }
}

fn path(name: &str) -> String {
    format!("/certificates/{}", encode(name))
}

async fn put(client: &Client, output: Output, typed: Typed, if_revision: Option<u64>) -> anyhow::Result<()> {
    let Typed { name, cert, key } = typed;
    let key = key.map(|key| check::read(&key).map(PrivateKey)).transpose()?;
    let new = NewCertificate { name: None, cert: check::read(&cert)?, key };
    let path = path(&name);
    let call = Call { method: Method::PUT, path: &path, if_revision, ..Call::default() }.with_json(&new);
    let answer = client.call::<Certificate>(call).await?;
    print_outcome(output, &answer, |stored| {
        let Certificate { hosts, not_after, days_left, .. } = stored;
        format!("certificate {name} for {}, valid until {not_after} ({days_left} days)", hosts.join(", "))
    })
}
