//! Checks the filters of routes: addresses, methods, rate limits, passwords, tokens.

use std::{collections::HashMap, net::IpAddr, sync::Arc, time::Duration};

use ipnet::{IpNet, Ipv4Net};
use weir_http::aliases::reads_as;

use super::{duration, within};
use crate::{
    config::{self, RateKey},
    problem::{Problem, Problems},
    snapshot::{BasicAuth, Filters, IpRules, Jwt, RateLimit},
};

/// Upper bounds on the cost of one password check: the bcrypt cost, and argon2's memory in KiB, rounds and lanes.
const MOST_BCRYPT: u32 = 14;
const MOST_ARGON2: [(&str, u32); 3] = [("m", 256 << 10), ("t", 10), ("p", 16)];

/// Minimum default of `new_values`: several clients often share one address.
const LEAST_NEW_VALUES: u32 = 10;

/// The largest key set, in bytes.
const MAX_JWKS: usize = 256 << 10;

/// Headers that filters must not set: message framing, routing, and headers that Weir vouches for.
const OWN_HEADERS: [&str; 18] = [
    "host",
    "connection",
    "content-length",
    "transfer-encoding",
    "te",
    "trailer",
    "upgrade",
    "keep-alive",
    "expect",
    "via",
    "forwarded",
    "proxy",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-prefix",
    "x-forwarded-proto",
    "x-real-ip",
    "cookie",
];

/// Returns the filters of a route together with those of all routes; `None` if there are none.
pub(super) fn route(
    route: &config::Route,
    all: Option<&Arc<IpRules>>,
    path: &str,
    (problems, warnings): (&mut Problems, &mut Vec<Problem>),
) -> Option<Arc<Filters>> {
    let own = route.ip_filter.as_ref().map(|filter| ip(filter, &format!("{path}.ip_filter"), problems));
    let filters = Filters {
        ip: all.cloned().into_iter().chain(own).collect(),
        methods: methods(&route.allow_methods, &format!("{path}.allow_methods"), problems),
        rate_limit: route
            .rate_limit
            .as_ref()
            .map(|limit| rate_limit(limit, &format!("{path}.rate_limit"), problems)),
        basic_auth: route
            .basic_auth
            .as_ref()
            .map(|auth| basic_auth(auth, &format!("{path}.basic_auth"), problems)),
        jwt: route.jwt.as_ref().map(|jwt| check_jwt(jwt, &format!("{path}.jwt"), (problems, warnings))),
    };
    let Filters { ip, methods, rate_limit, basic_auth, jwt } = &filters;
    if let (Some(basic), Some(jwt)) = (basic_auth, jwt)
        && &*jwt.header == "authorization"
        && jwt.cookie.is_none()
    {
        let message = format!(
            "a request has only one Authorization header, which the password for realm {:?} needs; set another header or a cookie for the token",
            basic.realm
        );
        problems.add(format!("{path}.jwt.header"), message);
    }
    let asks = !ip.is_empty()
        || !methods.is_empty()
        || rate_limit.is_some()
        || basic_auth.is_some()
        || jwt.is_some();
    asks.then(|| Arc::new(filters))
}

/// Checks allowed and denied client addresses.
pub(super) fn ip(filter: &config::IpFilter, path: &str, problems: &mut Problems) -> Arc<IpRules> {
    let mut seen: HashMap<IpNet, bool> = HashMap::with_capacity(filter.allow.len() + filter.deny.len());
    let mut prefixes = Vec::with_capacity(filter.allow.len() + filter.deny.len());
    let lists = [("allow", &filter.allow, true), ("deny", &filter.deny, false)];
    for (list, i, text, allow) in lists.iter().flat_map(|(list, texts, allow)| {
        texts.iter().enumerate().map(move |(i, text)| (list, i, text, *allow))
    }) {
        let place = || format!("{path}.{list}[{i}]");
        match prefix(text) {
            Err(message) => problems.add(place(), message),
            Ok(net) => match seen.insert(net, allow) {
                None => prefixes.push((net, allow)),
                Some(before) if before == allow => problems.add(place(), format!("duplicate prefix {net}")),
                Some(_) => {
                    problems.add(place(), format!("{net} is both allowed and denied"));
                }
            },
        }
    }
    if filter.allow.is_empty() && filter.deny.is_empty() {
        problems.add(path, "allow and deny are both empty: expected at least one prefix");
    }
    Arc::new(IpRules::new(&prefixes, filter.allow.is_empty()))
}

