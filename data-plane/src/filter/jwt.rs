//! JWT authentication (RFC 7519) with bearer tokens (RFC 6750). Verified tokens are cached until they expire.

use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use jsonwebtoken::{
    Algorithm, DecodingKey, Validation, decode, decode_header,
    errors::ErrorKind,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk},
};
use percent_encoding::percent_decode;
use serde_json::{Map, Value};
use weir_http::{RequestHead, aliases::reads_as};
use weir_snapshot::Jwt as Settings;

use super::verified::Verified;
use crate::answer::Local;

/// The longest token.
const MOST: usize = 16 << 10;

/// Number of keys that are tried for a token without a key id.
const MOST_KEYS: usize = 8;

/// The values of the claim headers, in the order of the settings; `None` where the token has no such claim.
pub(super) type ClaimValues = Arc<[Option<String>]>;

/// A public key.
struct Key {
    id: Option<String>,
    algorithms: Vec<Algorithm>,
    key: DecodingKey,
}

pub(super) struct Jwt {
    settings: Settings,
    /// Identifies the settings in the cache of tokens.
    name: String,
    realm: Arc<str>,
    keys: Vec<Key>,
    verified: Arc<Verified<ClaimValues>>,
}

/// The tokens of a request.
enum Tokens<'a> {
    /// In the configured header, which has precedence.
    Header(&'a [u8]),
    /// In cookies of the configured name, in order: the first valid one is used.
    Cookies(Vec<&'a [u8]>),
}

/// Where the backend can find the token.
enum Passed {
    Header,
    Cookie(Vec<u8>),
    Nothing,
}

impl Jwt {
    pub(super) fn new(route: &Arc<str>, settings: &Settings, verified: Arc<Verified<ClaimValues>>) -> Self {
        let allowed: Vec<Algorithm> =
            settings.algorithms.iter().filter_map(|name| name.parse().ok()).collect();
        // An unusable key does not affect the others.
        let set = serde_json::from_str::<Value>(&settings.jwks).unwrap_or_default();
        let keys = set.get("keys").and_then(Value::as_array).into_iter().flatten();
        let keys = keys.filter_map(|key| Key::new(key, &allowed)).collect();
        let name = format!("{settings:?}");
        Self { settings: settings.clone(), name, realm: Arc::clone(route), keys, verified }
    }

    fn refused(&self, why: Option<&str>) -> Local {
        let realm = &self.realm;
        Local::NO_TOKEN.with(
            "www-authenticate",
            match why {
                // RFC 6750, 3.1: a client that sent no token gets no error code.
                None => format!("Bearer realm=\"{realm}\""),
                Some(why) => {
                    format!("Bearer realm=\"{realm}\", error=\"invalid_token\", error_description=\"{why}\"")
                }
            },
        )
    }

    /// Authenticates a valid token, and adds its claims for the backend. The backend gets at most this token: tokens in
    /// the other configured places were not verified, and are removed.
    pub(super) fn ask(&self, head: &mut RequestHead) -> Result<(), Local> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let (values, passed) = match self.tokens(head)? {
            Tokens::Header(token) => (self.check(token, now)?, Passed::Header),
            Tokens::Cookies(tokens) => {
                let mut result = Err(self.refused(None));
                for token in tokens {
                    result = self.check(token, now).map(|values| (values, token));
                    if result.is_ok() {
                        break;
                    }
                }
                let (values, token) = result?;
                (values, Passed::Cookie(token.to_vec()))
            }
        };
        for ((_, header), value) in self.settings.claims_to_headers.iter().zip(values.iter()) {
            head.remove(header.as_bytes());
            if let Some(value) = value {
                // A value that is not valid in a header is not added.
                head.add(header.as_bytes(), value.as_bytes());
            }
        }
        self.strip(head, if self.settings.keep_authorization { passed } else { Passed::Nothing });
        Ok(())
    }

    /// The claims of a token, from the cache if it was verified before.
    fn check(&self, token: &[u8], now: u64) -> Result<ClaimValues, Local> {
        if token.len() > MOST {
            return Err(self.refused(Some("the token is too long")));
        }
        let digest = self.verified.digest(&[self.name.as_bytes(), token]);
        if let Some(values) = digest.and_then(|digest| self.verified.get(&digest, now)) {
            return Ok(values);
        }
        let (until, values) = self.verify(token, now).map_err(|why| self.refused(Some(why)))?;
        if let Some(digest) = digest {
            self.verified.insert(digest, until, now, Arc::clone(&values));
        }
        Ok(values)
    }

    /// The request's tokens. Two headers are rejected, because a backend could use the other one.
    fn tokens<'a>(&self, head: &'a RequestHead) -> Result<Tokens<'a>, Local> {
        let name = self.settings.header.as_bytes();
        let is_ours = |field: &&weir_http::Field| head.name(field).eq_ignore_ascii_case(name);
        let mut values = head.fields.iter().filter(is_ours).map(|field| head.value(field));
        match (values.next(), values.next()) {
            (Some(_), Some(_)) => return Err(self.refused(Some("there are two tokens"))),
            (Some(value), None) if name == b"authorization" => {
                if let Some(token) = bearer(value) {
                    return Ok(Tokens::Header(token));
                }
            }
            (Some(value), None) => return Ok(Tokens::Header(value)),
            (None, _) => {}
        }
        let Some(name) = &self.settings.cookie else { return Err(self.refused(None)) };
        let tokens: Vec<&[u8]> = head.cookie_values(name).take(Settings::MAX_COOKIES + 1).collect();
        match tokens.len() {
            0 => Err(self.refused(None)),
            1..=Settings::MAX_COOKIES => Ok(Tokens::Cookies(tokens)),
            _ => Err(self.refused(Some("there are too many cookies of the token's name"))),
        }
    }

    /// Removes everything that a backend could take for a token, except the verified one.
    fn strip(&self, head: &mut RequestHead, passed: Passed) {
        if !matches!(passed, Passed::Header) {
            // Only a password passes: a server could split the field at a comma or a blank (RFC 9110, 11.6.2).
            let is_token68 = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(byte);
            let is_password = |value: &[u8]| {
                let (scheme, rest) = value.split_at_checked(6).unwrap_or((value, b""));
                scheme.eq_ignore_ascii_case(b"basic ") && rest.iter().all(is_token68)
            };
            let header = self.settings.header.as_bytes();
            // A password beside the token is for `basic_auth` or the backend.
            if header != b"authorization" || !head.get_named(header).is_some_and(is_password) {
                head.remove(header);
            }
        }
        let Some(name) = &self.settings.cookie else { return };
        let mut kept = match passed {
            Passed::Cookie(token) => Some(token),
            Passed::Header | Passed::Nothing => None,
        };
        let count = head.cookies().filter(|cookie| may_hold(cookie.raw, name.as_bytes())).count();
        if count > usize::from(kept.is_some()) {
            head.retain_cookies(|cookie| {
                let is_kept =
                    cookie.name == name.as_bytes() && kept.take_if(|token| *token == cookie.value).is_some();
                // Of equal cookies the first one stays.
                is_kept || !may_hold(cookie.raw, name.as_bytes())
            });
        }
    }

    /// The end of a token's validity and its claims, or why it is invalid.
    fn verify(&self, token: &[u8], now: u64) -> Result<(u64, ClaimValues), &'static str> {
        // Tokens with an unknown algorithm, such as `none`, are rejected.
        let header = decode_header(token).map_err(|_| "the token is malformed or its algorithm unknown")?;
        if header.crit.is_some() {
            return Err("the token demands an extension that is unknown");
        }
        let settings = &self.settings;
        let mut validation = Validation::new(header.alg);
        validation.leeway = settings.leeway.as_secs();
        validation.validate_nbf = true;
        validation.set_issuer(&[&settings.issuer]);
        validation.set_audience(&settings.audience);
        validation.set_required_spec_claims(&["exp", "iss", "aud"]);
        let fits = |key: &&Key| {
            // The key determines the algorithm: an RSA key is never used as a shared secret.
            key.algorithms.contains(&header.alg)
                && (header.kid.is_none() || key.id.is_none() || header.kid == key.id)
        };
        let mut why = "the token is signed with an unknown key or an algorithm that is not allowed";
        for key in self.keys.iter().filter(fits).take(MOST_KEYS) {
            match decode::<Map<String, Value>>(token, &key.key, &validation) {
                Ok(decoded) => {
                    self.strictly(&decoded.claims, now)?;
                    return Ok(self.claim_values(&decoded.claims));
                }
                Err(error) => match reason(error.kind()) {
                    // Another key may have signed the token.
                    None => why = "the token's signature is wrong",
                    Some(reason) => return Err(reason),
                },
            }
        }
        Err(why)
    }

    /// Rejects what the library accepts and RFC 7519 does not: a token at the very moment of its `exp` (4.1.4), and a
    /// list of issuers, of which only one would have to match (4.1.1).
    fn strictly(&self, claims: &Map<String, Value>, now: u64) -> Result<(), &'static str> {
        if claims.get("iss").and_then(Value::as_str) != Some(&*self.settings.issuer) {
            return Err("the token is from another issuer");
        }
        let leeway = self.settings.leeway.as_secs();
        match claims.get("exp") {
            // Whole seconds are compared exactly, fractions as far as a double is precise.
            Some(exp) => match (exp.as_u64(), exp.as_f64()) {
                (Some(exp), _) if exp.saturating_add(leeway) > now => Ok(()),
                (None, Some(exp)) if exp + leeway as f64 > now as f64 => Ok(()),
                _ => Err("the token has expired"),
            },
            None => Err("the token lacks exp, iss or aud, or one of them is malformed"),
        }
    }

    fn claim_values(&self, claims: &Map<String, Value>) -> (u64, ClaimValues) {
        let text = |value: &Value| match value {
            Value::String(text) => Some(text.clone()),
            Value::Number(_) | Value::Bool(_) => Some(value.to_string()),
            Value::Array(items) => {
                let texts: Option<Vec<&str>> = items.iter().map(Value::as_str).collect();
                texts.map(|texts| texts.join(","))
            }
            Value::Null | Value::Object(_) => None,
        };
        let values = self.settings.claims_to_headers.iter();
        let values = values.map(|(claim, _)| claims.get(&**claim).and_then(text)).collect();
        let exp = claims.get("exp").and_then(Value::as_f64).unwrap_or_default();
        // The cast saturates.
        ((exp as u64).saturating_add(self.settings.leeway.as_secs().min(600)), values)
    }
}

