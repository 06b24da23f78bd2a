//! Maps URLs in headers between clients and backends, where a route strips a prefix or replaces the Host: in responses
//! to the client's form, and in `Destination` to the backend's.
//!
//! Only header fields are mapped, never content. URLs of other hosts, and those outside of the route's prefix, are not
//! changed.

use weir_http::{Destination, FieldKind, RequestHead, ResponseHead};
use weir_snapshot::{BackendUrl, Rewrite, Scheme, UrlMap};

use crate::{answer::Local, origin::Origin};

/// How the URLs of a response are mapped.
pub(crate) struct ResponseUrls<'a> {
    /// The prefixes; `None`: the request's path was not changed.
    pub(crate) paths: Option<&'a UrlMap>,
    /// The client's scheme, `http` or `https`.
    pub(crate) scheme: &'a [u8],
    /// The host that the client requested.
    pub(crate) host: &'a [u8],
    /// The Host that was sent to the backend.
    pub(crate) sent_host: &'a [u8],
    pub(crate) backend: &'a BackendUrl,
}

impl ResponseUrls<'_> {
    /// Maps all URLs in a response's head.
    pub(crate) fn apply(&self, head: &mut ResponseHead) {
        for at in 0..head.fields.len() {
            let field = head.fields[at];
            let (name, value) = (head.name(&field), head.value(&field));
            let mapped = match field.kind {
                FieldKind::SetCookie => self.cookie(value),
                FieldKind::Other if name.eq_ignore_ascii_case(b"location") => self.url(value),
                FieldKind::Other if name.eq_ignore_ascii_case(b"content-location") => self.url(value),
                FieldKind::Other if name.eq_ignore_ascii_case(b"refresh") => self.refresh(value),
                _ => None,
            };
            if let Some(mapped) = mapped {
                head.set_value(at, &mapped);
            }
        }
    }

    /// The URL in the client's form; `None`: it does not change.
    fn url(&self, url: &[u8]) -> Option<Vec<u8>> {
        let (scheme, rest) = match scheme(url) {
            Some((is_secure, rest)) => (Some(is_secure), rest),
            None if url.starts_with(b"//") => (None, &url[2..]),
            None if url.starts_with(b"/") => return self.path(url),
            // Relative to the request's URL.
            None => return None,
        };
        let (authority, path) = rest.split_at(authority_end(rest));
        if !self.is_backend(authority, scheme) {
            return None;
        }
        let mapped = self.path(path);
        let path = mapped.as_deref().unwrap_or(path);
        Some(match scheme {
            Some(_) => [self.scheme, b"://", self.host, path].concat(),
            None => [b"//", self.host, path].concat(),
        })
    }

    /// Whether an authority is the backend's: its address, or the Host that was sent to it.
    fn is_backend(&self, authority: &[u8], is_secure: Option<bool>) -> bool {
        if self.host.is_empty() || authority.is_empty() {
            return false;
        }
        let BackendUrl { scheme, host, port } = self.backend;
        let by_address = || {
            let port_of_scheme = match is_secure.unwrap_or(*scheme == Scheme::Https) {
                true => 443,
                false => 80,
            };
            let (name, own_port) = split_port(authority);
            name.eq_ignore_ascii_case(host.to_string().as_bytes())
                && own_port.unwrap_or(port_of_scheme) == *port
        };
        same_authority(authority, self.sent_host) || by_address()
    }

    /// Maps a path and the part after it.
    fn path(&self, text: &[u8]) -> Option<Vec<u8>> {
        let UrlMap { outer, inner } = self.paths?;
        let (outer, inner) = (outer.as_bytes(), inner.as_bytes());
        let (path, tail) = text.split_at(text.iter().position(|b| b"?#".contains(b)).unwrap_or(text.len()));
        let path = if path.is_empty() { b"/" } else { path };
        // The application knows its prefix and has written it.
        if inner.is_empty() && !outer.is_empty() && behind(path, outer).is_some() {
            return None;
        }
        let rest = behind(path, inner)?;
        let slash: &[u8] = if outer.is_empty() && rest.is_empty() { b"/" } else { b"" };
        // The rest must not look like an authority.
        if outer.is_empty() && matches!(rest, [b'/', b'/' | b'\\', ..]) {
            return None;
        }
        Some([outer, slash, rest, tail].concat())
    }

    /// Maps `5; url=/x`, as browsers read it.
    fn refresh(&self, value: &[u8]) -> Option<Vec<u8>> {
        let at = value.iter().position(|byte| b";,".contains(byte))? + 1;
        let blanks = |text: &[u8]| text.len() - text.trim_ascii_start().len();
        let mut from = at + blanks(&value[at..]);
        if value.get(from..from + 3).is_some_and(|word| word.eq_ignore_ascii_case(b"url")) {
            let equals = from + 3 + blanks(&value[from + 3..]);
            if value.get(equals) == Some(&b'=') {
                from = equals + 1 + blanks(&value[equals + 1..]);
            }
        }
        let rest = &value[from..];
        let (quote, url) = match rest {
            [b'"' | b'\'', url @ ..] => (1, url),
            url => (0, url),
        };
        let length = match quote {
            1 => url.iter().position(|byte| *byte == rest[0]).unwrap_or(url.len()),
            _ => url.len(),
        };
        let mapped = self.url(url[..length].trim_ascii())?;
        Some([&value[..from + quote], &mapped, &url[length..]].concat())
    }

    /// Maps the path and the domain of a cookie (RFC 6265, 5.2).
    fn cookie(&self, value: &[u8]) -> Option<Vec<u8>> {
        let mut changed = false;
        let mut parts: Vec<Vec<u8>> = Vec::new();
        for (i, part) in value.split(|byte| *byte == b';').enumerate() {
            let (name, text) = part.split_at(part.iter().position(|b| *b == b'=').unwrap_or(part.len()));
            let text = text.strip_prefix(b"=").unwrap_or(text).trim_ascii();
            let mapped = match name.trim_ascii() {
                _ if i == 0 => None,
                name if name.eq_ignore_ascii_case(b"path") => self.cookie_path(text),
                name if name.eq_ignore_ascii_case(b"domain") => self.cookie_domain(text),
                _ => None,
            };
            changed |= mapped.is_some();
            parts.push(mapped.map_or_else(|| part.to_vec(), |text| [name, b"=", &text].concat()));
        }
        changed.then(|| parts.join(&b';'))
    }

    fn cookie_path(&self, path: &[u8]) -> Option<Vec<u8>> {
        let UrlMap { outer, inner } = self.paths?;
        if !path.starts_with(b"/") {
            // Browsers then use the path of the request.
            return None;
        }
        let (outer, inner) = (outer.as_bytes(), inner.as_bytes());
        let whole = || Some(if outer.is_empty() { b"/".to_vec() } else { outer.to_vec() });
        match path.strip_suffix(b"/").unwrap_or(path) {
            b"" => whole(),
            // All of the route's paths are below it.
            above if above.len() < inner.len() && behind(inner, above).is_some() => whole(),
            path_without_slash if path_without_slash == inner => whole(),
            _ => self.path(path),
        }
    }

    fn cookie_domain(&self, domain: &[u8]) -> Option<Vec<u8>> {
        let domain = domain.strip_prefix(b".").unwrap_or(domain);
        let (own, _) = split_port(self.host);
        let (sent, _) = split_port(self.sent_host);
        let is_backend = domain.eq_ignore_ascii_case(sent)
            || domain.eq_ignore_ascii_case(self.backend.host.to_string().as_bytes());
        (is_backend && !own.is_empty() && !domain.eq_ignore_ascii_case(own)).then(|| own.to_vec())
    }
}

