//! As much of PromQL as it takes to say which metrics and labels a query names.

use std::collections::BTreeSet;

/// What a query names.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Named {
    /// Metrics, each with the labels that its selector compares.
    pub metrics: Vec<(String, BTreeSet<String>)>,
    /// Labels that are grouped or joined by.
    pub grouped: BTreeSet<String>,
}

/// Words after which a list of labels stands in brackets.
const GROUPING: [&str; 6] = ["by", "without", "on", "ignoring", "group_left", "group_right"];

/// Reads a query. A name that stands before a bracket or a grouping is a function, one before a brace or alone is a metric.
///
/// # Panics
/// Where a brace or a string has no end: then it is no query.
#[must_use]
pub fn named(query: &str) -> Named {
    let mut named = Named::default();
    let tokens = tokens(query);
    let mut at = 0;
    while at < tokens.len() {
        let token = tokens[at].as_str();
        let next = tokens.get(at + 1).map(String::as_str);
        at += 1;
        if token == "[" {
            // A range, which may hold letters.
            at = end(&tokens, at, "]");
        } else if GROUPING.contains(&token) {
            if next == Some("(") {
                let close = end(&tokens, at, ")");
                let labels = tokens[at + 1..close].iter().filter(|t| is_name(t));
                named.grouped.extend(labels.cloned());
                at = close;
            }
        } else if is_name(token)
            && !matches!(next, Some("(" | "by" | "without"))
            && !["and", "or", "unless", "bool", "offset"].contains(&token)
        {
            let mut labels = BTreeSet::new();
            if next == Some("{") {
                let close = end(&tokens, at, "}");
                labels.extend(tokens[at + 1..close].iter().filter(|t| is_name(t)).cloned());
                at = close;
            }
            named.metrics.push((token.to_owned(), labels));
        }
    }
    named
}

fn end(tokens: &[String], from: usize, close: &str) -> usize {
    let length = tokens[from..].iter().position(|token| token == close);
    from + length.unwrap_or_else(|| panic!("no {close} in {tokens:?}"))
}

fn is_name(token: &str) -> bool {
    token.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
}

/// Names, strings, and every other character for itself. Numbers with a unit are one token.
fn tokens(query: &str) -> Vec<String> {
    let part = |c: char| c.is_ascii_alphanumeric() || "_:.".contains(c);
    let mut tokens = Vec::new();
    let mut rest = query.trim_start();
    while let Some(first) = rest.chars().next() {
        let length = if first == '"' {
            2 + rest[1..].find('"').expect("the end of a string")
        } else if part(first) {
            rest.find(|c| !part(c)).unwrap_or(rest.len())
        } else {
            first.len_utf8()
        };
        tokens.push(rest[..length].to_owned());
        rest = rest[length..].trim_start();
    }
    tokens
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_query_names_is_found() {
        let set = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<BTreeSet<_>>();
        let query =
            "histogram_quantile(0.99, sum by (le, route) (rate(a_bucket{x=~\"by (y)\", z!=\"5..\"}[5m])))
            / ignoring(phase) group_left sum(b:c) > 1 and on(x) d offset 5m or vector(0)";
        assert_eq!(
            named(query),
            Named {
                metrics: vec![
                    ("a_bucket".into(), set(&["x", "z"])),
                    ("b:c".into(), set(&[])),
                    ("d".into(), set(&[]))
                ],
                grouped: set(&["le", "route", "phase", "x"]),
            }
        );
    }
}
