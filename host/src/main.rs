//! The `fnhost` command.

use clap::Parser as _;
use std::io::IsTerminal as _;
use tracing_subscriber::EnvFilter;

/// A batch is thousands of small strings on its way through the host. With the allocator of glibc, giving them out and
/// taking them back was a third of the host's CPU time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> std::process::ExitCode {
    let cli = fnhost::cli::Cli::parse();
    let filter = EnvFilter::try_from_env("FNHOST_LOG").unwrap_or_else(|_| EnvFilter::new(cli.default_log()));
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
            fnhost::cli::exit_code(&error).into()
        }
    }
}
