//! Checks certificates, the TLS settings of pools, and Strict-Transport-Security.
//!
//! Private keys never come here; the code that stores keys checks that a key belongs to its certificate. Whether a
//! certificate has expired depends on the day, so it is a [warning](warnings) and not an error: a configuration that
//! was valid yesterday can still be loaded, and rolled back to, today.

use std::{collections::HashMap, net::IpAddr, sync::Arc, time::Duration};

use rustls_pki_types::ServerName;
use sha2::{Digest as _, Sha256};
use x509_parser::{extensions::GeneralName, prelude::FromDer as _, prelude::X509Certificate};

use super::name;
use crate::{
    config::{self, Config},
    pem::{self, Block},
    problem::{Problem, Problems},
    snapshot::{Certificate, CertificateName, Chain, KeyId, Pool, Scheme, Snapshot, UpstreamTls},
};

/// The most certificates in one text, and the longest text in bytes.
const MOST: usize = 64;
const MAX_BYTES: usize = 256 << 10;

/// Minimum `max_age` for the browsers' preload lists.
const PRELOAD_AT_LEAST: Duration = Duration::from_secs(365 * 86_400);

pub(super) fn certificates(config: &Config, problems: &mut Problems) -> Vec<Certificate> {
    let mut seen = HashMap::new();
    let mut checked = Vec::with_capacity(config.certificates.len());
    for (i, certificate) in config.certificates.iter().enumerate() {
        let path = format!("certificates[{i}]");
        name(&certificate.name, &format!("{path}.name"), problems);
        if seen.insert(certificate.name.as_str(), i).is_some() {
            problems
                .add(format!("{path}.name"), format!("duplicate certificate name {:?}", certificate.name));
        }
        match chain(&certificate.cert) {
            Ok(chain) => {
                let name = Arc::from(certificate.name.as_str());
                checked.push(Certificate { name, chain: Arc::new(chain) });
            }
            Err(why) => problems.add(format!("{path}.cert"), why),
        }
    }
    checked
}

/// Parses a certificate with its chain.
///
/// # Errors
/// A text that is not a chain of certificates; the message names the line.
pub fn chain(pem: &str) -> Result<Chain, String> {
    let mut blocks = read_pem(pem)?;
    let mut chain = None;
    for (i, block) in blocks.iter_mut().enumerate() {
        let nth = |why: String| format!("line {}: certificate {} {why}", block.line, i + 1);
        let (certificate, length) = read_der(&block.der, block.is_trusted()).map_err(nth)?;
        if i == 0 {
            chain = Some(Chain {
                der: Vec::new(),
                names: names(&certificate).map_err(nth)?,
                not_before: certificate.validity().not_before.timestamp(),
                not_after: certificate.validity().not_after.timestamp(),
                key: KeyId(Sha256::digest(certificate.public_key().raw).into()),
                fingerprint: Sha256::digest(&block.der[..length]).into(),
                subject: certificate.subject().to_string(),
                issuer: certificate.issuer().to_string(),
            });
        }
        // OpenSSL appends its owner's trust settings to a trusted certificate. They are not sent to clients.
        block.der.truncate(length);
    }
    let chain = chain.ok_or("contains no certificate")?;
    Ok(Chain { der: blocks.into_iter().map(|block| block.der).collect(), ..chain })
}

/// Parses a certificate and returns the length of its encoding. Only a trusted certificate may have more bytes after
/// it.
fn read_der(der: &[u8], is_trusted: bool) -> Result<(X509Certificate<'_>, usize), String> {
    let (rest, certificate) =
        X509Certificate::from_der(der).map_err(|error| format!("is not an X.509 certificate: {error}"))?;
    if !rest.is_empty() && !is_trusted {
        return Err("has extra bytes after its end".into());
    }
    Ok((certificate, der.len() - rest.len()))
}

