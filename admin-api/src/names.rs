//! Names of enum values in requests and answers.

/// `as_str` and `Display` by the names that serde writes.
macro_rules! names {
    ($type:ident { $($variant:ident = $name:literal),* $(,)? }) => {
        impl $type {
            /// Its name in requests and answers.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }
        }

        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        #[cfg(test)]
        impl $crate::names::Named for $type {
            const ALL: &'static [Self] = &[$(Self::$variant),*];
        }
    };
}

#[cfg(test)]
pub(crate) trait Named: Sized + 'static {
    const ALL: &'static [Self];
}

#[cfg(test)]
mod tests {
    use serde::Serialize;

    use super::Named;
    use crate::{
        AnswerKind, BreakerState, CertificateState, Completeness, Format, Health, NodeState, NodeTokenState,
        Outcome, RequestOutcome, Role, TokenState,
    };

    fn check<T: Named + Serialize + ToString>() {
        for value in T::ALL {
            assert_eq!(serde_json::to_value(value).unwrap(), value.to_string());
        }
    }

    #[test]
    fn names_are_those_that_serde_writes() {
        check::<AnswerKind>();
        check::<BreakerState>();
        check::<CertificateState>();
        check::<Completeness>();
        check::<Format>();
        check::<Health>();
        check::<NodeState>();
        check::<NodeTokenState>();
        check::<Outcome>();
        check::<RequestOutcome>();
        check::<Role>();
        check::<TokenState>();
    }
}
