//! PEM blocks (RFC 7468) as they occur in practice.
//!
//! Files are concatenated without a line break between them, indented, saved with a byte order mark or with CRLF, and
//! contain text between the blocks. All of that is accepted. A block that cannot be parsed is an error with its line;
//! nothing is dropped silently. Messages never contain a block's content, which may be a private key.

use base64::{Engine as _, engine::general_purpose::STANDARD};

const BEGIN: &str = "-----BEGIN ";
const END: &str = "-----END ";
const DASHES: &str = "-----";

/// Labels of certificates; the first is the standard one, the others are OpenSSL's.
const CERTIFICATES: [&str; 3] = ["CERTIFICATE", "X509 CERTIFICATE", TRUSTED];
const TRUSTED: &str = "TRUSTED CERTIFICATE";

/// Labels of parameters that tools write beside certificates and keys, and that neither a chain nor a key needs.
const IGNORED: [&str; 2] = ["EC PARAMETERS", "DH PARAMETERS"];

/// One block of a text.
pub struct Block {
    /// The label: `CERTIFICATE`, `PRIVATE KEY`.
    pub label: String,
    /// The line of the BEGIN line, counted from 1.
    pub line: usize,
    /// The decoded content.
    pub der: Vec<u8>,
    /// Whether the content is encrypted in the older textual form (RFC 1421, `Proc-Type`); `der` is then empty.
    pub is_encrypted: bool,
}

impl Block {
    /// Whether the block contains only parameters, which are not needed.
    pub fn is_ignored(&self) -> bool {
        IGNORED.contains(&&*self.label)
    }

    /// Whether the block is OpenSSL's trusted certificate, with trust settings after the certificate.
    pub(crate) fn is_trusted(&self) -> bool {
        self.label == TRUSTED
    }
}

/// Parses all blocks of a text.
///
/// # Errors
/// The line and what is wrong there.
pub fn blocks(text: &str) -> Result<Vec<Block>, String> {
    let mut blocks = Vec::new();
    let mut at = 0;
    loop {
        let begin = text[at..].find(BEGIN).map(|found| at + found);
        stray(text, at, begin.unwrap_or(text.len()))?;
        let Some(begin) = begin else { return Ok(blocks) };
        let line = line_of(text, begin);
        let label_at = begin + BEGIN.len();
        let label = label(text, label_at)
            .ok_or_else(|| format!("line {line}: the BEGIN line does not end with {DASHES}"))?;
        let body_at = label_at + label.len() + DASHES.len();
        let end = text[body_at..].find(END).map(|found| body_at + found);
        let next = text[body_at..].find(BEGIN).map(|found| body_at + found);
        let end = match (end, next) {
            (Some(end), next) if next.is_none_or(|next| end < next) => end,
            (_, Some(next)) => {
                let next = line_of(text, next);
                return Err(format!("line {next}: a block starts before the block of line {line} ends"));
            }
            _ => return Err(format!("line {line}: the {label} has no END line")),
        };
        let ended = self::label(text, end + END.len());
        if ended != Some(label) {
            let ended =
                ended.map_or_else(|| format!("END does not end with {DASHES}"), |it| format!("END {it}"));
            let end = line_of(text, end);
            return Err(format!("line {end}: {ended}, but the block of line {line} is a {label}"));
        }
        let (der, is_encrypted) = content(text, body_at, end, line, label)?;
        blocks.push(Block { label: label.to_owned(), line, der, is_encrypted });
        at = end + END.len() + label.len() + DASHES.len();
    }
}

/// Parses the certificates of a text, in its order.
///
/// # Errors
/// The line and what is wrong there; no certificate; a block that is not a certificate.
pub fn certificates(text: &str) -> Result<Vec<Block>, String> {
    let mut found = Vec::new();
    for block in blocks(text)? {
        match &*block.label {
            label if CERTIFICATES.contains(&label) => found.push(block),
            _ if block.is_ignored() => {}
            label => {
                return Err(format!("line {}: a {label} where only certificates are allowed", block.line));
            }
        }
    }
    if found.is_empty() {
        return Err("contains no certificate (-----BEGIN CERTIFICATE-----)".to_owned());
    }
    Ok(found)
}

/// The label that starts here, if dashes follow it on the same line.
fn label(text: &str, at: usize) -> Option<&str> {
    let line = text[at..].split(['\r', '\n']).next()?;
    let label = &line[..line.find(DASHES)?];
    (!label.is_empty() && label.len() <= 64).then_some(label)
}

