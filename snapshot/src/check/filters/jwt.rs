//! Checks the settings of JSON Web Tokens and their key sets.

use std::{sync::Arc, time::Duration};

use super::{
    super::{duration, resilience},
    own_header,
};
use crate::{
    config,
    problem::{Problem, Problems},
    snapshot::Jwt,
};

/// The largest key set, in bytes.
const MAX_JWKS: usize = 256 << 10;

/// Why a key of a key set is not used.
enum Unusable {
    /// Secrets must not be in a configuration.
    Secret(&'static str),
    /// Skipped, as RFC 7517 section 5 requires for unknown kinds of keys.
    Ignored(String),
}

impl From<String> for Unusable {
    fn from(why: String) -> Self {
        Self::Ignored(why)
    }
}

/// The algorithms that a key of this type can verify.
fn algorithms_of(key: &serde_json::Value) -> Result<&'static [&'static str], Unusable> {
    let text = |field: &str| key.get(field).and_then(serde_json::Value::as_str);
    if key.get("d").is_some() {
        return Err(Unusable::Secret("is a private key; only public keys are allowed"));
    }
    if key.get("use").is_some_and(|usage| usage != "sig") {
        // An encryption key verifies no signatures.
        return Ok(&[]);
    }
    let has = |fields: &[&str]| -> Result<(), String> {
        let missing = fields.iter().find(|field| !text(field).is_some_and(is_base64url));
        missing.map_or(Ok(()), |field| Err(format!("has no {field} in base64url")))
    };
    match (text("kty"), text("crv")) {
        (Some("RSA"), _) => {
            has(&["n", "e"])?;
            // Shorter than 2048 bits (RFC 7518 section 3.3).
            if text("n").is_some_and(|n| n.len() < 341) {
                return Err("is an RSA key of less than 2048 bits".to_owned().into());
            }
            Ok(&["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"])
        }
        (Some("EC"), Some("P-256")) => Ok(has(&["x", "y"]).map(|()| &["ES256"][..])?),
        (Some("EC"), Some("P-384")) => Ok(has(&["x", "y"]).map(|()| &["ES384"][..])?),
        (Some("OKP"), Some("Ed25519")) => Ok(has(&["x"]).map(|()| &["EdDSA"][..])?),
        (Some("oct"), _) => {
            Err(Unusable::Secret("is a shared secret; only public keys (RSA, EC, OKP) are allowed"))
        }
        (kty, crv) => Err(format!(
            "has an unknown type (kty {:?}, crv {:?}; known: RSA, EC with P-256 or P-384, OKP with Ed25519)",
            kty.unwrap_or_default(),
            crv.unwrap_or_default()
        )
        .into()),
    }
}

fn is_base64url(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b))
}

const ALGORITHMS: [&str; 9] =
    ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA"];

