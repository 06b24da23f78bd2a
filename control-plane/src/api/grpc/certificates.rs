//! Certificates. A private key is written and never read.

use weir_proto::v1;
use weir_snapshot::config::{Certificate, PrivateKey};

use super::{
    failure::{Answer, in_field},
    given,
    names::Named as _,
    page::page,
    values::time_of,
};
use crate::app::{App, AppError, Author, page::Paged};

pub(super) fn message(info: weir_admin_api::Certificate, cert_pem: String, revision: u64) -> v1::Certificate {
    v1::Certificate {
        name: info.name,
        hosts: info.hosts,
        not_before: time_of(&info.not_before),
        not_after: time_of(&info.not_after),
        days_left: info.days_left,
        state: v1::CertificateState::of(info.state.as_str()),
        subject: info.subject,
        issuer: info.issuer,
        fingerprint: info.fingerprint,
        cert_pem,
        revision,
    }
}

pub(super) async fn list_certificates(
    app: &App,
    request: v1::ListCertificatesRequest,
) -> Answer<v1::ListCertificatesResponse> {
    let page = page("certificates", &[], request.page_size, &request.page_token)?;
    let revision = app.current().revision;
    let Paged { items, next } = page.of(app.certificates(), |certificate| certificate.name.clone());
    Ok(v1::ListCertificatesResponse {
        certificates: items.into_iter().map(|info| message(info, String::new(), revision)).collect(),
        next_page_token: next.unwrap_or_default(),
        revision,
    })
}

pub(super) async fn get_certificate(
    app: &App,
    request: v1::GetCertificateRequest,
) -> Answer<v1::Certificate> {
    let revision = app.current().revision;
    let (info, cert_pem) = app.certificate(&request.name)?;
    Ok(message(info, cert_pem, revision))
}

pub(super) async fn put_certificate(
    app: &App,
    author: &Author,
    request: v1::PutCertificateRequest,
) -> Answer<v1::PutCertificateResponse> {
    let v1::PutCertificateRequest { name, cert_pem, key_pem, .. } = request;
    let certificate = Certificate { name: name.clone(), cert: cert_pem, key: given(key_pem).map(PrivateKey) };
    let created = app.put_certificate(author, certificate).await.map_err(in_request)?;
    let certificate = get_certificate(app, v1::GetCertificateRequest { name }).await?;
    Ok(v1::PutCertificateResponse { certificate: Some(certificate), created })
}

/// Names the errors in a certificate by the fields of the request.
fn in_request(error: AppError) -> AppError {
    let mut problems = match in_field("certificates", "", error) {
        AppError::Invalid(problems) => problems,
        other => return other,
    };
    for problem in &mut problems.0 {
        if matches!(problem.path.as_str(), "cert" | "key") {
            problem.path.push_str("_pem");
        }
    }
    AppError::Invalid(problems)
}

pub(super) async fn delete_certificate(
    app: &App,
    author: &Author,
    request: v1::DeleteCertificateRequest,
) -> Answer<v1::DeleteCertificateResponse> {
    Ok(v1::DeleteCertificateResponse { revision: app.delete_certificate(author, &request.name).await? })
}
