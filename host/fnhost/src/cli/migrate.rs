//! `fnhost migrate` and `fnhost env`.

use super::audit::recorded;
use super::setup::{Beside, Setup};
use super::{Application, Format, progress};
use clap::Args;
use serde_json::json;

/// Prepares a database: the host's schema, a role and a schema for each function, migrations. Safe to repeat. With a new role
/// secret it changes the roles' passwords.
#[derive(Args, Debug)]
#[command(after_help = "Example:
  fnhost migrate --database postgres://owner:secret@db/orders")]
pub struct MigrateArgs {
    #[command(flatten)]
    app: Application,
}

/// Prints `export SPIN_VARIABLE_…` lines for the variables that fnhost fills in itself.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  eval \"$(fnhost env)\" && spin up
  fnhost env --output json")]
pub struct EnvArgs {
    #[command(flatten)]
    app: Application,
    /// Output format: shell exports, or a JSON object of names and values
    #[arg(long, value_enum, default_value_t)]
    output: Format,
}

/// Migrates and ends.
pub async fn run(args: MigrateArgs) -> anyhow::Result<()> {
    let prepare = Setup::prepare(&args.app, None, false, true, None);
    let setup = progress::logged("preparing the database", prepare).await?;
    // Noted when it is done: before, there may be no table.
    recorded(&setup.owner, setup.deployment(), "migrate", json!({}), async { Ok(()) }).await?;
    tracing::info!(deployment = setup.deployment(), "the database is ready");
    setup.close().await;
    Ok(())
}

/// Prints the variables.
pub async fn print_env(args: EnvArgs) -> anyhow::Result<()> {
    let beside = Beside::attach(&args.app).await?;
    let variables = beside.provided.iter();
    let variables = variables
        .map(|(name, value)| (format!("SPIN_VARIABLE_{}", name.to_ascii_uppercase()), value.expose()));
    match args.output {
        Format::Human => {
            for (name, value) in variables {
                println!("export {name}='{}'", value.replace('\'', "'\\''"));
            }
        }
        Format::Json => println!("{}", variables.collect::<serde_json::Value>()),
    }
    beside.owner.close().await;
    Ok(())
}
