//! The certificate of all proxies: generated per run, ECDSA on P-256, for 127.0.0.1.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Files of a certificate and its key.
#[derive(Debug, Clone)]
pub struct Certificate {
    /// The certificate.
    pub certificate: PathBuf,
    /// The private key.
    pub key: PathBuf,
    /// Certificate and key in one file, as HAProxy needs it.
    pub both: PathBuf,
}

impl Certificate {
    /// Generates a certificate and writes it to the folder.
    ///
    /// # Errors
    /// The folder cannot be written to.
    pub fn make(folder: &Path) -> anyhow::Result<Self> {
        let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned(), "localhost".to_owned()])?;
        let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
        let files = Self {
            certificate: folder.join("certificate.pem"),
            key: folder.join("key.pem"),
            both: folder.join("both.pem"),
        };
        fs::write(&files.certificate, &certificate)?;
        fs::write(&files.key, &key)?;
        fs::write(&files.both, certificate + &key)?;
        Ok(files)
    }
}
