//! The command line.

mod ground;
mod migrate;
mod position;
mod ps;
mod remote;
mod swap;
mod triggers;
mod up;

use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;

/// Runs WebAssembly functions on Kafka records and HTTP requests, with effects exactly once in Postgres.
#[derive(Parser, Debug)]
#[command(
    name = "fnhost",
    version,
    about,
    after_help = "Examples:
  fnhost up                               everything in spin.toml, with a private Postgres and Kafka in .fnhost/
  fnhost up --only kafka                  the Kafka triggers alone, beside `spin up`
  fnhost up --kafka broker:9092 --database postgres://owner:secret@db/orders
  fnhost migrate --database postgres://owner:secret@db/orders"
)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Run the application
    Up(up::UpArgs),
    /// Prepare a database: schemas, roles, migrations
    Migrate(migrate::MigrateArgs),
    /// Print the variables that `spin up` needs beside `fnhost up --only kafka`, as shell exports
    Env(migrate::EnvArgs),
    /// Show or move where a trigger goes on in a partition
    Position(position::PositionArgs),
    /// Bring a version of a component in while everything runs
    Swap(swap::SwapArgs),
    /// Go back to the version of a component before
    Rollback(swap::RollbackArgs),
    /// List a component's versions
    Versions(swap::VersionsArgs),
    /// Show the hosts of the deployment
    Ps(ps::PsArgs),
}

/// What every command that reads the manifest takes.
#[derive(Args, Debug, Clone)]
pub struct Application {
    /// The application's manifest
    #[arg(
        short = 'f',
        long = "from",
        value_name = "FILE",
        default_value = "spin.toml",
        env = "FNHOST_MANIFEST"
    )]
    pub manifest: PathBuf,
    /// A variable's value; may be repeated
    #[arg(long = "variable", value_name = "NAME=VALUE")]
    pub variables: Vec<String>,
    /// Where private servers, keys and caches live
    #[arg(long, value_name = "DIR", default_value = ".fnhost", env = "FNHOST_DATA_DIR")]
    pub data_dir: PathBuf,
    /// URL of the database, as a role that may create schemas and roles; without it a private Postgres is run
    #[arg(long, value_name = "URL", env = "FNHOST_DATABASE", hide_env_values = true)]
    pub database: Option<String>,
    /// Secret from which the passwords of the functions' roles are derived; the database URL's password where none is given
    #[arg(long, value_name = "SECRET", env = "FNHOST_ROLE_SECRET", hide_env_values = true)]
    pub role_secret: Option<String>,
}

impl Cli {
    /// Runs the command.
    ///
    /// # Errors
    /// What stopped it, with its causes.
    pub async fn run(self) -> anyhow::Result<()> {
        match self.command {
            Command::Up(args) => up::run(args).await,
            Command::Migrate(args) => migrate::run(args).await,
            Command::Env(args) => migrate::print_env(args).await,
            Command::Position(args) => position::run(args).await,
            Command::Swap(args) => swap::run(args).await,
            Command::Rollback(args) => swap::roll_back(args).await,
            Command::Versions(args) => swap::versions(args).await,
            Command::Ps(args) => ps::run(args).await,
        }
    }
}
