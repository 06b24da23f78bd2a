//! Encrypts stored secrets, and finds the master key.

use std::{
    fmt,
    io::Write as _,
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use aws_lc_rs::{
    aead::{AES_256_GCM_SIV, Aad, NONCE_LEN, Nonce, RandomizedNonceKey},
    rand,
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use zeroize::Zeroizing;

/// First byte of each sealed secret: the version of the format.
const FORMAT: u8 = 1;

/// Environment variable with the master key. There is no flag for it, because other users can see a process's
/// arguments.
const VARIABLE: &str = "WEIR_SECRETS_KEY";

/// Description of a master key, for errors.
const KEY_FORMAT: &str = "a key is 32 bytes, as base64 (openssl rand -base64 32) or as 64 hexadecimal digits";

/// Encrypts and decrypts secrets with one key. Each ciphertext is bound to the secret's kind and name, so that secrets
/// cannot be exchanged in the database.
pub struct Vault(RandomizedNonceKey);

impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Vault")
    }
}

/// The secret was sealed with another key, or was changed since.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it was sealed with another key, or is damaged")]
pub struct Unreadable;

fn bound_to(kind: &str, name: &str) -> Aad<Vec<u8>> {
    Aad::from(format!("weir secret\0{kind}\0{name}").into_bytes())
}

impl Vault {
    /// Creates a vault with a key.
    ///
    /// # Errors
    /// Never fails with a key of this length.
    pub fn new(key: &[u8; 32]) -> anyhow::Result<Self> {
        RandomizedNonceKey::new(&AES_256_GCM_SIV, key).map(Self).map_err(|_| anyhow::anyhow!("{KEY_FORMAT}"))
    }

    /// Encrypts a secret.
    ///
    /// # Errors
    /// The system returned no random numbers.
    pub fn seal(&self, kind: &str, name: &str, secret: &[u8]) -> Result<Vec<u8>, Unreadable> {
        let mut sealed = secret.to_vec();
        let nonce = self.0.seal_in_place_append_tag(bound_to(kind, name), &mut sealed);
        let nonce = nonce.map_err(|_| Unreadable)?;
        Ok([&[FORMAT], nonce.as_ref().as_slice(), &sealed].concat())
    }