fn read_pem(pem: &str) -> Result<Vec<Block>, String> {
    if pem.len() > MAX_BYTES {
        return Err(format!("is larger than {} KiB", MAX_BYTES >> 10));
    }
    // The text is visible to every reader of the configuration.
    if pem.contains("PRIVATE KEY-----") {
        return Err("contains a private key; private keys belong into the field key".into());
    }
    if !pem.contains("-----BEGIN") {
        let shown: String = pem.chars().take(100).collect();
        return Err(format!(
            "{shown:?} is not PEM; only `weir apply -f` and --config replace a file name by the file's content"
        ));
    }
    let found = pem::certificates(pem).map_err(|why| match why.starts_with("line") {
        true => format!("is not valid PEM: {why}"),
        false => why,
    })?;
    match found.len() {
        ..=MOST => Ok(found),
        count => Err(format!("contains {count} certificates (at most {MOST})")),
    }
}

fn names(certificate: &X509Certificate<'_>) -> Result<Vec<CertificateName>, String> {
    let found =
        certificate.subject_alternative_name().map_err(|error| format!("has invalid names: {error}"))?;
    let mut names = Vec::new();
    for name in found.map_or(&[][..], |found| &found.value.general_names) {
        match name {
            GeneralName::DNSName(name) => {
                let name = name.to_ascii_lowercase();
                names.push(match name.strip_prefix("*.") {
                    Some(rest) => CertificateName::Wildcard(rest.to_owned()),
                    None => CertificateName::Host(name),
                });
            }
            GeneralName::IPAddress(bytes) => {
                let v4 = <[u8; 4]>::try_from(*bytes).map(IpAddr::from);
                let address = v4.or_else(|_| <[u8; 16]>::try_from(*bytes).map(IpAddr::from));
                names.extend(address.ok().map(CertificateName::Address));
            }
            _ => {}
        }
    }
    Ok(names)
}

pub(super) fn upstream(tls: Option<&config::Tls>, path: &str, problems: &mut Problems) -> UpstreamTls {
    let Some(tls) = tls else { return UpstreamTls::default() };
    if let Some(name) = &tls.server_name
        && ServerName::try_from(name.as_str()).is_err()
    {
        problems
            .add(format!("{path}.server_name"), format!("{name:?} is neither a host name nor an IP address"));
    }
    let ca = tls.ca.as_ref().and_then(|ca| match authorities(ca) {
        Ok(ca) => Some(ca),
        Err(why) => {
            problems.add(format!("{path}.ca"), why);
            None
        }
    });
    let client = tls.cert.as_ref().and_then(|cert| match chain(cert) {
        Ok(chain) => Some(Arc::new(chain)),
        Err(why) => {
            problems.add(format!("{path}.cert"), why);
            None
        }
    });
    if tls.key.is_some() && tls.cert.is_none() {
        problems.add(format!("{path}.key"), "key is set without cert");
    }
    UpstreamTls { verify: tls.verify, server_name: tls.server_name.clone(), ca, client }
}

fn authorities(pem: &str) -> Result<Arc<[Vec<u8>]>, String> {
    let mut blocks = read_pem(pem)?;
    for (i, block) in blocks.iter_mut().enumerate() {
        let nth = |why: String| format!("line {}: certificate {} {why}", block.line, i + 1);
        let (_, length) = read_der(&block.der, block.is_trusted()).map_err(nth)?;
        // An authority that OpenSSL restricts to some uses, or rejects for them, must not be trusted for all uses.
        if restricts(&block.der[length..]) {
            return Err(nth(
                "has OpenSSL trust settings, which are not supported (remove them with: openssl x509 -in … -out …)"
                    .into(),
            ));
        }
        block.der.truncate(length);
    }
    Ok(blocks.into_iter().map(|block| block.der).collect())
}

