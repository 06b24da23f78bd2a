//! Certificates: the host names they cover and when they expire. Part of the routes page, because routes belong to
//! hosts.

use maud::{Markup, html};
use weir_admin_api::{Certificate, CertificateState};

use super::{format::time, layout::badge};
use crate::app::App;

/// Empty if there are no certificates.
pub(super) fn section(app: &App) -> Markup {
    let certificates = app.certificates();
    if certificates.is_empty() {
        return html! {};
    }
    html! {
        section class="card" aria-label="Certificates" {
            header { h2 { "Certificates" } p { "the first is shown to clients that name no other's host" } }
            div class="scroll" {
                table class="stack" {
                    thead {
                        tr {
                            th scope="col" { "Certificate" } th scope="col" { "Hosts" } th scope="col" { "State" }
                            th scope="col" { "Not after" } th scope="col" { "Issuer" }
                        }
                    }
                    tbody { @for certificate in &certificates { (row(certificate)) } }
                }
            }
        }
    }
}

fn row(certificate: &Certificate) -> Markup {
    let days = certificate.days_left;
    let left = if days == 1 { "1 day left".to_owned() } else { format!("{days} days left") };
    let (kind, text) = match certificate.state {
        CertificateState::Expired => ("bad", "expired".to_owned()),
        CertificateState::Early => ("warn", "not good yet".to_owned()),
        CertificateState::Soon => ("warn", left),
        CertificateState::Good => ("ok", left),
    };
    html! {
        tr {
            th scope="row" { (certificate.name) }
            td data-label="Hosts" {
                @if certificate.hosts.is_empty() { (badge("warn", "none")) } @else { (certificate.hosts.join(", ")) }
            }
            td data-label="State" { (badge(kind, &text)) }
            td class="soft" data-label="Not after" { (time(&certificate.not_after)) }
            td class="soft" data-label="Issuer" { (certificate.issuer) }
        }
    }
}