/// Returns the `Destination` to send to the backend instead of the client's (RFC 4918, 10.3). `None` if the request has
/// no `Destination`, or if it is on another server.
pub(crate) fn destination(
    rewrite: &Rewrite,
    head: &RequestHead,
    origin: &Origin<'_>,
) -> Result<Option<Destination>, Local> {
    let is_ours = |field: &&weir_http::Field| head.name(field).eq_ignore_ascii_case(b"destination");
    let mut values = head.fields.iter().filter(is_ours).map(|field| head.value(field));
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(Local::bad_request("several Destination fields"));
    }
    let (is_absolute, path) = match scheme(value) {
        Some((_, rest)) => {
            let (authority, path) = rest.split_at(authority_end(rest));
            let hosts = [origin.host(head), head.host()];
            if !hosts.into_iter().flatten().any(|host| same_authority(authority, host)) {
                return Ok(None);
            }
            (true, if path.is_empty() { b"/" } else { path })
        }
        None if value.starts_with(b"/") && !value.starts_with(b"//") => (false, value),
        None => return Ok(None),
    };
    let mapped = match &rewrite.path {
        Some(rewrite) => {
            let mapped = rewrite.apply(path).map_err(|fault| Local::bad_request(fault.text()))?;
            // RFC 4918, 9.8.5: another namespace, which this route does not reach.
            mapped.ok_or(Local::OTHER_NAMESPACE)?
        }
        None => path.to_vec(),
    };
    let host = rewrite.host.as_deref().map(str::as_bytes).or(head.host()).unwrap_or_default();
    let rest = if is_absolute { [host, &mapped].concat() } else { mapped };
    Ok(Some(Destination { is_absolute, rest }))
}