/// Parses a prefix or a single address. IPv4-mapped IPv6 becomes IPv4.
fn prefix(text: &str) -> Result<IpNet, String> {
    let wrong =
        || format!("{text:?} is not a prefix (expected for example 10.0.0.0/8, 2001:db8::/32 or 192.0.2.7)");
    let net = match text.parse::<IpAddr>() {
        Ok(address) => IpNet::from(address),
        Err(_) => text.parse::<IpNet>().map_err(|_| wrong())?,
    };
    if net.trunc() != net {
        return Err(format!("{text:?} has host bits set; the network is {}", net.trunc()));
    }
    if let IpNet::V6(v6) = net
        && v6.prefix_len() >= 96
        && let Some(v4) = v6.addr().to_ipv4_mapped()
    {
        return Ipv4Net::new(v4, v6.prefix_len() - 96).map(IpNet::V4).map_err(|_| wrong());
    }
    Ok(net)
}

fn methods(methods: &[String], path: &str, problems: &mut Problems) -> Vec<Arc<str>> {
    for (i, method) in methods.iter().enumerate() {
        let place = format!("{path}[{i}]");
        let is_name = (1..=32).contains(&method.len())
            && method.bytes().all(|b| b.is_ascii_uppercase() || b == b'-' || b == b'_');
        if !is_name {
            problems.add(place, format!("{method:?} is not a method (expected upper case, for example GET)"));
        } else if matches!(method.as_str(), "CONNECT" | "TRACE") {
            problems.add(place, format!("{method} is never forwarded"));
        } else if methods[..i].contains(method) {
            problems.add(place, format!("duplicate method {method}"));
        }
    }
    let mut methods: Vec<Arc<str>> = methods.iter().map(|method| Arc::from(method.as_str())).collect();
    // HEAD is allowed wherever GET is (RFC 9110 section 9.3.2).
    if methods.iter().any(|method| &**method == "GET") && !methods.iter().any(|method| &**method == "HEAD") {
        methods.push("HEAD".into());
    }
    methods
}

fn rate_limit(limit: &config::RateLimit, path: &str, problems: &mut Problems) -> RateLimit {
    let config::RateLimit { requests, per, burst, new_values, ref key, scope } = *limit;
    if requests == 0 {
        problems.add(format!("{path}.requests"), "a limit of 0 requests rejects every request; to do that, set ip_filter { deny: [0.0.0.0/0, \"::/0\"] } or remove the route");
    } else {
        within(requests, (1, 1_000_000), path, "requests", problems);
    }
    let per = duration(per, Duration::from_secs(1), format!("{path}.per"), problems);
    if per > Duration::from_secs(86_400) {
        problems.add(format!("{path}.per"), format!("{} is out of bounds (1s to 1d)", limit.per));
    }
    let burst = burst.unwrap_or(requests);
    if requests > 0 {
        within(burst, (1, 1_000_000), path, "burst", problems);
    }
    if let RateKey::Header(name) = key {
        super::resilience::token(name, "header", format!("{path}.key.header"), problems);
    }
    if let Some(new_values) = new_values {
        if matches!(key, RateKey::Header(_)) {
            within(new_values, (1, 1_000_000), path, "new_values", problems);
        } else {
            let message = "new_values is only allowed with key: { header: … }";
            problems.add(format!("{path}.new_values"), message);
        }
    }
    let new_values = new_values.unwrap_or(requests.max(LEAST_NEW_VALUES));
    RateLimit { requests, per, burst, new_values, key: key.clone(), scope }
}

