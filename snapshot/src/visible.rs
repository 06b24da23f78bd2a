//! Makes untrusted text safe to display: one line, of limited length, without characters that control a terminal or
//! change the reading order.

use std::{borrow::Cow, fmt::Write as _};

/// Marks truncated text.
const MORE: char = '…';

/// Whether a text is displayed unchanged: it contains only printable characters, and no control or format characters.
pub fn is_visible(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b' '..=b'~')) || text.chars().all(prints)
}

/// Returns at most `most` bytes of a text. Control characters, format characters (such as bidirectional marks and
/// zero-width spaces) and other unprintable characters become escapes such as `\u{202e}`.
pub fn visible(text: &str, most: usize) -> Cow<'_, str> {
    if text.len() <= most && is_visible(text) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(escaped(text.as_bytes(), most))
}

/// Like [`visible`], for bytes that may not be UTF-8; invalid bytes become `\xff`.
pub fn visible_bytes(bytes: &[u8], most: usize) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => visible(text, most).into_owned(),
        Err(_) => escaped(bytes, most),
    }
}

/// Escapes unprintable characters in JSON text as `\u202e`. Line breaks stay: between values they are white space,
/// and in strings JSON escapes them already.
pub fn visible_json(text: &str) -> Cow<'_, str> {
    let stays = |c: char| c == '\n' || prints(c);
    if text.chars().all(stays) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if stays(c) {
            shown.push(c);
        } else {
            for unit in c.encode_utf16(&mut [0; 2]) {
                let _ = write!(shown, "\\u{unit:04x}");
            }
        }
    }
    Cow::Owned(shown)
}

/// The standard library knows which characters are unprintable. It also escapes quotes and backslashes, which are
/// printable.
fn prints(c: char) -> bool {
    match c {
        ' '..='~' => true,
        c if c.is_ascii() => false,
        c => c.escape_debug().len() == 1,
    }
}

fn escaped(bytes: &[u8], most: usize) -> String {
    let most = most.saturating_sub(MORE.len_utf8());
    let mut text = String::new();
    let mut one = String::new();
    for chunk in bytes.utf8_chunks() {
        let valid = chunk.valid().chars().map(Ok);
        for part in valid.chain(chunk.invalid().iter().map(Err)) {
            one.clear();
            let _ = match part {
                Ok(c) if prints(c) => write!(one, "{c}"),
                Ok(c) => write!(one, "{}", c.escape_unicode()),
                Err(byte) => write!(one, "\\x{byte:02x}"),
            };
            if text.len() + one.len() > most {
                text.push(MORE);
                return text;
            }
            text.push_str(&one);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn terminal_controls_and_bidirectional_marks_are_escaped() {
        for (given, shown) in [
            ("GET", "GET"),
            ("/a b?q='\"\\~", "/a b?q='\"\\~"),
            ("münchen 日本 ✓", "münchen 日本 ✓"),
            ("\x1b[2J", r"\u{1b}[2J"),
            ("\x1b]52;c;aGk=\x07", r"\u{1b}]52;c;aGk=\u{7}"),
            ("a\r\nb\tc\x7f", r"a\u{d}\u{a}b\u{9}c\u{7f}"),
            // C1 controls: CSI and OSC as single characters.
            ("\u{9b}31m\u{9d}", r"\u{9b}31m\u{9d}"),
            // Bidirectional embeddings, overrides, isolates and marks.
            ("\u{202a}\u{202b}\u{202c}\u{202d}\u{202e}", r"\u{202a}\u{202b}\u{202c}\u{202d}\u{202e}"),
            ("\u{2066}\u{2067}\u{2068}\u{2069}", r"\u{2066}\u{2067}\u{2068}\u{2069}"),
            ("\u{200e}\u{200f}\u{61c}", r"\u{200e}\u{200f}\u{61c}"),
            // Zero width characters, soft hyphen, byte order mark, tags, line and paragraph separators.
            (
                "\u{200b}\u{200c}\u{200d}\u{2060}\u{ad}\u{feff}",
                r"\u{200b}\u{200c}\u{200d}\u{2060}\u{ad}\u{feff}",
            ),
            ("\u{e0041}\u{e007f}", r"\u{e0041}\u{e007f}"),
            ("\u{2028}\u{2029}", r"\u{2028}\u{2029}"),
            // Private use, unassigned, no-break space.
            ("\u{e000}\u{10ffff}\u{a0}", r"\u{e000}\u{10ffff}\u{a0}"),
        ] {
            assert_eq!(visible(given, 1_000), shown);
            assert_eq!(is_visible(given), given == shown, "{shown}");
            assert_eq!(visible(shown, 1_000), shown, "escaped text stays unchanged");
        }
        assert_eq!(visible_bytes(b"a\xff\xfe\xc3", 100), r"a\xff\xfe\xc3");
    }

    #[test]
    fn a_text_is_truncated_between_characters() {
        assert_eq!(visible("abcdefgh", 8), "abcdefgh");
        assert_eq!(visible("abcdefghi", 8), "abcde…");
        assert_eq!(visible("ab\u{202e}cd", 8), "ab…");
        assert_eq!(visible("äöüäöü", 8), "äö…");
    }

    #[test]
    fn escaping_json_keeps_its_value() {
        let value = serde_json::json!({
            "a": "\u{1b}]52;c;aGk=\u{7} \u{9b}31m \u{7f} \u{202e}x\u{2066} \u{e0041} \"q\" \\ \n\t 日本 ✓",
            "\u{200f}": [1, "\u{10ffff}"],
        });
        for text in [value.to_string(), serde_json::to_string_pretty(&value).unwrap()] {
            let shown = visible_json(&text);
            assert!(shown.lines().all(is_visible), "{shown}");
            assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).unwrap(), value);
        }
        assert!(matches!(visible_json("{\"a\": \"日本\"}\n"), Cow::Borrowed(_)));
    }

    proptest! {
        #[test]
        fn any_input_becomes_visible_and_bounded(
            bytes in proptest::collection::vec(any::<u8>(), 0..200),
            text in any::<String>(),
            most in 3usize..100,
        ) {
            for shown in [visible_bytes(&bytes, most), visible(&text, most).into_owned()] {
                prop_assert!(is_visible(&shown), "{:?}", shown);
                prop_assert!(shown.len() <= most);
            }
        }
    }
}
