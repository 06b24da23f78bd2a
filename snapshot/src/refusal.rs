//! Reasons for which Weir answers a request itself, and counts by reason.
//!
//! Every reason is declared once, here. Nodes count by it; the stored statistics, reports, metrics, the dashboard and the
//! command line follow from the declaration.

use std::{borrow::Cow, collections::HashMap, fmt, ops::Index};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{IgnoredAny, MapAccess, Visitor},
    ser::SerializeMap as _,
};

macro_rules! reasons {
    ($($(#[$source:ident])? $variant:ident = $name:literal, $description:literal;)*) => {
        /// Why Weir answered a request itself instead of forwarding it to a backend.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum RefusalReason {
            $(#[doc = $description] $variant,)*
        }

        impl RefusalReason {
            /// Every reason, in the order of reports.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The number of reasons.
            pub const COUNT: usize = Self::ALL.len();

            /// The name in reports and metrics.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// One sentence about it.
            pub fn description(self) -> &'static str {
                match self { $(Self::$variant => $description,)* }
            }

            /// Whether it comes from a filter of a route. These are also counted by route.
            pub fn is_filter(self) -> bool {
                match self { $(Self::$variant => reasons!(@is_filter $($source)?),)* }
            }
        }
    };
    (@is_filter filter) => { true };
    (@is_filter) => { false };
}

reasons! {
    #[filter] IpFilter = "ip_filter", "The client's address is not allowed.";
    #[filter] Method = "method", "The method is not allowed.";
    #[filter] Auth = "auth", "Credentials are missing or wrong.";
    #[filter] RateLimit = "rate_limit", "The rate limit was exceeded.";
    PerIpLimit = "per_ip_limit", "The client's address had too many requests in flight.";
    Breaker = "breaker", "An attempt failed, and the circuit breakers of the other backends were open.";
    NoRoom = "no_room", "No backend had room in time.";
    NoBackend = "no_backend", "There was no backend, or none accepted a connection.";
}

impl RefusalReason {
    /// The reason with this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|reason| reason.name() == name)
    }

    /// The name as words, for people.
    pub fn label(self) -> String {
        self.name().replace('_', " ")
    }

    /// The reasons that come from filters of routes.
    pub fn filters() -> impl Iterator<Item = Self> {
        Self::ALL.iter().copied().filter(|reason| reason.is_filter())
    }
}

impl fmt::Display for RefusalReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A name that no reason has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a reason to refuse a request")]
pub struct UnknownReason(pub String);

/// Requests refused, by reason; each request counts under one of them at most.
///
/// In JSON an object with every reason. A reason that is missing when it is read is 0, and one that is unknown is ignored.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RefusalCounts([u64; RefusalReason::COUNT]);

impl RefusalCounts {
    /// Counts one request.
    pub fn count(&mut self, reason: RefusalReason) {
        self.set(reason, self[reason].saturating_add(1));
    }

    /// Replaces the count of a reason.
    pub fn set(&mut self, reason: RefusalReason, requests: u64) {
        self.0[reason as usize] = requests;
    }

    /// Each reason with its count, in the order of reports.
    pub fn each(&self) -> impl Iterator<Item = (RefusalReason, u64)> {
        RefusalReason::ALL.iter().map(|reason| (*reason, self[*reason]))
    }

    /// All requests, whatever the reason.
    pub fn total(&self) -> u64 {
        self.0.iter().fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// Adds the counts of other requests.
    pub fn add(&mut self, other: &Self) {
        self.join(other, u64::saturating_add);
    }

    /// Subtracts counts that were added before.
    pub fn subtract(&mut self, other: &Self) {
        self.join(other, u64::saturating_sub);
    }

    fn join(&mut self, other: &Self, join: fn(u64, u64) -> u64) {
        self.0.iter_mut().zip(other.0).for_each(|(count, other)| *count = join(*count, other));
    }

    /// The counts by name, without zeros, as they are sent.
    pub fn to_names(&self) -> HashMap<String, u64> {
        let counted = self.each().filter(|(_, count)| *count > 0);
        counted.map(|(reason, count)| (reason.name().to_owned(), count)).collect()
    }

    /// Reads counts by name.
    ///
    /// # Errors
    /// A name that no reason has.
    pub fn from_names(names: &HashMap<String, u64>) -> Result<Self, UnknownReason> {
        let mut counts = Self::default();
        for (name, count) in names {
            counts.set(RefusalReason::named(name).ok_or_else(|| UnknownReason(name.clone()))?, *count);
        }
        Ok(counts)
    }
}

impl Index<RefusalReason> for RefusalCounts {
    type Output = u64;

