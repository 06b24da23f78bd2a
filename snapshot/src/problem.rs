//! Problems of a configuration and their locations.

use std::fmt;

/// One problem: where it is and what is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
pub struct Problem {
    /// Path of the value, such as `pools[0].backends[1].url`; empty for the whole configuration.
    pub path: String,
    /// The error: lower case, no full stop, naming the value.
    pub message: String,
    /// Line in the text, counted from 1, if the configuration came from a text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<u64>,
    /// Column, counted from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub column: Option<u64>,
    /// Whether the key is wrong and not its value.
    #[serde(skip)]
    pub of_key: bool,
}

impl Problem {
    /// A problem at a path.
    ///
    /// Both texts are truncated: they may contain keys and values of the input, which may be large and repeated in
    /// many problems.
    pub fn new(path: impl Into<String>, message: impl Into<String>) -> Self {
        let (path, message) = (cut(path.into(), MAX_PATH), cut(message.into(), MAX_MESSAGE));
        Self { path, message, line: None, column: None, of_key: false }
    }
}

/// The longest path of a problem, in bytes.
pub(crate) const MAX_PATH: usize = 1 << 10;
/// The longest message of a problem, in bytes.
const MAX_MESSAGE: usize = 8 << 10;

fn cut(mut text: String, most: usize) -> String {
    if text.len() > most {
        text.truncate(text.floor_char_boundary(most));
        text.push('…');
        text.shrink_to_fit();
    }
    text
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.line, self.column) {
            (Some(line), Some(column)) => write!(f, "line {line}, column {column}: ")?,
            (Some(line), None) => write!(f, "line {line}: ")?,
            (None, _) => {}
        }
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.message)
    }
}

/// All problems of a configuration; never empty when returned as an error.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Problems(pub Vec<Problem>);

impl Problems {
    /// Adds a problem.
    pub fn add(&mut self, path: impl Into<String>, message: impl Into<String>) {
        self.0.push(Problem::new(path, message));
    }

    /// Returns the value, or the problems if there are any.
    pub fn into_result<T>(self, value: T) -> Result<T, Problems> {
        if self.0.is_empty() { Ok(value) } else { Err(self) }
    }
}

impl From<Problem> for Problems {
    fn from(problem: Problem) -> Self {
        Self(vec![problem])
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, problem) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str("; ")?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}