fn basic_auth(auth: &config::BasicAuth, path: &str, problems: &mut Problems) -> BasicAuth {
    let realm = &auth.realm;
    if realm.is_empty()
        || realm.len() > 100
        || realm.bytes().any(|b| !(b' '..=b'~').contains(&b) || b == b'"' || b == b'\\')
    {
        problems.add(
            format!("{path}.realm"),
            format!(
                "{realm:?} is not a valid realm (1 to 100 visible ASCII characters without quotes or backslashes)"
            ),
        );
    }
    if auth.users.is_empty() {
        problems.add(format!("{path}.users"), "no users: every request would be rejected");
    }
    for (name, hash) in &auth.users {
        let place = format!("{path}.users.{name}");
        // A colon ends the user name (RFC 7617 section 2). The name is sent in a header, so control characters are
        // not allowed.
        if name.is_empty() || name.len() > 100 || !name.bytes().all(|b| b.is_ascii_graphic() && b != b':') {
            problems.add(
                place.clone(),
                format!(
                    "{name:?} is not a valid user name (1 to 100 visible ASCII characters without a colon)"
                ),
            );
        }
        if let Err(message) = password_hash(hash) {
            problems.add(place, message);
        }
    }
    own_header(&auth.user_header, format!("{path}.user_header"), problems);
    BasicAuth {
        realm: realm.as_str().into(),
        users: auth.users.iter().map(|(name, hash)| (name.as_str().into(), hash.as_str().into())).collect(),
        user_header: auth.user_header.to_ascii_lowercase().into(),
        keep_authorization: auth.keep_authorization,
    }
}

/// Checks that a node can verify a password hash in bounded time. Messages never contain the hash.
fn password_hash(hash: &str) -> Result<(), String> {
    const WHAT: &str = "is not a password hash; create one with `weir hash-password` ($argon2id$… or $2b$…)";
    if hash.starts_with(crate::mask::PREFIX) {
        return Err(
            "is a masked hash: the configuration was exported without an admin token; export it with an admin token or set the hash"
                .into(),
        );
    }
    let parts: Vec<&str> = hash.split('$').collect();
    match *parts.as_slice() {
        ["", "2a" | "2b" | "2x" | "2y", cost, rest] => {
            let is_whole =
                rest.len() == 53 && rest.bytes().all(|b| b.is_ascii_alphanumeric() || b"./".contains(&b));
            let cost = cost.parse::<u32>().ok().filter(|_| cost.len() == 2 && is_whole).ok_or(WHAT)?;
            if !(4..=MOST_BCRYPT).contains(&cost) {
                return Err(format!("bcrypt cost {cost} is out of bounds (4 to {MOST_BCRYPT})"));
            }
            Ok(())
        }
        ["", "argon2id" | "argon2i" | "argon2d", "v=19", params, salt, output] => {
            let is_base64 =
                |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || b"+/".contains(&b));
            if !(11..=64).contains(&salt.len())
                || !(16..=86).contains(&output.len())
                || !is_base64(salt)
                || !is_base64(output)
            {
                return Err(WHAT.into());
            }
            let mut given = params.split(',');
            for (name, most) in MOST_ARGON2 {
                let value = given
                    .next()
                    .and_then(|param| param.strip_prefix(name)?.strip_prefix('=')?.parse::<u32>().ok());
                match value {
                    None => return Err(WHAT.into()),
                    Some(value) if value == 0 || value > most => {
                        return Err(format!(
                            "argon2 parameter {name}={value} is out of bounds (1 to {most})"
                        ));
                    }
                    Some(_) => {}
                }
            }
            if given.next().is_some() { Err(WHAT.into()) } else { Ok(()) }
        }
        _ => Err(WHAT.into()),
    }
}

/// Checks the name of a header that a filter or a rewrite sets.
pub(super) fn own_header(name: &str, path: String, problems: &mut Problems) {
    if OWN_HEADERS.iter().any(|own| reads_as(name.as_bytes(), own.as_bytes())) {
        problems.add(path, format!("header {name:?} is managed by Weir and cannot be set here"));
    } else {
        super::resilience::token(name, "header", path, problems);
    }
}

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

