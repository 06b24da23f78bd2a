//! Whether an HTTP/1.1 backend's 101 is an answer to what the request offered (RFC 9110, 7.8).

use crate::failure::Failure;
use weir_http::{FieldKind, RequestHead, ResponseHead, Version, list, translate::websocket_accept};

/// Checks a 101. A server may switch only to protocols that were offered; and for a client of HTTP/2, whose extended
/// CONNECT has no key, it is Weir that has to verify the answer to its own key (RFC 6455, 4.1; RFC 8441, 5).
///
/// # Errors
/// The backend switched to a protocol that was not offered.
pub(super) fn verify(offer: Option<&RequestHead>, answer: &ResponseHead) -> Result<(), Failure> {
    const UNOFFERED: Failure = Failure::Invalid("a switch to a protocol that was not offered");
    let Some(offer) = offer else {
        return Err(Failure::Invalid("a switch of protocols that was not requested"));
    };
    let is_offered = |protocol: &[u8]| {
        offer.all(FieldKind::Upgrade).flat_map(list).any(|offered| offered.eq_ignore_ascii_case(protocol))
    };
    let upgrades = answer.fields.iter().filter(|field| field.kind == FieldKind::Upgrade);
    let mut switched = upgrades.flat_map(|field| list(answer.value(field))).peekable();
    if switched.peek().is_none() || !switched.all(is_offered) {
        return Err(UNOFFERED);
    }
    if offer.version == Version::Http2 {
        let accept = offer.get_named(b"sec-websocket-key").map(websocket_accept).unwrap_or_default();
        let mut accepted = answer
            .fields
            .iter()
            .filter(|field| answer.name(field).eq_ignore_ascii_case(b"sec-websocket-accept"))
            .map(|field| answer.value(field));
        if accepted.next() != Some(accept.as_bytes()) || accepted.next().is_some() {
            return Err(Failure::Invalid("a wrong Sec-WebSocket-Accept"));
        }
    }
    Ok(())
}
