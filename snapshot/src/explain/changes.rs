//! Differences between the client's request and the request that the backend gets.

use weir_http::aliases::{NameKind, name_kind};

use super::SampleRequest;
use crate::{Route, Snapshot};

/// Describes each header, cookie and URL that is changed, dropped or added because of the route.
pub(super) fn changes(snapshot: &Snapshot, route: &Route, request: &SampleRequest) -> Vec<String> {
    let mut changes = Vec::new();
    for (name, _) in &request.headers {
        if let Some(sentence) = dropped(snapshot, route, name)
            && !changes.contains(&sentence)
        {
            changes.push(sentence);
        }
    }
    for (name, _) in request.cookies() {
        if route.session_cookies.iter().any(|names| names.contains(name.as_bytes())) {
            changes.push(format!("drops the cookie {name}: it is a session cookie of Weir"));
        }
    }
    let rewrite = &route.rewrite;
    let is_rewritten = rewrite
        .path
        .as_ref()
        .is_some_and(|path| path.apply(request.target.as_bytes()).is_ok_and(|target| target.is_some()));
    if let Some(prefix) = rewrite.prefix.as_ref().filter(|_| is_rewritten) {
        changes.push(format!("adds x-forwarded-prefix: {prefix}"));
        changes.extend(rewrite.prefix_header.iter().map(|name| format!("adds {name}: {prefix}")));
    }
    if let Some(map) = &rewrite.map {
        let paths = match (is_rewritten, &*map.outer, &*map.inner) {
            (true, outer, inner) if outer != inner => format!(", paths from {inner}/ to {outer}/"),
            _ => String::new(),
        };
        changes.push(format!("maps URLs in the response back to the client's{paths}"));
    }
    let quiet = route.target.pools().filter_map(|pool| snapshot.pools.get(pool)).filter(|pool| pool.omit_via);
    changes.extend(quiet.map(|pool| format!("adds no Via for pool {}", pool.name)));
    changes
}

/// Why a header is dropped, if it is.
fn dropped(snapshot: &Snapshot, route: &Route, name: &str) -> Option<String> {
    let guard = route.guard.as_deref();
    if guard.is_some_and(|guard| guard.vouches(name.as_bytes())) {
        return None;
    }
    if guard.is_some_and(|guard| guard.drops(name.as_bytes())) {
        return Some(match guard.and_then(|guard| guard.original(name.as_bytes())) {
            Some(own) => format!("drops {name}: a backend could mistake it for {own}"),
            None => format!("drops {name}: the route drops header names with an underscore"),
        });
    }
    match name_kind(name) {
        NameKind::Plain => None,
        NameKind::AliasOf(_) if guard.is_some_and(|guard| guard.passes_aliases()) => None,
        NameKind::AliasOf(own) => Some(format!("drops {name}: a backend could mistake it for {own}")),
        NameKind::Claim if snapshot.trusted_proxies.is_empty() => {
            Some(format!("drops {name}: only trusted proxies may send it, and no proxy is trusted"))
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
    fn changes_are_described() {
        for (path, header, expected) in [
            ("/app/x", "X_Env: 1", Some("drops x_env: a backend could mistake it for x-env")),
            ("/app/x", "X_Real_IP: 1", Some("drops x_real_ip: a backend could mistake it for x-real-ip")),
            (
                "/app/x",
                "Proxy: 1",
                Some("drops proxy: a backend could mistake it for the variable HTTP_PROXY"),
            ),
            ("/app/x", "X-Original-URL: /", Some("drops x-original-url: only trusted proxies may send it")),
            (
                "/app/x",
                "Cookie: a=1; weir-p=2",
                Some("drops the cookie weir-p: it is a session cookie of Weir"),
            ),
            ("/app/x", "Cookie: a=1", Some("adds x-forwarded-prefix: /app")),
            ("/app/x", "Cookie: a=1", Some("adds x-script-name: /app")),
            (
                "/app/x",
                "Cookie: a=1",
                Some("maps URLs in the response back to the client's, paths from / to /app/"),
            ),
            ("/strict", "X_A: 1", Some("drops x_a: the route drops header names with an underscore")),
            ("/strict", "X-A: 1", Some("adds no Via for pool q")),
            ("/strict", "X-A: 1", None),
            ("/loose", "X_Real_IP: 1", None),
            ("/x", "X_A: 1", None),
            ("/x", "X_A: 1", Some("maps URLs in the response back to the client's")),
        ] {
            let (_, snapshot) = file::parse(TEXT).unwrap();
            let request =
                SampleRequest::read("GET", &format!("http://h{path}"), &[header.to_owned()], None).unwrap();
            let told = explain(&snapshot, &request).changes;
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
