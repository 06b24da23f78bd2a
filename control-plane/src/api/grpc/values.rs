//! Times, durations and JSON in the types of `google.protobuf`.

use prost_types::{ListValue, Struct, Timestamp, Value, value::Kind};
use serde::Serialize;
use serde_json::{Map, Number, Value as Json};

use super::failure::invalid;
use crate::app::AppError;

/// The largest integer up to which a Struct's number is exact: 2^53.
const MAX_WHOLE: f64 = 9_007_199_254_740_992.0;

/// A time in milliseconds since the Unix epoch.
pub(super) fn time(ms: i64) -> Timestamp {
    let nanos = i32::try_from(ms.rem_euclid(1000)).unwrap_or_default() * 1_000_000;
    Timestamp { seconds: ms.div_euclid(1000), nanos }
}

/// A time in RFC 3339; `None` if the text is not a time.
pub(super) fn time_of(text: &str) -> Option<Timestamp> {
    let time: jiff::Timestamp = text.parse().ok()?;
    Some(Timestamp { seconds: time.as_second(), nanos: time.subsec_nanosecond() })
}

/// A duration.
pub(super) fn duration(duration: std::time::Duration) -> prost_types::Duration {
    let seconds = i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
    prost_types::Duration { seconds, nanos: i32::try_from(duration.subsec_nanos()).unwrap_or_default() }
}

/// A duration in milliseconds, which may be negative.
pub(super) fn millis(ms: i64) -> prost_types::Duration {
    let nanos = i32::try_from(ms % 1000).unwrap_or_default() * 1_000_000;
    prost_types::Duration { seconds: ms / 1000, nanos }
}

/// A duration in microseconds.
pub(super) fn micros(us: u64) -> prost_types::Duration {
    duration(std::time::Duration::from_micros(us))
}

/// A duration in milliseconds with a fraction, as in reports; never negative.
pub(super) fn float_millis(ms: f64) -> prost_types::Duration {
    duration(std::time::Duration::try_from_secs_f64(ms / 1000.0).unwrap_or_default())
}

/// A time in RFC 3339; `None` where it is out of range.
pub(super) fn rfc3339(time: Timestamp) -> Option<String> {
    Some(jiff::Timestamp::new(time.seconds, time.nanos).ok()?.to_string())
}

/// A duration that a caller sent in `field`.
///
/// # Errors
/// It is negative or out of range.
pub(super) fn duration_of(
    field: &str,
    duration: Option<prost_types::Duration>,
) -> Result<Option<std::time::Duration>, AppError> {
    let read = |duration| std::time::Duration::try_from(duration);
    duration.map(read).transpose().map_err(|_| invalid(field, "is negative or out of range"))
}

/// JSON as a value.
pub(super) fn value(json: &Json) -> Value {
    let kind = match json {
        Json::Null => Kind::NullValue(0),
        Json::Bool(flag) => Kind::BoolValue(*flag),
        Json::Number(number) => Kind::NumberValue(number.as_f64().unwrap_or_default()),
        Json::String(text) => Kind::StringValue(text.clone()),
        Json::Array(items) => Kind::ListValue(ListValue { values: items.iter().map(value).collect() }),
        Json::Object(fields) => Kind::StructValue(structure(fields)),
    };
    Value { kind: Some(kind) }
}

fn structure(fields: &Map<String, Json>) -> Struct {
    Struct { fields: fields.iter().map(|(name, json)| (name.clone(), value(json))).collect() }
}

/// An object of the configuration as a Struct.
pub(super) fn object<T: Serialize>(object: &T) -> Option<Struct> {
    match serde_json::to_value(object) {
        Ok(Json::Object(fields)) => Some(structure(&fields)),
        _ => None,
    }
}

/// Converts a value to JSON; `None` if it holds a number that JSON cannot represent.
pub(super) fn json(value: Value) -> Option<Json> {
    Some(match value.kind {
        None | Some(Kind::NullValue(_)) => Json::Null,
        Some(Kind::BoolValue(flag)) => flag.into(),
        Some(Kind::NumberValue(number)) => Json::Number(whole(number).or_else(|| Number::from_f64(number))?),
        Some(Kind::StringValue(text)) => text.into(),
        Some(Kind::ListValue(list)) => Json::Array(list.values.into_iter().map(json).collect::<Option<_>>()?),
        Some(Kind::StructValue(object)) => Json::Object(fields(object)?),
    })
}

/// The fields of a Struct as JSON; `None` as for [`json`].
pub(super) fn fields(object: Struct) -> Option<Map<String, Json>> {
    object.fields.into_iter().map(|(name, value)| Some((name, json(value)?))).collect()
}

/// Every number of a Struct is a double. A whole number becomes an integer in the configuration.
#[allow(clippy::cast_possible_truncation, reason = "whole and below 2^53")]
fn whole(number: f64) -> Option<Number> {
    (number.fract() == 0.0 && number.abs() <= MAX_WHOLE).then(|| Number::from(number as i64))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn json_is_the_same_after_both_ways() {
        let object = json!({
            "weight": 3, "share": 0.5, "negative": -7, "text": "10s", "none": null, "flag": true,
            "list": [1, "a", { "deep": [false] }], "empty": {}, "large": 4_294_967_295_u32,
        });
        assert_eq!(json(value(&object)).unwrap(), object);
        let not_json = Value { kind: Some(Kind::NumberValue(f64::NAN)) };
        assert_eq!(json(not_json), None);
    }

    #[test]
    fn times_keep_their_milliseconds_before_the_epoch_too() {
        assert_eq!(time(1_500), Timestamp { seconds: 1, nanos: 500_000_000 });
        assert_eq!(time(-1), Timestamp { seconds: -1, nanos: 999_000_000 });
        assert_eq!(time_of("1970-01-01T01:00:01.5+01:00"), Some(time(1_500)));
        assert_eq!(time_of(""), None);
    }

    #[test]
    fn times_are_written_as_they_are_read() {
        let time = time(1_500);
        assert_eq!(rfc3339(time), Some("1970-01-01T00:00:01.5Z".to_owned()));
        assert_eq!(rfc3339(Timestamp { seconds: i64::MAX, nanos: 0 }), None);
        assert_eq!(float_millis(1.25), micros(1_250));
        assert_eq!(float_millis(f64::NAN), micros(0));
    }

    #[test]
    fn durations_are_not_negative_where_a_caller_sends_them() {
        let two = prost_types::Duration { seconds: 2, nanos: 5 };
        assert_eq!(duration_of("wait", Some(two)).unwrap(), Some(std::time::Duration::new(2, 5)));
        assert_eq!(duration(std::time::Duration::new(2, 5)), two);
        let negative = duration_of("wait", Some(millis(-1_500))).unwrap_err();
        assert_eq!(negative.to_string(), "wait: is negative or out of range");
        assert_eq!(millis(-1_500), prost_types::Duration { seconds: -1, nanos: -500_000_000 });
    }
}
