//! The line on the terminal for each event that a dispatch or a relay has committed.
//!
//! For people who watch a system work: under load lines are left out, and how many is said once a second.

use fnhost_types::log::{self, LogFormat};
use fnhost_types::outbox::Outgoing;
use fnhost_types::record::VERSION_HEADER;
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Lines in one second at most.
const LINES_PER_SECOND_MAX: u32 = 50;
/// Messages of one batch that get a line each; a larger batch gets one for each kind of event.
const LINES_PER_BATCH_MAX: usize = 8;

struct Window {
    began: Instant,
    lines: u32,
    left_out: u32,
}

static WINDOW: Mutex<Option<Window>> = Mutex::new(None);

/// Says what `from`, a trigger or a relay, has emitted, and by which version.
pub fn committed(from: &str, version: &str, messages: &[Outgoing<'_>]) {
    if messages.is_empty() || !tracing::enabled!(tracing::Level::INFO) || !may_write() {
        return;
    }
    if messages.len() <= LINES_PER_BATCH_MAX {
        messages.iter().for_each(|message| one(from, version, message));
        return;
    }
    let mut counts: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for message in messages {
        *counts.entry((message.topic, kind(message))).or_default() += 1;
    }
    for ((topic, kind), count) in counts {
        match log::format() {
            LogFormat::Human => {
                tracing::info!(version, "{kind:<22} {count} events  {from} → {topic}");
            }
            LogFormat::Json => {
                tracing::info!(version, from, topic, r#type = kind, count, "committed");
            }
        }
    }
}

fn one(from: &str, version: &str, message: &Outgoing<'_>) {
    let key = message.key.map_or_else(|| "-".into(), String::from_utf8_lossy);
    let (kind, topic, partition) = (kind(message), message.topic, message.partition);
    // Events of one relay's batch may be of several.
    let own = message.header(VERSION_HEADER).and_then(|version| std::str::from_utf8(version).ok());
    let version = own.unwrap_or(version);
    match log::format() {
        LogFormat::Human => {
            tracing::info!(version, "{kind:<22} {key}  {from} → {topic}/{partition}");
        }
        LogFormat::Json => {
            let trace_id = message.header(fnhost_trace::TRACEPARENT).and_then(fnhost_trace::trace_id);
            tracing::info!(
                version,
                from,
                topic,
                partition,
                key = &*key,
                r#type = kind,
                trace_id,
                "committed"
            );
        }
    }
}

/// The CloudEvents type, where the message has one.
fn kind<'m>(message: &Outgoing<'m>) -> &'m str {
    message.header("ce_type").and_then(|value| std::str::from_utf8(value).ok()).unwrap_or("message")
}

fn may_write() -> bool {
    let mut window = WINDOW.lock().unwrap_or_else(PoisonError::into_inner);
    let now = Instant::now();
    match window.as_mut().filter(|w| now - w.began < Duration::from_secs(1)) {
        Some(current) if current.lines >= LINES_PER_SECOND_MAX => {
            current.left_out += 1;
            false
        }
        Some(current) => {
            current.lines += 1;
            true
        }
        None => {
            let left_out =
                window.replace(Window { began: now, lines: 1, left_out: 0 }).map_or(0, |w| w.left_out);
            if left_out > 0 {
                tracing::info!("… and {left_out} more batches");
            }
            true
        }
    }
}
