//! Secrets that the database alone must not reveal: private keys of certificates, session-ticket keys and the session
//! key.
//!
//! A private key arrives with a configuration and is removed from it first: no snapshot, hash, revision, export or log
//! contains it. It is stored sealed, under the id of its public key. It is kept as long as a stored revision has a
//! certificate that uses it, so that a rollback finds it.

mod tickets;
mod vault;

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use anyhow::Context as _;
use aws_lc_rs::rand;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use weir_snapshot::{Chain, Config, KeyId, Problems, Snapshot, check::chain, config::PrivateKey};
use weir_tls::KeyPem;
use zeroize::Zeroizing;

pub use self::{
    tickets::{TicketKey, TicketKeys},
    vault::{MasterKey, Unreadable, Vault},
};
use crate::{
    store::{FleetKey, Sealed, Store, StoreError, WriteStore},
    time::now_ms,
};

/// The kinds of secrets in the database.
const CERTIFICATE_KEY: &str = "certificate_key";
const TICKET_KEY: &str = "ticket_key";
const SESSION_KEY: &str = "session_key";

/// Name of the only secret of kind [`SESSION_KEY`].
const SESSION: &str = "session";

/// How long a key that no revision uses is kept: it may belong to a change in progress.
const ORPHAN_MS: i64 = 24 * 3600 * 1000;

/// Maximum sleep of the key rotation, because clocks can be set forward.
const MAX_SLEEP: Duration = Duration::from_secs(3600);

/// The opened secrets. Cheap to clone.
#[derive(Clone)]
pub struct Secrets {
    shared: Arc<Shared>,
}

struct Shared {
    store: Store,
    vault: Vault,
    /// All stored private keys, as PEM.
    keys: RwLock<HashMap<KeyId, KeyPem>>,
    tickets: watch::Sender<Arc<TicketKeys>>,
}

/// Private keys that arrived with a configuration, by the path of their certificate or pool.
#[derive(Debug, Default)]
pub struct Given {
    certificates: Vec<Option<PrivateKey>>,
    pools: Vec<Option<PrivateKey>>,
}

impl Given {
    /// Removes the keys from a configuration.
    pub fn take(config: &mut Config) -> Self {
        let certificates = config.certificates.iter_mut().map(|certificate| certificate.key.take());
        let pools = config.pools.iter_mut().map(|pool| pool.tls.as_mut().and_then(|tls| tls.key.take()));
        Self { certificates: certificates.collect(), pools: pools.collect() }
    }
}

/// Keys that match their certificates, to be stored.
pub type Found = Vec<(KeyId, KeyPem)>;

impl Secrets {
    /// Finds the master key, opens the stored secrets, and starts the rotation of session-ticket keys.
    ///
    /// # Errors
    /// There is no master key, or it does not open the stored secrets; or the database failed.
    pub async fn open(store: Store, master: &MasterKey, stop: CancellationToken) -> anyhow::Result<Self> {
        let vault = Vault::new(&*master.find(store.has_secrets().await?)?)?;
        let mut keys = HashMap::new();
        for Sealed { name, sealed, .. } in store.secrets(CERTIFICATE_KEY).await? {
            let key =
                vault.open(CERTIFICATE_KEY, &name, &sealed).with_context(|| unreadable("key", &name))?;
            let id: KeyId = name.parse().map_err(anyhow::Error::msg)?;
            keys.insert(id, Arc::new(key));
        }
        let tickets = watch::Sender::new(Arc::default());
        let secrets = Self { shared: Arc::new(Shared { store, vault, keys: RwLock::new(keys), tickets }) };
        secrets.forget_orphans().await?;
        let mut next = secrets.rotate().await?;
        let this = secrets.clone();
        tokio::spawn(stop.run_until_cancelled_owned(async move {
            loop {
                let left = u64::try_from(next.saturating_sub(now_ms())).unwrap_or_default();
                tokio::time::sleep(Duration::from_millis(left.max(100)).min(MAX_SLEEP)).await;
                match this.rotate().await {
                    Ok(at) => next = at,
                    Err(error) => {
                        tracing::error!(%error, "cannot rotate session-ticket keys");
                        next = now_ms().saturating_add(60_000);
                    }
                }
            }
        }));
        Ok(secrets)
    }

