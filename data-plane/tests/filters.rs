//! Filters of routes through the real program: addresses, methods, rates, passwords, tokens.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "these are tests, outside test functions")]

#[allow(unused_imports, reason = "each test program uses its own part of it")]
mod support;

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use base64::{Engine as _, prelude::BASE64_STANDARD as BASE64};
use bytes::Bytes;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode, jwk::Jwk};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpSocket},
};
use weir_proto::v1::{self, subscribe_response::Message};
use weir_snapshot::{
    Config,
    config::{BasicAuth, IpFilter, Jwks, Jwt, RateKey, RateLimit, RateScope, Route},
};

use support::{
    delta,
    wire::{Kind, Wire, config},
    within,
};

/// Answers each request with the head that came.
async fn echo() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut stream = BufReader::new(stream);
                let mut head = String::new();
                while stream.read_line(&mut head).await.is_ok_and(|read| read > 0) {
                    if head.ends_with("\r\n\r\n") {
                        let answer =
                            format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{head}", head.len());
                        if stream.write_all(answer.as_bytes()).await.is_err() {
                            return;
                        }
                        head.clear();
                    }
                }
            });
        }
    });
    url
}

/// A node in front of the echo, with one route.
struct Stage {
    wire: Wire,
    config: Config,
}

struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn field(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (found, value) = line.split_once(": ")?;
            found.eq_ignore_ascii_case(name).then_some(value)
        })
    }
}

impl Stage {
    async fn new(route: Route) -> Self {
        let mut config = config(&[echo().await]);
        config.routes[0] = Route { name: "api".into(), pool: "default".into(), ..route };
        Self { wire: Wire::start(config.clone()).await, config }
    }

    /// Changes the configuration, and waits until it is in use.
    async fn change(&mut self, revision: u64, change: impl FnOnce(&mut Config)) {
        let before = self.config.clone();
        change(&mut self.config);
        self.wire.control.push(Message::Delta(delta(revision - 1, &before, revision, &self.config)));
        self.wire.control.acked(revision).await;
    }

    async fn get(&self, lines: &str) -> Answer {
        self.ask(Ipv4Addr::LOCALHOST, "GET", lines).await
    }

    async fn ask(&self, from: Ipv4Addr, method: &str, lines: &str) -> Answer {
        let exchange = async {
            let socket = TcpSocket::new_v4().unwrap();
            socket.bind(SocketAddr::from((from, 0))).unwrap();
            let mut stream = socket.connect(self.wire.node.http).await.unwrap();
            let head = format!("{method} / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{lines}\r\n");
            stream.write_all(head.as_bytes()).await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            answer
        };
        let answer = within(exchange).await;
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Answer { status, head: head.to_owned(), body: body.to_owned() }
    }

    /// The head of an answer over HTTP/2.
    async fn http2(&self, grpc: bool) -> http::response::Parts {
        let mut client = self.wire.h2(Kind::H2c).await;
        let mut request = http::Request::post("http://a/s.S/M");
        if grpc {
            request = request.header("content-type", "application/grpc");
        }
        let (answer, mut body) = client.send_request(request.body(()).unwrap(), false).unwrap();
        body.send_data(Bytes::from_static(&[0; 5]), true).unwrap();
        within(answer).await.unwrap().into_parts().0
    }

    async fn metric(&self, line: &str) -> u64 {
        let metrics = self.wire.node.ask("/metrics").await.body;
        let value = metrics.lines().find_map(|found| found.strip_prefix(line)?.strip_prefix(' '));
        value.unwrap_or_else(|| panic!("{line} is not in {metrics}")).parse().unwrap()
    }
}

const OTHER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

