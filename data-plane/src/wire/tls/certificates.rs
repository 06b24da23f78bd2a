//! Which certificate a client gets: the one that has the name which it asks for (SNI, RFC 6066, 3).

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use arc_swap::{ArcSwap, ArcSwapOption};
use rustc_hash::FxHashMap;
use rustls::{
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use weir_snapshot::{Certificate, CertificateName, Chain, KeyId, Problems};
use weir_tls::{KeyPem, Keys as _};

use super::TlsState;

/// The private keys that the control plane sent, as PEM.
#[derive(Default)]
pub(crate) struct Keys(Mutex<HashMap<KeyId, KeyPem>>);

impl Keys {
    /// Replaces all keys. Certificates in use hold their own keys.
    pub(crate) fn set(&self, keys: HashMap<KeyId, KeyPem>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = keys;
    }
}

impl weir_tls::Keys for Keys {
    fn key(&self, id: &KeyId) -> Option<KeyPem> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(id).cloned()
    }
}

/// Certificates joined with their keys, kept as long as some table has them: a revision that changes none makes none.
#[derive(Default)]
pub(crate) struct CertifiedKeys(Mutex<HashMap<[u8; 32], Joined>>);

/// A chain, and the same with its key.
type Joined = (Arc<Chain>, Weak<CertifiedKey>);

impl CertifiedKeys {
    fn certified(&self, chain: &Arc<Chain>, keys: &Keys) -> Result<Arc<CertifiedKey>, String> {
        let mut certified_keys = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        certified_keys.retain(|_, (_, certified)| certified.strong_count() > 0);
        let known = certified_keys.get(&chain.fingerprint).filter(|(known, _)| known == chain);
        if let Some(certified) = known.and_then(|(_, certified)| certified.upgrade()) {
            return Ok(certified);
        }
        let key = keys.key(&chain.key).ok_or_else(|| {
            "this node has not been given its key: the control plane sends keys only over a channel that is protected, \
             to loopback, or when started with --insecure"
                .to_owned()
        })?;
        let certified = weir_tls::certified(chain, &key)?;
        certified_keys.insert(chain.fingerprint, (Arc::clone(chain), Arc::downgrade(&certified)));
        Ok(certified)
    }
}

/// The certificates of one revision, by name. Where several have a name, the first one that the client can use.
#[derive(Default)]
pub(crate) struct CertificateTable {
    hosts: FxHashMap<Box<str>, Vec<Arc<CertifiedKey>>>,
    /// By what stands behind `*.`.
    below: FxHashMap<Box<str>, Vec<Arc<CertifiedKey>>>,
    /// All certificates, in the order of the configuration, for clients that name no host or an unknown one.
    all: Vec<Arc<CertifiedKey>>,
}

impl CertificateTable {
    /// Joins a revision's certificates with their keys; what cannot be joined is a problem.
    pub(crate) fn new(certificates: &[Certificate], material: &TlsState, problems: &mut Problems) -> Self {
        let TlsState { keys, certified_keys, .. } = material;
        let mut table = Self::default();
        for (i, Certificate { name, chain }) in certificates.iter().enumerate() {
            match certified_keys.certified(chain, keys) {
                Ok(certified) => table.add(&chain.names, &certified),
                Err(why) if keys.key(&chain.key).is_none() && material.allows_missing_keys() => {
                    tracing::warn!(certificate = %name, why, "certificate left out until its key arrives");
                }
                Err(why) => {
                    problems.add(format!("certificates[{i}].key"), format!("certificate {name:?}: {why}"));
                }
            }
        }
        table
    }

    fn add(&mut self, names: &[CertificateName], certified: &Arc<CertifiedKey>) {
        for name in names {
            let entry = match name {
                CertificateName::Host(host) => self.hosts.entry(host.as_str().into()),
                CertificateName::Wildcard(host) => self.below.entry(host.as_str().into()),
                // Clients name no addresses (RFC 6066, 3).
                CertificateName::Address(_) => continue,
            };
            entry.or_default().push(Arc::clone(certified));
        }
        self.all.push(Arc::clone(certified));
    }

    /// The certificates that have the name, which is in lower case: by the exact name first, then by a wildcard.
    fn named<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a Arc<CertifiedKey>> + Clone {
        let name = name.strip_suffix('.').unwrap_or(name);
        let below = name.split_once('.').and_then(|(_, rest)| self.below.get(rest));
        self.hosts.get(name).into_iter().chain(below).flatten()
    }

