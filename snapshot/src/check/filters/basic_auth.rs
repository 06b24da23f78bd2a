//! Checks user names, password hashes and the settings of basic authentication.

use super::own_header;
use crate::{config, problem::Problems, snapshot::BasicAuth};

/// Upper bounds on the cost of one password check: the bcrypt cost, and argon2's memory in KiB, rounds and lanes.
const MOST_BCRYPT: u32 = 14;

const MOST_ARGON2: [(&str, u32); 3] = [("m", 256 << 10), ("t", 10), ("p", 16)];

pub(super) fn basic_auth(auth: &config::BasicAuth, path: &str, problems: &mut Problems) -> BasicAuth {
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
