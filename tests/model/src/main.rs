//! `./dev model`: explores the protocol's models, with all rules or without some.

use clap::Parser;
use protocol_model::models;
use protocol_model::part::{Rule, Without};
use std::process::ExitCode;

/// Explore the dispatch protocol, or print the fault that a rule prevents
#[derive(Parser, Debug)]
#[command(name = "./dev model")]
struct Args {
    /// Switch this rule off, and print the shortest way to a fault; may be repeated
    #[arg(long, value_name = "RULE")]
    without: Vec<String>,
    /// List the rules
    #[arg(long, conflicts_with = "without")]
    rules: bool,
}

fn main() -> anyhow::Result<ExitCode> {
    let args = Args::parse();
    if args.rules {
        for model in models() {
            println!("{}: {}", model.name(), model.asks());
            for rule in model.rules() {
                println!("  {:24} {}", rule.name, rule.says);
            }
        }
        return Ok(ExitCode::SUCCESS);
    }
    let known: Vec<&'static Rule> = models().iter().flat_map(|model| model.rules()).copied().collect();
    let mut off = Vec::new();
    for name in &args.without {
        let rule = known.iter().find(|rule| rule.name == name);
        off.push(
            *rule.ok_or_else(|| {
                anyhow::anyhow!("there is no rule {name}: `./dev model --rules` lists them")
            })?,
        );
    }
    let mut sound = true;
    for model in models() {
        if !off.is_empty() && !off.iter().any(|rule| model.rules().contains(rule)) {
            continue;
        }
        let report = model.explore(&Without::rules(&off));
        match &report.fault {
            None => println!("{}: {} states, no fault, no dead end", model.name(), report.states),
            Some(fault) => println!("{}: {fault}", model.name()),
        }
        sound &= report.fault.is_none();
    }
    // Without a rule a fault is what was asked for.
    Ok(if sound == off.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