/// Decodes the inside of a block: optional RFC 1421 headers, then base64.
fn content(text: &str, from: usize, to: usize, line: usize, label: &str) -> Result<(Vec<u8>, bool), String> {
    let mut base64 = String::new();
    let (mut at, mut in_headers, mut is_encrypted) = (from, true, false);
    for piece in text[from..to].split_inclusive(['\r', '\n']) {
        let trimmed = piece.trim();
        if in_headers && trimmed.contains(':') {
            is_encrypted |= trimmed.starts_with("Proc-Type") && trimmed.contains("ENCRYPTED");
        } else if !trimmed.is_empty() {
            in_headers = false;
            for (offset, character) in
                piece.char_indices().filter(|(_, character)| !character.is_whitespace())
            {
                if !(character.is_ascii_alphanumeric() || matches!(character, '+' | '/' | '=')) {
                    let wrong = line_of(text, at + offset);
                    let hint =
                        if character == '\\' { " (a line end written as two characters?)" } else { "" };
                    return Err(format!(
                        "line {wrong}: invalid character {character:?} in the base64 of the {label} of line {line}{hint}"
                    ));
                }
                base64.push(character);
            }
        }
        at += piece.len();
    }
    if is_encrypted {
        return Ok((Vec::new(), true));
    }
    match STANDARD.decode(&base64) {
        Ok(der) if !der.is_empty() => Ok((der, false)),
        Ok(_) => Err(format!("line {line}: the {label} is empty")),
        // The decoder's message would quote a byte of the content.
        Err(_) => Err(format!("line {line}: the base64 of the {label} is truncated or damaged")),
    }
}

/// Rejects text outside of blocks that looks like a damaged BEGIN or END line.
fn stray(text: &str, from: usize, to: usize) -> Result<(), String> {
    let mut at = from;
    for piece in text[from..to].split_inclusive(['\r', '\n']) {
        let is_dash = |c: char| matches!(c, '-' | '\u{2010}'..='\u{2015}' | '\u{2212}' | '\u{ad}');
        let is_blank = |c: char| c.is_whitespace() || matches!(c, '\u{feff}' | '\u{200b}');
        let line = piece.trim_matches(is_blank);
        let words = line.trim_start_matches(|c| is_dash(c) || is_blank(c));
        let word = words.split(is_blank).next().unwrap_or_default().to_ascii_lowercase();
        let ends = piece.find(END).map(|found| line_of(text, at + found));
        if let Some(wrong) = ends {
            return Err(format!("line {wrong}: an END line without its BEGIN"));
        }
        let names = ["certificate", "key", "crl", "pkcs", "parameters", "request"];
        let about = words.to_ascii_lowercase();
        if line.starts_with(is_dash)
            && matches!(&*word, "begin" | "end")
            && names.iter().any(|name| about.contains(name))
        {
            let what = if word == "begin" { "BEGIN" } else { "END" };
            let wrong = line_of(text, at);
            return Err(format!(
                "line {wrong}: a damaged or stray {what} line (expected for example -----BEGIN CERTIFICATE-----)"
            ));
        }
        at += piece.len();
    }
    Ok(())
}

