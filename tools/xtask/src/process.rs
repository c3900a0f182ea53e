//! Other programs: finding them, running them to their end, or in place of this one.

use anyhow::Context as _;
use std::convert::Infallible;
use std::ffi::OsStr;
use std::io::IsTerminal as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Says on standard error what is being done.
pub fn say(message: impl std::fmt::Display) {
    let (bold, plain) = if std::io::stderr().is_terminal() { ("\x1b[1m", "\x1b[0m") } else { ("", "") };
    eprintln!("{bold}==>{plain} {message}");
}

/// `cargo SUBCOMMAND --locked`: what is built is what `Cargo.lock` says, or the command fails.
#[must_use]
pub fn cargo(subcommand: &str) -> Command {
    let mut command = Command::new("cargo");
    command.args([subcommand, "--locked"]);
    command
}

/// Runs a command to its end, on this process's terminal.
///
/// # Errors
/// It cannot be started, or does not exit with 0. The error names its program and first argument alone.
pub fn run(command: &mut Command) -> anyhow::Result<()> {
    let name = name(command);
    let status = command.status().with_context(|| format!("cannot run {name}"))?;
    anyhow::ensure!(status.success(), "`{name}` failed ({status})");
    Ok(())
}

/// Replaces this process by a command, so that Ctrl-C and signals reach it, and its exit code is what the caller sees.
///
/// # Errors
/// It cannot be started.
pub fn exec(command: &mut Command) -> anyhow::Result<Infallible> {
    let name = name(command);
    Err(command.exec()).with_context(|| format!("cannot run {name}"))
}

/// Where a program of this name is in `PATH`.
#[must_use]
pub fn find(program: &str) -> Option<PathBuf> {
    find_in(&std::env::var_os("PATH")?, program)
}

fn find_in(path: &OsStr, program: &str) -> Option<PathBuf> {
    std::env::split_paths(path).map(|folder| folder.join(program)).find(|file| executable(file))
}

/// Whether a file is there that may be run.
#[must_use]
pub fn executable(file: &Path) -> bool {
    file.metadata().is_ok_and(|about| about.is_file() && about.permissions().mode() & 0o111 != 0)
}

fn name(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args().take(1));
    words.map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::Scratch;
    use std::fs::Permissions;

    #[test]
    fn a_failure_is_told_with_the_status() {
        let failed = run(Command::new("sh").args(["-c", "exit 3"])).expect_err("3 is no success");
        assert_eq!(failed.to_string(), "`sh -c` failed (exit status: 3)");
        let missing = run(&mut Command::new("/nowhere/program")).expect_err("no such program");
        assert_eq!(missing.to_string(), "cannot run /nowhere/program");
    }

    #[test]
    fn programs_are_files_that_may_be_run() {
        let scratch = Scratch::new();
        let (first, second) = (scratch.path().join("first"), scratch.path().join("second"));
        for folder in [&first, &second] {
            std::fs::create_dir(folder).expect("a folder");
            std::fs::write(folder.join("tool"), "#!/bin/sh\n").expect("a file");
        }
        std::fs::create_dir(first.join("folder")).expect("a folder");
        std::fs::set_permissions(second.join("tool"), Permissions::from_mode(0o755)).expect("a mode");
        let path = std::env::join_paths([&first, &second]).expect("a PATH");
        assert_eq!(find_in(&path, "tool"), Some(second.join("tool")), "the first one may not be run");
        assert_eq!(find_in(&path, "folder"), None);
    }
}
