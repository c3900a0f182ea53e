//! Holds the tree to the invariants of ARCHITECTURE.md that a text search can judge.

use std::path::{Path, PathBuf};

/// Lines of a source file at most, its tests included.
const FILE_LINES_MAX: usize = 400;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("the checkout")
}

/// Rust files below `folder`, with their texts; paths are relative to the checkout.
fn sources(folder: &str) -> Vec<(String, String)> {
    let root = root();
    let mut found = Vec::new();
    let mut folders = vec![root.join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder of sources") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let name =
                    path.strip_prefix(&root).expect("below the checkout").to_string_lossy().into_owned();
                found.push((name, std::fs::read_to_string(&path).expect("a source file")));
            }
        }
    }
    assert!(!found.is_empty(), "{folder} has no sources: was it renamed?");
    found
}

/// Lines of code, without comments.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines()
        .enumerate()
        .map(|(i, line)| (i + 1, line.split("//").next().unwrap_or("")))
        .filter(|(_, l)| !l.is_empty())
}

fn refuse(faults: &[String], rule: &str) {
    assert!(faults.is_empty(), "{rule}:\n  {}", faults.join("\n  "));
}

/// Places where `word` stands in code outside of `allowed` folders.
fn places(word: &str, folder: &str, allowed: &[&str]) -> Vec<String> {
    let mut places = Vec::new();
    for (name, text) in sources(folder) {
        if allowed.iter().any(|a| name.starts_with(a)) {
            continue;
        }
        places.extend(
            code(&text)
                .filter(|(_, line)| line.contains(word))
                .map(|(n, line)| format!("{name}:{n}: {}", line.trim())),
        );
    }
    places
}

#[test]
fn only_the_kafka_module_names_rdkafka() {
    refuse(
        &places("rdkafka", "host", &["host/kafka/", "host/tests/", "host/fnhost/tests/"]),
        "rdkafka is named outside of host/kafka",
    );
}

#[test]
fn the_hosts_sql_is_in_one_place() {
    refuse(
        &places(
            "sqlx::query",
            "host",
            &["host/db/", "host/capabilities/src/postgres/", "host/tests/", "host/fnhost/tests/"],
        ),
        "SQL outside of host/db",
    );
}

#[test]
fn domains_are_pure() {
    for (name, text) in sources("functions").iter().filter(|(name, _)| name.ends_with("/domain.rs")) {
        let faults: Vec<String> = code(text)
            .filter(|(_, line)| {
                ["async ", "spin_sdk", "std::env", "std::time::", "Sql"].iter().any(|w| line.contains(w))
            })
            .map(|(n, line)| format!("{name}:{n}: {}", line.trim()))
            .collect();
        refuse(&faults, "a domain takes state and event and gives a decision, nothing else");
    }
}

#[test]
fn the_sdk_and_what_is_copied_from_us_know_nothing_of_the_order_system() {
    for folder in ["sdk", "examples", "templates"] {
        refuse(&places("contract::", folder, &[]), "the contract of the order system is for its functions");
    }
}

#[test]
fn every_file_says_what_it_is_for() {
    let files = ["host", "sdk", "functions", "examples", "templates"].into_iter().flat_map(sources);
    let faults: Vec<String> =
        files.filter(|(_, text)| !text.starts_with("//!")).map(|(name, _)| name).collect();
    refuse(&faults, "files begin with a `//!` line");
}

#[test]
fn files_stay_readable() {
    let files = ["host", "sdk", "functions", "examples", "templates"].into_iter().flat_map(sources);
    let faults: Vec<String> = files
        .map(|(name, text)| (name, text.lines().count()))
        .filter(|(_, lines)| *lines > FILE_LINES_MAX)
        .map(|(name, lines)| format!("{name}: {lines} lines"))
        .collect();
    refuse(&faults, "files have at most 400 lines");
}

#[test]
fn decisions_have_numbers_of_their_own() {
    let mut numbers: Vec<u32> = std::fs::read_dir(root().join("docs/decisions"))
        .expect("docs/decisions")
        .filter_map(|e| e.ok()?.file_name().to_str()?.get(..4)?.parse().ok())
        .collect();
    numbers.sort_unstable();
    assert!(numbers.len() > 5 && numbers.windows(2).all(|two| two[0] < two[1]), "{numbers:?}");
}

#[test]
fn examples_are_small() {
    /// Lines of an example's Rust at most, its tests aside.
    const EXAMPLE_LINES_MAX: usize = 100;
    let files = sources("examples").into_iter().filter(|(name, _)| name.contains("/src/"));
    let faults: Vec<String> = files
        .map(|(name, text)| (name, text.lines().count()))
        .filter(|(_, lines)| *lines > EXAMPLE_LINES_MAX)
        .map(|(name, lines)| format!("{name}: {lines} lines"))
        .collect();
    refuse(&faults, "an example is read in one go");
}
