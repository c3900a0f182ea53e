//! `fnhost migrate` and `fnhost env`.

use super::Application;
use super::ground::Ground;
use clap::Args;

/// Prepares a database: the host's schema, a role and a schema for each function, their migrations. Safe to repeat.
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
    let ground = Ground::prepare(&args.app, None, false).await?;
    tracing::info!(deployment = ground.deployment(), "the database is prepared");
    ground.close().await;
    Ok(())
}

/// Prints the variables.
pub async fn print_env(args: EnvArgs) -> anyhow::Result<()> {
    let ground = Ground::attach(&args.app).await?;
    for (name, value) in &ground.values.application {
        println!(
            "export SPIN_VARIABLE_{}='{}'",
            name.to_ascii_uppercase(),
            value.expose().replace('\'', "'\\''")
        );
    }
    ground.close().await;
    Ok(())
}
