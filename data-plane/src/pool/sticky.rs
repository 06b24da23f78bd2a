//! Session affinity: a cookie that names the backend of the client's first request.
//!
//! The cookie says which backend the session belongs to and when it expires. It is signed with the fleet's key, and
//! only nodes of the fleet can read it. Nodes store nothing, so every node understands it. A forged, expired or foreign
//! cookie is ignored.

use std::{
    fmt::Write as _,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD as BASE64};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use weir_http::RequestHead;
use weir_snapshot::Sticky as Settings;

/// The fleet's key, which the control plane makes once.
pub(crate) type Key = [u8; 32];

/// End of session (4 bytes), session (4), backend (8), signature (16).
const LENGTH: usize = 32;
const SIGNED: usize = 16;

/// Its length in base64 without padding.
const TEXT_LENGTH: usize = (LENGTH * 4).div_ceil(3);

/// Most cookies of one name that are tried; each costs a signature check.
const MOST_COOKIES: usize = 8;

/// Seconds since the Unix epoch.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// Sessions of a pool, or of a split, whose members are pools.
pub(crate) struct Sticky {
    settings: Settings,
    /// Keyed with the fleet's key, and fed with the pool's name.
    mac: Hmac<Sha256>,
    /// By member.
    tags: Vec<[u8; 8]>,
}

/// Content of a session cookie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Session {
    pub(crate) member: usize,
    /// Distinguishes the sessions of a backend.
    pub(crate) id: u32,
    /// Most of its lifetime has passed: the next response renews it.
    pub(crate) is_old: bool,
}