/// Whether OpenSSL's auxiliary data, `SEQUENCE { trust SEQUENCE OF OID OPTIONAL, reject [0] SEQUENCE OF OID OPTIONAL,
/// alias UTF8String OPTIONAL, … }`, lists uses for which the certificate is trusted or rejected. An alias restricts
/// nothing; data that cannot be parsed counts as a restriction.
fn restricts(auxiliary: &[u8]) -> bool {
    const UTF8_STRING: u8 = 0x0c;
    const OCTET_STRING: u8 = 0x04;
    match auxiliary {
        [] | [0x30, 0x00] => false,
        [0x30, length, first, ..] if *length < 0x80 => !matches!(*first, UTF8_STRING | OCTET_STRING),
        _ => true,
    }
}

/// Returns the value of `Strict-Transport-Security`.
pub(super) fn hsts(hsts: Option<&config::Hsts>, path: &str, problems: &mut Problems) -> Option<Arc<str>> {
    let config::Hsts { max_age, include_subdomains, preload } = *hsts?;
    super::duration(max_age, Duration::ZERO, format!("{path}.max_age"), problems);
    if preload && (max_age.0 < PRELOAD_AT_LEAST || !include_subdomains) {
        problems.add(
            format!("{path}.preload"),
            "the browsers' preload lists require include_subdomains: true and a max_age of at least 365d",
        );
    }
    let mut value = format!("max-age={}", max_age.0.as_secs());
    if include_subdomains {
        value.push_str("; includeSubDomains");
    }
    if preload {
        value.push_str("; preload");
    }
    Some(value.into())
}

/// Warnings that do not depend on the date.
pub(super) fn lasting_warnings(certificates: &[Certificate], pools: &[Pool]) -> Vec<Problem> {
    let mut warnings = Vec::new();
    for (i, Certificate { name, chain }) in certificates.iter().enumerate() {
        if chain.names.is_empty() {
            let message = format!("certificate {name:?} has no host name: clients will not accept it");
            warnings.push(Problem::new(format!("certificates[{i}].cert"), message));
        }
    }
    for (i, pool) in pools.iter().enumerate() {
        let has_https = pool.backends.iter().any(|backend| backend.url.scheme == Scheme::Https);
        if has_https && !pool.tls.verify {
            let message = format!(
                "pool {:?} accepts any certificate: an attacker on the network can read and change the traffic",
                pool.name
            );
            warnings.push(Problem::new(format!("pools[{i}].tls.verify"), message));
        }
    }
    warnings
}

/// Warns of certificates that have expired or are not valid yet; `now` is in seconds since the Unix epoch.
pub fn warnings(snapshot: &Snapshot, now: i64) -> Vec<Problem> {
    let mut warnings = Vec::new();
    let mut add = |path: String, message: String| warnings.push(Problem::new(path, message));
    for (i, Certificate { name, chain }) in snapshot.certificates.iter().enumerate() {
        validity(chain, now, &format!("certificate {name:?}"), format!("certificates[{i}].cert"), &mut add);
        if chain.names.is_empty() {
            let message =
                format!("certificate {name:?} has no host name (subjectAltName): clients will not accept it");
            add(format!("certificates[{i}].cert"), message);
        }
    }
    for (i, pool) in snapshot.pools.iter().enumerate() {
        if let Some(client) = &pool.tls.client {
            let what = format!("the client certificate of pool {:?}", pool.name);
            validity(client, now, &what, format!("pools[{i}].tls.cert"), &mut add);
        }
    }
    warnings
}

