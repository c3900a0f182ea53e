//! `./dev faults`: orders through a seeded schedule of faults, judged from outside.

use clap::Parser;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use tests::faults::guards;
use tests::faults::oracle::SETTLE_DEADLINE;
use tests::faults::schedule::Scale;
use tests::faults::world::Plan;
use tests::faults::{Run, run};

/// Time to settle without a guard: what stands still then does so for good.
const SETTLE_WITHOUT_GUARD: Duration = Duration::from_secs(60);

/// Places orders over HTTP while faults strike hosts, brokers and Postgres, then judges from outside that nothing is lost, doubled,
/// oversold or stuck. Exits with 1 and keeps all data where something is.
#[derive(Parser, Debug)]
#[command(
    name = "./dev faults",
    after_help = "Examples:
  ./dev faults --seed 7 --orders 20000 --faults 60
  ./dev faults --guards                  # takes the protocol's guards away, one at a time: the suite has to notice"
)]
struct Args {
    /// What everything random follows from; the same seed gives the same orders and the same schedule
    #[arg(long, default_value_t = fastrand::u64(..1_000_000))]
    seed: u64,
    /// Orders
    #[arg(long, default_value_t = 5_000)]
    orders: usize,
    /// Faults
    #[arg(long, default_value_t = 30)]
    faults: usize,
    /// From one fault to the next on average, milliseconds; most last longer, so that they overlap
    #[arg(long, value_name = "MS", default_value_t = 3_000)]
    every: u64,
    /// Only kinds of faults whose name contains this, as the report names them
    #[arg(long, value_name = "TEXT", default_value = "")]
    only: String,
    /// Hosts
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=9))]
    hosts: u8,
    /// Kafka brokers
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=9))]
    brokers: u8,
    /// The program that hosts run
    #[arg(long, value_name = "FILE")]
    program: Option<PathBuf>,
    /// Where data are kept if something is wrong
    #[arg(long, value_name = "DIR", default_value = "target/faults")]
    keep: PathBuf,
    /// Take each guard of the protocol away instead; the program has to be built with the feature guards-off
    #[arg(long)]
    guards: bool,
    /// Only these guards
    #[arg(long, value_name = "NAME", requires = "guards")]
    guard: Vec<String>,
    /// Runs with different seeds that each guard gets
    #[arg(long, default_value_t = 3, requires = "guards")]
    seeds: u64,
}

#[tokio::main]
async fn main() -> ExitCode {
    match perform(Args::parse()).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("faults: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Answers whether all is as it should be.
async fn perform(args: Args) -> anyhow::Result<bool> {
    let (hosts, brokers) = (usize::from(args.hosts), usize::from(args.brokers));
    let program =
        args.program.map_or_else(tests::system::program, |program| Ok(std::path::absolute(program)?))?;
    let wanted = Run {
        seed: args.seed,
        orders: args.orders,
        // Needed for as long as the process runs.
        scale: Scale {
            hosts,
            brokers,
            faults: args.faults,
            only: args.only.leak(),
            every: Duration::from_millis(args.every),
        },
        world: Plan { hosts, brokers, program, guard_off: None },
        settle: if args.guards { SETTLE_WITHOUT_GUARD } else { SETTLE_DEADLINE },
        keep: args.keep.join(format!("seed-{}-{}", args.seed, std::process::id())),
    };
    if args.guards {
        let tried = guards::try_all(&wanted, args.seeds, &args.guard).await?;
        println!("{}", guards::table(&tried));
        return Ok(tried.iter().all(|tried| tried.noticed.is_some()));
    }
    let findings = run(&wanted).await?;
    println!("{findings}");
    Ok(findings.faults().is_empty())
}
