//! Applies the same change to several resources, one after the other.

use anyhow::bail;
use serde_json::{Value, json};

use crate::{
    arguments::Output,
    client::ClientError,
    output::{print, print_value, shown, tell},
};

/// Result of one change.
pub(crate) struct Done {
    /// The control plane's response.
    pub(crate) value: Value,
    /// The same as a sentence for people.
    pub(crate) said: String,
    /// Reason if the change counts as failed although the call succeeded.
    pub(crate) failure: Option<String>,
}

impl Done {
    pub(crate) fn new(value: Value, said: String) -> Self {
        Self { value, said, failure: None }
    }
}

/// Formats an error with all of its problems on one line.
fn whole(error: &anyhow::Error) -> String {
    match error.downcast_ref::<ClientError>() {
        Some(ClientError::Refused { title, problems, .. }) if !problems.is_empty() => {
            let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
            format!("{title}: {}", problems.join("; "))
        }
        _ => format!("{error:#}"),
    }
}

/// Applies the action to each name. If one fails, the others are still processed. In output for programs, a single
/// response is written as it is, and several as a list.
pub(crate) async fn each(
    output: Output,
    names: &[String],
    mut action: impl AsyncFnMut(&str) -> anyhow::Result<Done>,
) -> anyhow::Result<()> {
    let (mut answers, mut failures) = (Vec::new(), Vec::new());
    for name in names {
        match action(name).await {
            Ok(Done { value, said, failure }) => {
                if output.is_for_people() {
                    print(&shown(&said));
                }
                answers.push(value);
                failures.extend(failure.map(anyhow::Error::msg));
            }
            Err(error) if names.len() == 1 => failures.push(error),
            Err(error) => failures.push(anyhow::anyhow!("{name}: {}", whole(&error))),
        }
    }
    if !output.is_for_people() && !answers.is_empty() {
        match (names.len(), answers.as_slice()) {
            (1, [one]) => print_value(output, one),
            _ => print_value(output, &json!({ "items": answers })),
        }
    }
    let several = failures.len();
    match failures.pop() {
        None => Ok(()),
        Some(one) if several == 1 => Err(one),
        Some(last) => {
            failures.iter().for_each(|failure| tell!("error: {failure:#}"));
            tell!("error: {last:#}");
            bail!("{several} of {} failed", names.len())
        }
    }
}
