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
/// How long one answer may take, in seconds: on a busy machine with one password hash at a time.
const ANSWER_SECONDS: u32 = 40;
/// What is left for calls that are under way when the time is over, and for finding the smallest call that fails.
const GRACE: Duration = Duration::from_secs(240);

/// What has to hold of every answer. Calls that do not fit are refused, those without a token too.
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,\
    response_headers_conformance,response_schema_conformance,negative_data_rejection,ignored_auth,unsupported_method,\
    allow_header_conformance";

/// Calls for so many seconds with the caller's token.
///
/// # Errors
/// An answer is wrong; the error quotes it with a call that causes it.
pub async fn run(python: &Python, client: &Client, caller: &Customer, seconds: u32) -> anyhow::Result<()> {
    let mut command = Command::new(python.program("schemathesis"));
    command.arg("--config-file").arg(python.script("schemathesis.toml")).arg("run");
    command.arg(format!("http://{}/openapi.json", client.address()));
    command.args(["--phases", "examples,coverage,fuzzing,stateful", "--checks", CHECKS]);
    command.args(["--max-time", &seconds.to_string(), "--request-timeout", &ANSWER_SECONDS.to_string()]);
    command.args(["--warnings", "off", "--generation-database", "none"]);
    // Where it may leave its notes.
    command.current_dir(python.program(""));
    command.env("ACCESS_TOKEN", &caller.token).stdin(Stdio::null()).kill_on_drop(true);
    let bound = Duration::from_secs(seconds.into()) + GRACE;
    let output = tokio::time::timeout(bound, command.output()).await.context("schemathesis does not end")?;
    let output = output.context("cannot run schemathesis")?;
    let said = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    println!("{said}{errors}");
    anyhow::ensure!(output.status.success(), "schemathesis found something: {said}{errors}");
    Ok(())
}