pub(super) fn check_jwt(
    jwt: &config::Jwt,
    path: &str,
    (problems, warnings): (&mut Problems, &mut Vec<Problem>),
) -> Jwt {
    if jwt.issuer.is_empty() {
        problems.add(
            format!("{path}.issuer"),
            "the issuer is missing: without it, tokens of any issuer with a listed key would be accepted",
        );
    }
    if jwt.audience.is_empty() || jwt.audience.iter().any(String::is_empty) {
        problems.add(
            format!("{path}.audience"),
            "the audience is missing: without it, tokens for other services would be accepted",
        );
    }
    if jwt.algorithms.is_empty() {
        problems.add(
            format!("{path}.algorithms"),
            format!("no algorithm is allowed (known: {})", ALGORITHMS.join(", ")),
        );
    }
    for (i, algorithm) in jwt.algorithms.iter().enumerate() {
        let place = format!("{path}.algorithms[{i}]");
        let known = ALGORITHMS.join(", ");
        if algorithm.eq_ignore_ascii_case("none") {
            problems
                .add(place, format!("algorithm {algorithm:?} would accept unsigned tokens (known: {known})"));
        } else if algorithm.starts_with("HS") {
            problems.add(place, format!("algorithm {algorithm} needs a shared secret, with which every verifier could also sign tokens; use a key pair (known: {known})"));
        } else if !ALGORITHMS.contains(&algorithm.as_str()) {
            problems.add(place, format!("unknown algorithm {algorithm:?} (known: {known})"));
        } else if jwt.algorithms[..i].contains(algorithm) {
            problems.add(place, format!("duplicate algorithm {algorithm}"));
        }
    }
    jwks(jwt, &format!("{path}.jwks"), (problems, warnings));
    resilience::token(&jwt.header, "header", format!("{path}.header"), problems);
    if let Some(cookie) = &jwt.cookie {
        resilience::token(cookie, "cookie", format!("{path}.cookie"), problems);
    }
    let mut told: Vec<String> = Vec::new();
    for (claim, header) in &jwt.claims_to_headers {
        let place = format!("{path}.claims_to_headers.{claim}");
        let header = header.to_ascii_lowercase();
        if claim.is_empty() {
            problems.add(place, "the claim name is empty");
        } else if told.contains(&header) || header == jwt.header.to_ascii_lowercase() {
            problems.add(place, format!("header {header:?} is used twice"));
        } else {
            own_header(&header, place, problems);
        }
        told.push(header);
    }
    let leeway = duration(jwt.leeway, Duration::ZERO, format!("{path}.leeway"), problems);
    if leeway > Duration::from_secs(600) {
        problems.add(format!("{path}.leeway"), format!("{} is out of bounds (0s to 10m)", jwt.leeway));
    }
    let texts = |list: &[String]| list.iter().map(|text| Arc::from(text.as_str())).collect();
    Jwt {
        issuer: jwt.issuer.as_str().into(),
        audience: texts(&jwt.audience),
        jwks: jwt.jwks.0.as_str().into(),
        algorithms: texts(&jwt.algorithms),
        header: jwt.header.to_ascii_lowercase().into(),
        cookie: jwt.cookie.as_deref().map(Arc::from),
        claims_to_headers: jwt
            .claims_to_headers
            .iter()
            .map(|(claim, header)| (claim.as_str().into(), header.to_ascii_lowercase().into()))
            .collect(),
        leeway,
        keep_authorization: jwt.keep_authorization,
    }
}

fn jwks(jwt: &config::Jwt, path: &str, (problems, warnings): (&mut Problems, &mut Vec<Problem>)) {
    let text = &jwt.jwks.0;
    if text.len() > MAX_JWKS {
        return problems.add(path, format!("{} bytes are too many (at most 256KiB)", text.len()));
    }
    let parsed = serde_json::from_str::<serde_json::Value>(text).ok();
    let Some(keys) = parsed.as_ref().and_then(|set| set.get("keys")?.as_array()) else {
        return problems.add(path, "is not a JSON Web Key Set (RFC 7517): {\"keys\": [{\"kty\": …}]}");
    };
    let mut usable = false;
    let mut ignored = Vec::new();
    for (i, key) in keys.iter().enumerate() {
        let place = format!("{path}.keys[{i}]");
        match algorithms_of(key) {
            Err(Unusable::Secret(message)) => problems.add(place, message),
            Err(Unusable::Ignored(why)) => ignored.push((place, why)),
            Ok(fits) => {
                let own = key.get("alg").and_then(serde_json::Value::as_str);
                if let Some(own) = own.filter(|own| !fits.is_empty() && !fits.contains(own)) {
                    ignored.push((place, format!("has alg {own:?}, which does not fit its key type")));
                    continue;
                }
                usable |= fits.iter().any(|fit| {
                    own.is_none_or(|own| own == *fit) && jwt.algorithms.iter().any(|allowed| allowed == fit)
                });
            }
        }
    }
    if usable {
        let warning = |(place, why)| Problem::new(place, format!("the key {why}; it is ignored"));
        warnings.extend(ignored.into_iter().map(warning));
    } else {
        // No key is usable, so the reasons are errors.
        ignored.into_iter().for_each(|(place, why)| problems.add(place, why));
        problems.add(path, format!("no key fits the allowed algorithms ({})", jwt.algorithms.join(", ")));
    }
}
