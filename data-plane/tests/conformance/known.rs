//! Rules that Weir breaks and that are known to be broken: shown as "no" in the table, and no failure of the suite
//! until they hold, when they have to leave this list.

/// The case's group and name, and what holds it up.
const KNOWN: &[(&str, &str, &str)] = &[
    (
        "HTTP/2: connection and frames",
        "a preface must be followed by SETTINGS",
        "the h2 library takes requests before SETTINGS",
    ),
    (
        "HTTP/2: malformed requests",
        "a pseudo-field among trailers",
        "the h2 library leaves it out and goes on",
    ),
    (
        "HTTP/2: connection and frames",
        "SETTINGS with ACK and content",
        "the h2 library says PROTOCOL_ERROR for each of its codec's errors",
    ),
    (
        "HTTP/2: connection and frames",
        "SETTINGS of no whole number of settings",
        "the h2 library says PROTOCOL_ERROR for each of its codec's errors",
    ),
    (
        "HTTP/2: connection and frames",
        "INITIAL_WINDOW_SIZE beyond 2^31-1",
        "the h2 library says PROTOCOL_ERROR for each of its codec's errors",
    ),
    (
        "HTTP/2: connection and frames",
        "PING of seven bytes",
        "the h2 library says PROTOCOL_ERROR for each of its codec's errors",
    ),
    (
        "HTTP/2: connection and frames",
        "PRIORITY of four bytes",
        "the h2 library says PROTOCOL_ERROR for each of its codec's errors",
    ),
    (
        "HTTP/2: connection and frames",
        "WINDOW_UPDATE of three bytes",
        "the h2 library says PROTOCOL_ERROR for each of its codec's errors",
    ),
    (
        "HTTP/2: connection and frames",
        "RST_STREAM of three bytes",
        "the h2 library says PROTOCOL_ERROR for each of its codec's errors",
    ),
    (
        "HTTP/2: connection and frames",
        "an index that no table has",
        "the h2 library says PROTOCOL_ERROR for each of its codec's errors",
    ),
    (
        "HTTP/2: connection and frames",
        "an index of 0",
        "the h2 library says PROTOCOL_ERROR for each of its codec's errors",
    ),
    (
        "HTTP/2: connection and frames",
        "a field that ends before its value",
        "the h2 library says PROTOCOL_ERROR for each of its codec's errors",
    ),
    (
        "HTTP/2: connection and frames",
        "Huffman's end of string within a value",
        "the h2 library says PROTOCOL_ERROR for each of its codec's errors",
    ),
    (
        "HTTP/2: connection and frames",
        "Huffman's padding with zeros",
        "the h2 library says PROTOCOL_ERROR for each of its codec's errors",
    ),
    (
        "HTTP/2: connection and frames",
        "a table larger than was allowed",
        "the h2 library says PROTOCOL_ERROR for each of its codec's errors",
    ),
    (
        "HTTP/2: connection and frames",
        "a change of the table's size after fields",
        "the h2 library says PROTOCOL_ERROR for each of its codec's errors",
    ),
    (
        "HTTP/2: connection and frames",
        "an integer without end",
        "the h2 library says PROTOCOL_ERROR for each of its codec's errors",
    ),
    (
        "HTTP/2: streams",
        "DATA after the end of the request",
        "the h2 library says PROTOCOL_ERROR for each of its codec's errors",
    ),
    (
        "HTTP/2: streams",
        "HEADERS after the end of the request",
        "the h2 library says PROTOCOL_ERROR for each of its codec's errors",
    ),
    ("HTTP/2: malformed requests", "an empty scheme", "the h2 library takes it for one"),
    ("HTTP/2: malformed requests", "a path with a fragment", "the h2 library leaves the fragment out"),
];

/// The known defect that makes the case fail, if there is one.
pub(crate) fn why(group: &str, name: &str) -> Option<&'static str> {
    KNOWN.iter().find(|known| known.0 == group && known.1 == name).map(|known| known.2)
}

/// Every name of the list.
pub(crate) fn all() -> impl Iterator<Item = (&'static str, &'static str)> {
    KNOWN.iter().map(|known| (known.0, known.1))
}
