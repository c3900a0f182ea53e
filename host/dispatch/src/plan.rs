//! What follows from a reply. Pure: items and a reply in, a plan or a breach of the contract out.

use super::CallFailure;
use fnhost_manifest::{OnExhausted, TriggerConfig};
use fnhost_types::record::{HOST_HEADER_PREFIX, Record};
use fnhost_types::wit::{Emit, Outcome, Reply};
use std::collections::HashSet;
use std::time::Duration;

/// A record in hand.
#[derive(Clone, Debug)]
pub struct Item {
    /// The record as it was fetched or parked.
    pub record: Record,
    /// Attempts made before this one.
    pub attempts: u32,
    /// Time since its first attempt; zero before it.
    pub age: Duration,
    /// It runs again by `fnhost replay`, and what it emits is not sent.
    pub silent: bool,
}

impl Item {
    /// A record that was not tried before.
    pub fn new(record: Record) -> Self {
        Self { record, attempts: 0, age: Duration::ZERO, silent: false }
    }

    /// True where failing the coming attempt makes the record a dead letter.
    pub fn is_last_attempt(&self, config: &TriggerConfig) -> bool {
        let attempt = self.attempts + 1;
        attempt >= config.max_attempts || self.age + config.back_off.pause(attempt) > config.max_age
    }
}

/// What becomes of an item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Its effects are in the transaction.
    Done,
    /// Waits for another attempt.
    Retry {
        /// Attempts made, this one included.
        attempts: u32,
        /// What the attempt said.
        reason: String,
        /// Whether the function asked for it; else its call failed.
        asked: bool,
    },
    /// Waits without an attempt charged, because it is not known whether it is to blame.
    SetAside {
        /// How often that was done before.
        times: u32,
        /// What the attempt said.
        reason: String,
    },
    /// Its last attempt failed: it keeps waiting, and its partition is paused.
    Exhausted {
        /// Attempts made, this one included.
        attempts: u32,
        /// What the attempt said.
        reason: String,
    },
    /// Waits behind an earlier record of its key.
    Behind,
    /// Dead letter.
    Dead {
        /// Attempts made, this one included.
        attempts: u32,
        /// What the attempt said.
        reason: String,
    },
}

impl Verdict {
    /// Its name, and why where it is not done.
    pub fn told(&self) -> (&'static str, Option<&str>) {
        match self {
            Self::Done => ("done", None),
            Self::Retry { reason, .. } => ("retry", Some(reason)),
            Self::SetAside { reason, .. } => ("set-aside", Some(reason)),
            Self::Exhausted { reason, .. } => ("exhausted", Some(reason)),
            Self::Behind => ("behind", None),
            Self::Dead { reason, .. } => ("dead", Some(reason)),
        }
    }
}

/// How a reply breaks the contract.
#[derive(Debug, PartialEq, Eq)]
pub enum Breach {
    /// These items (indices of the call) were done although an earlier one of their key was not: rerun with them parked.
    OutOfOrder(Vec<usize>),
    /// The reply makes no sense, as said.
    Malformed(String),
}

/// What a topic takes: the largest message in bytes, or nothing where the trigger may not emit to it.
pub type TopicLimit<'a> = &'a dyn Fn(&str) -> Option<usize>;

/// Judges a reply for `items`, in their order. On success the verdicts are in the items' order and every emit is of a done item.
///
/// # Errors
/// The reply breaks the contract.
pub fn judge(
    items: &[&Item],
    reply: &Reply,
    config: &TriggerConfig,
    topic: TopicLimit<'_>,
) -> Result<Vec<Verdict>, Breach> {
    if reply.outcomes.len() != items.len() {
        return Err(Breach::Malformed(format!(
            "the reply has {} outcomes for {} messages",
            reply.outcomes.len(),
            items.len()
        )));
    }
    let mut waiting: HashSet<&[u8]> = HashSet::new();
    let mut early = Vec::new();
    let mut verdicts = Vec::with_capacity(items.len());
    for (i, (item, outcome)) in items.iter().zip(&reply.outcomes).enumerate() {
        let key = item.record.key.as_deref();
        let blocked = key.is_some_and(|k| waiting.contains(k));
        let verdict = match outcome {
            Outcome::Done if blocked => {
                early.push(i);
                Verdict::Behind
            }
            Outcome::Done => Verdict::Done,
            _ if blocked => Verdict::Behind,
            Outcome::Retry(reason) => again(item, reason, config, true),
            Outcome::Reject(reason) => Verdict::Dead { attempts: item.attempts + 1, reason: reason.clone() },
        };
        if let (Verdict::Retry { .. } | Verdict::Exhausted { .. }, Some(key)) = (&verdict, key) {
            waiting.insert(key);
        }
        verdicts.push(verdict);
    }
    if !early.is_empty() {
        return Err(Breach::OutOfOrder(early));
    }
    for emit in &reply.emits {
        check_emit(emit, &verdicts, topic).map_err(Breach::Malformed)?;
    }
    Ok(verdicts)
}