    fn index(&self, reason: RefusalReason) -> &u64 {
        &self.0[reason as usize]
    }
}

impl Serialize for RefusalCounts {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serialize(self.each(), serializer)
    }
}

impl<'de> Deserialize<'de> for RefusalCounts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Names;

        impl<'de> Visitor<'de> for Names {
            type Value = RefusalCounts;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("counts by reason")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RefusalCounts, A::Error> {
                let mut counts = RefusalCounts::default();
                while let Some(name) = map.next_key::<Cow<'_, str>>()? {
                    match RefusalReason::named(&name) {
                        Some(reason) => counts.set(reason, map.next_value()?),
                        None => drop(map.next_value::<IgnoredAny>()?),
                    }
                }
                Ok(counts)
            }
        }

        deserializer.deserialize_map(Names)
    }
}

impl JsonSchema for RefusalCounts {
    fn schema_name() -> Cow<'static, str> {
        "RefusalCounts".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        schema("Requests refused, by reason.", RefusalReason::ALL.iter().copied(), generator)
    }
}

/// Requests refused by a route's filters, by reason. In JSON an object with the reasons of filters only.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FilterRefusals(pub RefusalCounts);

impl Serialize for FilterRefusals {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serialize(RefusalReason::filters().map(|reason| (reason, self.0[reason])), serializer)
    }
}

impl<'de> Deserialize<'de> for FilterRefusals {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        RefusalCounts::deserialize(deserializer).map(Self)
    }
}

impl JsonSchema for FilterRefusals {
    fn schema_name() -> Cow<'static, str> {
        "FilterRefusals".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        schema("Requests refused by a route's filters, by reason.", RefusalReason::filters(), generator)
    }
}

fn serialize<S: Serializer>(
    counts: impl Iterator<Item = (RefusalReason, u64)>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(None)?;
    for (reason, count) in counts {
        map.serialize_entry(reason.name(), &count)?;
    }
    map.end()
}

fn schema(
    description: &str,
    reasons: impl Iterator<Item = RefusalReason>,
    generator: &mut SchemaGenerator,
) -> Schema {
    let count = generator.subschema_for::<u64>().to_value();
    let mut properties = serde_json::Map::new();
    for reason in reasons {
        let mut property = count.clone();
        property["description"] = reason.description().into();
        properties.insert(reason.name().to_owned(), property);
    }
    let required: Vec<String> = properties.keys().cloned().collect();
    json_schema!({
        "description": description,
        "type": "object",
        "properties": properties,
        "required": required,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_is_counted_by_itself_and_survives_both_forms() {
        let mut sum = RefusalCounts::default();
        for (times, reason) in (1..).zip(RefusalReason::ALL) {
            (0..times).for_each(|_| sum.count(*reason));
        }
        let counts: Vec<u64> = sum.each().map(|(_, count)| count).collect();
        assert_eq!(counts, (1..=RefusalReason::COUNT as u64).collect::<Vec<_>>());
        assert_eq!(RefusalCounts::from_names(&sum.to_names()), Ok(sum));
        let json = serde_json::to_string(&sum).unwrap();
        assert_eq!(serde_json::from_str::<RefusalCounts>(&json).unwrap(), sum);
        let mut twice = sum;
        twice.add(&sum);
        assert_eq!(twice.total(), 2 * sum.total());
        twice.subtract(&sum);
        assert_eq!(twice, sum);
    }

    #[test]
    fn reasons_that_are_missing_are_zero_and_unknown_ones_are_ignored_or_refused() {
        let read: RefusalCounts = serde_json::from_str(r#"{"auth":2,"later":1}"#).unwrap();
        assert_eq!((read[RefusalReason::Auth], read.total()), (2, 2));
        let names = HashMap::from([("later".to_owned(), 1)]);
        assert_eq!(RefusalCounts::from_names(&names), Err(UnknownReason("later".into())));
    }

    #[test]
    fn filters_have_their_own_reasons() {
        let names: Vec<&str> = RefusalReason::filters().map(RefusalReason::name).collect();
        assert_eq!(names, ["ip_filter", "method", "auth", "rate_limit"]);
        let json = serde_json::to_value(FilterRefusals::default()).unwrap();
        assert_eq!(json.as_object().unwrap().len(), names.len());
        let schema = schemars::schema_for!(FilterRefusals).to_value();
        assert_eq!(schema["properties"]["auth"]["description"], RefusalReason::Auth.description());
    }
}
