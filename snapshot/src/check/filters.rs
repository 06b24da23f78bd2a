//! Checks the filters of routes: addresses, methods, rate limits, passwords, tokens.

mod addresses;
mod basic_auth;
mod jwt;

use std::{sync::Arc, time::Duration};

use weir_http::aliases::reads_as;

pub(super) use self::addresses::ip;
use self::{basic_auth::basic_auth, jwt::check_jwt};
use super::{duration, within};
use crate::{
    config::{self, RateKey},
    problem::{Problem, Problems},
    snapshot::{Filters, IpRules, RateLimit},
};

/// Minimum default of `new_values`: several clients often share one address.
const LEAST_NEW_VALUES: u32 = 10;

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

/// Returns the filters of a route together with those of all routes, or `None` for a route without filters.
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

/// Checks the name of a header that a filter or a rewrite sets.
pub(super) fn own_header(name: &str, path: String, problems: &mut Problems) {
    if OWN_HEADERS.iter().any(|own| reads_as(name.as_bytes(), own.as_bytes())) {
        problems.add(path, format!("header {name:?} is managed by Weir and cannot be set here"));
    } else {
        super::resilience::token(name, "header", path, problems);
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