    /// Decrypts a secret.
    ///
    /// # Errors
    /// The secret was sealed with another key or under another name, or is damaged.
    pub fn open(&self, kind: &str, name: &str, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, Unreadable> {
        let (nonce, sealed) = match sealed.split_first() {
            Some((&FORMAT, rest)) => rest.split_first_chunk::<NONCE_LEN>().ok_or(Unreadable)?,
            _ => return Err(Unreadable),
        };
        let mut secret = Zeroizing::new(sealed.to_vec());
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let length =
            self.0.open_in_place(nonce, bound_to(kind, name), &mut secret).map_err(|_| Unreadable)?;
        let length = length.len();
        secret.truncate(length);
        Ok(secret)
    }
}

/// Where the master key is read from.
#[derive(Debug, Clone)]
pub struct MasterKey {
    /// Path given with `--secrets-key-file`.
    pub file: Option<PathBuf>,
    /// Path of the database; by default the key file is next to it.
    pub database: PathBuf,
}

impl MasterKey {
    /// Finds the master key. If none is configured and nothing is `sealed` yet, a key file is created next to the
    /// database.
    ///
    /// # Errors
    /// The configured key is invalid; or there is no key although secrets are sealed.
    pub fn find(&self, sealed: bool) -> anyhow::Result<Zeroizing<[u8; 32]>> {
        if let Some(file) = &self.file {
            return read(file).with_context(|| format!("--secrets-key-file {}", file.display()));
        }
        if let Some(text) = std::env::var_os(VARIABLE).filter(|text| !text.is_empty()) {
            return parse(text.as_encoded_bytes()).context(VARIABLE);
        }
        let mut beside = self.database.clone().into_os_string();
        beside.push(".key");
        let beside = PathBuf::from(beside);
        if beside.exists() {
            warn_if_open(&beside);
            return read(&beside).with_context(|| format!("master key file {}", beside.display()));
        }
        anyhow::ensure!(
            !sealed,
            "the database contains secrets, but the master key is missing: {} does not exist, and neither \
             --secrets-key-file nor {VARIABLE} is set",
            beside.display()
        );
        make(&beside).with_context(|| format!("cannot write the master key file {}", beside.display()))
    }
}

fn make(file: &Path) -> anyhow::Result<Zeroizing<[u8; 32]>> {
    let mut key = Zeroizing::new([0; 32]);
    rand::fill(&mut *key).map_err(|_| anyhow::anyhow!("the system returned no random numbers"))?;
    let encoded = Zeroizing::new(STANDARD.encode(key.as_slice()));
    let mut out = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(file)?;
    writeln!(out, "{}", &*encoded)?;
    out.sync_all()?;
    tracing::info!(
        file = %file.display(),
        "created a master key file next to the database; keep a copy of it, apart from copies of the database \
         (--secrets-key-file or WEIR_SECRETS_KEY select another key)"
    );
    Ok(key)
}

fn warn_if_open(file: &Path) {
    let mode = std::fs::metadata(file).map_or(0, |metadata| metadata.permissions().mode());
    if mode & 0o077 != 0 {
        tracing::warn!(file = %file.display(), "the master key file can be read by other users (chmod 600)");
    }
}

fn read(file: &Path) -> anyhow::Result<Zeroizing<[u8; 32]>> {
    parse(&Zeroizing::new(std::fs::read(file).context("cannot be read")?))
}

fn parse(text: &[u8]) -> anyhow::Result<Zeroizing<[u8; 32]>> {
    if let Ok(key) = <[u8; 32]>::try_from(text) {
        return Ok(Zeroizing::new(key));
    }
    let text = text.trim_ascii();
    let text = std::str::from_utf8(text).map_err(|_| anyhow::anyhow!("{KEY_FORMAT}"))?;
    let bytes = Zeroizing::new(match text.parse::<weir_snapshot::KeyId>() {
        Ok(hexadecimal) => hexadecimal.0.to_vec(),
        Err(_) => STANDARD.decode(text).unwrap_or_default(),
    });
    bytes.as_slice().try_into().map(Zeroizing::new).map_err(|_| anyhow::anyhow!("{KEY_FORMAT}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_opened_only_with_its_key_and_name() {
        let vault = Vault::new(&[1; 32]).unwrap();
        let sealed = vault.seal("key", "a", b"secret").unwrap();
        assert!(!sealed.windows(6).any(|part| part == b"secret"));
        assert_eq!(vault.open("key", "a", &sealed).unwrap().as_slice(), b"secret");
        assert_eq!(vault.open("key", "b", &sealed), Err(Unreadable));
        assert_eq!(vault.open("ticket", "a", &sealed), Err(Unreadable));
        assert_eq!(Vault::new(&[2; 32]).unwrap().open("key", "a", &sealed), Err(Unreadable));
        for at in 0..sealed.len() {
            let mut damaged = sealed.clone();
            damaged[at] ^= 1;
            assert_eq!(vault.open("key", "a", &damaged), Err(Unreadable), "byte {at}");
            assert_eq!(vault.open("key", "a", &sealed[..at]), Err(Unreadable), "{at} bytes");
        }
    }

    #[test]
    fn a_key_file_is_created_once_and_is_private() {
        let folder = tempfile::tempdir().unwrap();
        let master = MasterKey { file: None, database: folder.path().join("weir.db") };
        let key = master.find(false).unwrap();
        let mode = std::fs::metadata(folder.path().join("weir.db.key")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(master.find(true).unwrap(), key);
        std::fs::remove_file(folder.path().join("weir.db.key")).unwrap();
        assert!(master.find(true).unwrap_err().to_string().contains("is missing"));
    }

    #[test]
    fn a_key_may_be_written_in_several_ways() {
        let key: [u8; 32] = std::array::from_fn(|i| u8::try_from(i).unwrap());
        let hexadecimal: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
        for text in [STANDARD.encode(key), format!("{}\n", STANDARD.encode(key)), hexadecimal] {
            assert_eq!(*parse(text.as_bytes()).unwrap(), key, "{text}");
        }
        assert_eq!(*parse(&key).unwrap(), key);
        for text in ["", "short", &STANDARD.encode([0; 31]), "zz"] {
            assert!(parse(text.as_bytes()).unwrap_err().to_string().contains("openssl rand"), "{text}");
        }
    }
}
