//! The session cookie.

use axum::http::{HeaderMap, HeaderValue, header};

use crate::access::SESSION_LASTS_MS;

/// Over TLS the name has the prefix that binds the cookie to this host and to TLS; browsers enforce that.
fn name(is_tls: bool) -> &'static str {
    if is_tls { "__Host-weir" } else { "weir_session" }
}

/// Returns the session's secret.
pub(super) fn read(headers: &HeaderMap, is_tls: bool) -> Option<&str> {
    let pairs = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs = pairs.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(known, _)| *known == name(is_tls)).map(|(_, secret)| secret)
}

fn write(secret: &str, seconds: i64, is_tls: bool) -> Option<HeaderValue> {
    let secure = if is_tls { "; Secure" } else { "" };
    let text =
        format!("{}={secret}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}", name(is_tls));
    let mut value = HeaderValue::from_str(&text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// The `Set-Cookie` header that starts a session in the browser.
pub(super) fn set(secret: &str, is_tls: bool) -> Option<HeaderValue> {
    write(secret, SESSION_LASTS_MS / 1000, is_tls)
}

/// The `Set-Cookie` header that removes the cookie.
pub(super) fn clear(is_tls: bool) -> Option<HeaderValue> {
    write("", 0, is_tls)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_found_among_others_and_only_under_its_name() {
        let mut headers = HeaderMap::new();
        headers.append(header::COOKIE, HeaderValue::from_static("a=b; weir_session=s_1; c=d"));
        assert_eq!(read(&headers, false), Some("s_1"));
        assert_eq!(read(&headers, true), None);
        headers.append(header::COOKIE, HeaderValue::from_static("__Host-weir=s_2"));
        assert_eq!(read(&headers, true), Some("s_2"));
        let set = set("s_1", true).unwrap();
        for part in ["__Host-weir=s_1", "Path=/", "HttpOnly", "SameSite=Strict", "Secure"] {
            assert!(set.to_str().unwrap().contains(part), "{part}");
        }
    }
}
