//! Commands for the whole configuration: compare, apply, export, roll back, and watch the rollout.

use std::process::ExitCode;

use anyhow::bail;
use serde_json::Value;
use weir_admin_api::{
    Action, Applied, ApplyQuery, Difference, Number, Revision, RevisionDetail, RevisionQuery, WaitQuery,
    operations,
};

use crate::{
    arguments::{Apply, Changing, Output, RevisionsList, RevisionsVerb},
    check,
    client::{Answer, Call, Client},
    output::{
        Column, Safe, Tone, failure, print, print_answer, print_exact, print_items, print_json_text,
        print_safe, print_value, tell, watch,
    },
    rollout,
};

const REVISIONS: [Column<Revision>; 5] = [
    Column::new("revision", |revision| revision.revision.to_string().into()),
    Column::new("time", |revision| revision.time.as_str().into()),
    Column::new("actor", |revision| revision.actor.as_str().into()),
    Column::new("source", |revision| revision.source.as_str().into()),
    Column::text("changes", |revision| Some(revision.changes.join("; ").as_str()).into()),
];

/// Exit status as in diff(1): 0 means the same, 1 means different. `main` returns 2 for an error.
pub(crate) async fn diff(client: &Client, output: Output, file: &str) -> anyhow::Result<ExitCode> {
    let answer = put(client, file, true, None).await?;
    let applied = answer.read()?;
    let differences = applied.diff.unwrap_or_default();
    match output.is_for_people() {
        false => print_value(output, &answer.json()?),
        true if differences.is_empty() => {
            print(&format!("nothing differs from revision {}", applied.revision))
        }
        true => print_safe(&text(&differences)),
    }
    Ok(ExitCode::from(u8::from(!differences.is_empty())))
}

pub(crate) async fn apply(client: &Client, output: Output, arguments: Apply) -> anyhow::Result<()> {
    let Apply { file, dry_run, changing } = arguments;
    let answer = put(client, &file, dry_run, changing.if_revision).await?;
    if !dry_run {
        return done(client, output, &answer, &changing).await;
    }
    print_answer(output, &answer, |applied| {
        let differences = applied.diff.unwrap_or_default();
        let mut said = text(&differences);
        said.push_text(&match differences.len() {
            0 => format!("nothing differs from revision {}", applied.revision),
            1 => "1 change, not applied".to_owned(),
            n => format!("{n} changes, not applied"),
        });
        said
    })?;
    Ok(())
}

async fn put(
    client: &Client,
    file: &str,
    dry_run: bool,
    if_revision: Option<u64>,
) -> anyhow::Result<Answer<Applied>> {
    let query = ApplyQuery { dry_run, wait: None };
    // JSON is also valid YAML.
    let call =
        Call::of(&operations::APPLY_CONFIG, &(), &query).body("application/yaml", check::read_whole(file)?);
    let answer = client.call(call.at(if_revision)).await.map_err(|error| error.in_file(file))?;
    let warnings = answer.read()?.warnings;
    warnings.iter().for_each(|warning| tell!("{}", one_line(&check::place(file, &check::warned(warning)))));
    Ok(answer)
}

pub(crate) async fn reload(client: &Client, output: Output, changing: Changing) -> anyhow::Result<()> {
    let call = Call::of(&operations::RELOAD_CONFIG, &(), &()).at(changing.if_revision);
    done(client, output, &client.call(call).await?, &changing).await
}

pub(crate) async fn rollback(
    client: &Client,
    output: Output,
    revision: u64,
    changing: Changing,
) -> anyhow::Result<()> {
    let call = Call::of(&operations::ROLLBACK, &Number { n: revision }, &WaitQuery::default());
    done(client, output, &client.call(call.at(changing.if_revision)).await?, &changing).await
}

