//! `fnhost parked`: records of the whole deployment that wait for another attempt, or behind one that does.

use super::audit::recorded;
use super::change::{Changing, Listing, shortened};
use super::setup::Beside;
use super::{Format, Unsatisfied};
use clap::{Args, Subcommand};
use fnhost_db::parked::{self, ParkedFilter};
use fnhost_db::views::RecordView;
use serde_json::json;

/// Characters of a reason that a list shows.
const REASON_CHARS: usize = 100;

/// Shows parked records, has them tried now, or removes them.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  fnhost parked list --trigger payment
  fnhost parked retry --trigger payment                     # now, not when their pause is over
  fnhost parked discard --topic order-events --partition 1 --offset 42 --yes")]
pub struct ParkedArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand, Debug)]
enum Action {
    /// List parked records, the next due first
    List(Listing<Selection>),
    /// Try parked records again now; their attempts stay counted
    Retry(Changing<Selection>),
    /// Remove parked records for good; those behind them go on
    Discard(Changing<Selection>),
}

#[derive(Args, Debug, Clone)]
struct Selection {
    /// Trigger id
    #[arg(long, value_name = "ID")]
    trigger: Option<String>,
    /// Topic
    #[arg(long)]
    topic: Option<String>,
    /// Partition
    #[arg(long, value_name = "N")]
    partition: Option<i32>,
    /// Offset
    #[arg(long, value_name = "N")]
    offset: Option<i64>,
    /// Key
    #[arg(long)]
    key: Option<String>,
    /// Part of the reason
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

impl Selection {
    fn filter(&self) -> ParkedFilter {
        let Self { trigger, topic, partition, offset, key, reason } = self.clone();
        ParkedFilter { trigger, topic, partition, offset, key, reason }
    }

    fn is_everything(&self) -> bool {
        let Self { trigger, topic, partition, offset, key, reason } = self;
        [trigger, topic, key, reason].iter().all(|text| text.is_none())
            && (partition, offset) == (&None, &None)
    }
}

/// Runs the action.
pub async fn run(args: ParkedArgs) -> anyhow::Result<()> {
    match args.action {
        Action::List(Listing { app, selection, limit, output }) => {
            let beside = Beside::attach(&app).await?;
            let name = &beside.manifest.application.name;
            print(&parked::list(&beside.owner, name, &selection.filter(), limit).await?, output)
        }
        Action::Retry(args) => {
            let Some((beside, filter)) = chosen(&args, "retry").await? else { return Ok(()) };
            let (owner, deployment) = (&beside.owner, &beside.manifest.application.name);
            let count = recorded(owner, deployment, "parked retry", json!(filter), async {
                Ok(parked::retry(owner, deployment, &filter).await?)
            });
            let count = count.await?;
            say(&args, "retried", &format!("{count} parked records are tried now"), count);
            Ok(())
        }
        Action::Discard(args) => {
            let Some((beside, filter)) = chosen(&args, "discard").await? else { return Ok(()) };
            let (owner, deployment) = (&beside.owner, &beside.manifest.application.name);
            let count = recorded(owner, deployment, "parked discard", json!(filter), async {
                Ok(parked::discard(owner, deployment, &filter).await?)
            });
            let count = count.await?;
            say(&args, "discarded", &format!("{count} parked records are discarded"), count);
            Ok(())
        }
    }
}

/// The records that are to be changed, once that is confirmed; none where it was only asked how many there are.
async fn chosen(args: &Changing<Selection>, what: &str) -> anyhow::Result<Option<(Beside, ParkedFilter)>> {
    anyhow::ensure!(
        args.all || !args.selection.is_everything(),
        "say which parked records: with a filter, or --all"
    );
    let beside = Beside::attach(&args.app).await?;
    let filter = args.selection.filter();
    let count = parked::count(&beside.owner, &beside.manifest.application.name, &filter).await?;
    if count == 0 {
        return Err(Unsatisfied("no parked record matches".into()).into());
    }
    if args.change.dry_run {
        say(args, "matching", &format!("would {what} {count} parked records"), count);
        return Ok(None);
    }
    if what == "discard" {
        args.change.confirm(&format!("{what} {count} parked records"))?;
    }
    Ok(Some((beside, filter)))
}

fn say(args: &Changing<Selection>, name: &str, text: &str, count: i64) {
    match args.output {
        Format::Human => println!("{text}"),
        Format::Json => println!("{}", json!({ name: count })),
    }
}

fn print(records: &[RecordView], output: Format) -> anyhow::Result<()> {
    if output == Format::Json {
        println!("{}", serde_json::to_string_pretty(records)?);
        return Ok(());
    }
    if records.is_empty() {
        println!("no parked record matches");
    }
    for record in records {
        let RecordView { trigger, topic, partition, offset, attempts, at, reason, .. } = record;
        println!("{trigger} {topic}/{partition}/{offset}  {attempts} attempts  next {at}");
        println!("    {}", shortened(reason, REASON_CHARS));
    }
    Ok(())
}
