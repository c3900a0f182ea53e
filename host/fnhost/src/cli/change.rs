//! Commands that change much: what they would do, and the question whether they may.

use super::{Application, Format};
use anyhow::Context as _;
use clap::Args;
use fnhost_manifest::Start;
use std::io::{BufRead as _, IsTerminal as _, Write as _};

/// How a change is made.
#[derive(Args, Debug)]
pub(super) struct Change {
    /// Show what would change, and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Do not ask
    #[arg(long, short = 'y')]
    yes: bool,
}

impl Change {
    /// Asks on a terminal whether to go on, unless that was said.
    ///
    /// # Errors
    /// The answer is no, or there is no terminal to ask on.
    pub(super) fn confirm(&self, what: &str) -> anyhow::Result<()> {
        if self.yes {
            return Ok(());
        }
        anyhow::ensure!(
            std::io::stdin().is_terminal(),
            "{what}: pass --yes, or --dry-run to see what would change"
        );
        eprint!("{what}? [y/N] ");
        std::io::stderr().flush()?;
        let mut answer = String::new();
        std::io::stdin().lock().read_line(&mut answer).context("cannot read the answer")?;
        anyhow::ensure!(matches!(answer.trim(), "y" | "Y" | "yes"), "nothing was changed");
        Ok(())
    }
}

/// What is listed, and how much of it.
#[derive(Args, Debug)]
pub(super) struct Listing<S: Args> {
    #[command(flatten)]
    pub app: Application,
    #[command(flatten)]
    pub selection: S,
    /// Most lines
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(i64).range(1..=10_000))]
    pub limit: i64,
    /// Output format
    #[arg(long, value_enum, default_value_t)]
    pub output: Format,
}

/// What is changed, and how.
#[derive(Args, Debug)]
pub(super) struct Changing<S: Args> {
    #[command(flatten)]
    pub app: Application,
    #[command(flatten)]
    pub selection: S,
    /// All of the deployment
    #[arg(long)]
    pub all: bool,
    #[command(flatten)]
    pub change: Change,
    /// Output format
    #[arg(long, value_enum, default_value_t)]
    pub output: Format,
}

/// Reads an RFC 3339 time; milliseconds since 1970.
pub(super) fn time_ms(text: &str) -> Result<i64, String> {
    match text.parse() {
        Ok(Start::Time(ms)) => Ok(ms),
        _ => Err("an RFC 3339 time like 2026-01-31T08:00:00Z".to_owned()),
    }
}

/// The first `max` characters of a text, on one line.
pub(super) fn shortened(text: &str, max: usize) -> String {
    let mut line: String = text.chars().take(max).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().nth(max).is_some() {
        line.push('…');
    }
    line
}
