//! The `fnhost` command.

use clap::Parser as _;
use std::io::IsTerminal as _;
use tracing_subscriber::EnvFilter;

/// A batch is thousands of small strings on its way through the host. With the allocator of glibc, giving them out and
/// taking them back was a third of the host's CPU time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("fnhost: cannot start its threads: {error}");
            return std::process::ExitCode::FAILURE;
        }
    };
    let code = runtime.block_on(run());
    // What was given up at a deadline or a second signal is not waited for after all.
    runtime.shutdown_background();
    code
}

async fn run() -> std::process::ExitCode {
    let cli = fnhost::cli::Cli::parse();
    let filter = EnvFilter::try_from_env("FNHOST_LOG").unwrap_or_else(|_| EnvFilter::new("info,sqlx=warn"));
    // Results go to stdout, what happens meanwhile to stderr.
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .compact()
        .init();
    match cli.run().await {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("fnhost: {error:#}");
            std::process::ExitCode::FAILURE
        }
    }
}
