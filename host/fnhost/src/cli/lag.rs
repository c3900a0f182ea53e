//! `fnhost lag`: how far behind every partition of every trigger is, whichever host has it.

use super::operate::{self, OperatorArgs};
use super::{Format, Unsatisfied};
use clap::Args;
use fnhost_dispatch::operator::Lag;

/// Shows position, log end, lag and the age of the oldest record that is not processed of every partition of the deployment, with
/// what waits, blocks or is paused.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  fnhost lag
  fnhost lag --trigger payment --output json")]
pub struct LagArgs {
    #[command(flatten)]
    operator: OperatorArgs,
    /// Trigger id
    #[arg(long, value_name = "ID")]
    trigger: Option<String>,
    /// Output format
    #[arg(long, value_enum, default_value_t)]
    output: Format,
}

/// Prints the table.
pub async fn run(args: LagArgs) -> anyhow::Result<()> {
    let operator = args.operator.connect().await?;
    let lags = operator.lag(args.trigger.as_deref()).await.map_err(operate::said)?;
    print(&lags, args.output)?;
    if lags.is_empty() {
        return Err(Unsatisfied("no trigger has a partition yet: start the application first".into()).into());
    }
    Ok(())
}

/// Prints partitions, one in a line.
pub(super) fn print(lags: &[Lag], output: Format) -> anyhow::Result<()> {
    if output == Format::Json {
        println!("{}", serde_json::to_string_pretty(lags)?);
        return Ok(());
    }
    println!(
        "{:24}  {:28}  {:>10}  {:>10}  {:>8}  {:>9}  {:>6}  {:>6}  {:16}  STATE",
        "TRIGGER", "PARTITION", "POSITION", "LOG-END", "LAG", "OLDEST", "PARKED", "DEAD", "HOST"
    );
    for Lag { row, log_end, lag, oldest_age_s } in lags {
        let partition =
            if row.topic.is_empty() { "-".to_owned() } else { format!("{}/{}", row.topic, row.partition) };
        let number = |value: &Option<i64>| value.map_or_else(|| "-".to_owned(), |value| value.to_string());
        println!(
            "{:24}  {partition:28}  {:>10}  {:>10}  {:>8}  {:>9}  {:>6}  {:>6}  {:16}  {}",
            row.trigger,
            row.position,
            number(log_end),
            number(lag),
            oldest_age_s.map_or_else(|| "-".to_owned(), |age_s| format!("{age_s:.1} s")),
            row.parked,
            row.dead,
            row.host.as_deref().unwrap_or("-"),
            state(row)
        );
    }
    Ok(())
}

fn state(row: &fnhost_db::positions::PartitionRow) -> String {
    let said = [("stopped", &row.stopped), ("blocked", &row.blocked), ("paused", &row.paused)];
    let said: Vec<String> =
        said.into_iter().filter_map(|(word, why)| Some(format!("{word}: {}", why.as_ref()?))).collect();
    if !said.is_empty() {
        return said.join("; ");
    }
    if row.host.is_some() { "owned".to_owned() } else { "no owner".to_owned() }
}
