//! The configuration as a whole: compare, apply, go back, and see what came of it.

use std::{io::IsTerminal as _, process::ExitCode};

use hyper::Method;
use serde_json::Value;
use weir_snapshot::{
    Problem,
    diff::{Action, Difference},
};

use crate::{
    arguments::{ApplyArguments, Changing, Output, RevisionsArguments},
    check,
    client::{Call, Client},
    output::{Column, cell, items, print, print_coloured, print_json, print_list, shown, tell},
    rollout,
};

const REVISIONS: [Column; 5] = [
    ("revision", "revision"),
    ("time", "time"),
    ("actor", "actor"),
    ("source", "source"),
    ("changes", "changes"),
];

/// As diff(1) has it: 0 is the same, 1 differs. What goes wrong is 2, which the caller sees to.
pub(crate) async fn diff(client: &Client, output: Output, file: &str) -> anyhow::Result<ExitCode> {
    let answer = put(client, file, true, None).await?;
    let differences = differences(&answer);
    match output {
        Output::Json => print_json(&answer),
        Output::Table => {
            print_differences(&differences);
            if differences.is_empty() {
                print(&format!("nothing differs from revision {}", cell(&answer, "revision")));
            }
        }
    }
    Ok(ExitCode::from(u8::from(!differences.is_empty())))
}

pub(crate) async fn apply(client: &Client, output: Output, arguments: ApplyArguments) -> anyhow::Result<()> {
    let ApplyArguments { file, dry_run, changing } = arguments;
    let answer = put(client, &file, dry_run, changing.if_revision).await?;
    if !dry_run {
        return done(client, output, answer, &changing).await;
    }
    match output {
        Output::Json => print_json(&answer),
        Output::Table => {
            let differences = differences(&answer);
            print_differences(&differences);
            print(&match differences.len() {
                0 => format!("nothing differs from revision {}", cell(&answer, "revision")),
                1 => "1 change, not applied".to_owned(),
                n => format!("{n} changes, not applied"),
            });
        }
    }
    Ok(())
}

async fn put(client: &Client, file: &str, dry_run: bool, if_revision: Option<u64>) -> anyhow::Result<Value> {
    let path = format!("/config?dry_run={dry_run}");
    // JSON is YAML too.
    let body = Some(("application/yaml", check::read_whole(file)?));
    let call = Call { method: Method::PUT, path: &path, body, if_revision, ..Call::default() };
    let text = client.call(call).await.map_err(|error| error.in_file(file))?;
    let answer = client.parse(&text)?;
    let warnings = answer.get("warnings").cloned().unwrap_or_default();
    let warnings: Vec<Problem> = serde_json::from_value(warnings).unwrap_or_default();
    warnings.iter().for_each(|warning| tell!("{}", check::place(file, &check::warned(warning))));
    Ok(answer)
}

pub(crate) async fn reload(client: &Client, output: Output, changing: Changing) -> anyhow::Result<()> {
    let answer = post(client, "/config/reload", &changing).await?;
    done(client, output, answer, &changing).await
}

pub(crate) async fn rollback(
    client: &Client,
    output: Output,
    revision: u64,
    changing: Changing,
) -> anyhow::Result<()> {
    let answer = post(client, &format!("/revisions/{revision}/rollback"), &changing).await?;
    done(client, output, answer, &changing).await
}

async fn post(client: &Client, path: &str, changing: &Changing) -> anyhow::Result<Value> {
    let call = Call { method: Method::POST, path, if_revision: changing.if_revision, ..Call::default() };
    let text = client.call(call).await?;
    Ok(client.parse(&text)?)
}

/// Tells what changed, and waits for the nodes where that is asked for.
async fn done(client: &Client, output: Output, mut answer: Value, changing: &Changing) -> anyhow::Result<()> {
    let revision = answer.get("revision").and_then(Value::as_u64).unwrap_or_default();
    if output == Output::Table {
        let changes = answer.get("changes").map_or(&[][..], items);
        changes.iter().for_each(|change| print(&cell(change, "")));
        let replaced = answer.get("replaced").map_or(&[][..], items);
        replaced.iter().for_each(|one| tell!("warning: the file replaced a live change: {}", cell(one, "")));
        print(&match changes.is_empty() {
            true => format!("nothing differs from revision {revision}"),
            false => format!("revision {revision}"),
        });
    }
    let outcome = match changing.wait {
        Some(wait) => Some(rollout::follow(client, output, revision, wait).await?),
        None => None,
    };
    if output == Output::Json {
        if let Some(outcome) = &outcome {
            answer["active"] = outcome.is_complete().into();
            answer["nodes"] = outcome.json();
        }
        print_json(&answer);
    }
    outcome.map_or(Ok(()), |outcome| outcome.result())
}

pub(crate) async fn revisions(
    client: &Client,
    output: Output,
    arguments: RevisionsArguments,
) -> anyhow::Result<()> {
    let Some(number) = arguments.revision else {
        let mut path = format!("/revisions?limit={}", arguments.limit);
        if let Some(before) = arguments.before {
            path.push_str(&format!("&before={before}"));
        }
        print_list(output, &client.get(&path).await?, &REVISIONS);
        return Ok(());
    };
    let revision = client.get(&format!("/revisions/{number}")).await?;
    match output {
        Output::Json => print_json(&revision),
        Output::Table => {
            let field = |name: &str| cell(&revision, name);
            print(&format!(
                "revision {number}, {} by {} through {}",
                field("time"),
                field("actor"),
                field("source")
            ));
            print_differences(&differences(&revision));
        }
    }
    Ok(())
}

fn differences(answer: &Value) -> Vec<Difference> {
    let list = answer.get("diff").map_or(&[][..], items);
    list.iter().filter_map(|difference| serde_json::from_value(difference.clone()).ok()).collect()
}

/// A line a resource, `+` for what comes, `-` for what goes, `~` for what becomes something else; its fields below.
fn print_differences(differences: &[Difference]) {
    let is_coloured = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let line = |sign: char, text: &str| {
        let colour = match sign {
            '+' => "32",
            '-' => "31",
            _ => "33",
        };
        let text = format!("{sign} {}", shown(text));
        match is_coloured {
            true => print_coloured(colour, &text),
            false => print(&text),
        }
    };
    let (moved, told): (Vec<_>, Vec<_>) =
        differences.iter().partition(|difference| difference.action == Action::Move);
    for difference in told {
        let sign = match difference.action {
            Action::Add => '+',
            Action::Remove => '-',
            Action::Change | Action::Move => '~',
        };
        if difference.action == Action::Change {
            // The text ends with the fields, which stand below.
            let (title, _) = difference.text.split_once(": ").unwrap_or((&difference.text, ""));
            line(sign, title);
        } else {
            line(sign, &difference.text);
        }
        for field in &difference.fields {
            line(sign, &format!("    {field}"));
        }
        // A backend's line has said it all.
        for whole in
            [&difference.before, &difference.after].map(|whole| whole.get("spec")).into_iter().flatten()
        {
            for (name, value) in whole.as_object().into_iter().flatten().filter(|(name, _)| *name != "name") {
                if difference.action != Action::Change && !is_empty(value) {
                    line(sign, &format!("    {name} {value}"));
                }
            }
        }
    }
    for (kind, kinds) in [("pool", "pools"), ("backend", "backends"), ("route", "routes")] {
        let moved = moved.iter().filter(|difference| difference.kind.to_string() == kind).count();
        if moved > 0 {
            line('~', &format!("the order of {moved} {kinds}"));
        }
    }
}

fn is_empty(value: &Value) -> bool {
    value.as_array().is_some_and(Vec::is_empty)
}