fn check_jwt(jwt: &config::Jwt, path: &str, (problems, warnings): (&mut Problems, &mut Vec<Problem>)) -> Jwt {
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
    super::resilience::token(&jwt.header, "header", format!("{path}.header"), problems);
    if let Some(cookie) = &jwt.cookie {
        super::resilience::token(cookie, "cookie", format!("{path}.cookie"), problems);
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

#[cfg(test)]
mod tests {
    use crate::{check, file};

    const RSA: &str = include_str!("../../tests/keys/rsa.json");

    fn said(route: &str) -> String {
        let text = format!("pools: [{{ name: p }}]\nroutes:\n  - name: r\n    pool: p\n    {route}\n");
        match file::parse(&text) {
            Ok(_) => String::new(),
            Err(problems) => problems.to_string(),
        }
    }

    #[test]
    fn every_problem_has_its_path() {
        let hash = "$2b$10$abcdefghijklmnopqrstuuABCDEFGHIJKLMNOPQRSTUVWXYZ01234";
        let basic = |users: &str| format!("basic_auth: {{ realm: a, users: {{ {users} }} }}");
        let token = |more: &str| format!("jwt: {{ issuer: i, audience: [a], jwks: {RSA}, {more} }}");
        for (route, says) in [
            ("ip_filter: { allow: [10.0.0.1/8] }".to_owned(), "routes[0].ip_filter.allow[0]: \"10.0.0.1/8\" has host bits set; the network is 10.0.0.0/8"),
            ("ip_filter: { deny: [\"2001:db8::1/32\"] }".into(), "the network is 2001:db8::/32"),
            ("ip_filter: { deny: [10.0.0.0/33] }".into(), "routes[0].ip_filter.deny[0]: \"10.0.0.0/33\" is not a prefix"),
            ("ip_filter: { deny: [1.2.3] }".into(), "is not a prefix"),
            ("ip_filter: { allow: [10.0.0.0/8, 10.0.0.0/8] }".into(), "allow[1]: duplicate prefix 10.0.0.0/8"),
            ("ip_filter: { allow: [10.0.0.0/8], deny: [\"::ffff:10.0.0.0/104\"] }".into(), "deny[0]: 10.0.0.0/8 is both allowed and denied"),
            ("ip_filter: {}".into(), "routes[0].ip_filter: allow and deny are both empty: expected at least one prefix"),
            ("ip_filter: { allows: [] }".into(), "unknown key"),
            ("allow_methods: [get]".into(), "routes[0].allow_methods[0]: \"get\" is not a method"),
            ("allow_methods: [GET, TRACE]".into(), "TRACE is never forwarded"),
            ("allow_methods: [GET, GET]".into(), "duplicate method GET"),
            ("rate_limit: { requests: 0, per: 1m }".into(), "routes[0].rate_limit.requests: a limit of 0 requests"),
            ("rate_limit: { requests: 5, per: 0s }".into(), "routes[0].rate_limit.per: 0s is out of bounds"),
            ("rate_limit: { requests: 5, per: 2d }".into(), "routes[0].rate_limit.per: 2d is out of bounds"),
            ("rate_limit: { requests: 5, per: 1m, burst: 0 }".into(), "routes[0].rate_limit.burst: burst 0"),
            ("rate_limit: { requests: 5, per: 1m, key: colour }".into(), "client_ip"),
            ("rate_limit: { requests: 5, per: 1m, key: { header: \"a b\" } }".into(), "routes[0].rate_limit.key.header"),
            ("rate_limit: { requests: 5, per: 1m, scope: world }".into(), "fleet"),
            ("rate_limit: { per: 1m }".into(), "requests"),
            (basic(""), "routes[0].basic_auth.users: no users"),
            (basic("anna: secret"), "routes[0].basic_auth.users.anna: is not a password hash"),
            (basic("anna: $2b$31$abcdefghijklmnopqrstuuABCDEFGHIJKLMNOPQRSTUVWXYZ01234"), "cost 31 is out of bounds"),
            (basic("anna: \"$argon2id$v=19$m=99999999,t=2,p=1$c29tZXNhbHRzYWx0$MTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTI\""), "m=99999999 is out of bounds"),
            (basic(&format!("\"a:b\": {hash}")), "is not a valid user name"),
            (format!("basic_auth: {{ realm: 'a\"b', users: {{ a: {hash} }} }}"), "routes[0].basic_auth.realm"),
            (format!("basic_auth: {{ user_header: host, users: {{ a: {hash} }} }}"), "routes[0].basic_auth.user_header"),
            (format!("jwt: {{ jwks: {RSA} }}"), "routes[0].jwt.issuer: the issuer is missing"),
            (format!("jwt: {{ jwks: {RSA} }}"), "routes[0].jwt.audience: the audience is missing"),
            (token("algorithms: [none]"), "routes[0].jwt.algorithms[0]: algorithm \"none\" would accept unsigned tokens"),
            (token("algorithms: [HS256]"), "algorithm HS256 needs a shared secret"),
            (token("algorithms: [ES256]"), "routes[0].jwt.jwks: no key fits"),
            (token("algorithms: []"), "no algorithm is allowed"),
            (token("claims_to_headers: { sub: host }"), "routes[0].jwt.claims_to_headers.sub"),
            (token("claims_to_headers: { sub: authorization }"), "is used twice"),
            (token("leeway: 1h"), "routes[0].jwt.leeway: 1h is out of bounds"),
            ("jwt: { issuer: i, audience: [a], jwks: keys.json }".into(), "routes[0].jwt.jwks: is not a JSON Web Key Set"),
            ("jwt: { issuer: i, audience: [a], jwks: { keys: [{ kty: oct, k: abcd }] } }".into(), "keys[0]: is a shared secret"),
            ("jwt: { issuer: i, audience: [a], jwks: { keys: [{ kty: RSA, n: AQAB, e: AQAB, d: AQAB }] } }".into(), "keys[0]: is a private key"),
            ("jwt: { issuer: i, audience: [a], jwks: { keys: [{ kty: RSA, n: AQAB, e: AQAB }] } }".into(), "less than 2048 bits"),
            ("jwt: 5".into(), "routes[0].jwt"),
            ("rate_limit: { requests: 5, per: 1m, new_values: 5 }".into(), "routes[0].rate_limit.new_values: new_values is only allowed with"),
            ("rate_limit: { requests: 5, per: 1m, key: { header: a }, new_values: 0 }".into(), "routes[0].rate_limit.new_values: new_values 0"),
            ("jwt: { issuer: i, audience: [a], jwks: { keys: [{ kty: AKP, alg: ML-DSA-44 }] } }".into(), "keys[0]: has an unknown type"),
            (format!("basic_auth: {{ user_header: X_Forwarded_For, users: {{ a: {hash} }} }}"), "routes[0].basic_auth.user_header"),
            (token("claims_to_headers: { sub: x_real_ip }"), "routes[0].jwt.claims_to_headers.sub"),
        ] {
            let said = said(&route);
            assert!(said.contains(says), "{route}:\n{said}");
            assert!(!said.contains(hash), "messages contain no hash");
        }
    }

    #[test]
    fn valid_filters_round_trip_through_yaml() {
        let text = format!(
            r#"
settings:
  ip_filter: {{ deny: [192.0.2.7] }}
pools: [{{ name: p }}]
routes:
  - name: r
    pool: p
    ip_filter: {{ allow: [10.0.0.0/8, "2001:db8::/32"], deny: [10.6.6.0/24] }}
    allow_methods: [GET, POST]
    rate_limit: {{ requests: 20, per: 1m, burst: 5, key: {{ header: x-api-key }}, scope: fleet }}
    basic_auth: {{ realm: Books, users: {{ anna: "$2y$10$abcdefghijklmnopqrstuuABCDEFGHIJKLMNOPQRSTUVWXYZ01234" }} }}
    jwt: {{ issuer: "https://id.example", audience: [books], jwks: {RSA}, header: x-token, claims_to_headers: {{ sub: X-User }} }}
"#
        );
        let (config, snapshot) = file::parse(&text).unwrap();
        let filters = snapshot.routes[0].filters.as_ref().unwrap();
        assert_eq!(filters.ip.len(), 2);
        assert_eq!(filters.methods.iter().map(|m| &**m).collect::<Vec<_>>(), ["GET", "POST", "HEAD"]);
        let limit = filters.rate_limit.as_ref().unwrap();
        assert_eq!((limit.burst, limit.new_values), (5, 20));
        assert_eq!(&*filters.jwt.as_ref().unwrap().claims_to_headers[0].1, "x-user");
        let yaml = file::to_yaml(&config);
        assert_eq!(file::parse(&yaml).unwrap().0, config, "{yaml}");
        let json = serde_json::to_string(&config).unwrap();
        assert_eq!(file::parse(&json).unwrap().0, config, "{json}");
        assert_eq!(check(&config).unwrap(), snapshot);
    }

    #[test]
    fn unusable_keys_are_ignored_with_a_warning() {
        let good = &serde_json::from_str::<serde_json::Value>(RSA).unwrap()["keys"][0];
        let x = "A".repeat(43);
        for (other, says) in [
            (r#"{"kty":"AKP","alg":"ML-DSA-44","pub":"AA"}"#.to_owned(), "unknown type (kty \"AKP\""),
            (r#"{"kty":"EC","crv":"P-521","x":"AA","y":"AA"}"#.into(), "unknown type"),
            (r#"{"kty":"EC","crv":"secp256k1","x":"AA","y":"AA"}"#.into(), "unknown type"),
            (format!(r#"{{"kty":"OKP","crv":"X25519","x":"{x}"}}"#), "unknown type"),
            (r#"{"kty":"EC","crv":"P-256","x":"AA"}"#.into(), "has no y"),
            (r#"{"kty":"RSA","n":"AQAB","e":"AQAB"}"#.into(), "less than 2048 bits"),
            (r#"{"kty":"EC","crv":"P-256","x":"AA","y":"AA","alg":"ECDH-ES"}"#.into(), "does not fit"),
            (r#"{"kid":"nothing"}"#.into(), "unknown type"),
        ] {
            for keys in [format!("[{good}, {other}]"), format!("[{other}, {good}]")] {
                let text = format!(
                    "pools: [{{ name: p }}]\nroutes: [{{ name: r, pool: p, jwt: {{ issuer: i, audience: [a], jwks: {{ \"keys\": {keys} }} }} }}]\n"
                );
                let (_, snapshot) =
                    file::parse(&text).unwrap_or_else(|problems| panic!("{keys}: {problems}"));
                let told: Vec<String> = snapshot.warnings.iter().map(ToString::to_string).collect();
                assert!(told.len() == 1 && told[0].contains(says) && told[0].contains("ignored"), "{told:?}");
                assert!(told[0].contains("routes[0].jwt.jwks.keys["), "{told:?}");
            }
        }
        // Secrets are rejected even beside valid keys.
        for secret in [r#"{"kty":"oct","k":"abcd"}"#, r#"{"kty":"RSA","n":"AQAB","e":"AQAB","d":"AQAB"}"#] {
            let route =
                format!("jwt: {{ issuer: i, audience: [a], jwks: {{ \"keys\": [{good}, {secret}] }} }}");
            assert!(said(&route).contains("keys[1]: is a"), "{}", said(&route));
        }
    }

    #[test]
    fn a_route_without_filter_settings_has_no_filters() {
        let (_, snapshot) = file::parse("pools: [{ name: p }]\nroutes: [{ name: r, pool: p }]\n").unwrap();
        assert_eq!(snapshot.routes[0].filters, None);
    }
}
