//! Replaces file names in a configuration file by the content of those files: `cert: example.crt`.
//!
//! This happens before the text is sent anywhere, because a control plane on another machine does not have these
//! files. Each content is written in one line in place of the name, so that all line numbers of the text stay the
//! same in error messages.

use std::{borrow::Cow, collections::BTreeMap, ops::Range};

use super::{
    MAX_BYTES,
    tree::{Entry, Location, Node, Tree},
};
use crate::problem::{Problem, Problems};

/// Paths of the fields that may name a file; `[]` stands for any index.
const FIELDS: [&str; 6] = [
    "certificates[].cert",
    "certificates[].key",
    "pools[].tls.ca",
    "pools[].tls.cert",
    "pools[].tls.key",
    "routes[].jwt.jwks",
];

/// The largest file, in bytes.
pub const MAX_FILE: usize = 1 << 20;

/// Whether a field contains the content itself and not a file name: PEM or a JSON object.
pub fn is_content(text: &str) -> bool {
    text.contains("-----BEGIN") || text.trim_start().starts_with('{')
}

/// Replaces file names in the text by the content of the files. `read` gets a name as it is written, relative to the
/// configuration file, and returns the content or an error.
///
/// A text that cannot be parsed is returned unchanged: [`parse`](super::parse) reports its problems.
///
/// # Errors
/// Every file that cannot be read, with the path and line of its name, and all other problems of the text.
pub fn inline<'a>(
    text: &'a str,
    mut read: impl FnMut(&str) -> Result<String, String>,
) -> Result<Cow<'a, str>, Problems> {
    // Most texts name no file and need not be parsed twice.
    if !["cert", "key:", "\"key\"", "ca:", "\"ca\"", "jwks"].iter().any(|field| text.contains(field)) {
        return Ok(Cow::Borrowed(text));
    }
    if text.len() > MAX_BYTES {
        return Ok(Cow::Borrowed(text));
    }
    let Ok(root) = Node::read(text) else { return Ok(Cow::Borrowed(text)) };
    let mut found = Vec::new();
    find(&root, String::new(), String::new(), &mut found);
    let mut problems = Problems::default();
    let mut contents: BTreeMap<usize, (usize, String)> = BTreeMap::new();
    for Reference { path, at, name, span } in found {
        let content = match read(&name) {
            _ if name.trim().is_empty() => Err("expected a file name or the content itself".to_owned()),
            Ok(content) if content.len() > MAX_FILE => {
                Err(format!("{name} is larger than {} MiB", MAX_FILE >> 20))
            }
            result => result.map_err(|why| format!("cannot read {name}: {why}")),
        };
        let mut problem = |message: String| {
            let mut problem = Problem::new(path.as_str(), message);
            at.mark(&mut problem);
            problems.0.push(problem);
        };
        match (content, span.and_then(|span| exact_range(text, span, &name))) {
            (Ok(content), Some(range)) => {
                contents.insert(range.start, (range.end, content));
            }
            (Ok(_), None) => {
                problem(format!("the file name {name:?} must be written on one line, without escapes"))
            }
            (Err(why), _) => problem(why),
        }
    }
    if !problems.0.is_empty() {
        // Report the other problems of the text too, except those about a file name that was read as content.
        let others = super::parse(text).err().unwrap_or_default();
        problems
            .0
            .extend(others.0.into_iter().filter(|problem| !FIELDS.contains(&shape(&problem.path).as_str())));
        return Err(problems);
    }
    let (mut out, mut done) = (String::with_capacity(text.len()), 0);
    for (start, (end, content)) in contents {
        out.push_str(&text[done..start]);
        // A JSON string is also a YAML string and fits in one line.
        out.push_str(&serde_json::Value::from(content).to_string());
        done = end;
    }
    out.push_str(&text[done..]);
    Ok(Cow::Owned(out))
}

/// Turns `certificates[0].cert` into `certificates[].cert`.
fn shape(path: &str) -> String {
    path.chars().filter(|letter| !letter.is_ascii_digit()).collect()
}

/// A file name in the text.
struct Reference {
    path: String,
    at: Location,
    name: String,
    /// The range of the name in the text; for an alias that of its anchor.
    span: Option<Range<usize>>,
}

/// `path` is for messages (`certificates[0].cert`), `shape` for comparison (`certificates[].cert`).
fn find(node: &Node, path: String, shape: String, found: &mut Vec<Reference>) {
    match &node.value {
        Tree::Leaf(serde_json::Value::String(name))
            if FIELDS.contains(&shape.as_str()) && !is_content(name) =>
        {
            found.push(Reference { path, at: node.location, name: name.clone(), span: node.span() });
        }
        Tree::Leaf(_) => {}
        Tree::List(items) => {
            for (i, item) in items.iter().enumerate() {
                find(item, format!("{path}[{i}]"), format!("{shape}[]"), found);
            }
        }
        Tree::Mapping(entries) => {
            let join = |path: &str, key: &str| {
                if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
            };
            for Entry { key, value: item, .. } in entries {
                let shape = join(&shape, key);
                if FIELDS.iter().any(|field| field.starts_with(&shape)) {
                    find(item, join(&path, key), shape, found);
                }
            }
        }
    }
}