impl Key {
    fn new(key: &Value, allowed: &[Algorithm]) -> Option<Self> {
        if key.get("use").is_some_and(|usage| usage != "sig") {
            return None;
        }
        let jwk: Jwk = serde_json::from_value(key.clone()).ok()?;
        use Algorithm::{ES256, ES384, EdDSA, PS256, PS384, PS512, RS256, RS384, RS512};
        let fits: &[Algorithm] = match &jwk.algorithm {
            AlgorithmParameters::RSA(_) => &[RS256, RS384, RS512, PS256, PS384, PS512],
            AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => &[ES256],
            AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P384 => &[ES384],
            AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => &[EdDSA],
            _ => return None,
        };
        let own = key.get("alg").and_then(Value::as_str).map(str::parse::<Algorithm>);
        let algorithms: Vec<Algorithm> = fits
            .iter()
            .filter(|fit| {
                allowed.contains(fit) && own.as_ref().is_none_or(|own| own.as_ref().ok() == Some(*fit))
            })
            .copied()
            .collect();
        let decoding = DecodingKey::from_jwk(&jwk).ok()?;
        (!algorithms.is_empty()).then(|| Self { id: jwk.common.key_id, algorithms, key: decoding })
    }
}

/// The token of an Authorization field with the scheme Bearer. A backend may accept other blanks than the one space of
/// RFC 6750, so they count too.
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.split_at_checked(6)?;
    let ends = token.first().is_none_or(|byte| !byte.is_ascii_alphanumeric() && *byte != b'-');
    (scheme.eq_ignore_ascii_case(b"bearer") && ends).then(|| token.trim_ascii())
}

