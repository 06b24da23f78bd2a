//! The same change to several things, one after the other.

use anyhow::bail;
use serde_json::{Value, json};

use crate::{
    arguments::Output,
    client::ClientError,
    output::{print, print_value, shown, tell},
};

/// What came of one.
pub(crate) struct Done {
    /// The control plane's answer.
    pub(crate) value: Value,
    /// The same for people.
    pub(crate) said: String,
    /// Why it counts as failed all the same.
    pub(crate) failure: Option<String>,
}

impl Done {
    pub(crate) fn new(value: Value, said: String) -> Self {
        Self { value, said, failure: None }
    }
}

/// An error in one line, with every problem.
fn whole(error: &anyhow::Error) -> String {
    match error.downcast_ref::<ClientError>() {
        Some(ClientError::Refused { title, problems, .. }) if !problems.is_empty() => {
            let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
            format!("{title}: {}", problems.join("; "))
        }
        _ => format!("{error:#}"),
    }
}

/// Does it to each; one that fails does not keep the others from it. For programs one answer is itself, several are a
/// list.
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
