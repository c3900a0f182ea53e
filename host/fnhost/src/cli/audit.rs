//! `fnhost audit`, and how commands beside running hosts note what they change.

use super::change::{shortened, time_ms};
use super::setup::Beside;
use super::{Application, Format};
use clap::Args;
use fnhost_db::OwnerPool;
use fnhost_db::audit::{self, AuditFilter, Change, Entry};
use serde_json::Value;

/// Characters of an entry's details that a line shows.
const DETAILS_CHARS: usize = 160;
/// Where Linux says what this machine is called.
const HOSTNAME: &str = "/proc/sys/kernel/hostname";

/// Shows who changed what: swaps, redrives, moved positions, keys, and all other changes, with their outcome. What hosts deploy and roll
/// back by themselves is among them.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  fnhost audit
  fnhost audit --who ci --since 2026-01-31T08:00:00Z
  fnhost audit --action /components/ --output json")]
pub struct AuditArgs {
    #[command(flatten)]
    app: Application,
    /// Made by this token or account; "the host" for what hosts did by themselves
    #[arg(long, value_name = "NAME")]
    who: Option<String>,
    /// Part of the request or command
    #[arg(long, value_name = "TEXT")]
    action: Option<String>,
    /// Asked for at this time or later
    #[arg(long, value_name = "TIME", value_parser = time_ms)]
    since: Option<i64>,
    /// Entries at most, the newest
    #[arg(long, value_name = "N", default_value_t = 100)]
    limit: i64,
    /// Output format
    #[arg(long, value_enum, default_value_t)]
    output: Format,
}

/// Prints the entries.
pub async fn run(args: AuditArgs) -> anyhow::Result<()> {
    let beside = Beside::attach(&args.app).await?;
    let filter = AuditFilter { who: args.who, action: args.action, since_ms: args.since, before: None };
    let entries = audit::list(&beside.owner, &beside.manifest.application.name, &filter, args.limit).await?;
    if args.output == Format::Json {
        println!("{}", serde_json::to_string_pretty(&entries)?);
        return Ok(());
    }
    if entries.is_empty() {
        println!("no change matches");
    }
    for Entry { id, at, who, source, action, details, outcome } in &entries {
        println!("{id}  {at}  {who} from {source}: {action}");
        println!("    {}", shortened(&details.to_string(), DETAILS_CHARS));
        println!("    {}", outcome.as_deref().unwrap_or("no outcome: it still runs, or its host died"));
    }
    Ok(())
}

/// Makes a change and notes it as this account's, from this machine.
///
/// # Errors
/// It could not be noted, and was not made; or the change's own.
pub(super) async fn recorded<T>(
    owner: &OwnerPool,
    deployment: &str,
    command: &str,
    details: Value,
    make: impl Future<Output = anyhow::Result<T>>,
) -> anyhow::Result<T> {
    let change = Change { who: account(), source: machine(), action: format!("fnhost {command}"), details };
    audit::recorded(owner, deployment, &change, make).await
}

/// Name of the account that this runs as; its number where it has none.
fn account() -> String {
    let uid = rustix::process::getuid().as_raw().to_string();
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let name = passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == uid).then(|| name.to_owned())
    });
    name.unwrap_or(uid)
}

/// Name of this machine.
pub(super) fn machine() -> String {
    let name = std::fs::read_to_string(HOSTNAME).unwrap_or_default();
    if name.trim().is_empty() { "localhost".to_owned() } else { name.trim().to_owned() }
}