    /// Creates, publishes and deletes session-ticket keys as they become due. Returns the time of the next rotation.
    async fn rotate(&self) -> anyhow::Result<i64> {
        let Shared { store, vault, tickets, .. } = &*self.shared;
        let mut stored = Vec::new();
        for Sealed { name, sealed, since_ms } in store.secrets(TICKET_KEY).await? {
            let key =
                vault.open(TICKET_KEY, &name, &sealed).with_context(|| unreadable("ticket key", &name))?;
            let (key_name, key) = key.split_first_chunk::<16>().context("a ticket key is too short")?;
            let key = key.try_into().context("a ticket key has a wrong length")?;
            stored.push(TicketKey { name: *key_name, key: Zeroizing::new(key), since_ms });
        }
        let name = |key: &TicketKey| KeyText(&key.name).to_string();
        let rotation = tickets::rotate(stored, now_ms())
            .map_err(|_| anyhow::anyhow!("the system returned no random numbers"))?;
        let mut new = Vec::new();
        for key in &rotation.new {
            let sealed = vault.seal(
                TICKET_KEY,
                &name(key),
                &Zeroizing::new([&key.name[..], &key.key[..]].concat()),
            )?;
            new.push(Sealed { name: name(key), sealed, since_ms: key.since_ms });
        }
        if !new.is_empty() || !rotation.old.is_empty() {
            let old: Vec<String> = rotation.old.iter().map(name).collect();
            store.change(|db| async move { db.change_secrets(TICKET_KEY, &new, &old).await }).await?;
        }
        tickets.send_if_modified(|current| {
            let differs = **current != rotation.keys;
            if differs {
                *current = Arc::new(rotation.keys);
            }
            differs
        });
        Ok(rotation.next_ms)
    }

    /// Returns the key that session cookies are signed with, created at the first start. A key that an earlier version
    /// stored unencrypted is kept and sealed.
    ///
    /// # Errors
    /// The database failed, or what it holds is not a key.
    pub async fn session_key(&self) -> anyhow::Result<FleetKey> {
        let store = &self.shared.store;
        let stored = store.secrets(SESSION_KEY).await?.into_iter().find(|one| one.name == SESSION);
        let clear = store.clear_session_key().await?;
        let key = match (stored, &clear) {
            (Some(Sealed { sealed, .. }), _) => {
                let key = self.shared.vault.open(SESSION_KEY, SESSION, &sealed);
                key.with_context(|| unreadable("key of", SESSION))?
            }
            (None, Some(clear)) => clear.clone(),
            (None, None) => {
                let mut new = Zeroizing::new(vec![0; 32]);
                rand::fill(&mut new).map_err(|_| anyhow::anyhow!("the system returned no random numbers"))?;
                new
            }
        };
        let key = FleetKey::new(key.as_slice().try_into().context("the session key is not 32 bytes long")?);
        let sealed = self.shared.vault.seal(SESSION_KEY, SESSION, key.as_slice())?;
        let new = [Sealed { name: SESSION.into(), sealed, since_ms: now_ms() }];
        let is_clear = clear.is_some();
        let sealing = store.change(|db| async move {
            // The sealed key is stored first, so that a crash in between does not lose it.
            db.change_secrets(SESSION_KEY, &new, &[]).await?;
            if is_clear {
                db.erase_clear_session_key().await?;
                tracing::info!("sealed the session key, which was unencrypted in the database");
            }
            Ok::<_, StoreError>(())
        });
        sealing.await?;
        Ok(key)
    }

    /// Receives the session-ticket keys and each change of them.
    pub fn tickets(&self) -> watch::Receiver<Arc<TicketKeys>> {
        self.shared.tickets.subscribe()
    }

