//! Properties: whatever the text is, it is read or refused with a message.

use super::GOOD;
use crate::Manifest;
use crate::hosts::AllowedHosts;
use crate::keys::Keys;
use crate::route::Pattern;
use crate::start::Start;
use crate::variables::{Template, valid_name};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use std::path::Path;

/// How many manifests are tried, each with a few changes.
const CASES: u32 = 1_000;

fn config() -> ProptestConfig {
    // Nothing is written into the checkout: the smallest case that fails is printed.
    ProptestConfig { cases: CASES, failure_persistence: None, ..ProptestConfig::default() }
}

/// A change of a manifest that leaves most of it as it was.
#[derive(Clone, Debug)]
enum Change {
    /// Of a line's value.
    Value(String),
    Repeat,
    Remove,
    Cut,
    Insert(String),
}

fn value() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<i64>().prop_map(|number| number.to_string()),
        any::<f64>().prop_map(|number| number.to_string()),
        "\"[ -~]{0,24}\"",
        "\"\\{\\{ ?[a-z_]{0,8} ?\\}{0,3}\"",
        "'[^']{0,12}'",
        "\\[([0-9]{1,3}|\"[a-z/.:{}*]{0,12}\")(, \"[a-z]{0,4}\")?\\]",
        "\\{ ?([a-z_]{1,12} = (true|1|\"x\"))? ?\\}",
        any::<String>(),
    ]
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        4 => value().prop_map(Change::Value),
        1 => Just(Change::Repeat),
        2 => Just(Change::Remove),
        1 => Just(Change::Cut),
        1 => any::<String>().prop_map(Change::Insert),
    ]
}

fn manifest() -> impl Strategy<Value = String> {
    vec((any::<Index>(), change()), 1..5).prop_map(|changes| {
        let mut lines: Vec<String> = GOOD.lines().map(str::to_owned).collect();
        for (at, change) in changes {
            let at = at.index(lines.len());
            match change {
                Change::Value(value) => {
                    if let Some((key, _)) = lines[at].split_once('=') {
                        lines[at] = format!("{key}= {value}");
                    }
                }
                Change::Repeat => lines.insert(at, lines[at].clone()),
                Change::Remove => lines[at].clear(),
                Change::Cut => lines[at] = lines[at].chars().take(7).collect(),
                Change::Insert(text) => lines.insert(at, text),
            }
        }
        lines.join("\n")
    })
}

fn read(text: &str) -> Result<(), TestCaseError> {
    if let Err(error) = Manifest::parse(Path::new("spin.toml"), text) {
        prop_assert!(!error.to_string().is_empty());
    }
    Ok(())
}

#[test]
fn what_is_changed_is_a_manifest() {
    Manifest::parse(Path::new("spin.toml"), GOOD)
        .expect("or every change of it is refused for the same reason");
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn a_manifest_with_changes_is_read_or_refused(text in manifest()) {
        read(&text)?;
    }

    #[test]
    fn any_text_is_read_or_refused(text in prop_oneof![any::<String>(), "[a-z_.\\[\\]{}=\" \n0-9]{0,200}"]) {
        read(&text)?;
    }

    #[test]
    fn a_route_covers_what_it_matches(
        text in prop_oneof!["(/([a-z]{1,4}|:[a-z]{1,4})){0,4}(/\\.\\.\\.)?", any::<String>()], segment in "[a-z]{1,6}"
    ) {
        let Ok(route) = Pattern::parse(&text) else { return Ok(()) };
        prop_assert_eq!(route.raw(), text.as_str());
        let path: Vec<&str> =
            route.prefix().split('/').map(|part| if part.starts_with(':') { &segment } else { part }).collect();
        let path = path.join("/");
        let path = if path.is_empty() { "/".to_owned() } else { path };
        prop_assert_eq!(route.covers(&path), route.matches(&path).is_some());
    }

    #[test]
    fn any_path_is_covered_or_not(path in any::<String>()) {
        let route = Pattern::parse("/a/:b/...").expect("a route");
        prop_assert_eq!(route.covers(&path), route.matches(&path).is_some());
    }

    #[test]
    fn any_template_is_read_or_refused(text in prop_oneof![any::<String>(), "([a-z]{0,3}\\{{0,3} ?[a-z_]{0,6} ?\\}{0,3}){0,4}"]) {
        if let Ok(template) = Template::parse(&text) {
            prop_assert_eq!(template.literal().is_some(), template.variables().next().is_none());
            prop_assert!(text.contains("{{") || template.literal() == Some(&text));
            let _ = template.variables().filter(|name| valid_name(name)).count();
        }
    }

    #[test]
    fn any_host_key_set_and_start_is_read_or_refused(
        text in prop_oneof![any::<String>(), "[a-z*+]{0,8}://[a-z*.:0-9\\[\\]/{}]{0,24}"], host in any::<String>()
    ) {
        if let Ok(allowed) = AllowedHosts::parse("c", [&text]) {
            let _ = allowed.allows("https", &host, 443);
        }
        let _ = (Keys::parse(&text), text.parse::<Start>());
    }
}
