//! The `fnhost` command.

mod cli;
mod log;

use clap::Parser as _;
use cli::{Cli, exit_code, trigger};
use fnhost_types::memory::Noted;
use std::process::ExitCode;

/// A batch is thousands of small strings on its way through the host. With the allocator of glibc, giving them out and
/// taking them back was a third of the host's CPU time.
/// What is too large for a call is noted, see [`fnhost_types::memory`].
#[global_allocator]
static ALLOCATOR: Noted<mimalloc::MiMalloc> = Noted(mimalloc::MiMalloc);

fn main() -> ExitCode {
    forgo_backtraces_of_errors();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("fnhost: cannot start threads: {error}");
            return ExitCode::FAILURE;
        }
    };
    let code = runtime.block_on(run());
    // What was given up at a deadline or a second signal is not waited for after all.
    runtime.shutdown_background();
    code
}

/// With `RUST_BACKTRACE` in the environment every error walks the stack when it is made, and Wasmtime makes one at the end of
/// each call: a twentieth of the host's CPU time under requests. No error's backtrace is ever printed; those of panics are.
#[allow(unsafe_code)]
fn forgo_backtraces_of_errors() {
    const SETTING: &str = "RUST_LIB_BACKTRACE";
    if std::env::var_os(SETTING).is_none() {
        // SAFETY: no other thread runs yet that could read the environment meanwhile.
        unsafe { std::env::set_var(SETTING, "0") };
    }
}

async fn run() -> ExitCode {
    if trigger::is_plugin(std::env::args_os().next().as_deref()) {
        let trigger = trigger::Trigger::parse();
        log::init(trigger.log_format(), "info,sqlx=warn");
        return exit(trigger.run().await);
    }
    let cli = Cli::parse();
    log::init(cli.log_format(), cli.default_log());
    exit(cli.run().await)
}

fn exit(outcome: anyhow::Result<()>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            match fnhost_types::log::format() {
                fnhost_types::log::LogFormat::Human => eprintln!("fnhost: {error:#}"),
                fnhost_types::log::LogFormat::Json => tracing::error!("fnhost: {error:#}"),
            }
            exit_code(&error).into()
        }
    }
}
