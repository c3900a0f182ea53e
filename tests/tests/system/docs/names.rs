//! Files, tests, settings and constants that the documents name are there.

use super::checkout::{Document, documents, refuse, root, sources};
use std::collections::HashSet;

/// Names that documents use and that stand in no source of ours: a socket's option.
const FOREIGN: [&str; 1] = ["TCP_NODELAY"];

/// Documents that speak of the present. A changelog also names what is gone.
fn of_the_present() -> Vec<Document> {
    documents().into_iter().filter(|document| document.name != "CHANGELOG.md").collect()
}

/// Runs of letters, digits and underscores.
fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').filter(|word| !word.is_empty())
}

/// True for a name that can stand in code alone: `a_full_pool_waits`, `MAX_LINE_BYTES`.
fn is_of_code(word: &str) -> bool {
    let underscores = word.matches('_').count();
    let upper = word.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_');
    let lower = word.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    !word.ends_with('_')
        && !word.starts_with('_')
        && ((upper && underscores >= 1) || (lower && underscores >= 2))
}

#[test]
fn names_in_backticks_are_in_the_code() {
    let sources = sources();
    let known: HashSet<&str> = sources.iter().flat_map(|(_, text)| words(text)).collect();
    let mut faults = Vec::new();
    let mut checked = 0;
    for document in of_the_present() {
        for (number, span) in document.spans() {
            for word in words(&span).filter(|word| is_of_code(word) && !FOREIGN.contains(word)) {
                checked += 1;
                // Spin's variables are named by ours.
                let bare = word.strip_prefix("SPIN_VARIABLE_").map(str::to_lowercase);
                let is_known = |name: &str| known.contains(name);
                if !is_known(word) && !bare.as_deref().is_some_and(is_known) {
                    faults.push(format!("{}:{number}: {word}", document.name));
                }
            }
        }
    }
    assert!(checked > 200, "only {checked} names were found");
    refuse("names that nothing has", &faults);
}

#[test]
fn files_in_backticks_are_there() {
    let (root, sources) = (root(), sources());
    let top: HashSet<String> = std::fs::read_dir(&root)
        .expect("the checkout")
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name != "target" && root.join(name).is_dir())
        .collect();
    let mut faults = Vec::new();
    let mut checked = 0;
    for document in of_the_present() {
        for (number, span) in document.spans() {
            // A pattern names no file, and neither does a word for any component.
            let of_ours = |path: &&str| path.split_once('/').is_some_and(|(first, _)| top.contains(first));
            let named = |path: &&str| !path.contains(['<', '*', '…']) && !path.ends_with("/ID");
            for path in span.split_whitespace().filter(of_ours).filter(named) {
                checked += 1;
                // A path of a reader's own project is there in an example or the template.
                let is_theirs = || sources.iter().any(|(name, _)| name.ends_with(&format!("/{path}")));
                if !root.join(path).exists() && !is_theirs() {
                    faults.push(format!("{}:{number}: {path}", document.name));
                }
            }
        }
    }
    assert!(checked > 50, "only {checked} paths were found");
    refuse("files that are not there", &faults);
}
