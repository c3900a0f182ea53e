//! `fnhost stream-keys`: the keys that tell this deployment's numbered messages from anybody else's.

use super::audit::recorded;
use super::setup::Beside;
use super::{Application, Format};
use clap::{Args, Subcommand};
use fnhost_db::stream_keys::{self, SETTLED_AFTER_S};
use serde_json::json;

/// Shows, makes and removes the keys under which messages are numbered.
///
/// A new key signs a minute after it was made, when every host knows it. Remove an old one only when no message that it signed is still to
/// be read: later than the longest retention of your topics. Its messages would count as a foreign producer's.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  fnhost stream-keys list
  fnhost stream-keys add          # rotate: the new key signs a minute later
  fnhost stream-keys remove 1     # when nothing that it signed is left to read")]
pub struct StreamKeysArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand, Debug)]
enum Action {
    /// List the keys; secrets are never shown
    List {
        #[command(flatten)]
        app: Application,
        /// Output format
        #[arg(long, value_enum, default_value_t)]
        output: Format,
    },
    /// Make a new key
    Add {
        #[command(flatten)]
        app: Application,
    },
    /// Remove a key that does not sign
    Remove {
        #[command(flatten)]
        app: Application,
        /// Number of the key
        id: i32,
    },
}

/// Runs the action.
pub async fn run(args: StreamKeysArgs) -> anyhow::Result<()> {
    match args.action {
        Action::List { app, output } => {
            let keys = stream_keys::list(&Beside::attach(&app).await?.owner).await?;
            match output {
                Format::Json => println!("{}", serde_json::to_string_pretty(&keys)?),
                Format::Human => keys.iter().for_each(|key| {
                    println!("{}  made {}{}", key.id, key.created_at, if key.signs { "  signs" } else { "" });
                }),
            }
        }
        Action::Add { app } => {
            let beside = Beside::attach(&app).await?;
            let (owner, deployment) = (&beside.owner, &beside.manifest.application.name);
            let made = recorded(owner, deployment, "stream-keys add", json!({}), async {
                Ok(stream_keys::add(owner).await?)
            });
            let id = made.await?;
            println!("key {id} signs in {SETTLED_AFTER_S} s");
        }
        Action::Remove { app, id } => {
            let beside = Beside::attach(&app).await?;
            let (owner, deployment) = (&beside.owner, &beside.manifest.application.name);
            let removed = recorded(owner, deployment, "stream-keys remove", json!({ "id": id }), async {
                anyhow::ensure!(
                    stream_keys::remove(owner, id).await?,
                    "there is no key {id}, or it is the one that signs: make a new one first"
                );
                Ok(())
            });
            removed.await?;
            println!("key {id} is removed");
        }
    }
    Ok(())
}