    /// The certificate for a client: the first one with the name whose key the client can verify, else `own`, else any
    /// that it can verify. A certificate that the client cannot use never hides one that it can.
    fn choose<'a>(
        &'a self,
        name: Option<&str>,
        own: Option<&'a Arc<CertifiedKey>>,
        is_usable: impl Fn(&CertifiedKey) -> bool,
    ) -> Option<&'a Arc<CertifiedKey>> {
        let named = || name.into_iter().flat_map(|name| self.named(name));
        let usable = |certified: &&Arc<CertifiedKey>| is_usable(certified);
        named()
            .find(usable)
            .or_else(|| own.filter(usable))
            .or_else(|| self.all.iter().find(usable))
            // Nothing fits: the handshake fails because of what the client supports, and says so.
            .or_else(|| named().next().or(own).or_else(|| self.all.first()))
    }
}

/// The certificate resolver for rustls. Its table is replaced with each revision; open connections keep their
/// certificate.
pub(crate) struct Certificates {
    table: ArcSwap<CertificateTable>,
    /// The certificate of the flags, for clients that name no host of the table.
    own: ArcSwapOption<CertifiedKey>,
    missing: AtomicU64,
}

impl Certificates {
    pub(crate) fn new(own: Option<Arc<CertifiedKey>>) -> Self {
        Self { table: ArcSwap::default(), own: ArcSwapOption::new(own), missing: AtomicU64::new(0) }
    }

    /// From now on handshakes use these.
    pub(crate) fn set(&self, table: &Arc<CertificateTable>) {
        self.table.store(Arc::clone(table));
    }

    /// From now on handshakes use this one in place of the flags' own.
    pub(super) fn set_own(&self, own: Arc<CertifiedKey>) {
        self.own.store(Some(own));
    }

    /// Handshakes for which there was no certificate.
    pub(crate) fn missing(&self) -> u64 {
        self.missing.load(Relaxed)
    }
}

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Certificates")
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let table = self.table.load();
        let schemes = hello.signature_schemes();
        let is_usable = |certified: &CertifiedKey| certified.key.choose_scheme(schemes).is_some();
        let own = self.own.load();
        let found = table.choose(hello.server_name(), own.as_ref(), is_usable);
        if found.is_none() {
            self.missing.fetch_add(1, Relaxed);
        }
        found.cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certified(names: &[&str]) -> (Certificate, (KeyId, KeyPem)) {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let certified_keys = rcgen::generate_simple_self_signed(names).unwrap();
        let chain = Arc::new(weir_snapshot::check::chain(&certified_keys.cert.pem()).unwrap());
        let key = (chain.key, Arc::new(certified_keys.signing_key.serialize_pem().into_bytes().into()));
        (Certificate { name: "c".into(), chain }, key)
    }

    #[test]
    fn a_name_is_found_exactly_then_by_its_wildcard() {
        let (one, one_key) = certified(&["a.example", "*.b.example"]);
        let (other, other_key) = certified(&["x.b.example"]);
        let (material, mut problems) = (TlsState::default(), Problems::default());
        material.keys.set([one_key, other_key].into());
        let table = CertificateTable::new(&[one.clone(), other], &material, &mut problems);
        assert!(problems.0.is_empty(), "{problems}");
        let which = |name: &str| {
            let found = table.named(name).next();
            found.map(|found| usize::from(!Arc::ptr_eq(found, &table.all[0])))
        };
        for (name, found) in [
            ("a.example", Some(0)),
            ("a.example.", Some(0)),
            ("y.b.example", Some(0)),
            ("x.b.example", Some(1)),
            ("b.example", None),
            ("z.y.b.example", None),
            ("example", None),
            ("", None),
        ] {
            assert_eq!(which(name), found, "{name}");
        }
        // The next revision has it still, and needs no key for it.
        material.keys.set(HashMap::new());
        let again = CertificateTable::new(&[one], &material, &mut problems);
        assert!(problems.0.is_empty() && Arc::ptr_eq(&again.all[0], &table.all[0]));
    }

    #[test]
    fn a_certificate_without_its_key_is_named() {
        let ((one, _), (_, other_key)) = (certified(&["a"]), certified(&["b"]));
        let (material, mut problems) = (TlsState::default(), Problems::default());
        material.keys.set([other_key].into());
        CertificateTable::new(std::slice::from_ref(&one), &material, &mut problems);
        assert_eq!(problems.0[0].path, "certificates[0].key");
        // From its own disk the node serves what it can.
        material.set_restoring(true);
        let mut problems = Problems::default();
        assert!(
            CertificateTable::new(&[one], &material, &mut problems).all.is_empty() && problems.0.is_empty()
        );
        assert!(material.take_incomplete() && !material.take_incomplete());
    }
}