    /// Checks that every certificate of a revision has a matching private key, given with the configuration or stored.
    ///
    /// # Errors
    /// Every certificate without a key, and every key that is invalid or belongs to another certificate.
    pub fn check(&self, snapshot: &Snapshot, given: &Given) -> Result<Found, Problems> {
        let (mut found, mut problems) = (Found::new(), Problems::default());
        let mut check = |chain: &Chain, key: Option<&PrivateKey>, what: String, path: String| match key {
            Some(PrivateKey(pem)) => match weir_tls::certified(chain, pem.as_bytes()) {
                Ok(_) => found.push((chain.key, Arc::new(Zeroizing::new(pem.as_bytes().to_vec())))),
                Err(why) => problems.add(path, format!("{what}: {why}")),
            },
            None if self.has(&chain.key) => {}
            None => problems.add(path, format!("{what}: no matching private key is stored; add its key")),
        };
        for (i, certificate) in snapshot.certificates.iter().enumerate() {
            let key = given.certificates.get(i).and_then(Option::as_ref);
            let what = format!("certificate {:?}", certificate.name);
            check(&certificate.chain, key, what, format!("certificates[{i}].key"));
        }
        for (i, pool) in snapshot.pools.iter().enumerate() {
            if let Some(client) = &pool.tls.client {
                let key = given.pools.get(i).and_then(Option::as_ref);
                let what = format!("the client certificate of pool {:?}", pool.name);
                check(client, key, what, format!("pools[{i}].tls.key"));
            }
        }
        problems.into_result(found)
    }

    /// Stores keys before the revision that needs them; a key without a revision does no harm if that revision fails.
    ///
    /// # Errors
    /// The database failed.
    pub async fn keep(&self, db: &WriteStore, found: Found) -> Result<(), StoreError> {
        let new: Vec<(KeyId, KeyPem)> = found.into_iter().filter(|(id, _)| !self.has(id)).collect();
        if new.is_empty() {
            return Ok(());
        }
        let seal = |(id, key): &(KeyId, KeyPem)| {
            let name = id.to_string();
            let sealed = self.shared.vault.seal(CERTIFICATE_KEY, &name, key);
            let sealed = sealed.map_err(|error| StoreError::Broken("private key", error.to_string()))?;
            Ok(Sealed { name, sealed, since_ms: now_ms() })
        };
        let sealed = new.iter().map(seal).collect::<Result<Vec<_>, StoreError>>()?;
        db.change_secrets(CERTIFICATE_KEY, &sealed, &[]).await?;
        self.shared.keys.write().unwrap_or_else(PoisonError::into_inner).extend(new);
        Ok(())
    }

    fn has(&self, id: &KeyId) -> bool {
        self.shared.keys.read().unwrap_or_else(PoisonError::into_inner).contains_key(id)
    }

    /// Returns the private keys that nodes need for a revision.
    pub fn needed(&self, snapshot: &Snapshot) -> Vec<(KeyId, KeyPem)> {
        let ids: BTreeSet<KeyId> = key_ids(snapshot).collect();
        let keys = self.shared.keys.read().unwrap_or_else(PoisonError::into_inner);
        ids.into_iter().filter_map(|id| Some((id, Arc::clone(keys.get(&id)?)))).collect()
    }

    /// Deletes keys that no revision uses.
    async fn forget_orphans(&self) -> Result<(), StoreError> {
        let stored = self.shared.store.secrets(CERTIFICATE_KEY).await?;
        if stored.is_empty() {
            return Ok(());
        }
        let specs = self.shared.store.specs_with_keys().await?;
        let used: BTreeSet<String> =
            specs.iter().filter_map(|spec| key_of(spec)).map(|id| id.to_string()).collect();
        let is_orphan =
            |stored: &Sealed| !used.contains(&stored.name) && stored.since_ms + ORPHAN_MS < now_ms();
        let orphans: Vec<String> = stored.into_iter().filter(is_orphan).map(|stored| stored.name).collect();
        if !orphans.is_empty() {
            tracing::info!(keys = orphans.len(), "deleted private keys that no revision uses");
            let this = self.clone();
            let forgotten = self.shared.store.change(|db| async move {
                db.change_secrets(CERTIFICATE_KEY, &[], &orphans).await?;
                let mut keys = this.shared.keys.write().unwrap_or_else(PoisonError::into_inner);
                keys.retain(|id, _| !orphans.contains(&id.to_string()));
                Ok::<_, StoreError>(())
            });
            forgotten.await?;
        }
        Ok(())
    }
}

