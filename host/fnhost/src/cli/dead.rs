//! `fnhost dead`: dead letters of the whole deployment.

use super::audit::recorded;
use super::change::{Changing, Listing, shortened, time_ms};
use super::setup::Beside;
use super::{Application, Format, Unsatisfied};
use clap::{Args, Subcommand};
use fnhost_db::dead::{self, DeadFilter, DeadGroup, DeadLetter, Redriven};
use serde_json::json;

/// Characters of a reason that a list shows.
const REASON_CHARS: usize = 100;

/// Shows dead letters, puts them back before their trigger, or removes them.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  fnhost dead list                                        # the newest ones
  fnhost dead list --groups                               # by fault, the most frequent first
  fnhost dead show 17                                     # all of one, with value and headers
  fnhost dead redrive 17 18                               # run these again
  fnhost dead redrive --group 3fa2c1d0 --dry-run          # how many would run again
  fnhost dead discard --trigger notify --until 2026-01-31T08:00:00Z --yes

A redriven record runs exactly once more, before its own trigger alone, behind what waits of its key.")]
pub struct DeadArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand, Debug)]
enum Action {
    /// List dead letters, the newest first
    List {
        #[command(flatten)]
        listing: Listing<Selection>,
        /// One line for each fault: reasons that differ only in numbers, ids and quoted texts
        #[arg(long)]
        groups: bool,
    },
    /// Show all of one dead letter
    Show {
        #[command(flatten)]
        app: Application,
        /// Its number
        id: i64,
        /// Output format
        #[arg(long, value_enum, default_value_t)]
        output: Format,
    },
    /// Put dead letters back before their own trigger
    Redrive(Changing<Selection>),
    /// Remove dead letters for good
    Discard(Changing<Selection>),
}

#[derive(Args, Debug, Clone)]
struct Selection {
    /// Numbers of dead letters
    #[arg(value_name = "ID")]
    ids: Vec<i64>,
    /// Trigger id
    #[arg(long, value_name = "ID")]
    trigger: Option<String>,
    /// Topic
    #[arg(long)]
    topic: Option<String>,
    /// Partition
    #[arg(long, value_name = "N")]
    partition: Option<i32>,
    /// Died at this RFC 3339 time or later
    #[arg(long, value_name = "TIME", value_parser = time_ms)]
    since: Option<i64>,
    /// Died before this RFC 3339 time
    #[arg(long, value_name = "TIME", value_parser = time_ms)]
    until: Option<i64>,
    /// Part of the reason
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Id of the group, as `--groups` shows it
    #[arg(long, value_name = "ID")]
    group: Option<String>,
}

impl Selection {
    fn is_everything(&self) -> bool {
        let Self { ids, trigger, topic, partition, since, until, reason, group } = self;
        ids.is_empty()
            && [trigger, topic, reason, group].iter().all(|text| text.is_none())
            && (partition, since, until) == (&None, &None, &None)
    }

    fn filter(&self) -> DeadFilter {
        let Self { ids, trigger, topic, partition, since, until, reason, group } = self.clone();
        DeadFilter { ids, trigger, topic, partition, since_ms: since, until_ms: until, reason, group }
    }
}

/// Runs the action.
pub async fn run(args: DeadArgs) -> anyhow::Result<()> {
    match args.action {
        Action::List { listing: Listing { app, selection, limit, output }, groups } => {
            let beside = Beside::attach(&app).await?;
            let (owner, deployment) = (&beside.owner, &beside.manifest.application.name);
            if groups {
                print_groups(&dead::groups(owner, deployment, &selection.filter(), limit).await?, output)
            } else {
                print_list(&dead::list(owner, deployment, &selection.filter(), limit).await?, output)
            }
        }
        Action::Show { app, id, output } => {
            let beside = Beside::attach(&app).await?;
            let filter = DeadFilter { ids: vec![id], ..DeadFilter::default() };
            let letters = dead::list(&beside.owner, &beside.manifest.application.name, &filter, 1).await?;
            let letter =
                letters.first().ok_or_else(|| Unsatisfied(format!("there is no dead letter {id}")))?;
            print(letter, output)
        }
        Action::Redrive(args) => {
            let Some((beside, filter)) = chosen(&args, "redrive").await? else { return Ok(()) };
            let (owner, deployment) = (&beside.owner, &beside.manifest.application.name);
            let redriven = recorded(owner, deployment, "dead redrive", json!(filter), async {
                Ok(dead::redrive(owner, deployment, &filter).await?)
            });
            let redriven = redriven.await?;
            print_redriven(&redriven, args.output)
        }
        Action::Discard(args) => {
            let Some((beside, filter)) = chosen(&args, "discard").await? else { return Ok(()) };
            let (owner, deployment) = (&beside.owner, &beside.manifest.application.name);
            let count = recorded(owner, deployment, "dead discard", json!(filter), async {
                Ok(dead::discard(owner, deployment, &filter).await?)
            });
            let count = count.await?;
            match args.output {
                Format::Human => println!("{count} dead letters are discarded"),
                Format::Json => println!("{}", json!({ "discarded": count })),
            }
            Ok(())
        }
    }
}

