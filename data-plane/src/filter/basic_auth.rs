//! HTTP Basic authentication (RFC 7617). Verified passwords are cached for a while, so that only the first request
//! waits.

use std::{
    future::{Future as _, poll_fn},
    net::IpAddr,
    pin::pin,
    rc::Rc,
    sync::Arc,
    task::Poll,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use base64::{Engine as _, prelude::BASE64_STANDARD as BASE64};
use weir_http::{FieldKind, RequestHead};
use weir_snapshot::BasicAuth as Settings;

use super::{
    hashing::{Hashing, PATIENCE},
    verified::Verified,
};
use crate::{answer::Local, wire::timer::Timers};

/// How long a verified password is cached.
const REMEMBERED: Duration = Duration::from_secs(600);

pub(super) struct BasicAuth {
    settings: Settings,
    challenge: String,
    hashing: Arc<Hashing>,
    verified: Arc<Verified<()>>,
}

impl BasicAuth {
    pub(super) fn new(settings: &Settings, hashing: Arc<Hashing>, verified: Arc<Verified<()>>) -> Self {
        let challenge = format!("Basic realm=\"{}\", charset=\"UTF-8\"", settings.realm);
        Self { settings: settings.clone(), challenge, hashing, verified }
    }

    fn refused(&self) -> Local {
        Local::UNAUTHORIZED.with("www-authenticate", self.challenge.clone())
    }

    /// Authenticates a user, and adds the name for the backend.
    pub(super) async fn ask(
        &self,
        timers: &Rc<Timers>,
        address: IpAddr,
        head: &mut RequestHead,
    ) -> Result<(), Local> {
        let (user, password) = credentials(head).ok_or_else(|| self.refused())?;
        let known = self.settings.users.get(user.as_str());
        // An unknown name takes as long as a known one, so that timing does not reveal which names exist.
        let hash = known.or_else(|| self.settings.users.values().next()).ok_or_else(|| self.refused())?;
        let digest = self.verified.digest(&[hash.as_bytes(), user.as_bytes(), &password]);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let is_known = digest.is_some_and(|digest| self.verified.get(&digest, now).is_some());
        if !is_known {
            let result = self.hashing.check(address, hash, password).ok_or(Local::BUSY)?;
            let is_right = wait(timers, result).await.ok_or(Local::BUSY)?;
            if !is_right || known.is_none() {
                return Err(self.refused());
            }
            if let Some(digest) = digest {
                self.verified.insert(digest, now + REMEMBERED.as_secs(), now, ());
            }
        }
        let header = self.settings.user_header.as_bytes();
        head.remove(header);
        head.add(header, user.as_bytes());
        if !self.settings.keep_authorization {
            head.remove(b"authorization");
        }
        Ok(())
    }
}

/// Waits for the result of the check. Returns `None` on a timeout.
async fn wait(timers: &Rc<Timers>, result: tokio::sync::oneshot::Receiver<bool>) -> Option<bool> {
    let deadline = timers.timer();
    deadline.arm(PATIENCE);
    let mut result = pin!(result);
    poll_fn(|cx| match result.as_mut().poll(cx) {
        Poll::Ready(is_right) => Poll::Ready(is_right.ok()),
        Poll::Pending if deadline.expired(cx) => Poll::Ready(None),
        Poll::Pending => Poll::Pending,
    })
    .await
}

/// The name and password of the only Authorization field; with two, a backend could use the other one.
fn credentials(head: &RequestHead) -> Option<(String, Vec<u8>)> {
    let mut values = head.all(FieldKind::Authorization);
    let value = values.next().filter(|_| values.next().is_none())?;
    let (scheme, rest) = value.split_at_checked(6)?;
    if !scheme.eq_ignore_ascii_case(b"basic ") {
        return None;
    }
    let mut pair = BASE64.decode(rest.trim_ascii()).ok()?;
    let colon = pair.iter().position(|byte| *byte == b':')?;
    let password = pair.split_off(colon + 1);
    pair.truncate(colon);
    Some((String::from_utf8(pair).ok()?, password))
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_http::{Limits, Parsed, parse_request};

    fn given(lines: &str) -> Option<(String, String)> {
        let text = format!("GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\n");
        let mut head = RequestHead::new();
        assert!(matches!(
            parse_request(text.as_bytes(), &Limits::default(), &mut head),
            Ok(Parsed::Complete { .. })
        ));
        credentials(&head).map(|(user, password)| (user, String::from_utf8(password).unwrap()))
    }

    #[test]
    fn a_name_and_a_password_are_read_strictly() {
        let pair = |user: &str, password: &str| Some((user.to_owned(), password.to_owned()));
        // anna:secret, anna:a:b, anna:
        assert_eq!(given("Authorization: Basic YW5uYTpzZWNyZXQ=\r\n"), pair("anna", "secret"));
        assert_eq!(given("authorization: bAsIc YW5uYTphOmI=\r\n"), pair("anna", "a:b"));
        assert_eq!(given("authorization: Basic YW5uYTo=\r\n"), pair("anna", ""));
        for nonsense in [
            "",
            "Authorization: Basic\r\n",
            "Authorization: Basic !!!\r\n",
            "Authorization: Basic YW5uYQ==\r\n",
            "Authorization: Bearer YW5uYTpzZWNyZXQ=\r\n",
            "Authorization: Basic YW5uYTpzZWNyZXQ=\r\nAuthorization: Basic YW5uYTpzZWNyZXQ=\r\n",
        ] {
            assert_eq!(given(nonsense), None, "{nonsense}");
        }
    }
}
