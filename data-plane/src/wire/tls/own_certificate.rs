//! The certificate of the node's flags `--tls-cert` and `--tls-key`.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::Context as _;
use rustls::sign::CertifiedKey;

use super::Certificates;

/// The certificate that the node's flags name.
///
/// # Errors
/// A file cannot be read or holds something else, or the key does not belong to the certificate.
pub(crate) fn own_certificate(certificate: &Path, key: &Path) -> anyhow::Result<Arc<CertifiedKey>> {
    let file = certificate.display();
    let pem =
        std::fs::read_to_string(certificate).with_context(|| format!("--tls-cert {file} cannot be read"))?;
    let chain =
        weir_snapshot::check::chain(&pem).map_err(|why| anyhow::anyhow!("--tls-cert {file} {why}"))?;
    let pem = std::fs::read(key).with_context(|| format!("--tls-key {} cannot be read", key.display()))?;
    weir_tls::certified(&chain, &pem)
        .map_err(|why| anyhow::anyhow!("--tls-key {} for --tls-cert {file}: {why}", key.display()))
}

/// The files of the certificate that the node's flags name, and where it is used.
pub(crate) struct OwnCertificate {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
    pub(crate) used_by: Arc<Certificates>,
}

impl OwnCertificate {
    /// The certificate of the flags, if they name one.
    pub(crate) fn of_flags(
        certificate: Option<&Path>,
        key: Option<&Path>,
        used_by: &Arc<Certificates>,
    ) -> Option<Self> {
        let (certificate, key) = (certificate?.to_owned(), key?.to_owned());
        Some(Self { certificate, key, used_by: Arc::clone(used_by) })
    }

    /// Reads the files again.
    pub(crate) fn reload(&self) {
        match own_certificate(&self.certificate, &self.key) {
            Ok(own) => {
                self.used_by.set_own(own);
                tracing::info!(signal = "SIGHUP", file = %self.certificate.display(), "certificate of --tls-cert reloaded");
            }
            Err(error) => {
                let error = format!("{error:#}");
                tracing::error!(
                    signal = "SIGHUP",
                    error,
                    "certificate of --tls-cert is invalid, keeping the current one"
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_are_no_certificate_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let (empty, missing) = (folder.path().join("empty"), folder.path().join("missing"));
        std::fs::write(&empty, "").unwrap();
        for (certificate, key) in [(&empty, &empty), (&missing, &empty)] {
            let error = own_certificate(certificate, key).unwrap_err();
            assert!(format!("{error:#}").contains("--tls-cert"), "{error:#}");
        }
    }
}
