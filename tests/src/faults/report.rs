//! What a run found: counts of everything, and a list of what is wrong.

use std::collections::BTreeMap;
use std::fmt;

/// Faults that are printed.
const SHOWN_MAX: usize = 40;

/// What the oracle found. Nothing wrong where [`Findings::faults`] is empty.
#[derive(Debug, Default)]
pub struct Findings {
    counts: Vec<(String, u64)>,
    faults: Vec<String>,
}

impl Findings {
    /// Adds a count.
    pub fn count(&mut self, what: impl Into<String>, count: u64) {
        self.counts.push((what.into(), count));
    }

    /// Adds a count for each kind in a list.
    pub fn count_kinds(&mut self, of: &str, kinds: impl IntoIterator<Item = String>) {
        let mut counts: BTreeMap<String, u64> = BTreeMap::new();
        kinds.into_iter().for_each(|kind| *counts.entry(kind).or_default() += 1);
        self.counts.extend(counts.into_iter().map(|(kind, count)| (format!("{of}{kind}"), count)));
    }

    /// Adds something that is wrong.
    pub fn fault(&mut self, fault: impl Into<String>) {
        self.faults.push(fault.into());
    }

    /// All that is wrong.
    #[must_use]
    pub fn faults(&self) -> &[String] {
        &self.faults
    }
}

impl fmt::Display for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (what, count) in &self.counts {
            writeln!(f, "{count:>10}  {what}")?;
        }
        if self.faults.is_empty() {
            return writeln!(f, "nothing is lost, doubled, oversold or stuck");
        }
        writeln!(f, "WRONG:")?;
        for fault in self.faults.iter().take(SHOWN_MAX) {
            writeln!(f, "  {}", fault.trim_end())?;
        }
        match self.faults.len().checked_sub(SHOWN_MAX) {
            Some(more @ 1..) => writeln!(f, "  and {more} more"),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_has_counts_and_then_what_is_wrong() {
        let mut findings = Findings::default();
        findings.count("orders lost", 0);
        findings.count_kinds("faults: ", ["a", "b", "a"].map(str::to_owned));
        assert!(
            findings
                .to_string()
                .ends_with("         1  faults: b\nnothing is lost, doubled, oversold or stuck\n")
        );
        (0..=SHOWN_MAX).for_each(|number| findings.fault(format!("fault {number}\n")));
        let text = findings.to_string();
        assert!(
            text.contains("         2  faults: a\n") && text.contains("WRONG:\n  fault 0\n  fault 1\n"),
            "{text}"
        );
        assert!(text.ends_with("and 1 more\n"), "{text}");
    }
}