/// Whether any server could find a cookie of this name in a pair of a Cookie field. Servers differ: names without regard
/// to case (ASP.NET), `.` and blanks as `_` and `[` as a name's end (PHP), escapes in names (Rack), a `,` or a blank between
/// cookies (Rack, Python), a pair that begins with `=` (browsers send such).
fn may_hold(pair: &[u8], cookie: &[u8]) -> bool {
    let is_name = |text: &[u8]| {
        let (Some(name), Some(rest)) = (text.get(..cookie.len()), text.get(cookie.len()..)) else {
            return false;
        };
        let next = rest.trim_ascii_start().first();
        reads_as(name, cookie) && next.is_none_or(|byte| b"=[\"".contains(byte))
    };
    let start = pair.iter().position(|byte| !b"= \t".contains(byte)).unwrap_or(pair.len());
    let begins = |at: usize| at <= start || b", \t\"".contains(&pair[at - 1]);
    if (0..pair.len()).any(|at| begins(at) && is_name(&pair[at..])) {
        return true;
    }
    let name = pair[start..].split(|byte| *byte == b'=').next().unwrap_or_default();
    name.contains(&b'%') && is_name(&percent_decode(name).collect::<Vec<u8>>())
}

/// Why a correctly signed token is invalid; `None` for other errors.
fn reason(kind: &ErrorKind) -> Option<&'static str> {
    match kind {
        ErrorKind::ExpiredSignature => Some("the token has expired"),
        ErrorKind::ImmatureSignature => Some("the token is not valid yet"),
        ErrorKind::InvalidIssuer => Some("the token is from another issuer"),
        ErrorKind::InvalidAudience => Some("the token is for another audience"),
        ErrorKind::MissingRequiredClaim(_) | ErrorKind::InvalidClaimFormat(_) => {
            Some("the token lacks exp, iss or aud, or one of them is malformed")
        }
        ErrorKind::Json(_) | ErrorKind::Utf8(_) | ErrorKind::Base64(_) | ErrorKind::InvalidToken => {
            Some("the token is malformed")
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use weir_http::{Limits, Parsed, parse_request};

    const JWKS: &str = include_str!("../../../snapshot/tests/keys/rsa.json");
    /// Signed with the key of that set, for issuer `i` and audience `a`, good until 2100.
    const TOKEN: &str = include_str!("rs256.txt");

    fn jwt(algorithms: &[&str]) -> Jwt {
        let settings = Settings {
            issuer: "i".into(),
            audience: vec!["a".into()],
            jwks: JWKS.into(),
            algorithms: algorithms.iter().map(|name| Arc::from(*name)).collect(),
            header: "authorization".into(),
            cookie: None,
            claims_to_headers: vec![("sub".into(), "x-user".into())],
            leeway: Duration::ZERO,
            keep_authorization: true,
        };
        Jwt::new(&"r".into(), &settings, Arc::default())
    }

    fn request(token: &str) -> RequestHead {
        let text = format!("GET / HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\n\r\n");
        let mut head = RequestHead::new();
        let parsed = parse_request(text.as_bytes(), &Limits::default(), &mut head);
        assert!(matches!(parsed, Ok(Parsed::Complete { .. })));
        head
    }

    #[test]
    fn a_token_that_another_program_signed_with_rsa_is_good() {
        let mut head = request(TOKEN.trim());
        assert_eq!(jwt(&["RS256"]).ask(&mut head), Ok(()));
        assert_eq!(head.get_named(b"x-user"), Some(&b"anna"[..]));
        // The same key, but it is not allowed to sign with this algorithm.
        assert_eq!(
            jwt(&["PS256", "ES256"]).ask(&mut request(TOKEN.trim())).map_err(|local| local.status),
            Err(401)
        );
    }

    #[test]
    fn a_token_may_be_good_for_longer_than_any_clock_counts() {
        let settings = Settings { leeway: Duration::from_secs(60), ..jwt(&["RS256"]).settings };
        let jwt = Jwt::new(&"r".into(), &settings, Arc::default());
        for exp in ["1e300", "18446744073709551615"] {
            let claims = format!("{{\"sub\":\"anna\",\"exp\":{exp}}}");
            let (until, values) = jwt.claim_values(&serde_json::from_str(&claims).unwrap());
            assert_eq!((until, values), (u64::MAX, ClaimValues::from(vec![Some("anna".into())])));
        }
    }

    #[test]
    fn an_rsa_key_is_never_taken_for_a_shared_secret() {
        use jsonwebtoken::{EncodingKey, Header, encode};
        let claims = serde_json::json!({ "iss": "i", "aud": "a", "exp": 4_102_444_800u64 });
        let n = serde_json::from_str::<Value>(JWKS).unwrap()["keys"][0]["n"].as_str().unwrap().to_owned();
        for secret in [JWKS.as_bytes(), n.as_bytes()] {
            let mut header = Header::new(Algorithm::HS256);
            header.kid = Some("one".into());
            let token = encode(&header, &claims, &EncodingKey::from_secret(secret)).unwrap();
            // Not even if the configuration allowed it, which its check prevents.
            for algorithms in [&["RS256"][..], &["RS256", "HS256"]] {
                assert!(jwt(algorithms).ask(&mut request(&token)).is_err());
            }
        }
    }
}