/// Whether a URL begins with `https://`, and the part after the scheme; `None`: it is relative, or has another scheme.
fn scheme(url: &[u8]) -> Option<(bool, &[u8])> {
    let begins = |with: &[u8]| url.get(..with.len()).is_some_and(|start| start.eq_ignore_ascii_case(with));
    match () {
        () if begins(b"http://") => Some((false, &url[7..])),
        () if begins(b"https://") => Some((true, &url[8..])),
        () => None,
    }
}

fn authority_end(rest: &[u8]) -> usize {
    rest.iter().position(|byte| b"/?#\\".contains(byte)).unwrap_or(rest.len())
}

/// A host, and its port if there is one.
fn split_port(authority: &[u8]) -> (&[u8], Option<u16>) {
    let after = authority.iter().position(|byte| *byte == b']').map_or(0, |at| at + 1);
    match authority[after..].iter().position(|byte| *byte == b':') {
        None => (authority, None),
        Some(colon) => {
            let (host, port) = authority.split_at(after + colon);
            (host, std::str::from_utf8(&port[1..]).ok().and_then(|port| port.parse().ok()))
        }
    }
}

/// Whether two authorities name the same server. The default ports of http and https count as no port, because TLS may
/// end in front of the backend.
fn same_authority(one: &[u8], other: &[u8]) -> bool {
    let bare = |port: Option<u16>| port.filter(|port| !matches!(port, 80 | 443));
    let ((host, port), (other_host, other_port)) = (split_port(one), split_port(other));
    host.eq_ignore_ascii_case(other_host) && bare(port) == bare(other_port)
}

