//! `weir check FILE`: finds every mistake in a configuration file, without a control plane.

use std::{io::Read as _, path::Path};

use anyhow::Context as _;
use serde_json::json;
use weir_snapshot::{Chain, Config, Problem, Problems, Snapshot, config::PrivateKey, file};

use crate::{
    arguments::Output,
    client::ClientError,
    output::{print, print_value},
};

pub(crate) fn check(name: &str, output: Output) -> anyhow::Result<()> {
    let bytes = read_bytes(name)?;
    let checked = file::text(&bytes).and_then(|text| inlined(name, text)).and_then(|text| {
        let (config, snapshot) = file::parse(&text)?;
        let mut problems = keys(&config, &snapshot);
        file::locate(&text, &mut problems);
        let expired = weir_snapshot::check::warnings(&snapshot, control_plane::time::now_s());
        let mut warnings = Problems([snapshot.warnings, expired].concat());
        file::locate(&text, &mut warnings);
        problems.into_result((config, warnings))
    });
    let problems = checked.as_ref().err().map_or(&[][..], |problems| problems.0.as_slice());
    if !output.is_for_people() {
        let mut answer = json!({ "file": name, "good": checked.is_ok(), "problems": problems });
        if let Ok((config, warnings)) = &checked {
            answer["warnings"] = json!(warnings.0);
            let (pools, backends, routes) = counts(config);
            answer["pools"] = pools.into();
            answer["backends"] = backends.into();
            answer["routes"] = routes.into();
        }
        print_value(output, &answer);
    } else {
        problems.iter().for_each(|problem| print(&place(name, problem)));
    }
    match checked {
        Ok((config, warnings)) => {
            if output.is_for_people() {
                let (pools, backends, routes) = counts(&config);
                for warning in &warnings.0 {
                    print(&place(name, &warned(warning)));
                }
                let found =
                    [(pools, "pool"), (backends, "backend"), (routes, "route")].map(counted).join(", ");
                print(&format!("{name}: good: {found}"));
            }
            Ok(())
        }
        Err(problems) if problems.0.len() == 1 => anyhow::bail!("{name}: 1 problem"),
        Err(problems) => anyhow::bail!("{name}: {} problems", problems.0.len()),
    }
}

/// Marks a problem as a warning.
pub(crate) fn warned(problem: &Problem) -> Problem {
    Problem { message: format!("warning: {}", problem.message), ..problem.clone() }
}

/// Checks that each private key in the file matches its certificate. A key missing from the file may be stored on the
/// control plane.
fn keys(config: &Config, snapshot: &Snapshot) -> Problems {
    let mut problems = Problems::default();
    let mut check = |chain: &Chain, key: Option<&PrivateKey>, path: String| {
        if let Some(PrivateKey(key)) = key
            && let Err(why) = weir_tls::certified(chain, key.as_bytes())
        {
            problems.add(path, why);
        }
    };
    for (i, (given, checked)) in config.certificates.iter().zip(&snapshot.certificates).enumerate() {
        check(&checked.chain, given.key.as_ref(), format!("certificates[{i}].key"));
    }
    for (i, (given, checked)) in config.pools.iter().zip(&snapshot.pools).enumerate() {
        if let (Some(tls), Some(client)) = (&given.tls, &checked.tls.client) {
            check(client, tls.key.as_ref(), format!("pools[{i}].tls.key"));
        }
    }
    problems
}

fn counts(config: &Config) -> (usize, usize, usize) {
    let backends = config.pools.iter().map(|pool| pool.backends.len()).sum();
    (config.pools.len(), backends, config.routes.len())
}

/// A number with its noun: `1 pool`, `2 pools`.
fn counted((number, thing): (usize, &str)) -> String {
    format!("{number} {thing}{}", if number == 1 { "" } else { "s" })
}

/// Reads a small text file, or stdin for `-`.
pub(crate) fn read(name: &str) -> anyhow::Result<String> {
    String::from_utf8(read_bytes(name)?).with_context(|| format!("{name} is not text"))
}

/// Reads a file, or stdin for `-`, up to the size at which it is too large.
fn read_bytes(name: &str) -> anyhow::Result<Vec<u8>> {
    let most = file::MAX_BYTES as u64 + 1;
    let mut bytes = Vec::new();
    if name == "-" {
        std::io::stdin().take(most).read_to_end(&mut bytes).context("cannot read stdin")?;
    } else {
        let file = std::fs::File::open(name).with_context(|| format!("cannot read {name}"))?;
        file.take(most).read_to_end(&mut bytes).with_context(|| format!("cannot read {name}"))?;
    }
    Ok(bytes)
}

/// Reads a configuration and inlines the files that it names, so that it can be sent.
pub(crate) fn read_whole(name: &str) -> anyhow::Result<String> {
    let bytes = read_bytes(name)?;
    let whole = file::text(&bytes).and_then(|text| inlined(name, text));
    whole.map_err(|problems| {
        let title = "the configuration cannot be read".to_owned();
        ClientError::Refused { title, problems: problems.0, file: Some(name.to_owned()) }.into()
    })
}

/// Inlines the files that the text names. Their paths are relative to the folder of the text.
fn inlined(name: &str, text: &str) -> Result<String, Problems> {
    let folder = if name == "-" { None } else { Path::new(name).parent() };
    let folder = folder.unwrap_or(Path::new(""));
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).map_err(|error| error.to_string());
    Ok(file::inline(text, read)?.into_owned())
}

/// Formats a problem as `FILE:LINE:COLUMN: path: message`, which editors recognize.
pub(crate) fn place(name: &str, problem: &Problem) -> String {
    let mut name = format!("{name}:{}", problem.line.unwrap_or(1));
    if let Some(column) = problem.column {
        name.push_str(&format!(":{column}"));
    }
    match problem.path.as_str() {
        "" => format!("{name}: {}", problem.message),
        path => format!("{name}: {path}: {}", problem.message),
    }
}