/// The line of an offset, counted from 1.
fn line_of(text: &str, at: usize) -> usize {
    let before = text[..at].replace("\r\n", "\n");
    before.matches(['\n', '\r']).count() + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "-----BEGIN CERTIFICATE-----\nAAAA\nBBBB\n-----END CERTIFICATE-----";
    const B: &str = "-----BEGIN CERTIFICATE-----\nCCCC\n-----END CERTIFICATE-----\n";

    fn read(text: &str) -> Vec<(String, usize, usize)> {
        let blocks = blocks(text).unwrap_or_else(|why| panic!("{text:?}: {why}"));
        blocks.into_iter().map(|block| (block.label, block.line, block.der.len())).collect()
    }

    #[test]
    fn every_block_is_parsed_in_all_common_formats() {
        let both = |text: &str, second: usize| {
            let certificate = "CERTIFICATE".to_owned();
            let first = read(text).first().map_or(0, |block| block.1);
            assert_eq!(read(text), [(certificate.clone(), first, 6), (certificate, second, 3)], "{text:?}");
        };
        both(&format!("{A}\n{B}"), 5);
        both(&format!("{A}{B}"), 4);
        both(&format!("{A} {B}"), 4);
        both(&format!("{A};{B}"), 4);
        both(&format!("\u{feff}{A}\n{B}"), 5);
        both(&format!("{A}\n\u{feff}{B}"), 5);
        both(&format!("{A}\n{B}").replace('\n', "\r\n"), 5);
        both(&format!("{A}\n{B}").replace('\n', "\r"), 5);
        both(&format!("  {A}\n{B}").replace('\n', "\n  "), 5);
        both(&format!("\t{A}\n{B}").replace('\n', "  \n\t"), 5);
        both(&format!("{A}\n\n\n{B}"), 7);
        both(&format!("{A}\nsubject=CN = a\n---\nBag Attributes: <none>\n# the end\n{B}"), 9);
        both(&format!("{A}\n{B}").replace("AAAA\n", "AAAA\n\n"), 6);
        both(&format!("{A}\n{B}").replace("AAAA\nBBBB", "AA AA BB\tBB"), 4);
        both(&format!("{A}\n{}", B.trim_end()), 5);
        both(&format!("{A}\n{B}text behind it"), 5);
        both(&format!("{A}\n{B}").replace("\nAAAA", "AAAA").replace("BBBB\n", "BBBB"), 3);
        both(&format!("{A}\n{B}").replace("-----\nAAAA", "-----\nComment: x\n\nAAAA"), 7);
    }

    #[test]
    fn incomplete_blocks_are_rejected_with_their_line() {
        for (text, says) in [
            (format!("{A}\n-----BEGIN CERTIFICATE-----\nCCCC\n"), "line 5: the CERTIFICATE has no END line"),
            (
                format!("-----BEGIN CERTIFICATE-----\nAAAA\n{B}"),
                "line 3: a block starts before the block of line 1",
            ),
            (
                format!("{A}\n{}", B.replace("END CERTIFICATE", "END X")),
                "line 7: END X, but the block of line 5",
            ),
            (format!("{A}\n{}", B.replace("CCCC", "CC!C")), "line 6: invalid character '!'"),
            (format!("{A}\n{}", B.replace("CCCC", "CCCC\\nCCCC")), "line 6: invalid character '\\\\'"),
            (
                format!("{A}\n{}", B.replace("CCCC", "CCC")),
                "line 5: the base64 of the CERTIFICATE is truncated",
            ),
            (
                format!("{A}\n{}", B.replace("CCCC", "CC=C")),
                "line 5: the base64 of the CERTIFICATE is truncated",
            ),
            (format!("{A}\n{}", B.replace("CCCC", "")), "line 5: the CERTIFICATE is empty"),
            (format!("{A}\n{}", B.replace("-----BEGIN", "----BEGIN")), "line 5: a damaged or stray BEGIN"),
            (
                format!("{A}\n{}", B.replace("-----BEGIN", "\u{2014}\u{2013}BEGIN")),
                "line 5: a damaged or stray BEGIN",
            ),
            (format!("{A}\n{}", B.replace("-----BEGIN", "-----begin")), "line 5: a damaged or stray BEGIN"),
            (format!("{A}\n{}", B.replace("-----BEGIN", "-----  BEGIN")), "line 5: a damaged or stray BEGIN"),
            (
                format!("{A}\n{}", B.replace("CERTIFICATE-----\nC", "CERTIFICATE\nC")),
                "line 5: the BEGIN line does not",
            ),
            (format!("{A}\nCCCC\n-----END CERTIFICATE-----\n"), "line 6: an END line without its BEGIN"),
            (
                format!("{A}\n{}", B.replace("END CERTIFICATE-----", "END CERTIFICATE")),
                "line 7: END does not end with",
            ),
        ] {
            match blocks(&text) {
                Err(why) => assert!(why.contains(says), "{text:?}: {why}"),
                Ok(_) => panic!("{text:?} was read"),
            }
        }
    }

    #[test]
    fn certificate_labels_are_accepted_and_others_rejected() {
        for label in CERTIFICATES {
            let text = format!("{A}\n{}", B.replace("CERTIFICATE", label));
            assert_eq!(certificates(&text).map(|found| found.len()), Ok(2), "{label}");
        }
        let with = |label: &str| certificates(&format!("{A}\n{}", B.replace("CERTIFICATE", label)));
        assert_eq!(with("DH PARAMETERS").map(|found| found.len()), Ok(1));
        for label in ["CERTIFICATE REQUEST", "PKCS7", "X509 CRL", "PUBLIC KEY", "PRIVATE KEY", "certificate"]
        {
            let why = with(label).map(|found| found.len()).unwrap_err();
            assert!(why.contains(&format!("line 5: a {label} where only certificates are allowed")), "{why}");
        }
        assert!(
            certificates("no block")
                .map(|found| found.len())
                .unwrap_err()
                .contains("contains no certificate")
        );
    }

    proptest::proptest! {
        #[test]
        fn no_text_causes_a_panic_and_no_block_is_lost(
            pieces in proptest::collection::vec(
                proptest::sample::select(vec![
                    "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----", "-----BEGIN ", "-----END ", "-----",
                    "AAAA", "A", "=", "\n", "\r\n", " ", "\u{feff}", "text", "key:", "é",
                ]),
                0..16,
            ),
        ) {
            let text = pieces.concat();
            if let Ok(blocks) = blocks(&text) {
                proptest::prop_assert_eq!(blocks.len(), text.matches(BEGIN).count());
                proptest::prop_assert_eq!(blocks.len(), text.matches(END).count());
            }
        }
    }
}
