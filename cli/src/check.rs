//! `weir check FILE`: finds every mistake of a configuration file, with no control plane at hand.

use std::{io::Read as _, path::Path};

use anyhow::Context as _;
use weir_snapshot::{Chain, Config, Problem, Problems, Snapshot, config::PrivateKey, file};

use crate::client::ClientError;

pub(crate) fn check(name: &str) -> anyhow::Result<()> {
    let text = read(name)?;
    let checked = inlined(name, &text).and_then(|text| {
        let (config, snapshot) = file::parse(&text)?;
        let mut problems = keys(&config, &snapshot);
        file::locate(&text, &mut problems);
        let expired = weir_snapshot::check::warnings(&snapshot, control_plane::expiry::now_s());
        let mut warnings = Problems([snapshot.warnings, expired].concat());
        file::locate(&text, &mut warnings);
        problems.into_result((config, warnings))
    });
    match checked {
        Ok((config, warnings)) => {
            for warning in &warnings.0 {
                println!("{}", place(name, &warned(warning)));
            }
            let backends: usize = config.pools.iter().map(|pool| pool.backends.len()).sum();
            let (pools, routes) = (config.pools.len(), config.routes.len());
            println!("{name}: good: {pools} pools, {backends} backends, {routes} routes");
            Ok(())
        }
        Err(problems) => {
            for problem in &problems.0 {
                println!("{}", place(name, problem));
            }
            anyhow::bail!("{name}: {} problems", problems.0.len())
        }
    }
}

/// The same problem, said to be a warning.
pub(crate) fn warned(problem: &Problem) -> Problem {
    Problem { message: format!("warning: {}", problem.message), ..problem.clone() }
}

/// Whether each key that is given belongs to its certificate. Those that are not given may be stored.
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

/// Reads a file, or stdin for `-`.
pub(crate) fn read(name: &str) -> anyhow::Result<String> {
    if name == "-" {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).context("cannot read stdin")?;
        return Ok(text);
    }
    std::fs::read_to_string(name).with_context(|| format!("cannot read {name}"))
}

/// Reads a configuration with the files that it names, ready to be sent.
pub(crate) fn read_whole(name: &str) -> anyhow::Result<String> {
    let text = read(name)?;
    inlined(name, &text).map_err(|problems| {
        let title = "the configuration names files that cannot be read".to_owned();
        ClientError::Refused { title, problems: problems.0, file: Some(name.to_owned()) }.into()
    })
}

/// The text with the files that it names in their places; their names are relative to its own folder.
fn inlined(name: &str, text: &str) -> Result<String, Problems> {
    let folder = if name == "-" { None } else { Path::new(name).parent() };
    let folder = folder.unwrap_or(Path::new(""));
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).map_err(|error| error.to_string());
    Ok(file::inline(text, read)?.into_owned())
}

/// `FILE:LINE: path: message`, which editors can follow.
pub(crate) fn place(name: &str, problem: &Problem) -> String {
    let line = problem.line.unwrap_or(1);
    match problem.path.as_str() {
        "" => format!("{name}:{line}: {}", problem.message),
        path => format!("{name}:{line}: {path}: {}", problem.message),
    }
}
