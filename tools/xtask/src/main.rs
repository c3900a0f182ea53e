//! The commands of `./dev` that need a compiler's work; `dev` starts this program in the checkout's folder.

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use xtask::admin::Database;
use xtask::checkout::Checkout;
use xtask::process::{cargo, exec, run};
use xtask::{builds, compose, keys, plugin, suite, up};

/// The project's one entry point; `./dev help` shows all of it on a page
#[derive(Parser, Debug)]
#[command(name = "./dev", bin_name = "./dev", disable_help_subcommand = true)]
struct Args {
    #[command(subcommand)]
    command: Task,
}

#[derive(Subcommand, Debug)]
enum Task {
    /// Build these functions, or all of them and the host
    Build {
        /// Names of functions
        functions: Vec<String>,
    },
    /// Give a registered user the admin role
    Admin {
        /// The address that the user registered with
        email: String,
        /// Data directory of the running system
        #[arg(long, value_name = "DIR", env = "FNHOST_DATA_DIR", default_value = up::DATA_DIR)]
        data_dir: PathBuf,
        /// The database, where it is not that directory's private one
        #[arg(long, value_name = "URL", env = "FNHOST_DATABASE", hide_env_values = true)]
        database: Option<String>,
    },
    /// Make a new key that signs tokens; those of the one before are good until they expire
    RotateKeys {
        /// Data directory of the keys
        #[arg(long, value_name = "DIR", env = "FNHOST_DATA_DIR", default_value = up::DATA_DIR)]
        data_dir: PathBuf,
        /// Although the last time was less than an hour ago
        #[arg(long)]
        now: bool,
    },
    /// Write web/api/ anew
    ApiDocs,
    /// Build the host and pack it as Spin's plugin trigger-kafka
    SpinPlugin,
    /// Check format and lints
    Lint,
    /// The others hand their arguments to another program, unread
    #[command(external_subcommand)]
    Handed(Vec<OsString>),
}

fn main() -> ExitCode {
    match perform(Args::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("dev: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn perform(task: Task) -> anyhow::Result<()> {
    match task {
        Task::Build { functions } => builds::build(&Checkout::read()?, &functions),
        Task::Admin { email, data_dir, database } => {
            let database = database.as_deref().filter(|url| !url.is_empty());
            xtask::admin::admin(&email, database.map_or(Database::Private(&data_dir), Database::At))
        }
        Task::RotateKeys { data_dir, now } => keys::rotate(&data_dir, now),
        Task::ApiDocs => match exec(cargo("run").args(["--release", "-q", "-p", "api-docs"]))? {},
        Task::SpinPlugin => plugin::pack(&Checkout::read()?),
        Task::Lint => {
            run(Command::new("cargo").args(["fmt", "--all", "--check"]))?;
            let mut clippy = cargo("clippy");
            clippy.args(["--release", "--workspace", "--all-targets", "--", "-D", "warnings"]);
            match exec(&mut clippy)? {}
        }
        Task::Handed(words) => {
            let (command, arguments) = words.split_first().context("no command")?;
            hand(command.to_str().unwrap_or_default(), arguments)
        }
    }
}

/// Runs a command whose arguments are those of another program.
fn hand(command: &str, arguments: &[OsString]) -> anyhow::Result<()> {
    match command {
        "up" => match up::up(&Checkout::read()?, arguments)? {},
        "test" => match suite::test(&Checkout::read()?, arguments)? {},
        "test-web" => match suite::test_web(&Checkout::read()?, arguments)? {},
        "compose" => match compose::compose(arguments)? {},
        "demo" => {
            let mut demo = cargo("run");
            demo.args(["--release", "-q", "-p", "tests", "--bin", "demo", "--"]);
            match exec(demo.args(arguments))? {}
        }
        "bench" => {
            builds::build(&Checkout::read()?, &[])?;
            let mut bench = cargo("run");
            match exec(bench.args(["--release", "-q", "-p", "bench", "--"]).args(arguments))? {}
        }
        "fmt" => match exec(Command::new("cargo").args(["fmt", "--all"]).args(arguments))? {},
        _ => anyhow::bail!("there is no command {command}: `./dev help` shows them"),
    }
}