#[tokio::test]
async fn addresses_are_taken_or_refused_by_the_longest_prefix_over_every_protocol() {
    let filter = IpFilter { allow: vec!["127.0.0.0/8".into()], deny: vec!["127.0.0.1".into()] };
    let mut stage = Stage::new(Route { ip_filter: Some(filter), ..Route::default() }).await;
    let refused = stage.get("").await;
    assert_eq!(refused.status, 403);
    assert_eq!(refused.field("content-type"), Some("application/problem+json"));
    assert!(refused.body.contains("the route does not allow this address"), "{}", refused.body);
    assert_eq!(stage.http2(false).await.status, 403);
    let grpc = stage.http2(true).await;
    assert_eq!((grpc.status.as_u16(), &grpc.headers["grpc-status"]), (200, &"7".parse().unwrap()));
    assert_eq!(stage.ask(OTHER, "GET", "").await.status, 200);
    assert_eq!(stage.metric("weir_node_route_refused_total{route=\"api\",filter=\"ip_filter\"}").await, 3);
    let told = |heard: &support::control_plane::Heard| {
        heard
            .loads
            .iter()
            .flat_map(|load| &load.routes)
            .find(|route| route.refused.get("ip_filter") == Some(&3))
            .cloned()
    };
    assert_eq!(stage.wire.control.wait("the count", told).await.route, "api");

    // The fleet's own filter is asked as well.
    stage
        .change(2, |config| {
            config.settings.ip_filter = Some(IpFilter { allow: vec![], deny: vec!["127.0.0.2".into()] });
            config.routes[0].ip_filter = None;
        })
        .await;
    assert_eq!(stage.get("").await.status, 200);
    assert_eq!(stage.ask(OTHER, "GET", "").await.status, 403);
}

#[tokio::test]
async fn methods_that_are_not_taken_are_told_which_are() {
    let stage = Stage::new(Route { allow_methods: vec!["GET".into()], ..Route::default() }).await;
    assert_eq!(stage.get("").await.status, 200);
    assert_eq!(stage.ask(OTHER, "HEAD", "").await.status, 200);
    let refused = stage.ask(OTHER, "DELETE", "").await;
    assert_eq!((refused.status, refused.field("allow")), (405, Some("GET, HEAD")));
    assert_eq!(refused.head.to_lowercase().matches("\r\nallow: ").count(), 1);
    let http2 = stage.http2(false).await;
    assert_eq!((http2.status.as_u16(), &http2.headers["allow"]), (405, &"GET, HEAD".parse().unwrap()));
}

fn limit(requests: u32, scope: RateScope, key: RateKey) -> RateLimit {
    RateLimit { requests, per: "1m".parse().unwrap(), burst: None, new_values: None, key, scope }
}

/// 25 requests of one client, each with these fields; the statuses. `None`: it took so long that the limit let one
/// more through.
async fn twenty_five(stage: &Stage, from: Ipv4Addr, lines: &str) -> Option<Vec<Answer>> {
    let begun = Instant::now();
    let mut answers = Vec::new();
    for _ in 0..25 {
        answers.push(stage.ask(from, "GET", lines).await);
    }
    (begun.elapsed() < Duration::from_millis(2900)).then_some(answers)
}

fn count(answers: &[Answer], status: u16) -> usize {
    answers.iter().filter(|answer| answer.status == status).count()
}

