//! The file of `fnhost test`: one JSON object a line.

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fnhost_types::wit::{Header, Message};
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;

/// A record of the file.
#[derive(Debug)]
pub struct Record {
    /// Its line, counted from 1.
    pub line: usize,
    /// Topic.
    pub topic: String,
    /// Partition.
    pub partition: i32,
    /// What the function gets.
    pub message: Message,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    topic: String,
    #[serde(default)]
    partition: i32,
    offset: Option<i64>,
    #[serde(default)]
    timestamp_ms: i64,
    #[serde(default)]
    key: Value,
    #[serde(default)]
    value: Value,
    value_base64: Option<String>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    #[serde(default = "first")]
    attempt: u32,
    #[serde(default)]
    last_attempt: bool,
}

fn first() -> u32 {
    1
}

/// Reads the records of a file's text; empty lines and those that begin with `#` are passed over. Offsets count from 0
/// in each partition where they are not given.
///
/// # Errors
/// A line is no record; the message names it.
pub fn read(name: &str, text: &str) -> anyhow::Result<Vec<Record>> {
    let mut next: BTreeMap<(String, i32), i64> = BTreeMap::new();
    let mut records = Vec::new();
    for (line, text) in (1..).zip(text.lines()) {
        if text.trim().is_empty() || text.trim_start().starts_with('#') {
            continue;
        }
        let place = || format!("{name}:{line}");
        let written: Written = serde_json::from_str(text).with_context(|| {
            format!("{}: a record is {{\"topic\":…,\"key\":…,\"value\":…,\"headers\":{{…}}}}", place())
        })?;
        let expected = next.entry((written.topic.clone(), written.partition)).or_default();
        let offset = written.offset.unwrap_or(*expected);
        *expected = offset + 1;
        let value = match (written.value_base64, written.value) {
            (None, value) => bytes(value),
            (Some(encoded), Value::Null) => {
                Some(STANDARD.decode(encoded).with_context(|| format!("{}: value_base64", place()))?)
            }
            (Some(_), _) => anyhow::bail!("{}: set value or value_base64, not both", place()),
        };
        let headers = written.headers.into_iter();
        let headers = headers.map(|(name, value)| Header { name, value: value.into_bytes() }).collect();
        let message = Message {
            offset,
            timestamp_ms: written.timestamp_ms,
            key: bytes(written.key),
            value,
            headers,
            attempt: written.attempt.max(1),
            last_attempt: written.last_attempt,
        };
        records.push(Record { line, topic: written.topic, partition: written.partition, message });
    }
    anyhow::ensure!(!records.is_empty(), "{name} has no records");
    Ok(records)
}

/// A text as it is, anything else as JSON; null is absent.
fn bytes(value: Value) -> Option<Vec<u8>> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(text.into_bytes()),
        other => Some(other.to_string().into_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_records() {
        let text = r#"
# a comment
{"topic":"a","key":"k","value":{"n":1},"headers":{"h":"x"}}
{"topic":"a","key":7,"value":"text","attempt":3,"last_attempt":true}
{"topic":"a","partition":1,"offset":40,"value_base64":"/w=="}
{"topic":"a","partition":1}"#;
        let records = read("f", text).expect("records");
        let told: Vec<_> = records
            .iter()
            .map(|Record { line, partition, message, .. }| {
                let text =
                    |bytes: &Option<Vec<u8>>| bytes.as_ref().map(|b| String::from_utf8_lossy(b).into_owned());
                (*line, *partition, message.offset, text(&message.key), text(&message.value))
            })
            .collect();
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(
            told,
            [
                (3, 0, 0, some("k"), some("{\"n\":1}")),
                (4, 0, 1, some("7"), some("text")),
                (5, 1, 40, None, some("\u{fffd}")),
                (6, 1, 41, None, None),
            ]
        );
        assert_eq!((records[1].message.attempt, records[1].message.last_attempt), (3, true));
        let Header { name, value } = &records[0].message.headers[0];
        assert_eq!((name.as_str(), value.as_slice()), ("h", &b"x"[..]));
    }

    #[test]
    fn a_line_that_is_none_is_named() {
        for (text, part) in [
            ("{\"topic\":\"a\"}\n{\"key\":1}", "f:2: a record is"),
            ("{\"topic\":\"a\",\"valeu\":1}", "unknown field `valeu`"),
            ("{\"topic\":\"a\",\"value\":1,\"value_base64\":\"AA==\"}", "not both"),
            ("\n", "f has no records"),
        ] {
            let error = format!("{:#}", read("f", text).expect_err(text));
            assert!(error.contains(part), "{error}");
        }
    }
}
