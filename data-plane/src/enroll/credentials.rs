//! The node's certificate with its key, and its file.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use zeroize::Zeroizing;

use super::{
    token::{Fingerprint, bytes},
    trust::Shown,
};

/// The file in `--state-dir`.
const FILE: &str = "node-certificate";

/// A private key, made for one certificate.
pub(super) struct NodeKey {
    pub(super) private: Zeroizing<Vec<u8>>,
    pub(super) public: Vec<u8>,
}

impl NodeKey {
    pub(super) fn new() -> Result<Self, String> {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING)
            .map_err(|_| "no key can be made".to_owned())?;
        let private = pair.to_pkcs8v1().map_err(|_| "no key can be made".to_owned())?.as_ref().to_vec();
        Ok(Self { private: private.into(), public: pair.public_key().as_ref().to_vec() })
    }
}

/// The certificate and key of a node.
pub(super) struct Credentials {
    pub(super) shown: Shown,
    pub(super) fleet: Fingerprint,
    pub(super) node_id: String,
    /// Validity, by this machine's clock, in milliseconds.
    pub(super) issued_ms: u64,
    pub(super) expires_ms: u64,
}

pub(super) fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or_default()
}

impl Credentials {
    /// Whether the certificate is valid and matches the key.
    pub(super) fn are_valid(&self) -> bool {
        self.expires_ms > now_ms()
    }

    /// Time until the renewal: half of the validity, so that the control plane may be away for the other half.
    pub(super) fn renew_in(&self) -> Duration {
        let at = self.issued_ms + self.expires_ms.saturating_sub(self.issued_ms) / 2;
        Duration::from_millis(at.saturating_sub(now_ms()))
    }

    fn path(folder: &Path) -> PathBuf {
        folder.join(FILE)
    }

    /// Stores the credentials for the next run. Only the node's user can read the file.
    pub(super) fn keep(&self, folder: &Path) -> io::Result<()> {
        fs::create_dir_all(folder)?;
        let text = format!(
            "node {}\nfleet {:?}\nissued_ms {}\nexpires_ms {}\ncertificate {}\nkey {}\n",
            STANDARD.encode(&self.node_id),
            self.fleet,
            self.issued_ms,
            self.expires_ms,
            STANDARD.encode(&self.shown.certificate),
            STANDARD.encode(&*self.shown.key),
        );
        let (path, fresh) = (Self::path(folder), folder.join(format!("{FILE}.new")));
        let _ = fs::remove_file(&fresh);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(fresh, path)?;
        fs::File::open(folder)?.sync_all()
    }

    /// The stored credentials, if they belong to this node and are still valid.
    pub(super) fn kept(folder: &Path, node_id: &str) -> Option<Self> {
        let text = fs::read_to_string(Self::path(folder)).ok()?;
        let read = Self::read(&text);
        if read.is_none() {
            tracing::warn!(file = %Self::path(folder).display(), "the node's certificate cannot be read, joining again");
        }
        read.filter(|kept| kept.node_id == node_id && kept.are_valid())
    }

    fn read(text: &str) -> Option<Self> {
        let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        let decoded = |name: &str| STANDARD.decode(field(name)?).ok();
        Some(Self {
            shown: Shown { certificate: decoded("certificate")?, key: decoded("key")?.into() },
            fleet: Fingerprint(bytes(field("fleet")?)?),
            node_id: String::from_utf8(decoded("node")?).ok()?,
            issued_ms: field("issued_ms")?.parse().ok()?,
            expires_ms: field("expires_ms")?.parse().ok()?,
        })
    }

    /// Deletes the stored credentials.
    pub(super) fn forget(folder: &Path) {
        // The file may not exist.
        let _ = fs::remove_file(Self::path(folder));
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn credentials_are_kept_for_their_node_and_their_time() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("state");
        let key = NodeKey::new().unwrap();
        assert_eq!((key.public.len(), key.public[0]), (65, 4));
        let mut credentials = Credentials {
            shown: Shown { certificate: vec![1, 2], key: key.private.clone() },
            fleet: Fingerprint([7; 32]),
            node_id: "node\n1".into(),
            issued_ms: now_ms(),
            expires_ms: now_ms() + 60_000,
        };
        credentials.keep(&folder).unwrap();
        let mode = fs::metadata(Credentials::path(&folder)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let kept = Credentials::kept(&folder, "node\n1").unwrap();
        assert!(
            kept.shown.key == key.private
                && kept.fleet == credentials.fleet
                && kept.renew_in() <= Duration::from_secs(30)
        );
        assert!(Credentials::kept(&folder, "node-2").is_none());
        credentials.expires_ms = now_ms();
        credentials.keep(&folder).unwrap();
        assert!(Credentials::kept(&folder, "node\n1").is_none());
        fs::write(Credentials::path(&folder), "nonsense").unwrap();
        assert!(Credentials::kept(&folder, "node\n1").is_none());
        Credentials::forget(&folder);
        assert!(!Credentials::path(&folder).exists());
    }
}