#[tokio::test]
async fn of_twenty_five_requests_twenty_pass_and_others_are_untouched() {
    let limit = limit(20, RateScope::Node, RateKey::ClientIp);
    let mut stage = Stage::new(Route { rate_limit: Some(limit), ..Route::default() }).await;
    let mut last = 10;
    // Each try is another client, so that a busy machine only costs another try.
    let (client, answers) = loop {
        last += 1;
        let client = Ipv4Addr::new(127, 0, 0, last);
        if let Some(answers) = twenty_five(&stage, client, "").await {
            break (client, answers);
        }
    };
    assert_eq!((count(&answers, 200), count(&answers, 429)), (20, 5));
    assert!(answers[..20].iter().all(|answer| answer.status == 200), "the first ones pass");
    assert_eq!(answers[0].field("ratelimit-policy"), Some("\"api\";q=20;w=60"));
    assert_eq!(answers[0].field("ratelimit"), Some("\"api\";r=19;t=3"));
    let refused = &answers[24];
    let wait: u64 = refused.field("retry-after").unwrap().parse().unwrap();
    assert!((1..=3).contains(&wait), "{wait}");
    assert_eq!(refused.field("ratelimit-policy"), Some("\"api\";q=20;w=60"));
    assert_eq!(refused.field("ratelimit"), Some(format!("\"api\";r=0;t={wait}").as_str()));
    assert_eq!(stage.ask(OTHER, "GET", "").await.field("ratelimit"), Some("\"api\";r=19;t=3"));
    let refusals = "weir_node_route_refused_total{route=\"api\",filter=\"rate_limit\"}";
    assert!(stage.metric(refusals).await >= 5);

    // Other changes leave the limit as it is; a changed limit keeps its clients.
    stage.change(2, |config| config.pools[0].timeouts.idle = "30s".parse().unwrap()).await;
    let left = |answer: &Answer| -> u64 {
        let text = answer.field("ratelimit").unwrap().split("r=").nth(1).unwrap();
        text.split(';').next().unwrap().parse().unwrap()
    };
    assert!(left(&stage.ask(OTHER, "GET", "").await) <= 19);
    stage.change(3, |config| config.routes[0].rate_limit.as_mut().unwrap().requests = 60).await;
    let after = stage.ask(client, "GET", "").await;
    // A minute's debt goes a second at a time now: nothing near the whole 60 is there.
    assert!(after.status == 429 || left(&after) < 40, "{}", after.head);
}

#[tokio::test]
async fn a_key_of_a_header_is_a_client_and_http2_is_told_the_same() {
    let limit = limit(1, RateScope::Node, RateKey::Header("x-api-key".into()));
    let stage = Stage::new(Route { rate_limit: Some(limit), ..Route::default() }).await;
    for (lines, status) in [
        ("X-Api-Key: one\r\n", 200),
        ("x-api-key: one\r\n", 429),
        ("X-Api-Key: two\r\n", 200),
        ("", 200),
        ("", 429),
    ] {
        assert_eq!(stage.get(lines).await.status, status, "{lines}");
    }
    // Without a key it uses the address, which has sent a request already.
    let http2 = stage.http2(false).await;
    assert_eq!(http2.status, 429);
    for name in ["retry-after", "ratelimit", "ratelimit-policy"] {
        assert!(http2.headers.contains_key(name), "{name}: {http2:?}");
    }
    assert_eq!(stage.http2(true).await.headers["grpc-status"], "8");
}

#[tokio::test]
async fn a_limit_of_the_fleet_is_shared_by_as_many_nodes_as_the_control_plane_says() {
    let limit = limit(20, RateScope::Fleet, RateKey::ClientIp);
    let stage = Stage::new(Route { rate_limit: Some(limit), ..Route::default() }).await;
    stage.wire.control.push(Message::FleetSize(v1::FleetSize { nodes: 2 }));
    let mut last = 10;
    let answers = loop {
        last += 1;
        let client = Ipv4Addr::new(127, 0, 0, last);
        // The message has come when the first answer says so.
        let answers = twenty_five(&stage, client, "").await;
        if let Some(answers) = answers.filter(|all| all[0].field("ratelimit") == Some("\"api\";r=9;t=6")) {
            break answers;
        }
    };
    assert_eq!((count(&answers, 200), count(&answers, 429)), (10, 15));
    // The policy is the fleet's, whoever tells it.
    assert_eq!(answers[0].field("ratelimit-policy"), Some("\"api\";q=20;w=60"));
}

fn basic(user: &str, password: &str) -> String {
    format!("Authorization: Basic {}\r\n", BASE64.encode(format!("{user}:{password}")))
}