/// The dead letters that are to be changed, once that is confirmed; none where it was only asked how many there are.
async fn chosen(args: &Changing<Selection>, what: &str) -> anyhow::Result<Option<(Beside, DeadFilter)>> {
    anyhow::ensure!(
        args.all || !args.selection.is_everything(),
        "say which dead letters: their numbers, a filter, or --all"
    );
    let beside = Beside::attach(&args.app).await?;
    let filter = args.selection.filter();
    let count = dead::count(&beside.owner, &beside.manifest.application.name, &filter).await?;
    if count == 0 {
        return Err(Unsatisfied("no dead letter matches".into()).into());
    }
    if args.change.dry_run {
        match args.output {
            Format::Human => println!("would {what} {count} dead letters"),
            Format::Json => println!("{}", json!({ "matching": count })),
        }
        return Ok(None);
    }
    // One that was named and comes back is no large change.
    if what == "discard" || count > 1 {
        args.change.confirm(&format!("{what} {count} dead letters"))?;
    }
    Ok(Some((beside, filter)))
}

fn print_list(letters: &[DeadLetter], output: Format) -> anyhow::Result<()> {
    if output == Format::Json {
        println!("{}", serde_json::to_string_pretty(letters)?);
        return Ok(());
    }
    if letters.is_empty() {
        println!("no dead letter matches");
    }
    for DeadLetter { id, record, group, .. } in letters {
        let (topic, partition, offset) = (&record.topic, record.partition, record.offset);
        println!("{id}  {}  {} {topic}/{partition}/{offset}  group {group}", record.at, record.trigger);
        println!("    {}", shortened(&record.reason, REASON_CHARS));
    }
    Ok(())
}

fn print_groups(groups: &[DeadGroup], output: Format) -> anyhow::Result<()> {
    if output == Format::Json {
        println!("{}", serde_json::to_string_pretty(groups)?);
        return Ok(());
    }
    if groups.is_empty() {
        println!("no dead letter matches");
    }
    for group in groups {
        println!(
            "{}  {:>7}  {}  {}",
            group.group,
            group.count,
            group.trigger,
            shortened(&group.fingerprint, REASON_CHARS)
        );
        println!("    first {}  {}", group.first_at, shortened(&group.first_reason, REASON_CHARS));
        println!("    last  {}  {}", group.last_at, shortened(&group.last_reason, REASON_CHARS));
        if !group.digests.is_empty() {
            println!("    versions {}", group.digests.join(" "));
        }
        if let Some(traceparent) = &group.traceparent {
            println!("    traceparent {traceparent}");
        }
    }
    Ok(())
}

fn print(letter: &DeadLetter, output: Format) -> anyhow::Result<()> {
    if output == Format::Json {
        println!("{}", serde_json::to_string_pretty(letter)?);
        return Ok(());
    }
    let record = &letter.record;
    println!("dead letter {} of {}, {}", letter.id, record.trigger, record.at);
    match &letter.target {
        Some(target) => println!("message {} for {target}", record.offset),
        None => println!("record   {}/{}/{}", record.topic, record.partition, record.offset),
    }
    println!("attempts {}", record.attempts);
    println!("reason   {}", record.reason);
    println!("group    {}", letter.group);
    if !letter.digest.is_empty() {
        println!("version  {}", letter.digest);
    }
    println!("key      {}", record.key.as_deref().unwrap_or("(none)"));
    for (name, value) in &record.headers {
        println!("header   {name}: {value}");
    }
    println!("{}", record.value.as_deref().unwrap_or("(no value)"));
    Ok(())
}

fn print_redriven(redriven: &Redriven, output: Format) -> anyhow::Result<()> {
    if output == Format::Json {
        println!("{}", serde_json::to_string(redriven)?);
        return Ok(());
    }
    let Redriven { records, messages, waits_already, no_room, not_records } = *redriven;
    println!("{records} records are before their trigger again");
    for (count, what) in [
        (messages, "refused messages are sent again"),
        (waits_already, "left: the record waits already or is still to be read"),
        (no_room, "left: too much is parked on their partition; redrive them later"),
        (not_records, "left: ticks and relayed events have no place to be put back to"),
    ] {
        if count > 0 {
            println!("{count} {what}");
        }
    }
    Ok(())
}
