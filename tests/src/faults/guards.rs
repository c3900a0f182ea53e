//! The oracle must be able to fail: each guard of the protocol is taken away in turn, and the suite has to notice.

use super::{Run, run};
use anyhow::Context as _;
use fnhost_types::guard::GUARDS;

/// Each guard with the faults that strike where it protects; the others would only take time.
const AIMED: [(&str, &str); 7] = [
    ("judge", "lose a COMMIT"),
    ("epoch", "judged after a take-over"),
    ("numbers", "kill -9 a host"),
    ("acknowledged", "without acknowledgements"),
    ("fresh-read", "happen in a take-over"),
    ("announcements", "odd records"),
    ("mac", "odd records"),
];

/// What became of a guard.
#[derive(Debug)]
pub struct Tried {
    /// The guard.
    pub guard: &'static str,
    /// What it prevents.
    pub prevents: &'static str,
    /// Seeds that were needed, and what the oracle said first; none: it noticed nothing.
    pub noticed: Option<(u64, String)>,
}

/// Takes each guard away, or those that are named, for up to `seeds` runs from the seed of `base` on.
///
/// # Errors
/// A run could not be made.
pub async fn try_all(base: &Run, seeds: u64, only: &[String]) -> anyhow::Result<Vec<Tried>> {
    let mut tried = Vec::new();
    for (guard, prevents) in GUARDS {
        if !only.is_empty() && !only.iter().any(|name| name == guard) {
            continue;
        }
        println!("without {guard}: {prevents}");
        let mut noticed = None;
        for number in 1..=seeds {
            let mut without = base.clone();
            let aimed = AIMED.iter().find(|(name, _)| *name == guard);
            without.scale.only = aimed.context("every guard has its faults")?.1;
            without.seed = base.seed + number - 1;
            without.world.guard_off = Some(guard.to_owned());
            without.keep = base.keep.join(format!("without-{guard}-{}", without.seed));
            let findings = run(&without).await?;
            println!("{findings}");
            if let Some(first) = findings.faults().first() {
                noticed = Some((number, first.clone()));
                break;
            }
        }
        tried.push(Tried { guard, prevents, noticed });
    }
    Ok(tried)
}

/// The table of what was noticed, as it stands in docs/faults.md.
#[must_use]
pub fn table(tried: &[Tried]) -> String {
    let mut text = "| guard | without it | seeds | the oracle |\n|---|---|---|---|\n".to_owned();
    for Tried { guard, prevents, noticed } in tried {
        let (seeds, said) = noticed
            .as_ref()
            .map_or(("-".to_owned(), "noticed nothing"), |(seeds, said)| (seeds.to_string(), said));
        let said: String = said.lines().next().unwrap_or_default().chars().take(160).collect();
        text += &format!("| `{guard}` | {prevents} | {seeds} | {said} |\n");
    }
    text
}