#[tokio::test]
async fn a_password_lets_its_user_in_and_the_backend_learns_only_the_name() {
    let users = BTreeMap::from([
        ("anna".to_owned(), bcrypt::hash("secret", 4).unwrap()),
        ("ben".to_owned(), bcrypt::hash("other", 4).unwrap()),
    ]);
    let auth = BasicAuth { realm: "Books".into(), users, ..BasicAuth::default() };
    let stage = Stage::new(Route { basic_auth: Some(auth), ..Route::default() }).await;
    let checked = async || stage.metric("weir_node_passwords_checked_total").await;
    let good = stage.get(&format!("{}X-Weir-User: root\r\n", basic("anna", "secret"))).await;
    assert_eq!(good.status, 200);
    let seen = good.body.to_lowercase();
    assert!(seen.contains("\r\nx-weir-user: anna\r\n"), "{seen}");
    assert!(!seen.contains("root") && !seen.contains("authorization"), "{seen}");
    assert_eq!(checked().await, 1);
    assert_eq!(stage.get(&basic("anna", "secret")).await.status, 200);
    assert_eq!(checked().await, 1, "it is remembered");
    for lines in [
        String::new(),
        basic("anna", "wrong"),
        basic("ben", "secret"),
        basic("nobody", "secret"),
        basic("anna", ""),
        "Authorization: Basic !\r\n".into(),
        format!("{}{}", basic("anna", "secret"), basic("ben", "other")),
    ] {
        let refused = stage.get(&lines).await;
        assert_eq!(refused.status, 401, "{lines}");
        assert_eq!(refused.field("www-authenticate"), Some("Basic realm=\"Books\", charset=\"UTF-8\""));
    }
    assert_eq!(stage.http2(true).await.headers["grpc-status"], "16");
    let refusals = "weir_node_route_refused_total{route=\"api\",filter=\"auth\"}";
    assert_eq!(stage.metric(refusals).await, 8);
}

/// A key pair: what signs, and what the node is given.
struct Signer {
    key: EncodingKey,
    jwk: Value,
}

impl Signer {
    fn new(id: &str) -> Self {
        let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        let key = EncodingKey::from_ec_der(&pair.serialize_der());
        let mut jwk = serde_json::to_value(Jwk::from_encoding_key(&key, Algorithm::ES256).unwrap()).unwrap();
        jwk["kid"] = id.into();
        Self { key, jwk }
    }

