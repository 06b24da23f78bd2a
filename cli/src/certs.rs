//! `weir certs`: the certificates that nodes present to clients.

use weir_admin_api::{Certificate, CertificateState, ListQuery, Name, NewCertificate, operations};

use weir_snapshot::config::PrivateKey;

use crate::{
    arguments::{CertsVerb, NewCertificate as Typed, Noun, Output, Watch},
    check,
    client::{Call, Client},
    each::{Done, each},
    output::{Cell, Column, Table, print_answer, print_items, print_outcome, watch, word},
};

/// Columns of the table of certificates.
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
                Ok(print_items(
                    output,
                    &client.ask(&operations::LIST_CERTIFICATES, &(), &ListQuery::default()).await?,
                    &COLUMNS,
                )?)
            };
            watch(every, output, show).await
        }
        CertsVerb::Get { name } => {
            let answer = client.ask(&operations::GET_CERTIFICATE, &Name { name }, &()).await?;
            Ok(print_answer(output, &answer, |stored| {
                Table::card(&COLUMNS, &stored.certificate).render(Output::Wide)
            })?)
        }
        CertsVerb::Add(typed) => put(client, output, typed).await,
        CertsVerb::Delete { names } => {
            each(output, &names, async |name| {
                let name = Name { name: name.to_owned() };
                let answer = client.ask(&operations::DELETE_CERTIFICATE, &name, &()).await?;
                let Name { name } = name;
                Ok(Done::new(answer.json()?, format!("certificate {name} deleted")))
            })
            .await
        }
    }
}

async fn put(client: &Client, output: Output, typed: Typed) -> anyhow::Result<()> {
    let Typed { name, cert, key } = typed;
    let key = key.map(|key| check::read(&key).map(PrivateKey)).transpose()?;
    let new = NewCertificate { name: None, cert: check::read(&cert)?, key };
    let name = Name { name };
    let call = Call::of(&operations::PUT_CERTIFICATE, &name, &()).json(&new);
    let answer = client.call(call).await?;
    let Name { name } = name;
    print_outcome(output, &answer, |stored| {
        let Certificate { hosts, not_after, days_left, .. } = stored.certificate;
        format!("certificate {name} for {}, valid until {not_after} ({days_left} days)", hosts.join(", "))
    })
}