/// While a version is on trial its word is not the last: what it rejects is tried again, by it or by another.
pub fn spare(reply: &mut Reply) {
    for outcome in &mut reply.outcomes {
        if let Outcome::Reject(reason) = outcome {
            *outcome = Outcome::Retry(std::mem::take(reason));
        }
    }
}

/// The verdict on an item whose call failed.
pub fn failed(item: &Item, reason: &str, config: &TriggerConfig) -> Verdict {
    again(item, reason, config, false)
}

fn again(item: &Item, reason: &str, config: &TriggerConfig, asked: bool) -> Verdict {
    let (attempts, reason) = (item.attempts + 1, reason.to_string());
    if item.is_last_attempt(config) {
        exhausted(attempts, reason, config)
    } else {
        Verdict::Retry { attempts, reason, asked }
    }
}

/// The verdict on an item that is not tried again.
pub fn exhausted(attempts: u32, reason: String, config: &TriggerConfig) -> Verdict {
    match config.on_exhausted {
        OnExhausted::DeadLetter => Verdict::Dead { attempts, reason },
        OnExhausted::Pause => Verdict::Exhausted { attempts, reason },
    }
}

/// Where to split a batch of `len` (at least 2) whose call failed: around the message that the failure names, else in half.
pub fn split(len: usize, failure: &CallFailure) -> Vec<std::ops::Range<usize>> {
    let parts = match failure.message.map(|m| m as usize) {
        Some(at) if at < len => vec![0..at, at..at + 1, at + 1..len],
        _ => vec![0..len / 2, len / 2..len],
    };
    parts.into_iter().filter(|part| !part.is_empty()).collect()
}

/// Bytes that Kafka adds to a record at most (record and batch framing, the host's headers).
pub const FRAMING_MAX_BYTES: usize = 512;