impl weir_tls::Keys for Secrets {
    fn key(&self, id: &KeyId) -> Option<KeyPem> {
        self.shared.keys.read().unwrap_or_else(PoisonError::into_inner).get(id).cloned()
    }
}

fn unreadable(what: &str, name: &str) -> String {
    format!(
        "the {what} {name} in the database cannot be decrypted; check --secrets-key-file or WEIR_SECRETS_KEY"
    )
}

/// Returns the ids of the keys that a revision's certificates need.
pub fn key_ids(snapshot: &Snapshot) -> impl Iterator<Item = KeyId> {
    let pools = snapshot.pools.iter().filter_map(|pool| pool.tls.client.as_ref());
    snapshot.certificates.iter().map(|certificate| &certificate.chain).chain(pools).map(|chain| chain.key)
}

/// Returns the key id of a stored certificate's or pool's certificate.
fn key_of(spec: &str) -> Option<KeyId> {
    let spec: serde_json::Value = serde_json::from_str(spec).ok()?;
    let pem = spec.pointer("/spec/cert").or_else(|| spec.pointer("/spec/tls/cert"))?;
    Some(chain(pem.as_str()?).ok()?.key)
}

/// Displays bytes as hexadecimal digits.
struct KeyText<'a>(&'a [u8]);

impl std::fmt::Display for KeyText<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

#[cfg(test)]
mod tests {
    use sqlx::Connection as _;

    use super::*;

    #[tokio::test]
    async fn an_unencrypted_session_key_is_sealed_once_and_does_not_change() {
        let folder = tempfile::tempdir().unwrap();
        let database = folder.path().join("weir.db");
        let url = format!("sqlite:{}", database.display());
        let master = MasterKey { file: None, database: database.clone() };
        let old = *b"an old key that was in the clear";
        let key = async || {
            let store = Store::open(&url).await.unwrap();
            let secrets = Secrets::open(store.clone(), &master, CancellationToken::new()).await.unwrap();
            let key = secrets.session_key().await.unwrap();
            store.close().await;
            key
        };
        Store::open(&url).await.unwrap().close().await;
        let mut connection = sqlx::SqliteConnection::connect(&url).await.unwrap();
        let insert = sqlx::query("INSERT INTO fleet_keys (name, key) VALUES ('session', ?)").bind(&old[..]);
        insert.execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
        assert!(holds(folder.path(), &old));
        assert_eq!(*key().await, old);
        assert!(!holds(folder.path(), &old), "the key is still in a file");
        assert_eq!(*key().await, old);
    }

    #[tokio::test]
    async fn no_file_contains_a_new_session_key_unencrypted() {
        let folder = tempfile::tempdir().unwrap();
        let database = folder.path().join("weir.db");
        let store = Store::open(&format!("sqlite:{}", database.display())).await.unwrap();
        let master = MasterKey { file: None, database };
        let secrets = Secrets::open(store, &master, CancellationToken::new()).await.unwrap();
        let key = secrets.session_key().await.unwrap();
        assert_eq!(secrets.session_key().await.unwrap(), key);
        assert!(!holds(folder.path(), key.as_slice()));
    }

    /// Whether any file of the folder contains these bytes.
    fn holds(folder: &std::path::Path, bytes: &[u8]) -> bool {
        std::fs::read_dir(folder).unwrap().any(|file| {
            let content = std::fs::read(file.unwrap().path()).unwrap();
            content.windows(bytes.len()).any(|part| part == bytes)
        })
    }
}
