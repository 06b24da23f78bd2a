//! What a backend gets otherwise than the client sent it.

use weir_http::aliases::{NameKind, name_kind};

use super::Asked;
use crate::{Route, Snapshot};

/// One sentence for each header, cookie and URL that is changed, dropped or added because of the route.
pub(super) fn changes(snapshot: &Snapshot, route: &Route, asked: &Asked) -> Vec<String> {
    let mut told = Vec::new();
    for (name, _) in &asked.headers {
        if let Some(sentence) = dropped(snapshot, route, name)
            && !told.contains(&sentence)
        {
            told.push(sentence);
        }
    }
    for (name, _) in asked.cookies() {
        if route.session_cookies.iter().any(|names| names.contains(name.as_bytes())) {
            told.push(format!("drops the cookie {name}: it is a session of Weir"));
        }
    }
    let rewrite = &route.rewrite;
    let is_rewritten = rewrite
        .path
        .as_ref()
        .is_some_and(|path| path.apply(asked.target.as_bytes()).is_ok_and(|target| target.is_some()));
    if let Some(prefix) = rewrite.prefix.as_ref().filter(|_| is_rewritten) {
        told.push(format!("adds x-forwarded-prefix: {prefix}"));
        told.extend(rewrite.prefix_header.iter().map(|name| format!("adds {name}: {prefix}")));
    }
    if let Some(map) = &rewrite.map {
        let paths = match (is_rewritten, &*map.outer, &*map.inner) {
            (true, outer, inner) if outer != inner => format!(", paths from {inner}/ to {outer}/"),
            _ => String::new(),
        };
        told.push(format!("maps URLs in the response to those of the client{paths}"));
    }
    let quiet = route.target.pools().filter_map(|pool| snapshot.pools.get(pool)).filter(|pool| pool.omit_via);
    told.extend(quiet.map(|pool| format!("adds no Via for pool {}", pool.name)));
    told
}

/// Why a header is not passed on, if it is not.
fn dropped(snapshot: &Snapshot, route: &Route, name: &str) -> Option<String> {
    let guard = route.guard.as_deref();
    if guard.is_some_and(|guard| guard.vouches(name.as_bytes())) {
        return None;
    }
    if guard.is_some_and(|guard| guard.drops(name.as_bytes())) {
        return Some(match guard.and_then(|guard| guard.original(name.as_bytes())) {
            Some(own) => format!("drops {name}: a backend could take it for {own}"),
            None => format!("drops {name}: the route drops names with an underscore"),
        });
    }
    match name_kind(name) {
        NameKind::Plain => None,
        NameKind::AliasOf(_) if guard.is_some_and(|guard| guard.passes_aliases()) => None,
        NameKind::AliasOf(own) => Some(format!("drops {name}: a backend could take it for {own}")),
        NameKind::Claim if snapshot.trusted_proxies.is_empty() => {
            Some(format!("drops {name}: only trusted proxies may send it, and there are none"))
        }
        NameKind::Claim => Some(format!("drops {name} unless a trusted proxy sends it")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{explain::explain, file};

    const TEXT: &str = "
pools: [{ name: p, sticky: {} }, { name: q, omit_via: true }]
routes:
- name: app
  match: { path: /app }
  pool: p
  rewrite: { strip_prefix: /app, map_answers: true, prefix_header: x-script-name }
  request_headers: { set: { x-env: prod } }
- { name: strict, match: { path: /strict }, pool: q, underscore_headers: drop }
- { name: loose, match: { path: /loose }, pool: q, underscore_headers: pass }
- { name: rest, pool: q, rewrite: { map_answers: true } }
";

    #[test]
    fn what_is_changed_is_told() {
        for (path, header, expected) in [
            ("/app/x", "X_Env: 1", Some("drops x_env: a backend could take it for x-env")),
            ("/app/x", "X_Real_IP: 1", Some("drops x_real_ip: a backend could take it for x-real-ip")),
            ("/app/x", "Proxy: 1", Some("drops proxy: a backend could take it for the variable HTTP_PROXY")),
            ("/app/x", "X-Original-URL: /", Some("drops x-original-url: only trusted proxies may send it")),
            ("/app/x", "Cookie: a=1; weir-p=2", Some("drops the cookie weir-p: it is a session of Weir")),
            ("/app/x", "Cookie: a=1", Some("adds x-forwarded-prefix: /app")),
            ("/app/x", "Cookie: a=1", Some("adds x-script-name: /app")),
            (
                "/app/x",
                "Cookie: a=1",
                Some("maps URLs in the response to those of the client, paths from / to /app/"),
            ),
            ("/strict", "X_A: 1", Some("drops x_a: the route drops names with an underscore")),
            ("/strict", "X-A: 1", Some("adds no Via for pool q")),
            ("/strict", "X-A: 1", None),
            ("/loose", "X_Real_IP: 1", None),
            ("/x", "X_A: 1", None),
            ("/x", "X_A: 1", Some("maps URLs in the response to those of the client")),
        ] {
            let (_, snapshot) = file::parse(TEXT).unwrap();
            let asked = Asked::read("GET", &format!("http://h{path}"), &[header.to_owned()], None).unwrap();
            let told = explain(&snapshot, &asked).changes;
            match expected {
                Some(expected) => {
                    let count = told.iter().filter(|sentence| sentence.starts_with(expected)).count();
                    assert_eq!(count, 1, "{path} {header}: {told:?}");
                }
                None => assert!(!told.iter().any(|sentence| sentence.starts_with("drops")), "{told:?}"),
            }
        }
    }
}
