//! Builds and finds Weir's programs.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Context as _;

/// Builds Weir's programs as they are shipped (profile `dist`) when cargo runs the bench, and returns their folder.
///
/// # Errors
/// The programs do not build, or the bench itself was built with another profile.
pub fn build() -> anyhow::Result<PathBuf> {
    if let Some(cargo) = std::env::var_os("CARGO") {
        let status = Command::new(cargo)
            .args(["build", "--quiet", "--profile", "dist", "-p", "control-plane", "-p", "data-plane"])
            .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")))
            .status()?;
        anyhow::ensure!(status.success(), "weir does not build");
    }
    let folder = beside()?;
    anyhow::ensure!(
        folder.ends_with("dist"),
        "figures count only for what is shipped: use cargo run --profile dist"
    );
    Ok(folder)
}

/// The folder of the running program, whatever profile it was built with.
///
/// # Errors
/// The operating system does not say where the program is.
pub fn beside() -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe()?;
    Ok(own.parent().context("the bench's own path has no folder")?.to_owned())
}
