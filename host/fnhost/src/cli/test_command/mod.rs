//! `fnhost test`: a function on the records of a file, without a broker.

mod records;
mod run;

use super::setup::Scratch;
use super::{Application, Format, Unsatisfied, progress};
use anyhow::Context as _;
use clap::Args;
use fnhost_engine::{ComponentSpec, Engine, EngineOptions, LoadedComponent};
use fnhost_manifest::{KafkaTrigger, Manifest};
use records::Record;
use run::{Outcome, Trial};
use serde_json::json;
use std::path::PathBuf;

/// Runs a function on the records of a file, without a broker, and shows the outcome of each.
#[derive(Args, Debug)]
#[command(
    after_help = "Each line of FILE is a record. A value that is not a string is encoded as JSON; null is a tombstone:
  {\"topic\":\"visits\",\"key\":\"ada\",\"value\":{\"page\":\"/start\",\"seconds\":3},\"headers\":{\"source\":\"shop\"}}
Further keys: partition, offset, timestamp_ms, value_base64, attempt, last_attempt.

A function that uses Postgres gets an empty database with its migrations and demo data, dropped at the end: on the server
of --database, or on a private one. What the function prints goes to stderr.

Examples:
  fnhost test records.jsonl
  fnhost test records.jsonl --component word-count --output json

Exit codes: 0 every record is done, 3 one is not, 1 the test could not run."
)]
pub struct TestArgs {
    #[command(flatten)]
    app: Application,
    /// File of records, one JSON object per line
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Test only this component; without it all that consume the records' topics
    #[arg(long, value_name = "ID")]
    component: Option<String>,
    /// Output format
    #[arg(long, value_enum, default_value_t)]
    output: Format,
}

/// Runs the records and prints what became of them.
///
/// # Errors
/// Something is missing or wrong, or [`Unsatisfied`] where a record is not done.
pub async fn run(args: TestArgs) -> anyhow::Result<()> {
    let manifest = Manifest::load(&args.app.manifest)?;
    let name = args.file.display().to_string();
    let text = std::fs::read_to_string(&args.file).with_context(|| format!("cannot read {name}"))?;
    let records = records::read(&name, &text)?;
    let triggers = triggers(&args, &manifest, &records)?;
    let mut interrupt = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::interrupt())?;
    let doing = format!("running {} records", records.len());
    let tested = tokio::select! {
        tested = progress::logged(&doing, test(&args, &manifest, &triggers, &records)) => tested?,
        // What was prepared so far stays; the message of the next start names what is in its way.
        _ = interrupt.recv() => anyhow::bail!("interrupted"),
    };
    match args.output {
        Format::Human => print_human(&tested, &records),
        Format::Json => println!("{}", as_json(&tested, &records)),
    }
    let not_done = tested
        .iter()
        .flat_map(|(_, outcomes)| outcomes)
        .filter(|o| !matches!(o.word, "done" | "unwanted"))
        .count();
    if not_done > 0 {
        return Err(Unsatisfied(format!("{not_done} of {} records not done", records.len())).into());
    }
    Ok(())
}

type Tested<'a> = Vec<(&'a KafkaTrigger, Vec<Outcome>)>;

/// The triggers that consume the records.
fn triggers<'a>(
    args: &TestArgs,
    manifest: &'a Manifest,
    records: &[Record],
) -> anyhow::Result<Vec<&'a KafkaTrigger>> {
    if let Some(id) = &args.component {
        anyhow::ensure!(
            manifest.components.contains_key(id),
            "there is no component \"{id}\" in {}",
            manifest.path.display()
        );
    }
    let wanted = |t: &&KafkaTrigger| args.component.as_ref().is_none_or(|id| *id == t.component);
    let triggers: Vec<_> = manifest.kafka.iter().filter(wanted).collect();
    for record in records {
        if !triggers.iter().any(|trigger| trigger.topics.contains(&record.topic)) {
            let topics: Vec<&str> = triggers.iter().flat_map(|t| &t.topics).map(String::as_str).collect();
            anyhow::bail!(
                "{}:{}: no trigger consumes the topic \"{}\"; consumed topics: {}",
                args.file.display(),
                record.line,
                record.topic,
                if topics.is_empty() { "none".to_owned() } else { topics.join(", ") }
            );
        }
    }
    let consumes = |t: &&KafkaTrigger| records.iter().any(|record| t.topics.contains(&record.topic));
    Ok(triggers.into_iter().filter(consumes).collect())
}

