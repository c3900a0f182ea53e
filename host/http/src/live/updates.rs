//! What one client of a live route is sent, in whichever way it is connected.

use super::LIFETIME_MAX;
use super::users::Place;
use crate::hub::{Hub, Pushed, Subscription};
use fnhost_metrics::{LiveMetrics, Raised, StreamEnd, Transport};
use fnhost_types::record::Record;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// How often a quiet stream says that it is there, so that a connection that has died is noticed, and none is closed for idleness.
pub const HEARTBEAT: Duration = Duration::from_secs(15);

/// What a client is sent next.
#[derive(Debug)]
pub(super) enum Update {
    /// The snapshot, or a record.
    Event(Event),
    /// Nothing has come for [`HEARTBEAT`].
    Quiet,
    /// No more.
    End(StreamEnd),
}

/// What a client gets for a record or a snapshot, for both transports.
#[derive(Debug)]
pub(super) struct Event {
    /// `snapshot`, the record's CloudEvents type, or `record`.
    pub kind: String,
    /// Where the client stands after it.
    pub id: String,
    /// JSON, but for a snapshot for which the function answered something else.
    pub data: String,
}

/// The events of one client: a snapshot, then records as they arrive.
pub(super) struct Updates {
    subscription: Subscription,
    hub: Arc<Hub>,
    fields: Option<Arc<[String]>>,
    snapshot: Option<Event>,
    backlog: VecDeque<Arc<Pushed>>,
    ends: Instant,
    stop: CancellationToken,
    counted: Counted,
}

/// The stream as it is counted.
struct Counted {
    metrics: LiveMetrics,
    end: StreamEnd,
    _watching: Raised,
    /// The user's, where it is known.
    _place: Option<Place>,
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.metrics.ended(self.end);
    }
}

impl Updates {
    /// Begins with the snapshot, unless the client goes on where it stood.
    pub fn new(
        mut subscription: Subscription,
        hub: Arc<Hub>,
        fields: Option<Arc<[String]>>,
        snapshot: &[u8],
        stop: CancellationToken,
        (metrics, transport, place): (&LiveMetrics, Transport, Option<Place>),
    ) -> Self {
        let snapshot = (!subscription.resumed).then(|| Event {
            kind: "snapshot".to_owned(),
            id: subscription.cursor.to_string(),
            data: String::from_utf8_lossy(snapshot).into_owned(),
        });
        let backlog = std::mem::take(&mut subscription.backlog).into();
        let ends = Instant::now() + LIFETIME_MAX;
        let _watching = metrics.watches(transport);
        // Until the host ends it, only the client can.
        let counted = Counted { metrics: metrics.clone(), end: StreamEnd::Client, _watching, _place: place };
        Self { subscription, hub, fields, snapshot, backlog, ends, stop, counted }
    }

    /// What is sent next. Nothing is lost where the answer is not awaited to its end.
    pub async fn next(&mut self) -> Update {
        if let Some(snapshot) = self.snapshot.take() {
            return Update::Event(snapshot);
        }
        if let Some(pushed) = self.backlog.pop_front() {
            return Update::Event(self.event(&pushed));
        }
        let end = tokio::select! {
            pushed = self.subscription.next() => match pushed {
                Some(pushed) => return Update::Event(self.event(&pushed)),
                None => StreamEnd::CutOff,
            },
            () = tokio::time::sleep(HEARTBEAT) => return Update::Quiet,
            () = tokio::time::sleep_until(self.ends) => StreamEnd::Lifetime,
            () = self.stop.cancelled() => StreamEnd::Stopped,
        };
        self.counted.end = end;
        Update::End(end)
    }

    /// Cancelled when the host stops.
    pub fn stop(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// A record as an event; the client's cursor moves past it.
    fn event(&mut self, pushed: &Pushed) -> Event {
        self.subscription.cursor.pass(pushed);
        let record = &pushed.record;
        let kind = text_header(record, "ce_type").unwrap_or("record");
        let data = serde_json::json!({
            "topic": self.hub.topics()[pushed.topic],
            "type": kind,
            "time": text_header(record, "ce_time"),
            "data": record.value.as_deref().map(|value| data(value, self.fields.as_deref())),
        });
        Event { kind: kind.to_owned(), id: self.subscription.cursor.to_string(), data: data.to_string() }
    }
}

/// What clients are sent of a value: JSON as such, anything else as text, and of the latter nothing where fields are named.
fn data(value: &[u8], fields: Option<&[String]>) -> serde_json::Value {
    use serde_json::Value;
    match (serde_json::from_slice(value), fields) {
        (Ok(Value::Object(mut object)), Some(fields)) => {
            object.retain(|name, _| fields.contains(name));
            Value::Object(object)
        }
        (_, Some(_)) => Value::Null,
        (Ok(json), None) => json,
        (Err(_), None) => String::from_utf8_lossy(value).into_owned().into(),
    }
}

/// A header that can stand in a line of a stream.
fn text_header<'r>(record: &'r Record, name: &str) -> Option<&'r str> {
    let text = std::str::from_utf8(record.header(name)?).ok()?;
    text.bytes().all(|byte| byte.is_ascii_graphic()).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_named_fields_are_sent() {
        let fields = ["status".to_owned()];
        let cases: [(&str, Option<&[String]>, serde_json::Value); 5] = [
            (r#"{"status":"A","secret":1}"#, Some(&fields), serde_json::json!({"status": "A"})),
            (r#"{"status":"A","secret":1}"#, None, serde_json::json!({"status": "A", "secret": 1})),
            ("[1]", Some(&fields), serde_json::Value::Null),
            ("not json", Some(&fields), serde_json::Value::Null),
            ("not json", None, "not json".into()),
        ];
        for (value, fields, expected) in cases {
            assert_eq!(data(value.as_bytes(), fields), expected, "{value}");
        }
    }
}
