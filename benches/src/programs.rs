//! Where Weir's programs are.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Context as _;

/// Builds Weir's programs when cargo runs the bench; they stand beside it, in the folder that is returned.
///
/// # Errors
/// They do not build, or this is a debug build.
pub fn build() -> anyhow::Result<PathBuf> {
    if let Some(cargo) = std::env::var_os("CARGO") {
        let status = Command::new(cargo)
            .args(["build", "--quiet", "--release", "-p", "control-plane", "-p", "data-plane"])
            .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")))
            .status()?;
        anyhow::ensure!(status.success(), "weir does not build");
    }
    let own = std::env::current_exe()?;
    let folder = own.parent().context("this program stands in no folder")?.to_owned();
    anyhow::ensure!(
        folder.ends_with("release"),
        "figures of a debug build mean nothing: use cargo run --release"
    );
    Ok(folder)
}
