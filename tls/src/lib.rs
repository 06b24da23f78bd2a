//! What both planes need of TLS: private keys that belong to certificates, and how backends are connected to.
//!
//! The control plane takes keys in and probes backends, nodes serve clients and connect to backends: both join a
//! checked certificate with its key, and both make the same of a pool's `tls`. No I/O, no clock, no storage.

mod client;

use std::sync::{Arc, LazyLock};

use rustls::{
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    sign::CertifiedKey,
};
use weir_snapshot::Chain;

pub use self::client::{AnyCertificate, KeyPem, Keys, client_config, server_name};

static PROVIDER: LazyLock<Arc<CryptoProvider>> =
    LazyLock::new(|| Arc::new(rustls::crypto::aws_lc_rs::default_provider()));

/// The cryptography that everything uses: aws-lc.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::clone(&PROVIDER)
}

/// Joins a certificate with its private key.
///
/// # Errors
/// The key cannot be read, or belongs to another certificate. The message holds nothing of the key.
pub fn certified(chain: &Chain, key: &[u8]) -> Result<Arc<CertifiedKey>, String> {
    if memmem(key, b"ENCRYPTED PRIVATE KEY") || memmem(key, b"Proc-Type: 4,ENCRYPTED") {
        return Err("the key is locked with a passphrase; unlock it first (openssl pkey -in … -out …)".into());
    }
    let key = PrivateKeyDer::from_pem_slice(key)
        .map_err(|_| "this is no PEM of a private key (-----BEGIN PRIVATE KEY-----)".to_owned())?;
    let key = provider()
        .key_provider
        .load_private_key(key)
        .map_err(|error| format!("the key cannot be used: {error}"))?;
    let der = chain.der.iter().map(|der| CertificateDer::from(der.clone())).collect();
    let certified = CertifiedKey::new(der, key);
    match certified.keys_match() {
        Ok(()) => Ok(Arc::new(certified)),
        Err(rustls::Error::InconsistentKeys(_)) => Err("the key belongs to another certificate".into()),
        Err(error) => Err(format!("the certificate cannot be used: {error}")),
    }
}

fn memmem(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

#[cfg(test)]
mod tests {
    use weir_snapshot::check::chain;

    use super::*;

    fn pair(name: &str) -> (Chain, String) {
        let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
        (chain(&made.cert.pem()).unwrap(), made.signing_key.serialize_pem())
    }

    #[test]
    fn a_key_is_taken_by_its_own_certificate_only() {
        let ((a, a_key), (_, b_key)) = (pair("a.example"), pair("b.example"));
        certified(&a, a_key.as_bytes()).unwrap();
        let why = |key: &str| certified(&a, key.as_bytes()).unwrap_err();
        assert!(why(&b_key).contains("another certificate"));
        assert!(why("x").contains("no PEM"));
        let locked = a_key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
        assert!(why(&locked).contains("passphrase"));
        let broken = "-----BEGIN PRIVATE KEY-----\nMTIzNDU2\n-----END PRIVATE KEY-----\n";
        assert!(why(broken).contains("cannot be used"));
    }
}