/// The rest of a path after a prefix that ends at a segment's boundary.
fn behind<'a>(path: &'a [u8], prefix: &[u8]) -> Option<&'a [u8]> {
    path.strip_prefix(prefix).filter(|rest| rest.is_empty() || rest.starts_with(b"/"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_http::{Limits, Parsed, parse_response};

    fn mapped(outer: &str, inner: &str, line: &str) -> String {
        let backend: BackendUrl = "http://10.0.0.1:8080".parse().unwrap();
        let map = UrlMap { outer: outer.into(), inner: inner.into() };
        let answers = ResponseUrls {
            paths: Some(&map),
            scheme: b"https",
            host: b"www.example",
            sent_host: b"app.internal",
            backend: &backend,
        };
        let text = format!("HTTP/1.1 200 OK\r\n{line}\r\n\r\n");
        let mut head = ResponseHead::new();
        let parsed = parse_response(text.as_bytes(), &Limits::default(), false, &mut head);
        assert!(matches!(parsed, Ok(Parsed::Complete { .. })), "{line}");
        answers.apply(&mut head);
        let field = head.fields[0];
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        format!("{}: {}", text(head.name(&field)), text(head.value(&field)))
    }

    #[test]
    fn what_a_backend_says_of_itself_is_what_clients_need() {
        for (line, expected) in [
            ("Location: /login", "Location: /app/login"),
            ("Location: /", "Location: /app/"),
            ("Location: /login?next=/x#y", "Location: /app/login?next=/x#y"),
            ("Location: http://app.internal/login", "Location: https://www.example/app/login"),
            ("location: HTTP://App.Internal:80/login", "location: https://www.example/app/login"),
            ("Location: https://app.internal", "Location: https://www.example/app/"),
            ("Location: http://10.0.0.1:8080/x?y", "Location: https://www.example/app/x?y"),
            ("Location: //app.internal/x", "Location: //www.example/app/x"),
            ("Content-Location: /x.html", "Content-Location: /app/x.html"),
            ("Refresh: 5; url=/x", "Refresh: 5; url=/app/x"),
            ("Refresh: 5;URL = '/x'", "Refresh: 5;URL = '/app/x'"),
            ("Refresh: 0,/x", "Refresh: 0,/app/x"),
            ("Refresh: 0; url=\"http://app.internal/x\"", "Refresh: 0; url=\"https://www.example/app/x\""),
            ("Set-Cookie: a=b; Path=/", "Set-Cookie: a=b; Path=/app"),
            ("Set-Cookie: a=b; path=/admin; Secure", "Set-Cookie: a=b; path=/app/admin; Secure"),
            ("Set-Cookie: path=/; HttpOnly;Path=/x/", "Set-Cookie: path=/; HttpOnly;Path=/app/x/"),
            (
                "Set-Cookie: a=b; Domain=app.internal; Path=/",
                "Set-Cookie: a=b; Domain=www.example; Path=/app",
            ),
            ("Set-Cookie: a=b; domain=.App.Internal", "Set-Cookie: a=b; domain=www.example"),
            ("Set-Cookie: a=b; Domain=10.0.0.1", "Set-Cookie: a=b; Domain=www.example"),
        ] {
            assert_eq!(mapped("/app", "", line), expected);
        }
    }

    #[test]
    fn what_is_not_the_backends_or_is_right_already_stays() {
        for line in [
            "Location: /app/login",
            "Location: /app",
            "Location: login",
            "Location: ../x",
            "Location: ?x=1",
            "Location: https://id.example/login?back=/x",
            "Location: http://10.0.0.1:8081/x",
            "Location: http://user@app.internal/x",
            "Location: //other.example/x",
            "Location: mailto:a@b",
            "Location: ",
            "Refresh: 5",
            "Refresh: 5; url=",
            "Refresh: 5; url=https://other.example/",
            "Set-Cookie: a=b",
            "Set-Cookie: a=/x; Path=/app/x; Domain=www.example",
            "Set-Cookie: a=b; Path=x; Domain=internal",
            "Link: </x>",
        ] {
            assert_eq!(mapped("/app", "", line), line);
        }
    }

    #[test]
    fn a_prefix_that_was_replaced_is_put_back() {
        for (outer, inner, line, expected) in [
            ("/old", "/new", "Location: /new/x", "Location: /old/x"),
            ("/old", "/new", "Location: /new", "Location: /old"),
            ("/old", "/new", "Location: /news", "Location: /news"),
            ("/old", "/new", "Location: /old/x", "Location: /old/x"),
            ("/a", "/a/b", "Location: /a/b/c", "Location: /a/c"),
            ("", "/api", "Location: /api/x", "Location: /x"),
            ("", "/api", "Location: /api", "Location: /"),
            ("", "/api", "Location: http://app.internal/api?x", "Location: https://www.example/?x"),
            // A path never becomes an authority.
            ("", "/api", "Location: /api//evil.example/", "Location: /api//evil.example/"),
            ("", "/api", "Location: /api/\\evil.example/", "Location: /api/\\evil.example/"),
            ("/old", "/new", "Set-Cookie: a=b; Path=/new", "Set-Cookie: a=b; Path=/old"),
            ("/old", "/new", "Set-Cookie: a=b; Path=/new/", "Set-Cookie: a=b; Path=/old"),
            ("/old", "/new/deep", "Set-Cookie: a=b; Path=/new", "Set-Cookie: a=b; Path=/old"),
            ("/old", "/new", "Set-Cookie: a=b; Path=/", "Set-Cookie: a=b; Path=/old"),
            ("/old", "/new", "Set-Cookie: a=b; Path=/other", "Set-Cookie: a=b; Path=/other"),
            ("", "/api", "Set-Cookie: a=b; Path=/api", "Set-Cookie: a=b; Path=/"),
        ] {
            assert_eq!(mapped(outer, inner, line), expected, "{outer} {inner} {line}");
        }
    }
}
