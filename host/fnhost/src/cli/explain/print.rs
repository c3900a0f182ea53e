//! The fate for people.

use super::{Explained, Story, Unsent};

/// Prints one record with all that is known of it.
pub(super) fn record(story: &Story) {
    for explained in &story.records {
        println!("{}", place(explained));
        match &explained.record {
            None => println!("  no longer in the log"),
            Some(record) => {
                let from = record.stream.as_deref().zip(record.seq);
                let lines = [
                    ("time", record.time.clone()),
                    ("key", record.key.clone()),
                    ("type", record.kind.clone()),
                    ("size", Some(format!("{} bytes", record.size))),
                    ("number", from.map(|(stream, seq)| format!("{seq} of {stream}"))),
                    ("version", record.version.clone()),
                    ("trace", record.trace_id.clone()),
                ];
                for (name, value) in lines {
                    println!("  {name:<8} {}", value.as_deref().map_or("-".into(), printable));
                }
            }
        }
        if explained.fates.is_empty() {
            println!("no trigger consumes this topic");
        }
        for (trigger, fate) in &explained.fates {
            println!("{trigger:<10} {}", printable(&fate.sentence()));
        }
    }
    unsent(&story.unsent);
    incomplete(story);
}

/// Prints a line for each record of a key.
pub(super) fn story(story: &Story) {
    let width = story.records.iter().map(|explained| place(explained).len()).max().unwrap_or_default();
    for explained in &story.records {
        let record = explained.record.as_ref();
        let time = record.and_then(|record| record.time.as_deref()).unwrap_or("-");
        let kind = record.and_then(|record| record.kind.as_deref()).map_or("-".into(), printable);
        let fates: Vec<String> =
            explained.fates.iter().map(|(trigger, fate)| format!("{trigger} {}", fate.word())).collect();
        let fates = if fates.is_empty() { "no trigger consumes it".into() } else { fates.join(", ") };
        println!("{time:<24}  {kind:<24}  {:<width$}  {fates}", place(explained));
    }
    unsent(&story.unsent);
    incomplete(story);
}

fn place(explained: &Explained) -> String {
    format!("{}/{}/{}", explained.topic, explained.partition, explained.offset)
}

fn unsent(unsent: &[Unsent]) {
    for message in unsent {
        let kind = message.kind.as_deref().map_or("a message".into(), printable);
        let age = message.age_ms.map_or_else(String::new, |age| format!(", committed {age} ms ago"));
        match message.seq {
            Some(seq) => println!(
                "outbox     {kind} for {}, number {seq} of {}{age}: may not be in Kafka yet",
                message.topic, message.from
            ),
            None => {
                println!("outbox     {kind} for {}: waiting for the relay of {}", message.topic, message.from)
            }
        }
    }
}

fn incomplete(story: &Story) {
    for partition in &story.incomplete {
        eprintln!("fnhost: {partition} was not read completely; pass a later time with --since");
    }
}

/// Text of a record or a function, without what would move a terminal's cursor.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}
