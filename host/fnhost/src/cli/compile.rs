//! `fnhost compile`, which a host runs for itself.

use clap::Args;
use fnhost_engine::compile_to_cache;
use std::path::PathBuf;

/// What `fnhost compile` takes.
#[derive(Args, Debug)]
pub struct CompileArgs {
    /// Where precompiled images are kept
    #[arg(long, value_name = "DIR")]
    cache_dir: PathBuf,
}

/// Compiles what comes on standard input, and prints the reason where that does not compile.
pub(super) fn run(args: CompileArgs) -> anyhow::Result<()> {
    if let Some(reason) = compile_to_cache(args.cache_dir)? {
        print!("{reason}");
    }
    Ok(())
}
