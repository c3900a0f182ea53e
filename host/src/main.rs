//! The `fnhost` command.

use clap::Parser as _;
use fnhost::cli::{Cli, exit_code, trigger};
use std::io::IsTerminal as _;
use std::process::ExitCode;
use tracing_subscriber::EnvFilter;

/// A batch is thousands of small strings on its way through the host. With the allocator of glibc, giving them out and
/// taking them back was a third of the host's CPU time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("fnhost: cannot start its threads: {error}");
            return ExitCode::FAILURE;
        }
    };
    let code = runtime.block_on(run());
    // What was given up at a deadline or a second signal is not waited for after all.
    runtime.shutdown_background();
    code
}

async fn run() -> ExitCode {
    if trigger::is_plugin(std::env::args_os().next().as_deref()) {
        log_to_stderr("info,sqlx=warn");
        return exit(trigger::Trigger::parse().run().await);
    }
    let cli = Cli::parse();
    log_to_stderr(cli.default_log());
    exit(cli.run().await)
}

/// Results go to stdout, what happens meanwhile to stderr.
fn log_to_stderr(default: &str) {
    let filter = EnvFilter::try_from_env("FNHOST_LOG").unwrap_or_else(|_| EnvFilter::new(default));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .compact()
        .init();
}

fn exit(outcome: anyhow::Result<()>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("fnhost: {error:#}");
            exit_code(&error).into()
        }
    }
}
