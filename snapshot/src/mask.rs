//! Masks password hashes for readers without the role admin.
//!
//! A hash allows offline guessing, so only admins see it. Two masks are equal exactly if the hashes are, so that
//! differences stay visible.

use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::{Config, config::Route, diff::Change};

/// Prefix of masks. It is not a valid hash, so a masked configuration cannot be applied by accident.
pub const PREFIX: &str = "hidden:";

/// Returns the mask of a hash.
pub fn mask(hash: &str) -> String {
    // Too few bits of the digest, and too many unknown bits in the salt, to test guesses.
    let digest = Sha256::digest(hash.as_bytes());
    format!("{PREFIX}{:02x}{:02x}{:02x}{:02x}", digest[0], digest[1], digest[2], digest[3])
}

/// Masks all hashes of a configuration.
pub fn config(config: &mut Config) {
    config.routes.iter_mut().for_each(route);
}

/// Masks all hashes of a route.
pub fn route(route: &mut Route) {
    let users = route.basic_auth.iter_mut().flat_map(|auth| auth.users.values_mut());
    users.for_each(|hash| *hash = mask(hash));
}

/// Masks all hashes of a change.
pub fn change(change: &mut Change) {
    for spec in [&mut change.before, &mut change.after].into_iter().flatten() {
        // Most resources contain no hash and need not be parsed.
        if !spec.contains("\"$") {
            continue;
        }
        *spec = match serde_json::from_str(spec) {
            Ok(read) => value(read).to_string(),
            Err(_) => "null".to_owned(),
        };
    }
}

/// Masks all hashes in any JSON value.
pub fn value(value: Value) -> Value {
    match value {
        Value::String(text) if is_hash(&text) => mask(&text).into(),
        Value::Array(items) => items.into_iter().map(self::value).collect(),
        Value::Object(fields) => {
            Value::Object(fields.into_iter().map(|(name, field)| (name, self::value(field))).collect())
        }
        other => other,
    }
}

/// Whether the text is a hash that `basic_auth` accepts.
fn is_hash(text: &str) -> bool {
    text.starts_with("$argon2") || (text.starts_with("$2") && text.matches('$').count() == 3)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::{Key, Kind};

    const HASH: &str = "$2b$10$abcdefghijklmnopqrstuuABCDEFGHIJKLMNOPQRSTUVWXYZ01234";

    #[test]
    fn a_masked_configuration_shows_no_hash_and_cannot_be_applied() {
        let text = format!(
            "pools: [{{ name: p }}]\nroutes: [{{ name: r, pool: p, basic_auth: {{ users: {{ anna: '{HASH}' }} }} }}]"
        );
        let (mut shown, _) = crate::file::parse(&text).unwrap();
        config(&mut shown);
        let text = crate::file::to_yaml(&shown);
        assert!(!text.contains("$2b$") && text.contains(&mask(HASH)), "{text}");
        let refused = crate::file::parse(&text).unwrap_err().to_string();
        assert!(refused.contains("routes[0].basic_auth.users.anna: is a masked hash"), "{refused}");
    }

    #[test]
    fn a_masked_change_still_differs() {
        let spec =
            |hash: &str| Some(format!(r#"{{"spec":{{"basic_auth":{{"users":{{"anna":"{hash}"}}}}}}}}"#));
        let key = Key { kind: Kind::Route, name: "r".into() };
        let mut hidden = Change { key, before: spec(HASH), after: spec("$argon2id$v=19$other") };
        change(&mut hidden);
        let text = format!("{hidden:?}");
        assert!(!text.contains("$2b$") && !text.contains("argon2"), "{text}");
        assert_ne!(hidden.before, hidden.after);
    }
}
