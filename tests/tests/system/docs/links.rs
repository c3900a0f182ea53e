//! Links between documents lead somewhere, anchors included.

use super::checkout::{Document, documents, refuse, root};
use std::path::Path;

/// The anchor of a heading, as GitHub makes it.
fn anchor(heading: &str) -> String {
    let kept = heading.trim().chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
    kept.map(|c| if c == ' ' { '-' } else { c.to_ascii_lowercase() }).collect()
}

fn anchors(document: &Document) -> Vec<String> {
    let headings = document.prose().into_iter().filter(|(_, line)| line.starts_with('#'));
    headings.map(|(_, line)| anchor(line.trim_start_matches('#'))).collect()
}

/// Targets of `[text](target)` in a line.
fn targets(line: &str) -> Vec<&str> {
    line.split("](").skip(1).filter_map(|rest| rest.split(')').next()).collect()
}

#[test]
fn links_lead_somewhere() {
    let documents = documents();
    let mut faults = Vec::new();
    let mut checked = 0;
    for document in &documents {
        for (number, line) in document.prose() {
            for target in targets(line).into_iter().filter(|target| !target.contains("://")) {
                checked += 1;
                let (path, wanted) = target.split_once('#').unwrap_or((target, ""));
                let folder = Path::new(&document.name).parent().expect("a folder");
                let path = if path.is_empty() { document.name.clone().into() } else { folder.join(path) };
                let Ok(full) = root().join(&path).canonicalize() else {
                    faults.push(format!("{}:{number}: there is no {}", document.name, path.display()));
                    continue;
                };
                let of = |other: &&Document| root().join(&other.name) == full;
                let known = documents.iter().find(of).map(anchors).unwrap_or_default();
                if !wanted.is_empty() && !known.iter().any(|anchor| anchor == wanted) {
                    faults.push(format!("{}:{number}: no heading has the anchor of {target}", document.name));
                }
            }
        }
    }
    assert!(checked > 50, "only {checked} links were found");
    refuse("links of the documents", &faults);
}

#[test]
fn headings_have_one_anchor_each() {
    let mut faults = Vec::new();
    // A changelog repeats its headings for each version.
    for document in documents().iter().filter(|document| document.name != "CHANGELOG.md") {
        let mut anchors = anchors(document);
        anchors.sort();
        let twice = anchors.windows(2).filter(|two| two[0] == two[1]);
        faults.extend(twice.map(|two| format!("{}: #{}", document.name, two[0])));
    }
    refuse("headings that a link cannot tell apart", &faults);
}