/// Prints what changed, and waits for the nodes if the command line asks for it.
async fn done(
    client: &Client,
    output: Output,
    answer: &Answer<Applied>,
    changing: &Changing,
) -> anyhow::Result<()> {
    let Applied { revision, changes, replaced, .. } = answer.read()?;
    if output.is_for_people() {
        changes.iter().for_each(|change| print(&one_line(change)));
        replaced.iter().for_each(|one| tell!("warning: the file replaced a live change: {}", one_line(one)));
        print(&match changes.is_empty() {
            true => format!("nothing differs from revision {revision}"),
            false => format!("revision {revision}"),
        });
    }
    let outcome = match changing.wait {
        Some(wait) => Some(rollout::follow(client, output, revision, wait).await?),
        None => None,
    };
    if !output.is_for_people() {
        let mut value = answer.json()?;
        if let Some(outcome) = &outcome {
            value["active"] = outcome.is_complete().into();
            value["nodes"] = outcome.json();
        }
        print_value(output, &value);
    }
    outcome.map_or(Ok(()), |outcome| outcome.result())
}

fn one_line(text: &str) -> String {
    crate::output::shown(text).into_owned()
}

pub(crate) async fn export(client: &Client, output: Output) -> anyhow::Result<()> {
    let call = Call::of(&operations::GET_CONFIG, &(), &());
    match output {
        Output::Json => print_json_text(&client.text(call).await?),
        Output::Table | Output::Wide | Output::Yaml => {
            print_exact(&client.text(call.accept("application/yaml")).await?);
        }
        Output::Csv => bail!("a configuration has no form as CSV: use --output yaml or json"),
    }
    // An export is used as a backup, so a partial one is an error, even if the reader of a pipe has closed it.
    if let Some(error) = failure().filter(|error| error.kind() == std::io::ErrorKind::BrokenPipe) {
        bail!("the export is incomplete: {error}");
    }
    Ok(())
}

pub(crate) async fn revisions(client: &Client, output: Output, verb: RevisionsVerb) -> anyhow::Result<()> {
    match verb {
        RevisionsVerb::List(RevisionsList { limit, before, watch: every }) => {
            let query = RevisionQuery { limit: limit.or(Some(20)), before, ..RevisionQuery::default() };
            let show = async || -> anyhow::Result<()> {
                let list = client.ask(&operations::LIST_REVISIONS, &(), &query).await?;
                Ok(print_items(output, &list, &REVISIONS)?)
            };
            watch(every.watch, output, show).await
        }
        RevisionsVerb::Get { revision } => {
            let answer = client.ask(&operations::GET_REVISION, &Number { n: revision }, &()).await?;
            print_answer(output, &answer, |RevisionDetail { revision, diff }| {
                let Revision { revision: number, time, actor, source, .. } = &revision;
                let title = format!("revision {number}, {time} by {actor} through {source}");
                let mut said = Safe::toned(&title, Tone::Plain);
                said.push(&text(&diff));
                said
            })?;
            Ok(())
        }
    }
}

/// Lists the differences: a line for each resource (`+` new, `-` removed, `~` changed), with its fields below.
fn text(differences: &[Difference]) -> Safe {
    let mut said = Safe::default();
    let mut line = |sign: char, text: &str| {
        let tone = match sign {
            '+' => Tone::Good,
            '-' => Tone::Bad,
            _ => Tone::Warning,
        };
        said.push(&Safe::toned(&format!("{sign} {text}"), tone));
    };
    let (moved, changed): (Vec<_>, Vec<_>) =
        differences.iter().partition(|difference| difference.action == Action::Move);
    for difference in changed {
        let sign = match difference.action {
            Action::Add => '+',
            Action::Remove => '-',
            Action::Change | Action::Move => '~',
        };
        if difference.action == Action::Change {
            // The text ends with the fields, which are listed below.
            let (title, _) = difference.text.split_once(": ").unwrap_or((&difference.text, ""));
            line(sign, title);
        } else {
            line(sign, &difference.text);
        }
        for field in &difference.fields {
            line(sign, &format!("    {field}"));
        }
        // The line of a backend already contains all of its fields.
        let specs = [&difference.before, &difference.after].map(|whole| whole.get("spec"));
        for whole in specs.into_iter().flatten() {
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
    said
}

fn is_empty(value: &Value) -> bool {
    value.as_array().is_some_and(Vec::is_empty)
}
