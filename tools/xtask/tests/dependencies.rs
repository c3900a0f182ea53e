//! `./dev` builds xtask before anything else: what it needs has to be what the host is built from, with the same features, or
//! every crate below would be built a second time.

use std::collections::BTreeSet;
use std::process::Command;

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
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
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
