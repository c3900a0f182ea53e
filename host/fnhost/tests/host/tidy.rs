//! Holds the tree to the invariants of ARCHITECTURE.md that a text search can judge.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::support::checkout;

/// Lines of a source file at most, its tests included.
const FILE_LINES_MAX: usize = 400;
/// Folders with Rust sources that are written by hand.
const SOURCES: [&str; 8] = ["host", "sdk", "functions", "examples", "templates", "tools", "tests", "bench"];

/// Rust files below `folder`, with their texts; paths are relative to the checkout.
fn sources(folder: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut folders = vec![checkout().join(folder)];
    while let Some(folder) = folders.pop() {
        for path in entries(&folder) {
            if path.is_dir() && !path.ends_with("target") && !path.ends_with("node_modules") {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let text = std::fs::read_to_string(&path).expect("a source file");
                found.push((relative(&path), text));
            }
        }
    }
    assert!(!found.is_empty(), "{folder} has no sources: was it renamed?");
    found
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).expect("a folder");
    entries.map(|entry| entry.expect("an entry").path()).collect()
}

fn relative(path: &Path) -> String {
    path.strip_prefix(checkout()).expect("below the checkout").to_string_lossy().into_owned()
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

/// What a package depends on, by the name of the section.
fn dependencies(package: &Path, section: &str) -> BTreeSet<String> {
    let text = std::fs::read_to_string(package.join("Cargo.toml")).expect("a package");
    let manifest: toml::Table = text.parse().expect("TOML");
    let listed = manifest.get(section).and_then(toml::Value::as_table);
    listed.into_iter().flat_map(|table| table.keys().cloned()).collect()
}

/// The folders of the runtime's crates with the crates that each may import, as the table of ARCHITECTURE.md says.
fn crate_table() -> BTreeMap<String, BTreeSet<String>> {
    let text = std::fs::read_to_string(checkout().join("ARCHITECTURE.md")).expect("ARCHITECTURE.md");
    let rows = text.lines().filter_map(|line| line.strip_prefix("| `host/"));
    let mut table = BTreeMap::new();
    for row in rows {
        let columns: Vec<&str> = row.split('|').collect();
        let (folder, may) = (columns[0].trim().trim_end_matches('`'), columns[2].trim());
        let named = may.split(", ").filter(|name| *name != "none of ours").map(str::to_owned);
        table.insert(folder.to_owned(), named.collect());
    }
    table
}

#[test]
fn no_crate_imports_more_than_its_row_in_architecture_says() {
    let table = crate_table();
    let folders =
        entries(&checkout().join("host")).into_iter().filter(|path| path.join("Cargo.toml").is_file());
    let mut faults = Vec::new();
    let mut crates = BTreeSet::new();
    for folder in folders {
        let name = folder.file_name().expect("a name").to_string_lossy().into_owned();
        let Some(may) = table.get(&name) else {
            faults.push(format!("host/{name} has no row"));
            continue;
        };
        for dependency in dependencies(&folder, "dependencies") {
            let Some(other) = dependency.strip_prefix("fnhost-") else { continue };
            if !may.contains(other) {
                faults.push(format!("host/{name} imports {other}"));
            }
        }
        crates.insert(name);
    }
    faults.extend(
        table.keys().filter(|name| !crates.contains(*name)).map(|name| format!("there is no host/{name}")),
    );
    refuse(&faults, "the crate graph is the table in ARCHITECTURE.md");
}

#[test]
fn the_sdk_and_the_examples_know_nothing_of_the_runtime_or_the_shop() {
    let mut packages = entries(&checkout().join("examples"));
    packages.push(checkout().join("sdk"));
    let mut faults = Vec::new();
    for package in packages.iter().filter(|path| path.join("Cargo.toml").is_file()) {
        for dependency in dependencies(package, "dependencies") {
            let ours = dependency.starts_with("fnhost") || dependency == "contract";
            if ours && (dependency != "fnhost-sdk" || package.ends_with("sdk")) {
                faults.push(format!("{} depends on {dependency}", relative(package)));
            }
        }
    }
    refuse(&faults, "what is copied by others depends on the SDK alone");
}

#[test]
fn the_engine_runs_without_what_a_daemon_needs() {
    let foreign = ["rdkafka", "clap", "axum", "tracing-subscriber"];
    let mut faults = Vec::new();
    let mut reached = BTreeSet::from(["engine".to_owned()]);
    let mut left = vec!["engine".to_owned()];
    while let Some(name) = left.pop() {
        for dependency in dependencies(&checkout().join("host").join(&name), "dependencies") {
            if foreign.contains(&dependency.as_str()) {
                faults.push(format!("host/{name} depends on {dependency}"));
            }
            if let Some(other) = dependency.strip_prefix("fnhost-")
                && reached.insert(other.to_owned())
            {
                left.push(other.to_owned());
            }
        }
    }
    faults.extend(reached.contains("embedded").then(|| "private servers are reached".to_owned()));
    refuse(&faults, "fnhost-engine is embedded by other programs");
}

#[test]
fn only_the_kafka_module_names_rdkafka() {
    refuse(
        &places("rdkafka::", "host", &["host/kafka/", "host/fnhost/tests/"]),
        "rdkafka outside of host/kafka",
    );
    let crates =
        entries(&checkout().join("host")).into_iter().filter(|path| path.join("Cargo.toml").is_file());
    let named = crates.filter(|path| dependencies(path, "dependencies").contains("rdkafka"));
    let named: Vec<String> = named.map(|path| relative(&path)).collect();
    assert_eq!(named, ["host/kafka"]);
}

#[test]
fn the_hosts_sql_is_in_one_place() {
    refuse(
        &places(
            "sqlx::query",
            "host",
            &["host/db/", "host/capabilities/src/postgres/", "host/fnhost/tests/", "host/tests/"],
        ),
        "SQL outside of host/db",
    );
}

/// Folders below a crate's `src` that its files in `folder` name.
fn named_folders(folder: &str, text: &str, folders: &BTreeSet<String>) -> BTreeSet<String> {
    let mut named = BTreeSet::new();
    for (_, line) in code(text) {
        for (start, _) in line.match_indices("crate::").chain(line.match_indices("super::")) {
            let path = line[start..].trim_start_matches("crate::").trim_start_matches("super::");
            let first: String = path.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            if first != folder && folders.contains(&first) {
                named.insert(first);
            }
        }
    }
    named
}

#[test]
fn no_two_folders_of_a_crate_import_each_other() {
    let mut faults = Vec::new();
    let crates = entries(&checkout().join("host")).into_iter().map(|path| path.join("src"));
    for root in crates.chain([checkout().join("sdk/src")]).filter(|path| path.is_dir()) {
        let prefix = format!("{}/", relative(&root));
        let files = sources(&relative(&root));
        let folder_of =
            |name: &str| name.strip_prefix(&prefix)?.split_once('/').map(|(folder, _)| folder.to_owned());
        let folders: BTreeSet<String> = files.iter().filter_map(|(name, _)| folder_of(name)).collect();
        let mut edges: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (name, text) in files.iter().filter(|(name, _)| !name.contains("tests")) {
            if let Some(folder) = folder_of(name) {
                edges.entry(folder.clone()).or_default().extend(named_folders(&folder, text, &folders));
            }
        }
        for folder in &folders {
            let mut reached = BTreeSet::new();
            let mut left: Vec<&String> = edges.get(folder).into_iter().flatten().collect();
            while let Some(next) = left.pop() {
                if reached.insert(next) {
                    left.extend(edges.get(next).into_iter().flatten());
                }
            }
            if reached.contains(folder) {
                faults.push(format!("{prefix}{folder} is part of a circle: {:?}", edges[folder]));
            }
        }
    }
    refuse(&faults, "no circle between the folders of a crate");
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
fn every_file_says_what_it_is_for() {
    let files = SOURCES.into_iter().flat_map(sources);
    let faults: Vec<String> =
        files.filter(|(_, text)| !text.starts_with("//!")).map(|(name, _)| name).collect();
    refuse(&faults, "files begin with a `//!` line");
}

#[test]
fn files_stay_readable() {
    let faults: Vec<String> = SOURCES
        .into_iter()
        .flat_map(sources)
        .map(|(name, text)| (name, text.lines().count()))
        .filter(|(_, lines)| *lines > FILE_LINES_MAX)
        .map(|(name, lines)| format!("{name}: {lines} lines"))
        .collect();
    refuse(&faults, "files have at most 400 lines");
}

#[test]
fn docstrings_say_something() {
    let faults: Vec<String> = SOURCES
        .into_iter()
        .flat_map(sources)
        .flat_map(|(name, text)| {
            let lines = text.lines().enumerate().filter(|(_, line)| {
                let doc = line.trim_start().strip_prefix("/// ");
                doc.is_some_and(|doc| ["Which.", "Why.", "Whose.", "When.", "Where."].contains(&doc))
            });
            lines.map(|(n, line)| format!("{name}:{}: {}", n + 1, line.trim())).collect::<Vec<_>>()
        })
        .collect();
    refuse(&faults, "a docstring says what a reader does not see");
}

#[test]
fn decisions_have_numbers_of_their_own() {
    let mut numbers: Vec<u32> = entries(&checkout().join("docs/decisions"))
        .iter()
        .filter_map(|path| path.file_name()?.to_str()?.get(..4)?.parse().ok())
        .collect();
    numbers.sort_unstable();
    assert!(numbers.len() > 5 && numbers.windows(2).all(|two| two[0] < two[1]), "{numbers:?}");
}

#[test]
fn examples_are_small() {
    /// Lines of an example's Rust at most, its tests aside.
    const EXAMPLE_LINES_MAX: usize = 100;
    let files = sources("examples").into_iter().filter(|(name, _)| name.contains("/src/"));
    let files = files.chain(sources("host/engine/examples"));
    let faults: Vec<String> = files
        .map(|(name, text)| (name, text.lines().count()))
        .filter(|(_, lines)| *lines > EXAMPLE_LINES_MAX)
        .map(|(name, lines)| format!("{name}: {lines} lines"))
        .collect();
    refuse(&faults, "an example is read in one go");
}
