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

/// Prints the variables. With private servers they must be running under `fnhost up`, so this needs a given database.
pub async fn print_env(args: EnvArgs) -> anyhow::Result<()> {
    anyhow::ensure!(
        args.app.database.is_some(),
        "fnhost env needs the database that both hosts use: pass --database (FNHOST_DATABASE); `fnhost up` prints the URL of its private one \
         with --print-database"
    );
    let ground = Ground::prepare(&args.app, None, false).await?;
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