impl Sticky {
    /// Sessions of a pool with these backends, by id.
    pub(crate) fn new<'a>(
        settings: &Settings,
        key: &Key,
        pool: &str,
        backends: impl Iterator<Item = &'a Arc<str>>,
    ) -> Option<Self> {
        // HMAC accepts keys of any length.
        let mut mac = Hmac::<Sha256>::new_from_slice(key).ok()?;
        mac.update(pool.as_bytes());
        mac.update(&[0]);
        let tag = |id: &Arc<str>| {
            let mut mac = mac.clone();
            mac.update(id.as_bytes());
            let mut tag = [0; 8];
            tag.copy_from_slice(&mac.finalize().into_bytes()[..8]);
            tag
        };
        let tags = backends.map(tag).collect();
        Some(Self { settings: settings.clone(), mac, tags })
    }

    /// The session of a request, at a time in seconds since the Unix epoch.
    pub(crate) fn read(&self, head: &RequestHead, now: u64) -> Option<Session> {
        let of_length = head.cookie_values(&self.settings.cookie).filter(|value| value.len() == TEXT_LENGTH);
        of_length.take(MOST_COOKIES).find_map(|value| self.read_one(value, now))
    }

    fn read_one(&self, value: &[u8], now: u64) -> Option<Session> {
        let mut bytes = [0; LENGTH + 3];
        let length = BASE64.decode_slice(value, &mut bytes).ok()?;
        let (signed, signature) = bytes.get(..length).filter(|bytes| bytes.len() == LENGTH)?.split_at(SIGNED);
        // Compares in constant time.
        self.mac.clone().chain_update(signed).verify_truncated_left(signature).ok()?;
        let end = u64::from(u32::from_be_bytes(signed[..4].try_into().ok()?));
        let left = end.checked_sub(now).filter(|left| *left > 0)?;
        let member = self.tags.iter().position(|tag| *tag == signed[8..])?;
        let id = u32::from_be_bytes(signed[4..8].try_into().ok()?);
        Some(Session { member, id, is_old: left < self.settings.ttl.as_secs() / 2 })
    }

    /// The value of `Set-Cookie` that keeps a client at a member. `secure`: the client uses TLS.
    pub(crate) fn write(&self, member: usize, session: u32, now: u64, secure: bool) -> Option<String> {
        let ttl = self.settings.ttl.max(Duration::from_secs(1)).as_secs();
        let end = u32::try_from(now.saturating_add(ttl)).unwrap_or(u32::MAX);
        let mut bytes = [0; LENGTH];
        bytes[..4].copy_from_slice(&end.to_be_bytes());
        bytes[4..8].copy_from_slice(&session.to_be_bytes());
        bytes[8..SIGNED].copy_from_slice(self.tags.get(member)?);
        let signature = self.mac.clone().chain_update(&bytes[..SIGNED]).finalize().into_bytes();
        bytes[SIGNED..].copy_from_slice(&signature[..LENGTH - SIGNED]);
        let mut text = format!("{}={}", self.settings.cookie, BASE64.encode(bytes));
        // Lax: links from other sites reach the same backend. Secure only over TLS, because over cleartext a browser
        // would not send it back.
        let _ = write!(text, "; Path=/; Max-Age={ttl}; HttpOnly; SameSite=Lax");
        if secure {
            text.push_str("; Secure");
        }
        Some(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_http::{Limits, Parsed, parse_request};

    fn sticky(key: u8, pool: &str, backends: &[&str]) -> Sticky {
        let settings = Settings { cookie: "weir".into(), ttl: Duration::from_secs(3600) };
        let ids: Vec<Arc<str>> = backends.iter().map(|id| Arc::from(*id)).collect();
        Sticky::new(&settings, &[key; 32], pool, ids.iter()).unwrap()
    }

    fn request(cookies: &str) -> RequestHead {
        let text = format!("GET / HTTP/1.1\r\nHost: a\r\nCookie: {cookies}\r\n\r\n");
        let mut head = RequestHead::new();
        let parsed = parse_request(text.as_bytes(), &Limits::default(), &mut head);
        assert!(matches!(parsed, Ok(Parsed::Complete { .. })));
        head
    }

    fn value(set_cookie: &str) -> &str {
        set_cookie.split(';').next().unwrap()
    }

    #[test]
    fn a_cookie_comes_back_to_its_backend_on_every_node() {
        let (one, other) = (sticky(1, "p", &["b1", "b2", "b3"]), sticky(1, "p", &["b3", "b2"]));
        let cookie = one.write(1, 77, 1_000, false).unwrap();
        assert!(cookie.ends_with("; Path=/; Max-Age=3600; HttpOnly; SameSite=Lax"), "{cookie}");
        assert!(one.write(1, 77, 1_000, true).unwrap().ends_with("; Secure"));
        assert!(!cookie.contains("b2"), "it is opaque");
        let head = request(&format!("a=b; {}; weird=1", value(&cookie)));
        let session = Session { member: 1, id: 77, is_old: false };
        assert_eq!(one.read(&head, 1_001), Some(session));
        assert_eq!(other.read(&head, 1_001), Some(session), "whatever the order of its backends");
        assert_eq!(one.read(&head, 4_000), Some(Session { is_old: true, ..session }));
    }

    #[test]
    fn every_cookie_of_the_name_is_tried() {
        let own = sticky(1, "p", &["b1", "b2"]);
        let cookie = |sticky: &Sticky, end| sticky.write(1, 5, end, false).unwrap();
        let (good, old) = (cookie(&own, 1_000), cookie(&own, 0));
        let foreign = cookie(&sticky(1, "q", &["b1", "b2"]), 1_000);
        let (good, old, foreign) = (value(&good), value(&old), value(&foreign));
        for cookies in [
            format!("{foreign}; {good}"),
            format!("{good}; {foreign}"),
            format!("{old}; a=b; {good}"),
            format!("weir=; weir=x; {good}"),
            format!("weir=x\r\nCookie: {good}"),
        ] {
            assert_eq!(
                own.read(&request(&cookies), 4_000).map(|session| session.member),
                Some(1),
                "{cookies}"
            );
        }
        // A limit on the cost of a request.
        let many = format!("{}{good}", format!("{foreign}; ").repeat(MOST_COOKIES));
        assert_eq!(own.read(&request(&many), 1_001), None);
    }

    #[test]
    fn what_expired_was_forged_or_is_foreign_is_as_good_as_none() {
        let own = sticky(1, "p", &["b1", "b2"]);
        let cookie = own.write(1, 5, 1_000, false).unwrap();
        let good = value(&cookie);
        assert!(own.read(&request(good), 4_599).is_some());
        assert_eq!(own.read(&request(good), 4_600), None, "expired, whatever the browser says");
        assert_eq!(sticky(2, "p", &["b1", "b2"]).read(&request(good), 1_001), None, "another fleet's key");
        assert_eq!(sticky(1, "q", &["b1", "b2"]).read(&request(good), 1_001), None, "another pool");
        assert_eq!(sticky(1, "p", &["b1"]).read(&request(good), 1_001), None, "its backend is gone");
        for at in 5..good.len() {
            let mut forged = good.as_bytes().to_vec();
            forged[at] = if forged[at] == b'A' { b'B' } else { b'A' };
            let forged = String::from_utf8(forged).unwrap();
            let read = own.read(&request(&forged), 1_001);
            // Some bits of the last character have no meaning; only one spelling is accepted.
            assert_eq!(read, None, "{forged}");
        }
        for nonsense in
            ["weir=", "weir=x", "weir=%00", &format!("{good}A"), &format!("weir={}", "A".repeat(4000))]
        {
            assert_eq!(own.read(&request(nonsense), 1_001), None, "{nonsense}");
        }
        assert_eq!(own.write(9, 5, 1_000, false), None);
    }
}
