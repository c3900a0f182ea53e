//! `fnhost migrate` and `fnhost env`.

use super::Application;
use super::ground::{Beside, Ground};
use clap::Args;

/// Prepares a database: the host's schema, a role and a schema for each function, their migrations. Safe to repeat; with another role
/// secret it changes the roles' passwords.
#[derive(Args, Debug)]
pub struct MigrateArgs {
    #[command(flatten)]
    app: Application,
}

/// Prints `export SPIN_VARIABLE_…` lines for everything that fnhost fills in by itself.
#[derive(Args, Debug)]
pub struct EnvArgs {
    #[command(flatten)]
    app: Application,
}

/// Migrates and ends.
pub async fn run(args: MigrateArgs) -> anyhow::Result<()> {
    let ground = Ground::prepare(&args.app, None, false, true).await?;
    tracing::info!(deployment = ground.deployment(), "the database is prepared");
    ground.close().await;
    Ok(())
}

/// Prints the variables.
pub async fn print_env(args: EnvArgs) -> anyhow::Result<()> {
    let beside = Beside::attach(&args.app).await?;
    for (name, value) in &beside.provided {
        println!(
            "export SPIN_VARIABLE_{}='{}'",
            name.to_ascii_uppercase(),
            value.expose().replace('\'', "'\\''")
        );
    }
    beside.owner.close().await;
    Ok(())
}
