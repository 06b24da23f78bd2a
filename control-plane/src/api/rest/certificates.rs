//! `/certificates`. Private keys are read and never returned.

use weir_admin_api::{Certificate, List, ListQuery, Name, NewCertificate, Revised, StoredCertificate};
use weir_snapshot::config;

use super::{answer::Put, page::Wanted, problem::Refusal, serve::Call};
use crate::app::App;

pub(super) async fn list(call: Call<(), ListQuery, ()>) -> Result<List<Certificate>, Refusal> {
    let ListQuery { limit, page_token } = call.query;
    let wanted = Wanted { limit, page_token: page_token.as_deref() };
    wanted.of("certificates", &[], call.app.certificates(), |certificate| certificate.name.clone())
}

pub(super) async fn get(call: Call<Name, (), ()>) -> Result<StoredCertificate, Refusal> {
    certificate(&call.app, &call.path.name)
}

fn certificate(app: &App, name: &str) -> Result<StoredCertificate, Refusal> {
    let (certificate, cert) = app.certificate(name)?;
    Ok(StoredCertificate { certificate, cert })
}

pub(super) async fn put(call: Call<Name, (), NewCertificate>) -> Result<Put<StoredCertificate>, Refusal> {
    let name = call.path.name;
    let NewCertificate { cert, key, .. } = call.body;
    let new = config::Certificate { name: name.clone(), cert, key };
    let put = call.app.put_certificate(&call.author, new).await;
    let is_new = put.map_err(|error| Refusal::of_one("certificates", error))?;
    Ok(Put { is_new, value: certificate(&call.app, &name)? })
}

pub(super) async fn delete(call: Call<Name, (), ()>) -> Result<Revised, Refusal> {
    Ok(Revised { revision: call.app.delete_certificate(&call.author, &call.path.name).await? })
}