fn validity(chain: &Chain, now: i64, what: &str, path: String, add: &mut impl FnMut(String, String)) {
    let days = |seconds: i64| seconds / 86_400;
    if chain.not_after <= now {
        add(path, format!("{what} expired {} days ago", days(now - chain.not_after)));
    } else if chain.not_before > now {
        add(path, format!("{what} becomes valid in {} days", days(chain.not_before - now)));
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    use super::*;
    use crate::{
        check,
        config::{Backend, Hsts, Pool, Route, Tls},
    };

    /// A certificate valid from the first day of 2020 to the first day of `year`, with its key.
    fn pair(names: &[&str], year: i32) -> (String, String) {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(year, 1, 1));
        let key = KeyPair::generate().unwrap();
        (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
    }

    fn config(certificates: &[(&str, &str)]) -> Config {
        let certificate = |(name, cert): &(&str, &str)| config::Certificate {
            name: (*name).to_owned(),
            cert: (*cert).to_owned(),
            key: None,
        };
        Config { certificates: certificates.iter().map(certificate).collect(), ..Config::default() }
    }

    #[test]
    fn a_certificate_provides_its_names_and_validity() {
        let (one, _) = pair(&["A.example", "*.b.example", "127.0.0.1", "::1"], 2040);
        let (issuer, _) = pair(&["ca"], 2041);
        let snapshot = check(&config(&[("one", &format!("text before\n{one}{issuer}"))])).unwrap();
        let chain = &snapshot.certificates[0].chain;
        let names: Vec<String> = chain.names.iter().map(ToString::to_string).collect();
        assert_eq!(names, ["a.example", "*.b.example", "127.0.0.1", "::1"]);
        assert_eq!((chain.der.len(), chain.not_before, chain.not_after), (2, 1_577_836_800, 2_208_988_800));
        assert_eq!(chain.key.to_string().parse(), Ok(chain.key));
        assert_eq!(chain.seconds_left(chain.not_after + 5), -5);
    }

    /// An OpenSSL trusted certificate: the certificate's DER followed by these auxiliary bytes.
    fn trusted(pem: &str, auxiliary: &[u8]) -> String {
        use base64::{Engine as _, engine::general_purpose::STANDARD};
        let mut der = crate::pem::certificates(pem).unwrap().remove(0).der;
        der.extend_from_slice(auxiliary);
        let base64 = STANDARD.encode(der);
        format!("-----BEGIN TRUSTED CERTIFICATE-----\n{base64}\n-----END TRUSTED CERTIFICATE-----\n")
    }

    /// Auxiliary data with only `alias`, and with `trust` for serverAuth.
    const ALIAS: &[u8] = &[0x30, 3, 0x0c, 1, b'a'];
    const TRUST: &[u8] = &[0x30, 12, 0x30, 10, 6, 8, 0x2b, 6, 1, 5, 5, 7, 3, 1];

    #[test]
    fn a_chain_is_parsed_completely_or_rejected_with_its_line() {
        let ((one, _), (two, _)) = (pair(&["a.example"], 2040), pair(&["ca"], 2041));
        let labelled = |label: &str| two.replace("CERTIFICATE", label);
        let ca = |ca: &str| {
            let tls = Tls { ca: Some(ca.to_owned()), ..Tls::default() };
            let pool = Pool { name: "p".into(), tls: Some(tls), ..Pool::default() };
            check(&Config { pools: vec![pool], routes: vec![], ..Config::default() })
        };
        let clean = chain(&format!("{one}{two}")).unwrap();
        for text in [
            format!("{}{two}", one.trim_end()),
            format!("\u{feff}{one}\u{feff}{two}"),
            format!("{one}{two}").replace('\n', "\r\n"),
            format!("  {one}{two}").replace('\n', "\n    "),
            format!("subject=a\n{one}\n\n---\nissuer=ca\n{two}\nbye"),
            format!("{one}{}", labelled("X509 CERTIFICATE")),
            format!("{}{two}", one.replace("CERTIFICATE", "X509 CERTIFICATE")),
            format!("{one}{}", labelled("TRUSTED CERTIFICATE")),
            format!("{one}{}", trusted(&two, ALIAS)),
            format!("{}{two}", trusted(&one, ALIAS)),
        ] {
            assert_eq!(chain(&text).as_ref(), Ok(&clean), "{text}");
            let found = ca(&text).unwrap_or_else(|why| panic!("{text}: {why}"));
            assert_eq!(found.pools[0].tls.ca.as_deref(), Some(&clean.der[..]), "{text}");
        }
        // Trust settings are irrelevant in a chain that nodes present, but restrict an authority.
        let text = format!("{one}{}", trusted(&two, TRUST));
        assert_eq!(chain(&text), Ok(clean));
        let why = ca(&text).unwrap_err().to_string();
        assert!(why.contains("pools[0].tls.ca") && why.contains("OpenSSL trust settings"), "{why}");
        for (text, says) in [
            (format!("{one}{}", two.replace("-----END CERTIFICATE-----", "")), "has no END line"),
            (format!("{one}{}", two.replacen("-----BEGIN", "----BEGIN", 1)), "damaged or stray BEGIN"),
            (format!("{one}{}", labelled("X509 CRL")), "a X509 CRL where only certificates are allowed"),
            (format!("{one}{}", two.replacen("MII", "M\u{b7}I", 1)), "in the base64"),
            (
                format!("{one}{}", trusted(&two, ALIAS).replace("TRUSTED ", "")),
                "certificate 2 has extra bytes",
            ),
        ] {
            let line = one.lines().count() + 1;
            for why in [chain(&text).unwrap_err(), ca(&text).unwrap_err().to_string()] {
                assert!(why.contains(says) && why.contains("line "), "{says}: {why}");
                assert!(!says.contains("stray") || why.contains(&format!("line {line}")), "{why}");
            }
        }
    }

    #[test]
    fn a_certificate_without_a_host_name_is_warned_of() {
        let ((none, _), (one, _)) = (pair(&[], 2040), pair(&["a.example"], 2040));
        let snapshot = check(&config(&[("none", &none), ("one", &one)])).unwrap();
        let found: Vec<String> = warnings(&snapshot, 1_800_000_000).iter().map(ToString::to_string).collect();
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(
            found[0].contains("certificates[0].cert") && found[0].contains("has no host name"),
            "{found:?}"
        );
    }

    #[test]
    fn problems_are_reported_and_a_key_is_never_accepted_as_a_certificate() {
        let (good, key) = pair(&["a"], 2040);
        for (cert, says) in [
            ("", "is not PEM"),
            ("example.crt", "a file name"),
            (&*key, "private key"),
            (&*format!("{good}{key}"), "private key"),
            (
                "-----BEGIN CERTIFICATE-----\nMII=\n-----END CERTIFICATE-----\n",
                "certificate 1 is not an X.509",
            ),
            ("-----BEGIN CERTIFICATE-----\nMIIB", "not valid PEM"),
            (
                "-----BEGIN PUBLIC KEY-----\nMIIB\n-----END PUBLIC KEY-----\n",
                "line 1: a PUBLIC KEY where only",
            ),
        ] {
            let problems = check(&config(&[("c", cert)])).unwrap_err();
            assert_eq!(problems.0[0].path, "certificates[0].cert");
            assert!(problems.0[0].message.contains(says), "{says}: {problems}");
            assert!(!problems.to_string().contains(key.lines().nth(1).unwrap()));
        }
        let twice = check(&config(&[("c", &good), ("c", &good)])).unwrap_err();
        assert_eq!(twice.0[0].path, "certificates[1].name");
    }

    #[test]
    fn serializing_a_configuration_never_writes_a_private_key() {
        let (cert, key) = pair(&["a"], 2040);
        let key = config::PrivateKey(key);
        let tls = Tls { cert: Some(cert.clone()), key: Some(key.clone()), ..Tls::default() };
        let mut config = config(&[("c", &cert)]);
        config.certificates[0].key = Some(key.clone());
        config.pools[0].tls = Some(tls);
        let resources = crate::resource::to_resources(&config);
        for text in [format!("{config:?}"), crate::file::to_yaml(&config), format!("{resources:?}")] {
            assert!(!text.contains("PRIVATE") && !text.contains(key.0.lines().nth(1).unwrap()), "{text}");
        }
        let back = crate::resource::from_resources(&resources).unwrap();
        assert_eq!((&back.certificates[0].key, back.certificates[0].cert.as_str()), (&None, cert.as_str()));
    }

    #[test]
    fn the_tls_settings_of_a_pool_are_checked() {
        let (cert, key) = pair(&["a"], 2040);
        let key = Some(config::PrivateKey(key));
        let check = |tls: Tls| {
            let pool = Pool { name: "p".into(), tls: Some(tls), ..Pool::default() };
            check(&Config { pools: vec![pool], routes: vec![], ..Config::default() })
        };
        let good = Tls {
            server_name: Some("books.internal".into()),
            ca: Some(cert.clone()),
            cert: Some(cert.clone()),
            key: key.clone(),
            ..Tls::default()
        };
        let checked = check(good).unwrap();
        assert!(checked.pools[0].tls.client.is_some() && checked.pools[0].tls.verify);
        for (tls, path) in [
            (Tls { server_name: Some("not a name".into()), ..Tls::default() }, "pools[0].tls.server_name"),
            (Tls { ca: Some("ca.pem".into()), ..Tls::default() }, "pools[0].tls.ca"),
            (Tls { cert: Some("x".into()), ..Tls::default() }, "pools[0].tls.cert"),
            (Tls { key, ..Tls::default() }, "pools[0].tls.key"),
        ] {
            assert_eq!(check(tls).unwrap_err().0[0].path, path);
        }
    }

    #[test]
    fn strict_transport_security_has_the_syntax_of_rfc_6797() {
        let value = |hsts: Hsts| {
            let route =
                Route { name: "r".into(), pool: "default".into(), hsts: Some(hsts), ..Route::default() };
            check(&Config { routes: vec![route], ..Config::default() })
                .map(|snapshot| snapshot.routes[0].hsts.as_deref().map(str::to_owned).unwrap_or_default())
        };
        assert_eq!(value(Hsts::default()).as_deref(), Ok("max-age=31536000"));
        let all = Hsts { include_subdomains: true, preload: true, ..Hsts::default() };
        assert_eq!(value(all).as_deref(), Ok("max-age=31536000; includeSubDomains; preload"));
        let off = Hsts { max_age: "0s".parse().unwrap(), ..Hsts::default() };
        assert_eq!(value(off).as_deref(), Ok("max-age=0"));
        let hasty = Hsts { preload: true, ..Hsts::default() };
        assert_eq!(value(hasty).unwrap_err().0[0].path, "routes[0].hsts.preload");
    }

    #[test]
    fn expired_certificates_and_disabled_verification_are_warned_of() {
        let ((old, _), (nameless, _)) = (pair(&["a"], 2021), pair(&[], 2040));
        let mut config = config(&[("old", &old), ("nameless", &nameless)]);
        config.pools[0].tls = Some(Tls { verify: false, ..Tls::default() });
        config.pools[0].backends.push(Backend {
            id: String::new(),
            url: "https://a".into(),
            weight: 1,
            state: Default::default(),
        });
        let snapshot = check(&config).unwrap();
        let all = snapshot.warnings.iter().cloned().chain(warnings(&snapshot, 1_700_000_000));
        let found: Vec<(String, String)> = all.map(|one| (one.path, one.message)).collect();
        for (path, says) in [
            ("certificates[0].cert", "expired"),
            ("certificates[1].cert", "has no host name"),
            ("pools[0].tls.verify", "accepts any certificate"),
        ] {
            assert!(
                found.iter().any(|(at, message)| at == path && message.contains(says)),
                "{path}: {found:?}"
            );
        }
        let early = warnings(&snapshot, 0);
        assert!(early.iter().any(|one| one.message.contains("becomes valid in")), "{early:?}");
    }
}
