//! `./dev` builds xtask before anything else: what it needs has to be what the host is built from, with the same features, or
//! every crate below would be built a second time. And all that the project is built from has to be what `deny.toml` allows.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use xtask::supply;

const CHECKOUT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

/// Each dependency of these packages with its version and features, theirs included.
fn dependencies(packages: &[&str]) -> BTreeSet<String> {
    let output = Command::new(env!("CARGO"))
        .args([
            "tree",
            "--locked",
            "--offline",
            "--edges",
            "normal",
            "--prefix",
            "none",
            "--format",
            "{p} [{f}]",
        ])
        .args(packages.iter().flat_map(|package| ["-p", package]))
        .current_dir(CHECKOUT)
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines = String::from_utf8(output.stdout).expect("text");
    // Packages of this workspace have a folder behind them, those that came before a mark.
    let foreign = lines.lines().filter(|line| !line.contains("(/")).map(|line| line.replace(" (*)", ""));
    foreign.collect()
}

#[test]
fn nothing_is_built_a_second_time_for_the_host() {
    let (ours, hosts) = (dependencies(&["xtask"]), dependencies(&["fnhost", "payment-gateway"]));
    assert!(ours.iter().any(|line| line.starts_with("ring v")), "{ours:?}");
    let twice: Vec<&String> = ours.difference(&hosts).collect();
    assert!(twice.is_empty(), "the host has none of these, or with other features: {twice:#?}");
}

/// Advisories are for `./dev lint`: their database changes while the checkout does not.
#[test]
fn dependencies_are_what_the_project_allows() {
    if let Err(error) = supply::installed() {
        println!("SKIPPED: {error}");
        return;
    }
    // cargo-deny looks at crates of other platforms too, which a build does not fetch.
    let metadata = ["metadata", "--locked", "--offline", "--format-version", "1"];
    let metadata =
        Command::new(env!("CARGO")).args(metadata).current_dir(CHECKOUT).output().expect("cargo runs");
    if !metadata.status.success() {
        println!("SKIPPED: not all crates are there (cargo fetch --locked)");
        return;
    }
    let (allowed, said) = supply::check_offline(Path::new(CHECKOUT), &[]).expect("cargo-deny runs");
    assert!(allowed, "{said}");
    assert!(!said.contains("warning["), "deny.toml has what nothing needs any more: {said}");
    // Without its exceptions something is refused, or the above would say nothing.
    let strict = std::env::temp_dir().join(format!("fnhost-deny-{}.toml", std::process::id()));
    std::fs::write(&strict, "[licenses]\nallow = [\"MIT\"]\n").expect("written");
    let (allowed, said) =
        supply::check_offline(Path::new(CHECKOUT), &["--config", &strict.to_string_lossy()])
            .expect("it runs");
    std::fs::remove_file(&strict).expect("removed");
    assert!(!allowed && said.contains("rejected"), "{said}");
}
