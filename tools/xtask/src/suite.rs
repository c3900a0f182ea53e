//! `./dev test` and `./dev test-web`: the test suite, and what parts of it need beside a compiler, fetched where it is missing.

use crate::builds;
use crate::checkout::Checkout;
use crate::failures::{self, Failure};
use crate::files::install;
use crate::process::{cargo, exec, find, run, say};
use crate::supply;
use anyhow::Context as _;
use std::convert::Infallible;
use std::ffi::OsString;
use std::fs;
use std::io::BufReader;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};

/// Builds everything and runs the tests: all of them in the order of [`RUNS`], or `cargo test` as the arguments say. Tests that need what this machine
/// cannot have leave their part out and say so; here it is said what that is.
///
/// # Errors
/// Something does not build, or cargo cannot be started.
pub fn test(checkout: &Checkout, arguments: &[OsString]) -> anyhow::Result<()> {
    builds::build(checkout, &[])?;
    for (left_out, fetched) in [
        ("the pages are not tried in a browser (./dev test-web)", browser()),
        ("the interface is not tried with schemathesis", schemathesis()),
        ("asyncapi.json is not held against AsyncAPI's schema", asyncapi_schema()),
        ("the dependencies are not held against deny.toml", supply::installed()),
    ] {
        if let Err(error) = fetched {
            say(format_args!("{left_out}: {error:#}"));
        }
    }
    if !arguments.is_empty() {
        say("running the tests");
        exec(cargo("test").arg("--release").args(arguments))?;
    }
    say("building the tests");
    run(whole_workspace().arg("--no-run"))?;
    say("running the tests");
    // All parts, so that one run says everything that is wrong.
    let mut broken = Vec::new();
    for part in RUNS {
        let mut command = whole_workspace();
        let (status, failures) = watched(command.arg("--no-fail-fast").args(*part))?;
        if !status.success() {
            broken.push((part.join(" "), failures));
        }
    }
    // Once more and together: each part's own words are far above.
    for (part, failures) in &broken {
        say(format_args!("{} tests failed in {part}", failures.len()));
        for failure in failures {
            eprintln!("{}", failure.name);
            failure.said.iter().for_each(|line| eprintln!("    {line}"));
        }
    }
    let parts: Vec<_> = broken.iter().map(|(part, _)| part.as_str()).collect();
    anyhow::ensure!(parts.is_empty(), "tests failed in: {}", parts.join("; "));
    say("all tests are green");
    Ok(())
}

/// Runs a command of tests to its end: how it ended, and which tests failed.
fn watched(command: &mut Command) -> anyhow::Result<(ExitStatus, Vec<Failure>)> {
    let mut child = command.stdout(Stdio::piped()).spawn().context("cannot run cargo")?;
    let printed = child.stdout.take().context("cargo has no output")?;
    let failures = failures::collect(BufReader::new(printed), std::io::stdout())?;
    Ok((child.wait()?, failures))
}

/// The suite, in parts: what fails fast runs first. Each part selects the whole workspace, so that nothing is built anew for it.
const RUNS: &[&[&str]] = &[
    &["--test", "host", "tidy::"],
    &["--lib", "--bins"],
    &[
        "--test",
        "component",
        "--test",
        "account",
        "--test",
        "passkeys",
        "--test",
        "refunds",
        "--test",
        "throttle",
        "--test",
        "documents",
        "--test",
        "dependencies",
        "--test",
        "model",
        "--test",
        "any",
        "--test",
        "walls",
    ],
    // These wait for longer than they compute, so that more of them than processors run at a time.
    &["--test", "host", "--test", "system", "--", "--test-threads=4"],
    // These want the machine: a hundred requests at once, and servers that are killed under load.
    &["--test", "orders"],
    &["--test", "faults"],
    &["--doc"],
];

fn whole_workspace() -> Command {
    let mut command = cargo("test");
    command.args(["--release", "--workspace"]);
    command
}

/// Builds everything and becomes the tests of the pages in a browser, which are not left out here.
///
/// # Errors
/// Something does not build, the browser or what drives it is missing, or cargo cannot be started.
pub fn test_web(checkout: &Checkout, arguments: &[OsString]) -> anyhow::Result<Infallible> {
    builds::build(checkout, &[])?;
    browser().context("the pages cannot be tried (Debian: nodejs npm chromium)")?;
    say("driving the pages");
    let mut command = whole_workspace();
    command.args(["--test", "system"]).args(arguments);
    exec(command.args(["--", "--nocapture", "web::"]))
}