async fn test<'a>(
    args: &TestArgs,
    manifest: &Manifest,
    triggers: &[&'a KafkaTrigger],
    records: &[Record],
) -> anyhow::Result<Tested<'a>> {
    let engine = Engine::new(EngineOptions {
        cache_dir: Some(args.app.data_dir.join("cache")),
        ..EngineOptions::default()
    })?;
    // What the components import says whether a database is needed at all.
    let without = Scratch::without_database(&args.app, manifest)?;
    let components = load(&engine, manifest, &without, triggers).await?;
    if !components.iter().any(LoadedComponent::uses_postgres) {
        return Ok(run_all(&components, &without, triggers, records).await);
    }
    let setup = Scratch::with_database(&args.app, manifest).await?;
    let tested = match load(&engine, manifest, &setup, triggers).await {
        Ok(components) => Ok(run_all(&components, &setup, triggers, records).await),
        Err(error) => Err(error),
    };
    setup.close().await;
    tested
}

/// The triggers' components, in the triggers' order.
async fn load(
    engine: &Engine,
    manifest: &Manifest,
    setup: &Scratch,
    triggers: &[&KafkaTrigger],
) -> anyhow::Result<Vec<LoadedComponent>> {
    let specs = ComponentSpec::all(manifest, &setup.values);
    let mut components = Vec::new();
    for trigger in triggers {
        let spec = specs.iter().find(|spec| spec.id == trigger.component).cloned();
        let spec = spec.with_context(|| format!("component \"{}\" has no trigger", trigger.component))?;
        let engine = engine.clone();
        components.push(tokio::task::spawn_blocking(move || engine.load(&spec)).await??);
    }
    Ok(components)
}

async fn run_all<'a>(
    components: &[LoadedComponent],
    setup: &Scratch,
    triggers: &[&'a KafkaTrigger],
    records: &[Record],
) -> Tested<'a> {
    let mut tested = Vec::new();
    for (component, trigger) in components.iter().zip(triggers) {
        let Some(role) = setup.roles.get(&trigger.component) else {
            // As `fnhost up` has it, a Kafka trigger needs the component's database for its positions.
            let reason = format!("add [component.{}.tool.fnhost.database] to spin.toml", trigger.component);
            let all = (0..records.len()).filter(|i| trigger.topics.contains(&records[*i].topic));
            tested.push((*trigger, all.map(|record| run::failed_outcome(record, &reason)).collect()));
            continue;
        };
        tested.push((*trigger, Trial::new(component.clone(), role.clone(), trigger, records).run().await));
    }
    tested
}

fn text(bytes: Option<&Vec<u8>>) -> Option<String> {
    bytes.map(|bytes| String::from_utf8_lossy(bytes).into_owned())
}

fn print_human(tested: &Tested<'_>, records: &[Record]) {
    for (trigger, outcomes) in tested {
        println!("{}", trigger.component);
        for Outcome { record, word, reason, emits } in outcomes {
            let Record { topic, partition, message, .. } = &records[*record];
            let key = text(message.key.as_ref()).map(|key| format!(" key {key}")).unwrap_or_default();
            let reason = reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
            println!("  {topic}/{partition}@{}{key}  {word}{reason}", message.offset);
            for emit in emits {
                let key = text(emit.key.as_ref()).unwrap_or_default();
                let value = text(emit.value.as_ref()).unwrap_or_else(|| "(tombstone)".to_owned());
                println!("    -> {} key {key}  {value}", emit.topic);
            }
        }
        let count = |word: &str| outcomes.iter().filter(|outcome| outcome.word == word).count();
        let words = ["done", "retry", "reject", "behind", "failed"].map(|word| (count(word), word));
        let told =
            words.iter().filter(|(count, _)| *count > 0).map(|(count, word)| format!("{count} {word}"));
        let sent: usize = outcomes.iter().map(|outcome| outcome.emits.len()).sum();
        println!("  {}; {sent} messages", told.collect::<Vec<_>>().join(", "));
    }
}

fn as_json(tested: &Tested<'_>, records: &[Record]) -> serde_json::Value {
    let outcome = |trigger: &KafkaTrigger, outcome: &Outcome| {
        let Record { line, topic, partition, message } = &records[outcome.record];
        let emits: Vec<_> = outcome
            .emits
            .iter()
            .map(|emit| {
                let headers = emit.headers.iter();
                let headers: Vec<_> =
                    headers.map(|h| json!([h.name, String::from_utf8_lossy(&h.value)])).collect();
                let (key, value) = (text(emit.key.as_ref()), text(emit.value.as_ref()));
                json!({"topic": emit.topic, "key": key, "value": value, "headers": headers})
            })
            .collect();
        json!({
            "line": line, "component": trigger.component, "trigger": trigger.id,
            "topic": topic, "partition": partition, "offset": message.offset, "key": text(message.key.as_ref()),
            "outcome": outcome.word, "reason": outcome.reason, "emits": emits,
        })
    };
    tested.iter().flat_map(|(trigger, outcomes)| outcomes.iter().map(move |o| outcome(trigger, o))).collect()
}
