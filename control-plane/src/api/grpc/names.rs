//! Enums of the protocol and the names that REST, CLI and configuration have for the same values: `DRAINING` of
//! `BackendState` is `draining`.

use weir_proto::v1;

use super::failure::invalid;
use crate::app::AppError;

/// An enum whose values are named `PREFIX_NAME`.
pub(super) trait Named: Copy + Into<i32> + TryFrom<i32> {
    /// The prefix of every value.
    const PREFIX: &'static str;

    /// The value with this full name.
    fn of_full_name(name: &str) -> Option<Self>;

    /// The full name of the value.
    fn full_name(self) -> &'static str;

    /// The value with this name. A name without a value is `UNSPECIFIED`; a test compares all names with the enums.
    fn of(name: &str) -> i32 {
        let upper = name.to_ascii_uppercase().replace([' ', '-'], "_");
        Self::of_full_name(&format!("{}{upper}", Self::PREFIX)).map_or(0, Into::into)
    }

    /// The name of a value; `None` for `UNSPECIFIED`.
    ///
    /// # Errors
    /// `field` has no such value.
    fn name(field: &str, value: i32) -> Result<Option<String>, AppError> {
        if value == 0 {
            return Ok(None);
        }
        match Self::try_from(value) {
            Ok(value) => Ok(Some(value.full_name()[Self::PREFIX.len()..].to_ascii_lowercase())),
            Err(_) => Err(invalid(field, format!("{value} is not a value of this enum"))),
        }
    }
}

macro_rules! named {
    ($($of:ident: $prefix:literal),* $(,)?) => {
        $(impl Named for v1::$of {
            const PREFIX: &'static str = $prefix;

            fn of_full_name(name: &str) -> Option<Self> {
                Self::from_str_name(name)
            }

            fn full_name(self) -> &'static str {
                self.as_str_name()
            }
        })*
    };
}

named! {
    AuditOutcome: "AUDIT_OUTCOME_",
    BackendState: "BACKEND_STATE_",
    Breaker: "BREAKER_",
    Completeness: "COMPLETENESS_",
    CertificateState: "CERTIFICATE_STATE_",
    DifferenceAction: "DIFFERENCE_ACTION_",
    FilterVerdict: "FILTER_VERDICT_",
    Health: "HEALTH_",
    NodeState: "NODE_STATE_",
    Outcome: "OUTCOME_",
    ResourceKind: "RESOURCE_KIND_",
    Role: "ROLE_",
    TokenState: "TOKEN_STATE_",
    TopBy: "TOP_BY_",
    TopSort: "TOP_SORT_",
}

#[cfg(test)]
mod tests {
    use weir_snapshot::config::BackendState;

    use super::*;
    use crate::access::{Outcome, Role};

    fn both_ways<E: Named>(names: &[&str]) {
        for (i, name) in names.iter().enumerate() {
            let value = E::of(name);
            assert!(value > 0, "{}: no value for {name:?}", E::PREFIX);
            assert!(!names[..i].iter().any(|other| E::of(other) == value), "{name}");
            assert_eq!(E::name("x", value).unwrap().unwrap(), name.replace(' ', "_"));
        }
        assert!(
            E::try_from(i32::try_from(names.len()).unwrap() + 1).is_err(),
            "{}: a value without a name",
            E::PREFIX
        );
    }

    #[test]
    fn each_name_has_a_value_and_each_value_a_name() {
        both_ways::<v1::Role>(&Role::ALL.map(Role::as_str));
        both_ways::<v1::AuditOutcome>(&[Outcome::Ok, Outcome::Failed, Outcome::Refused].map(Outcome::as_str));
        let states = [BackendState::Active, BackendState::Draining, BackendState::Disabled];
        let states = states.map(|state| state.to_string());
        both_ways::<v1::BackendState>(&states.each_ref().map(String::as_str));
        both_ways::<v1::Health>(&["unknown", "up", "down"]);
        both_ways::<v1::Breaker>(&["closed", "open", "half_open"]);
        both_ways::<v1::CertificateState>(&["good", "soon", "expired", "early"]);
        both_ways::<v1::DifferenceAction>(&["add", "remove", "change", "move"]);
        both_ways::<v1::FilterVerdict>(&["passes", "refuses", "depends"]);
        both_ways::<v1::NodeState>(&["active", "behind", "rejected", "away", "revoked"]);
        both_ways::<v1::ResourceKind>(&["settings", "pool", "backend", "route", "certificate"]);
        both_ways::<v1::Completeness>(&["complete", "open", "partial", "gap", "none"]);
        both_ways::<v1::Outcome>(&["finished", "cut_by_client", "cut_by_backend", "cut_by_node"]);
        both_ways::<v1::TopBy>(&["route", "host", "pool", "backend", "method", "status"]);
        both_ways::<v1::TopSort>(&["requests", "errors", "refused", "cut", "slowest", "bytes"]);
        both_ways::<v1::TokenState>(&["active", "revoked", "expired", "used up"]);
    }

    #[test]
    fn an_unknown_value_is_an_error_that_names_the_field() {
        assert_eq!(v1::Role::of("root"), 0);
        assert_eq!(v1::Role::name("role", 0).unwrap(), None);
        let error = v1::Role::name("role", 17).unwrap_err().to_string();
        assert_eq!(error, "role: 17 is not a value of this enum");
    }
}
