//! Spin: beside the daemon for topics, and with fnhost as its plugin. What needs the real one says that it skips without it.

mod beside;
mod one;
mod plugin;

use std::path::PathBuf;

/// The real `spin` on PATH; prints which, or that the test skips.
fn spin() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let found = std::env::split_paths(&path).map(|folder| folder.join("spin")).find(|spin| spin.is_file());
    let Some(spin) = found else {
        println!("SKIPPED: `spin` is not on PATH (https://spinframework.dev/install)");
        return None;
    };
    let version = std::process::Command::new(&spin).arg("--version").output().ok()?;
    println!("{}", String::from_utf8_lossy(&version.stdout).trim());
    Some(spin)
}
