//! schemathesis: calls that fit the document and calls that do not, whose answers all have to be documented ones.

use super::python::Python;
use anyhow::Context as _;
use std::process::Stdio;
use std::time::Duration;
use tests::client::Client;
use tests::customer::Customer;
use tokio::process::Command;

/// How long a customer calls, in seconds.
pub const CUSTOMER_SECONDS: u32 = 30;
/// How long an admin calls, in seconds.
pub const ADMIN_SECONDS: u32 = 15;
/// How long somebody calls who is not logged in, in seconds.
pub const NOBODY_SECONDS: u32 = 15;
/// How long one answer may take, in seconds: on a busy machine with one password hash at a time.
const ANSWER_SECONDS: u32 = 40;
/// What is left for calls that are under way when the time is over, and for finding the smallest call that fails.
const GRACE: Duration = Duration::from_secs(240);

/// What has to hold of every answer: whatever schemathesis knows of.
const CHECKS: &str = "all";
/// The table of `schemathesis.toml` by which callers are logged in.
const LOGGED_IN: &str = "[auth.openapi.bearer]\nbearer = \"${ACCESS_TOKEN}\"\n";

/// Calls for so many seconds with the caller's token, or without any.
///
/// # Errors
/// An answer is wrong; the error quotes it with a call that causes it.
pub async fn run(
    python: &Python,
    client: &Client,
    caller: Option<&Customer>,
    seconds: u32,
) -> anyhow::Result<()> {
    let mut command = Command::new(python.program("schemathesis"));
    let mut config = python.script("schemathesis.toml");
    if caller.is_none() {
        let text = std::fs::read_to_string(&config)?;
        anyhow::ensure!(text.contains(LOGGED_IN), "schemathesis.toml logs in in another way");
        config = python.program("nobody.toml");
        std::fs::write(&config, text.replace(LOGGED_IN, ""))?;
    }
    command.arg("--config-file").arg(config).arg("run");
    command.arg(format!("http://{}/openapi.json", client.address()));
    command.args(["--phases", "examples,coverage,fuzzing,stateful", "--checks", CHECKS]);
    command.args(["--max-time", &seconds.to_string(), "--request-timeout", &ANSWER_SECONDS.to_string()]);
    command.args(["--warnings", "off", "--generation-database", "none"]);
    // Where it may leave its notes.
    command.current_dir(python.program(""));
    command
        .env("ACCESS_TOKEN", caller.map_or("", |caller| &caller.token))
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let bound = Duration::from_secs(seconds.into()) + GRACE;
    let output = tokio::time::timeout(bound, command.output()).await.context("schemathesis does not end")?;
    let output = output.context("cannot run schemathesis")?;
    let said = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    println!("{said}{errors}");
    anyhow::ensure!(output.status.success(), "schemathesis found something: {said}{errors}");
    Ok(())
}
