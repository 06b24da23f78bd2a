//! Certificates: list with expiry, add, replace, remove.

use std::sync::Arc;

use weir_admin_api::Certificate;
use weir_snapshot::{Chain, config};

use super::{App, AppError, Author};
use crate::{
    expiry::state,
    time::{now_s, rfc3339},
};

fn certificate(name: &str, chain: &Arc<Chain>, now: i64) -> Certificate {
    let seconds_left = chain.seconds_left(now);
    Certificate {
        name: name.to_owned(),
        hosts: chain.names.iter().map(ToString::to_string).collect(),
        not_before: rfc3339(chain.not_before.saturating_mul(1000)),
        not_after: rfc3339(chain.not_after.saturating_mul(1000)),
        days_left: seconds_left.div_euclid(86_400),
        seconds_left,
        state: state(chain, now),
        subject: chain.subject.clone(),
        issuer: chain.issuer.clone(),
        fingerprint: chain.fingerprint_text(),
    }
}

impl App {
    /// Every certificate, in the order of the configuration.
    pub fn certificates(&self) -> Vec<Certificate> {
        let now = now_s();
        let current = self.current();
        let all = current.snapshot.certificates.iter();
        all.map(|one| certificate(&one.name, &one.chain, now)).collect()
    }

    /// One certificate, and its PEM text.
    ///
    /// # Errors
    /// The certificate does not exist.
    pub fn certificate(&self, name: &str) -> Result<(Certificate, String), AppError> {
        let missing = || AppError::not_found("certificate", name);
        let info = self.certificates().into_iter().find(|one| one.name == name).ok_or_else(missing)?;
        let current = self.current();
        let stored = current.config.certificates.iter().find(|one| one.name == name).ok_or_else(missing)?;
        Ok((info, stored.cert.clone()))
    }

    /// Creates or replaces a certificate. Returns true if it is new.
    ///
    /// # Errors
    /// The certificate cannot be read, or its private key is missing or belongs to another certificate.
    pub async fn put_certificate(
        &self,
        author: &Author,
        certificate: config::Certificate,
    ) -> Result<bool, AppError> {
        let changed = self.change(author, move |config| {
            let old = config.certificates.iter_mut().find(|one| one.name == certificate.name);
            Ok(match old {
                Some(old) => {
                    *old = certificate;
                    false
                }
                None => {
                    config.certificates.push(certificate);
                    true
                }
            })
        });
        Ok(changed.await?.value)
    }

    /// Removes a certificate. Its key is kept as long as a stored revision uses the certificate.
    ///
    /// # Errors
    /// The certificate does not exist.
    pub async fn delete_certificate(&self, author: &Author, name: &str) -> Result<u64, AppError> {
        let name = name.to_owned();
        let changed = self.change(author, move |config| {
            let place = config.certificates.iter().position(|one| one.name == name);
            config.certificates.remove(place.ok_or_else(|| AppError::not_found("certificate", &name))?);
            Ok(())
        });
        Ok(changed.await?.revision)
    }
}
