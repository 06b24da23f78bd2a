//! Suggestions for mistyped names.

/// Returns the candidate closest to `name` if the difference is small enough to be a typo.
pub fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // Two edits, or one in a short word. The length is limited because the cost is the product of both lengths.
    let most = match name.chars().count() {
        0..=2 => return None,
        3..=5 => 1,
        6..=100 => 2,
        _ => return None,
    };
    candidates
        .into_iter()
        .filter(|candidate| candidate.len().abs_diff(name.len()) <= most * 4)
        .map(|candidate| (strsim::osa_distance(&name.to_lowercase(), &candidate.to_lowercase()), candidate))
        .filter(|(distance, _)| *distance <= most)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Limits on the compared names and on the problems with suggestions: ten thousand problems must not be slow.
const MOST: usize = 1000;

/// Returns `; did you mean "books"?`, or an empty text.
pub(crate) fn hint<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>, told: usize) -> String {
    if told > MOST / 10 {
        return String::new();
    }
    match nearest(name, candidates.into_iter().take(MOST)) {
        Some(near) => format!("; did you mean {near:?}?"),
        None => String::new(),
    }
}

/// Adds a suggestion from the variants in serde's message: ``unknown variant `x`, expected one of `a`, `b` ``.
pub(crate) fn with_suggestion(message: String) -> String {
    let mut quoted = message.split('`').skip(1).step_by(2);
    if !message.starts_with("unknown variant") {
        return message;
    }
    let Some(near) = quoted.next().and_then(|given| nearest(given, quoted)) else { return message };
    format!("{message}; did you mean {near}?")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn typos_get_a_suggestion_and_other_words_do_not() {
        let names = ["round_robin", "random", "least_connections", "url", "weight"];
        for (given, meant) in [
            ("round-robin", Some("round_robin")),
            ("Random", Some("random")),
            ("leats_connections", Some("least_connections")),
            ("wieght", Some("weight")),
            ("urll", Some("url")),
            ("colour", None),
            ("u", None),
            ("", None),
        ] {
            assert_eq!(nearest(given, names), meant, "{given}");
        }
        let message = "unknown variant `rnadom`, expected one of `round_robin`, `random`".to_owned();
        assert!(with_suggestion(message).ends_with("; did you mean random?"));
    }
}
