//! What the project is built from, held against `deny.toml`.

use crate::process::{find, run, say};
use anyhow::Context as _;
use std::path::Path;
use std::process::{Command, Stdio};

/// What cargo-deny checks that depends on the checkout alone: second versions, licences, sources.
const OF_THE_CHECKOUT: [&str; 4] = ["check", "bans", "licenses", "sources"];

/// Holds the dependencies against `deny.toml`. What is not there is said and left out: cargo-deny itself, or the network for its
/// database of advisories.
///
/// # Errors
/// Something is refused.
pub fn check() -> anyhow::Result<()> {
    if let Err(error) = installed() {
        say(format_args!("the dependencies are not checked: {error}"));
        return Ok(());
    }
    // Before the others: `check` alone would not tell a vulnerability from a network that is away.
    let fetched = deny(Path::new("."), &["fetch", "db"]).stdout(Stdio::null()).stderr(Stdio::null()).status();
    let mut checks = OF_THE_CHECKOUT.to_vec();
    if fetched.context("cannot run cargo-deny")?.success() {
        checks.push("advisories");
    } else {
        say("advisories are not checked: their database cannot be reached");
    }
    run(&mut deny(Path::new("."), &checks))
}

/// Whether the dependencies can be checked.
///
/// # Errors
/// They cannot: what that needs.
pub fn installed() -> anyhow::Result<()> {
    let found = find("cargo-deny");
    found.map(drop).context("that needs cargo-deny (cargo install cargo-deny --locked)")
}

/// Holds against `deny.toml` what depends on the checkout alone, without a network; `also` are further arguments. Answers whether
/// nothing is refused, and what was said.
///
/// # Errors
/// cargo-deny cannot be run.
pub fn check_offline(checkout: &Path, also: &[&str]) -> anyhow::Result<(bool, String)> {
    let output = deny(checkout, &[&["--offline"], also, &OF_THE_CHECKOUT].concat()).output();
    let output = output.context("cannot run cargo-deny")?;
    Ok((output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned()))
}

fn deny(checkout: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new("cargo-deny");
    command.current_dir(checkout).args(["--locked", "--workspace", "--log-level", "warn"]).args(arguments);
    command
}
