//! `weir check FILE`: finds every mistake of a configuration file, with no control plane at hand.

use std::io::Read as _;

use anyhow::Context as _;
use weir_snapshot::{Problem, file};

pub(crate) fn check(name: &str) -> anyhow::Result<()> {
    match file::parse(&read(name)?) {
        Ok((config, _)) => {
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

/// Reads a file, or stdin for `-`.
pub(crate) fn read(name: &str) -> anyhow::Result<String> {
    if name == "-" {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).context("cannot read stdin")?;
        return Ok(text);
    }
    std::fs::read_to_string(name).with_context(|| format!("cannot read {name}"))
}

/// `FILE:LINE: path: message`, which editors can follow.
pub(crate) fn place(name: &str, problem: &Problem) -> String {
    let line = problem.line.unwrap_or(1);
    match problem.path.as_str() {
        "" => format!("{name}:{line}: {}", problem.message),
        path => format!("{name}:{line}: {path}: {}", problem.message),
    }
}