    fn sign(&self, kid: Option<&str>, claims: &Value) -> String {
        let header = Header { kid: kid.map(str::to_owned), ..Header::new(Algorithm::ES256) };
        encode(&header, claims, &self.key).unwrap()
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

fn claims(more: Value) -> Value {
    let mut claims =
        json!({ "iss": "https://id.example", "aud": "books", "sub": "anna", "exp": now() + 600 });
    for (name, value) in more.as_object().unwrap() {
        claims[name] = value.clone();
    }
    claims
}

#[tokio::test]
async fn a_good_token_lets_in_and_all_others_are_told_why_not() {
    let (signer, stranger) = (Signer::new("one"), Signer::new("one"));
    let jwks = json!({ "keys": [Signer::new("old").jwk, signer.jwk] }).to_string();
    let jwt = Jwt {
        issuer: "https://id.example".into(),
        audience: vec!["books".into(), "more".into()],
        jwks: Jwks(jwks.clone()),
        cookie: Some("session".into()),
        claims_to_headers: [("sub", "x-user"), ("roles", "x-roles"), ("none", "x-none")]
            .map(|(claim, header)| (claim.to_owned(), header.to_owned()))
            .into(),
        keep_authorization: false,
        ..Jwt::default()
    };
    let stage = Stage::new(Route { jwt: Some(jwt), ..Route::default() }).await;
    let bearer = |token: &str| format!("Authorization: Bearer {token}\r\n");

    let token = signer.sign(Some("one"), &claims(json!({ "roles": ["a", "b"], "aud": ["x", "more"] })));
    for _ in 0..2 {
        let good = stage.get(&format!("{}X-User: root\r\nX-None: 1\r\n", bearer(&token))).await;
        let seen = good.body.to_lowercase();
        assert_eq!(good.status, 200, "{} {}", good.head, good.body);
        assert!(seen.contains("\r\nx-user: anna\r\n") && seen.contains("\r\nx-roles: a,b\r\n"), "{seen}");
        assert!(
            !seen.contains("root") && !seen.contains("x-none") && !seen.contains("authorization"),
            "{seen}"
        );
    }
    // Without a key's name every key is tried; in a cookie it is as good, and the others stay.
    let token = signer.sign(None, &claims(json!({})));
    let good = stage.get(&format!("Cookie: a=1; session={token}; b=2\r\n")).await;
    assert_eq!(good.status, 200, "{}", good.head);
    assert!(good.body.contains("a=1; b=2\r\n") && !good.body.contains("session"), "{}", good.body);

    let part = |value: &Value| base64::prelude::BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
    let body = part(&claims(json!({})));
    let unsigned = format!("{}.{body}.", part(&json!({ "alg": "none", "typ": "JWT" })));
    // Signed with what everyone knows, as if it were a shared secret.
    let confused = encode(&Header::default(), &claims(json!({})), &EncodingKey::from_secret(jwks.as_bytes()));
    let relabelled = {
        let token = signer.sign(Some("one"), &claims(json!({})));
        let rest = token.split_once('.').unwrap().1;
        format!("{}.{rest}", part(&json!({ "alg": "HS256", "kid": "one" })))
    };
    let critical = {
        let mut header = Header::new(Algorithm::ES256);
        header.crit = Some(vec!["exp".into()]);
        encode(&header, &claims(json!({})), &signer.key).unwrap()
    };
    let good = signer.sign(Some("one"), &claims(json!({})));
    let mut forged = good.clone().into_bytes();
    let at = good.find('.').unwrap() + 10;
    forged[at] = if forged[at] == b'A' { b'B' } else { b'A' };
    let sign = |more: Value| signer.sign(Some("one"), &claims(more));
    for (token, why) in [
        (unsigned, "algorithm unknown"),
        (confused.unwrap(), "algorithm that is not allowed"),
        (relabelled, "algorithm that is not allowed"),
        (critical, "extension that is unknown"),
        (stranger.sign(Some("one"), &claims(json!({}))), "signature is wrong"),
        (signer.sign(Some("two"), &claims(json!({}))), "unknown key"),
        (String::from_utf8(forged).unwrap(), "signature is wrong"),
        (sign(json!({ "exp": now() - 31 })), "has expired"),
        (sign(json!({ "exp": "soon" })), "malformed"),
        (sign(json!({ "exp": null })), "lacks exp"),
        (sign(json!({ "nbf": now() + 100 })), "not valid yet"),
        (sign(json!({ "iss": "https://evil.example" })), "another issuer"),
        (sign(json!({ "aud": "films" })), "another audience"),
        (sign(json!({ "aud": null })), "lacks exp, iss or aud"),
        ("nonsense".into(), "malformed"),
        ("a.b.c".into(), "malformed"),
        ("x".repeat(20_000), "too long"),
    ] {
        let refused = stage.get(&bearer(&token)).await;
        assert_eq!(refused.status, 401, "{why}");
        let challenge = refused.field("www-authenticate").unwrap();
        let begins = "Bearer realm=\"api\", error=\"invalid_token\", error_description=\"";
        assert!(challenge.starts_with(begins) && challenge.contains(why), "{why}: {challenge}");
    }
    let none = stage.get("").await;
    assert_eq!((none.status, none.field("www-authenticate")), (401, Some("Bearer realm=\"api\"")));
    let two = stage.get(&format!("{}{}", bearer(&good), bearer(&good))).await;
    assert_eq!(two.status, 401);
    // RFC 7519, 4.1.4 and 4.1.1: at its exp a token is over, and an issuer is one text.
    for (token, why) in [
        (sign(json!({ "exp": now() - 30 })), "has expired"),
        (sign(json!({ "exp": now() as f64 - 30.6 })), "has expired"),
        (sign(json!({ "iss": ["https://id.example"] })), "another issuer"),
        (sign(json!({ "iss": ["https://evil.example", "https://id.example"] })), "another issuer"),
        (sign(json!({ "iss": { "https://id.example": 1 } })), "lacks exp, iss or aud"),
    ] {
        let refused = stage.get(&bearer(&token)).await;
        let challenge = refused.field("www-authenticate").unwrap_or_default();
        assert!(refused.status == 401 && challenge.contains(why), "{why}: {challenge}");
    }
    // Clocks may differ by the leeway.
    assert_eq!(stage.get(&bearer(&sign(json!({ "exp": now() - 5 })))).await.status, 200);
    assert_eq!(stage.http2(true).await.headers["grpc-status"], "16");
}

#[tokio::test]
async fn the_backend_gets_no_token_but_the_one_that_was_verified() {
    let signer = Signer::new("one");
    let jwt = |keep_authorization, header: &str| Jwt {
        issuer: "https://id.example".into(),
        audience: vec!["books".into()],
        jwks: Jwks(json!({ "keys": [signer.jwk] }).to_string()),
        header: header.into(),
        cookie: Some("session".into()),
        claims_to_headers: [("sub".to_owned(), "x-user".to_owned())].into(),
        keep_authorization,
        ..Jwt::default()
    };
    let good = signer.sign(Some("one"), &claims(json!({})));
    let forged = format!("FORGED{}", &good[6..]);
    let accepted = [
        format!("Authorization: Bearer {good}\r\nCookie: a=1; session={forged}; b=2\r\n"),
        format!("Cookie: a=1; session={forged}; b=2\r\nAuthorization: bearer {good}\r\n"),
        format!(
            "Authorization: Bearer {good}\r\nCookie: a=1; session={forged}\r\nCookie: session={forged}; b=2\r\n"
        ),
        format!("Authorization: Bearer {good}\r\nCookie: a=1; session ={forged}; b=2\r\n"),
        format!("Cookie: a=1; session={good}; session={forged}; b=2\r\n"),
        format!("Cookie: a=1; session={forged}; session={good}; b=2\r\n"),
        format!("Cookie: a=1; session={forged}\r\nCookie: session={good}; b=2\r\n"),
        format!("Cookie: a=1; session = {good}; session={forged}; b=2\r\n"),
        format!("Authorization: FORGED {forged}\r\nCookie: a=1; session={good}; b=2\r\n"),
        format!("Authorization: Basic YTpi, Bearer {forged}\r\nCookie: a=1; session={good}; b=2\r\n"),
        format!("Authorization: BASIC ,Bearer {forged}\r\nCookie: a=1; session={good}; b=2\r\n"),
        format!("Authorization: Bearer {good}\r\nCookie: a=1; b=2\r\nX_User: FORGED\r\nX-User: FORGED\r\n"),
    ];
    for keep in [true, false] {
        let stage = Stage::new(Route { jwt: Some(jwt(keep, "authorization")), ..Route::default() }).await;
        for lines in &accepted {
            let answer = stage.get(lines).await;
            assert_eq!(answer.status, 200, "{lines}: {}", answer.head);
            let seen = &answer.body;
            assert!(!seen.contains("FORGED"), "{lines}\n{seen}");
            assert_eq!(seen.matches(&good).count(), usize::from(keep), "{lines}\n{seen}");
            assert!(
                seen.contains("a=1;") && seen.contains("b=2\r\n") && seen.contains("x-user: anna"),
                "{seen}"
            );
        }
        for lines in [
            format!("Authorization: Bearer {forged}\r\nCookie: session={good}\r\n"),
            format!("Authorization: Bearer\t{forged}\r\nCookie: session={good}\r\n"),
            format!("Authorization: Bearer\r\nCookie: session={good}\r\n"),
            format!("Authorization: Bearer {good}\r\nAuthorization: Basic YTpi\r\n"),
            format!("Cookie: session={forged}; session={forged}\r\n"),
            // Each one that is tried costs a signature check.
            format!("Cookie: {}session={good}\r\n", format!("session={forged}; ").repeat(4)),
        ] {
            assert_eq!(stage.get(&lines).await.status, 401, "{lines}");
        }
    }
    let stage = Stage::new(Route { jwt: Some(jwt(true, "x-token")), ..Route::default() }).await;
    let answer = stage
        .get(&format!("X-Token: {good}\r\nX_Token: FORGED\r\nx.token: FORGED\r\nCookie: session=FORGED\r\n"))
        .await;
    assert!(answer.status == 200 && !answer.body.contains("FORGED"), "{} {}", answer.head, answer.body);
}

/// Servers read cookies in more ways than RFC 6265 has: names without regard to case (ASP.NET), `.` and blanks as `_` and
/// `[` as the end of a name (PHP), escapes in names (Rack), and `,` or blanks between cookies (Rack, Python).
#[tokio::test]
async fn no_reading_of_the_cookies_finds_another_token() {
    let signer = Signer::new("one");
    let jwt = Jwt {
        issuer: "https://id.example".into(),
        audience: vec!["books".into()],
        jwks: Jwks(json!({ "keys": [signer.jwk] }).to_string()),
        cookie: Some("my_session".into()),
        ..Jwt::default()
    };
    let good = signer.sign(Some("one"), &claims(json!({})));
    let stage = Stage::new(Route { jwt: Some(jwt), ..Route::default() }).await;
    for forged in [
        "my_session=FORGED",
        "MY_SESSION=FORGED",
        "My_Session=FORGED",
        "my.session=FORGED",
        "my session=FORGED",
        "my-session=FORGED",
        "my_session[]=FORGED",
        "my_session[a][b]=FORGED",
        "my_session[=FORGED",
        "my%5fsession=FORGED",
        "%6dy_session=FORGED",
        "=my_session=FORGED",
        "x=1,my_session=FORGED",
        "x=1, my_session=FORGED",
        "x=1 my_session=FORGED",
        "x=1\tmy_session =FORGED",
        "x=\"1\"my_session=FORGED",
        "x=\"1; my_session=FORGED; y\"",
        "my_session\t=\tFORGED",
        "\"my_session\"=FORGED",
    ] {
        for lines in [
            format!("Authorization: Bearer {good}\r\nCookie: a=1; {forged}; b=2\r\n"),
            format!("Cookie: a=1; {forged}; my_session={good}; b=2\r\n"),
            format!("Cookie: a=1; my_session={good}; {forged}; b=2\r\n"),
            format!("Cookie: a=1; my_session={good}\r\nCookie: {forged}; b=2\r\n"),
        ] {
            let answer = stage.get(&lines).await;
            assert_eq!(answer.status, 200, "{lines}: {}", answer.head);
            let seen = &answer.body;
            assert!(!seen.contains("FORGED") && seen.matches(&good).count() == 1, "{lines}\n{seen}");
            assert!(seen.contains("a=1;") && seen.contains("b=2\r\n"), "{seen}");
        }
    }
    // Similar headers belong to the application.
    for own in [
        "my_sessions=1",
        "xmy_session=1",
        "x=my_session",
        "back=/x?my_session=1",
        "x=%20my_session=1",
        "session=1",
        "x=1,my_sessions=2",
    ] {
        let answer = stage.get(&format!("Cookie: {own}; my_session={good}\r\n")).await;
        assert!(answer.status == 200 && answer.body.contains(&format!("{own}; my_session=")), "{own}");
    }
}

/// Fields that clients may not say are what a filter may.
#[tokio::test]
async fn a_filter_may_say_what_a_client_may_not() {
    let users = BTreeMap::from([("anna".to_owned(), bcrypt::hash("secret", 4).unwrap())]);
    for name in ["x-forwarded-user", "x_forwarded_user", "true-client-ip"] {
        let auth = BasicAuth { users: users.clone(), user_header: name.into(), ..BasicAuth::default() };
        let stage = Stage::new(Route { basic_auth: Some(auth), ..Route::default() }).await;
        for forged in ["X-Forwarded-User", "X_Forwarded_User", "x-forwarded_user", "True-Client-IP"] {
            let lines = format!("{}{forged}: FORGED\r\n", basic("anna", "secret"));
            let answer = stage.get(&lines).await;
            let seen = &answer.body;
            assert!(
                answer.status == 200 && seen.contains(&format!("\r\n{name}: anna\r\n")),
                "{name}: {seen}"
            );
            assert!(!seen.contains("FORGED"), "{name} {forged}: {seen}");
        }
    }
    let signer = Signer::new("one");
    let jwt = Jwt {
        issuer: "https://id.example".into(),
        audience: vec!["books".into()],
        jwks: Jwks(json!({ "keys": [signer.jwk] }).to_string()),
        header: "x-forwarded-access-token".into(),
        claims_to_headers: [("sub".to_owned(), "x-forwarded-email".to_owned())].into(),
        ..Jwt::default()
    };
    let good = signer.sign(Some("one"), &claims(json!({})));
    let stage = Stage::new(Route { jwt: Some(jwt), ..Route::default() }).await;
    let answer =
        stage.get(&format!("X-Forwarded-Access-Token: {good}\r\nX-Forwarded-Email: FORGED\r\n")).await;
    let seen = &answer.body;
    assert!(answer.status == 200 && seen.contains(&good) && !seen.contains("FORGED"), "{seen}");
    assert!(seen.contains("\r\nx-forwarded-email: anna\r\n"), "{seen}");
}

#[tokio::test]
async fn values_that_a_client_invents_are_limited_by_its_address() {
    let limit =
        RateLimit { new_values: Some(10), ..limit(20, RateScope::Node, RateKey::Header("x-api-key".into())) };
    let stage = Stage::new(Route { rate_limit: Some(limit), ..Route::default() }).await;
    let mut answers = Vec::new();
    for n in 0..60 {
        answers.push(stage.get(&format!("X-Api-Key: invented-{n}\r\n")).await);
    }
    // Ten at once, and one more each six seconds.
    let passed = count(&answers, 200);
    assert!((10..30).contains(&passed), "{passed}");
    let refused = answers.iter().find(|answer| answer.status == 429).unwrap();
    assert!(refused.field("retry-after").is_some(), "{}", refused.head);
    assert!(refused.body.contains("too many new values of the header"), "{}", refused.body);
    assert_eq!(stage.get("X-Api-Key: invented-0\r\n").await.status, 200, "known");
    assert_eq!(stage.ask(OTHER, "GET", "X-Api-Key: another\r\n").await.status, 200);
}

#[tokio::test]
async fn a_user_that_another_spelling_names_is_not_passed_on() {
    let users = BTreeMap::from([("anna".to_owned(), bcrypt::hash("secret", 4).unwrap())]);
    let auth = BasicAuth { users, ..BasicAuth::default() };
    let stage = Stage::new(Route { basic_auth: Some(auth), ..Route::default() }).await;
    for name in ["X_Weir_User", "x_weir_user", "X-Weir_User", "X.Weir.User", "X-Weir-User"] {
        let good = stage.get(&format!("{}{name}: root\r\nX_Other: kept\r\n", basic("anna", "secret"))).await;
        let seen = good.body.to_lowercase();
        assert!(good.status == 200 && seen.contains("\r\nx-weir-user: anna\r\n"), "{name}: {seen}");
        assert!(!seen.contains("root") && seen.contains("x_other: kept"), "{name}: {seen}");
    }
}

#[tokio::test]
async fn a_filter_that_is_wrong_is_refused_by_name_and_the_old_ones_stay() {
    let mut stage = Stage::new(Route { allow_methods: vec!["GET".into()], ..Route::default() }).await;
    let before = stage.config.clone();
    let wrong = limit(0, RateScope::Node, RateKey::ClientIp);
    stage.config.routes[0].rate_limit = Some(wrong);
    stage.wire.control.push(Message::Delta(delta(1, &before, 2, &stage.config)));
    let rejection = stage.wire.control.rejected(2).await;
    assert_eq!(rejection.problems[0].path, "routes[0].rate_limit.requests");
    assert_eq!(stage.get("").await.status, 200);
    assert_eq!(stage.ask(OTHER, "DELETE", "").await.status, 405);
}