/// The exact range of the name with its quotes.
fn exact_range(text: &str, span: Range<usize>, name: &str) -> Option<Range<usize>> {
    // The parser's span of a value may or may not include its quotes, tag and anchor.
    let end = text[span.start..].find('\n').map_or(text.len(), |end| span.start + end);
    let line = text.get(span.start..end)?;
    let at = span.start + line.find(name)?;
    let range = at..at + name.len();
    let around = (text[..range.start].chars().next_back(), text[range.end..].chars().next());
    Some(match around {
        (Some('"'), Some('"')) | (Some('\''), Some('\'')) => range.start - 1..range.end + 1,
        _ => range,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reader(name: &str) -> Result<String, String> {
        match name {
            "a.crt" => Ok("-----BEGIN A\n\"x\"\n".into()),
            "sub/it's.key" => Ok("-----BEGIN K\n".into()),
            "keys.json" => Ok("{\"keys\":[]}".into()),
            _ => Err("no such file".into()),
        }
    }

    fn value(text: &str) -> serde_json::Value {
        Node::read(text).unwrap().value(&mut String::new(), &mut Problems::default())
    }

    #[test]
    fn file_names_become_contents_and_line_numbers_stay() {
        let text = "# a.crt is the certificate\ncertificates:\n  - { name: a.crt, cert: a.crt, key: \"sub/it's.key\" } # a.crt\n  - name: b\n    cert: &c 'a.crt'\n  - cert: *c\npools:\n  - name: ü\n    tls: { ca: a.crt }\nroutes:\n  - jwt: { jwks: keys.json }\n  - jwt: { jwks: '{\"keys\":[]}' }\n    cert: not-a-field\n";
        let inlined = inline(text, reader).unwrap();
        assert_eq!(inlined.lines().count(), text.lines().count(), "{inlined}");
        let value = value(&inlined);
        let at = |pointer: &str| value.pointer(pointer).and_then(|value| value.as_str()).unwrap().to_owned();
        let certificate = "-----BEGIN A\n\"x\"\n";
        assert_eq!(at("/certificates/0/name"), "a.crt");
        assert_eq!(at("/certificates/0/cert"), certificate);
        assert_eq!(at("/certificates/0/key"), "-----BEGIN K\n");
        assert_eq!(at("/certificates/1/cert"), certificate);
        assert_eq!(at("/certificates/2/cert"), certificate);
        assert_eq!(at("/pools/0/tls/ca"), certificate);
        assert_eq!(at("/routes/0/jwt/jwks"), "{\"keys\":[]}");
        assert_eq!(at("/routes/1/cert"), "not-a-field");
        assert!(inlined.ends_with("cert: not-a-field\n"));
    }

    #[test]
    fn json_files_are_supported() {
        let text =
            "{\"certificates\": [{\"name\": \"a\", \"cert\": \"a.crt\",\n \"key\": \"sub/it's.key\"}]}";
        let inlined = inline(text, reader).unwrap();
        let value: serde_json::Value = serde_json::from_str(&inlined).unwrap();
        assert_eq!(value["certificates"][0]["cert"], "-----BEGIN A\n\"x\"\n");
    }

    #[test]
    fn unreadable_files_are_reported_with_their_line() {
        let text = "pools: []\ncertificates:\n  - name: a\n    cert: a.crt\n    key: gone.key\n  - name: b\n    cert: gone.crt\n";
        let problems = inline(text, reader).unwrap_err();
        let found: Vec<String> = problems.0.iter().map(ToString::to_string).collect();
        assert_eq!(
            found,
            [
                "line 5, column 10: certificates[0].key: cannot read gone.key: no such file",
                "line 7, column 11: certificates[1].cert: cannot read gone.crt: no such file"
            ]
        );
    }

    #[test]
    fn a_missing_file_hides_no_other_problem() {
        let text = "pools:\n  - { name: a, strategy: rr, tls: { ca: gone.pem } }\ncolour: blue\ncertificates:\n  - { name: c, cert: a.crt, key: '' }\n";
        let found: Vec<String> =
            inline(text, reader).unwrap_err().0.iter().map(ToString::to_string).collect();
        for told in [
            "pools[0].tls.ca: cannot read gone.pem",
            "pools[0].strategy: unknown variant",
            "colour: unknown key",
        ] {
            assert!(found.iter().any(|problem| problem.contains(told)), "{told}: {found:?}");
        }
        assert!(!found.iter().any(|problem| problem.contains("not PEM")), "{found:?}");
    }

    #[test]
    fn a_text_without_file_names_or_with_invalid_syntax_stays_unchanged() {
        for text in ["pools: []\n", "certificates: [", "certificates: 5\nkey: 1", "", "key: x\ncert: y\n"] {
            assert_eq!(inline(text, |_| unreachable!("nothing is named")).unwrap(), text);
        }
    }
}
