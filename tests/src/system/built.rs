//! What cargo and `./dev build` have built, as an fnhost of the tests uses it.

use super::MAX_ATTEMPTS;
use anyhow::Context as _;
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

/// The checkout's manifest for any place: its paths are absolute, and its records have [`MAX_ATTEMPTS`].
pub(super) fn manifest() -> anyhow::Result<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("a workspace")?.to_owned();
    let mut text = std::fs::read_to_string(root.join("spin.toml"))?;
    for folder in ["target/functions/", "target/tools/", "migrations/", "demo/"] {
        text = text.replace(&format!("\"{folder}"), &format!("\"{}/{folder}", root.display()));
    }
    let attempts = "max_attempts = 8";
    anyhow::ensure!(text.contains(attempts), "spin.toml has no longer {attempts}");
    Ok(text.replace(attempts, &format!("max_attempts = {MAX_ATTEMPTS}")))
}

/// Makes a data directory that finds the functions compiled: images go by their content, so all systems of all runs can
/// share them.
pub(super) fn share_images(data_dir: &Path) -> anyhow::Result<()> {
    let images = target_dir()?.join("../tmp/fnhost-tests-images");
    // fnhost trusts what only its own account can write.
    DirBuilder::new().recursive(true).mode(0o700).create(&images)?;
    std::fs::create_dir(data_dir)?;
    std::os::unix::fs::symlink(images, data_dir.join("cache"))?;
    Ok(())
}

/// The `fnhost` that cargo built beside the running test.
///
/// # Errors
/// It is not there.
pub fn program() -> anyhow::Result<PathBuf> {
    let program = target_dir()?.join("fnhost");
    anyhow::ensure!(program.exists(), "{} is missing: run `./dev build`", program.display());
    Ok(program)
}

/// The folder `release` (or that of another profile) in which cargo built the running test or program.
pub(super) fn target_dir() -> anyhow::Result<PathBuf> {
    let running = std::env::current_exe()?;
    let folder = running.parent().context("the test runs outside of a target directory")?;
    // A test is in `deps`, a program beside it.
    let folder = if folder.ends_with("deps") { folder.parent() } else { Some(folder) };
    Ok(folder.context("the test runs outside of a target directory")?.to_owned())
}