fn check_emit(emit: &Emit, verdicts: &[Verdict], topic: TopicLimit<'_>) -> Result<(), String> {
    match verdicts.get(emit.cause as usize) {
        Some(Verdict::Done) => {}
        Some(_) => {
            return Err(format!(
                "emits to {} because of message {}, which is not done",
                emit.topic, emit.cause
            ));
        }
        None => {
            return Err(format!(
                "emits to {} because of message {}, which the batch does not have",
                emit.topic, emit.cause
            ));
        }
    }
    let Some(max_bytes) = topic(&emit.topic) else {
        return Err(format!("emits to topic {}, which the trigger does not list in `emits`", emit.topic));
    };
    if let Some(header) = emit.headers.iter().find(|h| h.name.starts_with(HOST_HEADER_PREFIX)) {
        return Err(format!(
            "sets header {}; names beginning with {HOST_HEADER_PREFIX} are reserved for the host",
            header.name
        ));
    }
    let headers: usize = emit.headers.iter().map(|h| h.name.len() + h.value.len() + 10).sum();
    let size = emit.key.as_ref().map_or(0, Vec::len)
        + emit.value.as_ref().map_or(0, Vec::len)
        + headers
        + FRAMING_MAX_BYTES;
    if size > max_bytes {
        return Err(format!(
            "emits a message of {size} bytes to {}, which allows at most {max_bytes}",
            emit.topic
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use fnhost_types::wit::Header;

    fn item(key: Option<&str>, attempts: u32) -> Item {
        let record = Record {
            offset: 0,
            timestamp_ms: 0,
            key: key.map(|k| k.as_bytes().to_vec()),
            value: None,
            headers: vec![],
        };
        Item { attempts, ..Item::new(record) }
    }

    fn emit(cause: u32, topic: &str) -> Emit {
        Emit { cause, topic: topic.into(), key: None, value: Some(vec![0; 100]), headers: vec![] }
    }

    fn retry() -> Outcome {
        Outcome::Retry("later".into())
    }

    fn config() -> TriggerConfig {
        TriggerConfig { max_attempts: 3, max_age: Duration::from_secs(3600), ..TriggerConfig::new() }
    }

    fn topics(name: &str) -> Option<usize> {
        (name == "out").then_some(1_000)
    }

    fn verdicts(
        items: &[Item],
        outcomes: Vec<Outcome>,
        emits: Vec<Emit>,
    ) -> Result<Vec<&'static str>, Breach> {
        let items: Vec<&Item> = items.iter().collect();
        let verdicts = judge(&items, &Reply { outcomes, emits }, &config(), &topics)?;
        Ok(verdicts
            .iter()
            .map(|v| match v {
                Verdict::Done => "done",
                Verdict::Retry { .. } => "retry",
                Verdict::SetAside { .. } => "set-aside",
                Verdict::Exhausted { .. } => "exhausted",
                Verdict::Behind => "behind",
                Verdict::Dead { .. } => "dead",
            })
            .collect())
    }

    /// A name, the items, what the function says of each, and what becomes of it.
    type Case = (&'static str, Vec<Item>, Vec<Outcome>, Vec<&'static str>);

    #[test]
    fn outcomes_become_verdicts() {
        let reject = || Outcome::Reject("never".into());
        let cases: Vec<Case> = vec![
            (
                "all done",
                vec![item(Some("a"), 0), item(None, 0)],
                vec![Outcome::Done, Outcome::Done],
                vec!["done", "done"],
            ),
            (
                "later of the key waits uncharged",
                vec![item(Some("a"), 0), item(Some("a"), 0)],
                vec![retry(), retry()],
                vec!["retry", "behind"],
            ),
            (
                "a reject behind a retry waits",
                vec![item(Some("a"), 0), item(Some("a"), 0)],
                vec![retry(), reject()],
                vec!["retry", "behind"],
            ),
            (
                "other keys flow",
                vec![item(Some("a"), 0), item(Some("b"), 0)],
                vec![retry(), Outcome::Done],
                vec!["retry", "done"],
            ),
            (
                "no key, no order",
                vec![item(None, 0), item(None, 0)],
                vec![retry(), Outcome::Done],
                vec!["retry", "done"],
            ),
            ("the last attempt kills", vec![item(Some("a"), 2)], vec![retry()], vec!["dead"]),
            ("the one before does not", vec![item(Some("a"), 1)], vec![retry()], vec!["retry"]),
            (
                "after a dead one its key flows",
                vec![item(Some("a"), 0), item(Some("a"), 0)],
                vec![reject(), Outcome::Done],
                vec!["dead", "done"],
            ),
        ];
        for (name, items, outcomes, expected) in cases {
            assert_eq!(verdicts(&items, outcomes, vec![]).unwrap(), expected, "{name}");
        }
    }

    #[test]
    fn age_ends_a_record_too() {
        let old = Item { age: Duration::from_secs(3600), ..item(Some("a"), 0) };
        assert!(old.is_last_attempt(&config()));
        assert!(!item(Some("a"), 0).is_last_attempt(&config()));
    }

    #[test]
    fn done_after_retry_of_the_same_key_is_out_of_order() {
        let items = [item(Some("a"), 0), item(Some("b"), 0), item(Some("a"), 0)];
        let breach = verdicts(&items, vec![retry(), Outcome::Done, Outcome::Done], vec![]).unwrap_err();
        assert_eq!(breach, Breach::OutOfOrder(vec![2]));
    }

    #[test]
    fn replies_that_make_no_sense_are_malformed() {
        let one = [item(Some("a"), 0)];
        let big = Emit { value: Some(vec![0; 1_000]), ..emit(0, "out") };
        let forged =
            Emit { headers: vec![Header { name: "fnhost-seq".into(), value: vec![] }], ..emit(0, "out") };
        let cases: Vec<(Vec<Outcome>, Vec<Emit>, &str)> = vec![
            (vec![], vec![], "0 outcomes for 1 messages"),
            (vec![Outcome::Done, Outcome::Done], vec![], "2 outcomes for 1 messages"),
            (vec![Outcome::Done], vec![emit(1, "out")], "which the batch does not have"),
            (vec![retry()], vec![emit(0, "out")], "which is not done"),
            (vec![Outcome::Done], vec![emit(0, "elsewhere")], "does not list in `emits`"),
            (vec![Outcome::Done], vec![forged], "are reserved for the host"),
            (vec![Outcome::Done], vec![big], "allows at most 1000"),
        ];
        for (outcomes, emits, expected) in cases {
            match verdicts(&one, outcomes, emits) {
                Err(Breach::Malformed(reason)) => assert!(reason.contains(expected), "{reason}"),
                other => panic!("{expected}: {other:?}"),
            }
        }
        assert!(verdicts(&one, vec![Outcome::Done], vec![emit(0, "out")]).is_ok());
    }

    #[test]
    fn a_failed_batch_is_split_around_the_fault_or_in_half() {
        let failure = |message| CallFailure {
            class: super::super::FailureClass::Function,
            reason: String::new(),
            message,
        };
        assert_eq!(split(5, &failure(None)), vec![0..2, 2..5]);
        assert_eq!(split(5, &failure(Some(2))), vec![0..2, 2..3, 3..5]);
        assert_eq!(split(5, &failure(Some(0))), vec![0..1, 1..5]);
        assert_eq!(split(5, &failure(Some(4))), vec![0..4, 4..5]);
        assert_eq!(split(2, &failure(Some(9))), vec![0..1, 1..2]);
    }

    #[test]
    fn an_exhausted_record_pauses_where_that_is_asked_for() {
        let pausing = TriggerConfig { on_exhausted: OnExhausted::Pause, ..config() };
        let reason = || "later".to_owned();
        assert_eq!(
            failed(&item(Some("a"), 1), "later", &pausing),
            Verdict::Retry { attempts: 2, reason: reason(), asked: false }
        );
        let last = failed(&item(Some("a"), 2), "later", &pausing);
        assert_eq!(last, Verdict::Exhausted { attempts: 3, reason: reason() });
        let (first, next) = (item(Some("a"), 2), item(Some("a"), 0));
        let reply = Reply { outcomes: vec![retry(), retry()], emits: vec![] };
        let verdicts = judge(&[&first, &next], &reply, &pausing, &topics);
        assert_eq!(verdicts, Ok(vec![last, Verdict::Behind]), "its key waits behind it");
    }
}
