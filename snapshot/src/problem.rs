//! What is wrong with a configuration, and where.

use std::fmt;

/// One mistake: where it is and what it is.
#[derive(Debug, Clone, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
pub struct Problem {
    /// The place, such as `pools[0].backends[1].url`; empty for the whole.
    pub path: String,
    /// What is wrong: lower case, no full stop, naming the thing.
    pub message: String,
    /// The line in the file, counted from 1, where the configuration came from a text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<u64>,
    /// The column, counted from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub column: Option<u64>,
    /// What is wrong is the key and not its value.
    #[serde(skip)]
    pub of_key: bool,
}

impl Problem {
    /// A mistake at a path.
    ///
    /// Both texts are cut after a bound: they may hold keys and values of the input, which may be large and be in the
    /// message of many mistakes.
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

/// Every mistake of a configuration; never empty where it is returned as an error.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Problems(pub Vec<Problem>);

impl Problems {
    /// Adds a mistake.
    pub fn add(&mut self, path: impl Into<String>, message: impl Into<String>) {
        self.0.push(Problem::new(path, message));
    }

    /// The value, or all the mistakes when there are any.
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