/// What the tests in the browser need.
fn browser() -> anyhow::Result<()> {
    let chromium = ["chromium", "chromium-browser", "google-chrome"];
    let there = ["node", "npm"].iter().all(|name| find(name).is_some())
        && chromium.iter().any(|name| find(name).is_some());
    anyhow::ensure!(there, "that needs Node.js 20 or newer, npm and Chromium");
    npm_ci("web/tests", "what drives the browser (npm, 10 MB)")
}

/// The schema of AsyncAPI documents.
fn asyncapi_schema() -> anyhow::Result<()> {
    anyhow::ensure!(find("npm").is_some(), "that needs Node.js and npm");
    npm_ci("tests/api", "the schema of AsyncAPI (npm, 7 MB)")
}

/// The packages that a folder's lock file pins, fetched where they are older than it. None of them gets to run a script.
fn npm_ci(folder: &str, what: &str) -> anyhow::Result<()> {
    let folder = Path::new(folder);
    let modules = folder.join("node_modules");
    // npm writes it last.
    if newer(&modules.join(".package-lock.json"), &folder.join("package-lock.json")) {
        return Ok(());
    }
    say(format_args!("fetching {what} into {}", modules.display()));
    let mut command = Command::new("npm");
    command.args(["ci", "--prefix"]).arg(folder);
    run(command.args([
        "--ignore-scripts",
        "--no-audit",
        "--no-fund",
        "--fetch-retries=0",
        "--loglevel=error",
    ]))
}

/// What holds the documents of the interface against a running system.
fn schemathesis() -> anyhow::Result<()> {
    let (folder, wanted) = (Path::new("target/api-tests"), Path::new("tests/api/requirements.txt"));
    let needs = "that needs Python 3.10 or newer with venv (python3-venv)";
    anyhow::ensure!(find("python3").is_some(), needs);
    let fetched = folder.join("requirements.txt");
    if same(wanted, &fetched) {
        return Ok(());
    }
    say(format_args!("fetching schemathesis (pip, 30 MB) into {}", folder.display()));
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(|| format!("cannot empty {}", folder.display()))?;
    }
    run(Command::new("python3").args(["-m", "venv"]).arg(folder)).context(needs)?;
    let mut pip = Command::new(folder.join("bin/pip"));
    run(pip.args(["install", "-q", "--disable-pip-version-check", "-r"]).arg(wanted)).context(needs)?;
    // Last: that it is there says that all of it is.
    install(wanted, &fetched)
}

/// Whether a file was written after another; not where one of them is missing.
fn newer(file: &Path, than: &Path) -> bool {
    let time = |path: &Path| path.metadata().and_then(|about| about.modified()).ok();
    time(file).zip(time(than)).is_some_and(|(file, than)| file > than)
}

fn same(a: &Path, b: &Path) -> bool {
    fs::read(a).ok().zip(fs::read(b).ok()).is_some_and(|(a, b)| a == b)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::Scratch;
    use std::time::{Duration, SystemTime};

    #[test]
    fn every_test_program_is_in_the_suite() {
        let metadata =
            cargo("metadata").args(["--no-deps", "--format-version", "1"]).output().expect("cargo runs");
        let metadata: serde_json::Value = serde_json::from_slice(&metadata.stdout).expect("JSON");
        let packages = metadata["packages"].as_array().expect("packages");
        let targets = packages.iter().flat_map(|package| package["targets"].as_array().expect("targets"));
        let tests = targets.filter(|target| target["kind"][0] == "test").map(|target| &target["name"]);
        let mut count = 0;
        for name in tests.map(|name| name.as_str().expect("a name")) {
            let named = |run: &&[&str]| run.windows(2).any(|two| two == ["--test", name]);
            assert!(RUNS.iter().any(named), "./dev test does not run the test program {name}");
            count += 1;
        }
        assert!(count > 10, "{count} test programs");
    }

    #[test]
    fn what_was_fetched_for_an_older_list_is_fetched_again() {
        let scratch = Scratch::new();
        let (list, fetched) = (scratch.path().join("list"), scratch.path().join("fetched"));
        std::fs::write(&list, "a").expect("a file");
        assert!(!newer(&fetched, &list) && !same(&list, &fetched), "nothing is fetched");
        std::fs::write(&fetched, "a").expect("a file");
        let set_time = |path: &Path, seconds| {
            let time = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
            fs::File::options().write(true).open(path).and_then(|file| file.set_modified(time))
        };
        for (times, expected) in [((1, 2), true), ((2, 2), false), ((2, 1), false)] {
            set_time(&list, times.0).expect("a time");
            set_time(&fetched, times.1).expect("a time");
            assert_eq!(newer(&fetched, &list), expected, "{times:?}");
        }
        assert!(same(&list, &fetched));
        std::fs::write(&list, "b").expect("a file");
        assert!(!same(&list, &fetched));
    }
}
