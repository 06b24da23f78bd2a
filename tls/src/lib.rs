//! TLS code that both planes share: joining private keys with their certificates, and connections to backends.
//!
//! The control plane stores keys and probes backends; nodes serve clients and connect to backends. Both join a
//! checked certificate with its key, and both build the same client configuration from a pool's `tls`. This crate
//! does no I/O, reads no clock and stores nothing.

mod client;

use std::sync::{Arc, LazyLock};

use rustls::{
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer},
    sign::CertifiedKey,
};
use weir_snapshot::Chain;

pub use self::client::{AnyCertificate, KeyPem, Keys, client_config, server_name};

static PROVIDER: LazyLock<Arc<CryptoProvider>> =
    LazyLock::new(|| Arc::new(rustls::crypto::aws_lc_rs::default_provider()));

/// The cryptography provider of all programs: aws-lc.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::clone(&PROVIDER)
}

/// Whether a handshake failed because the peer does not speak TLS. rustls reports that as a corrupt message.
pub fn speaks_no_tls(error: &std::io::Error) -> bool {
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref::<rustls::Error>());
    matches!(cause, Some(rustls::Error::InvalidMessage(_)))
}

/// Joins a certificate with its private key.
///
/// # Errors
/// The key cannot be parsed or belongs to another certificate. The message contains nothing of the key.
pub fn certified(chain: &Chain, key: &[u8]) -> Result<Arc<CertifiedKey>, String> {
    let key = private_key(key)?;
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

/// Parses the only private key of a PEM text, which may also contain certificates and parameters.
///
/// # Errors
/// There is no private key, there are several, or the format is not supported. The message contains nothing of the
/// key.
pub fn private_key(pem: &[u8]) -> Result<PrivateKeyDer<'static>, String> {
    let text = String::from_utf8_lossy(pem);
    let blocks = weir_snapshot::pem::blocks(&text).map_err(|why| format!("invalid PEM: {why}"))?;
    let mut found: Option<(usize, PrivateKeyDer<'static>)> = None;
    for block in blocks {
        let line = block.line;
        let key = match &*block.label {
            "ENCRYPTED PRIVATE KEY" => return Err(LOCKED.into()),
            _ if block.is_encrypted => return Err(LOCKED.into()),
            "PRIVATE KEY" => PrivateKeyDer::Pkcs8(block.der.into()),
            "RSA PRIVATE KEY" => PrivateKeyDer::Pkcs1(block.der.into()),
            "EC PRIVATE KEY" => PrivateKeyDer::Sec1(block.der.into()),
            label if label.ends_with("PRIVATE KEY") => {
                return Err(format!(
                    "line {line}: a key in the form {label} is not supported (known: PRIVATE KEY, RSA PRIVATE KEY, \
                     EC PRIVATE KEY)"
                ));
            }
            _ => continue,
        };
        if let Some((first, _)) = found {
            return Err(format!(
                "there are two private keys, in lines {first} and {line}; expected only one"
            ));
        }
        found = Some((line, key));
    }
    found
        .map(|(_, key)| key)
        .ok_or_else(|| "not a private key in PEM format (-----BEGIN PRIVATE KEY-----)".into())
}

const LOCKED: &str = "the key is encrypted with a passphrase; decrypt it first (openssl pkey -in … -out …)";

#[cfg(test)]
mod tests {
    use weir_snapshot::check::chain;

    use super::*;

    fn pair(name: &str) -> (Chain, String) {
        let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
        (chain(&made.cert.pem()).unwrap(), made.signing_key.serialize_pem())
    }

    #[test]
    fn a_key_is_accepted_only_with_its_own_certificate() {
        let ((a, a_key), (_, b_key)) = (pair("a.example"), pair("b.example"));
        certified(&a, a_key.as_bytes()).unwrap();
        let why = |key: &str| certified(&a, key.as_bytes()).unwrap_err();
        assert!(why(&b_key).contains("another certificate"));
        assert!(why("x").contains("not a private key in PEM"));
        let locked = a_key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
        assert!(why(&locked).contains("passphrase"));
        let broken = "-----BEGIN PRIVATE KEY-----\nMTIzNDU2\n-----END PRIVATE KEY-----\n";
        assert!(why(broken).contains("cannot be used"));
    }
    #[test]
    fn a_key_is_accepted_in_all_common_formats() {
        let (chain, key) = pair("a.example");
        let body = key.trim_end();
        for text in [
            key.clone(),
            body.to_owned(),
            format!("\u{feff}{key}"),
            key.replace('\n', "\r\n"),
            format!("  {}", key.replace('\n', "\n  ")),
            format!("Bag Attributes\n    friendlyName: a\n{key}"),
            format!("-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n{key}"),
            format!("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----{key}"),
        ] {
            assert!(certified(&chain, text.as_bytes()).is_ok(), "{text}");
        }
        for (text, says) in [
            (format!("{key}{key}"), "two private keys, in lines 1 and"),
            (key.replace("-----END PRIVATE KEY-----", ""), "line 1: the PRIVATE KEY has no END line"),
            (key.replace("-----BEGIN PRIVATE", "----BEGIN PRIVATE"), "line 1: a damaged or stray BEGIN"),
            (key.replace("PRIVATE KEY", "OPENSSH PRIVATE KEY"), "OPENSSH PRIVATE KEY is not supported"),
            (key.replace("PRIVATE KEY", "PUBLIC KEY"), "not a private key in PEM format"),
            (
                key.replace("KEY-----\nM", "KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nM"),
                "passphrase",
            ),
        ] {
            let why = certified(&chain, text.as_bytes()).unwrap_err();
            assert!(why.contains(says), "{text}: {why}");
            assert!(!why.contains(&key.lines().nth(1).unwrap()[..8]), "{why}");
        }
    }
}
