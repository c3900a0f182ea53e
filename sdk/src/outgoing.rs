//! Events from HTTP: what a statement inserts into `outgoing_event`, together with the change it tells of.

use crate::event::{self, CloudEvent};
use crate::sql::{Value, unnest};
use crate::time;

/// Events as four arrays for `unnest`.
#[derive(Debug, Default)]
pub struct OutgoingEvents {
    /// Topic, key, value and headers of each.
    rows: Vec<(&'static str, String, String, String)>,
}

impl OutgoingEvents {
    /// These events, with the caller's trace where there is one.
    #[must_use]
    pub fn new<E: CloudEvent>(events: &[E], traceparent: Option<&str>) -> Self {
        let mut ids = time::Ids::new();
        let now = time::now_rfc3339();
        let row = |event: &E| {
            let trace = traceparent.map(str::to_owned);
            let headers: serde_json::Map<_, _> =
                event::headers(event, ids.next().to_string(), now.clone(), trace)
                    .map(|(name, value)| (name.to_owned(), value.into()))
                    .collect();
            let value = String::from_utf8_lossy(&event.to_json()).into_owned();
            (event.topic(), event.key(), value, serde_json::Value::from(headers).to_string())
        };
        Self { rows: events.iter().map(row).collect() }
    }

    /// The arrays as four parameters: topics, keys, values, headers.
    ///
    /// The statement reads them with
    /// `INSERT INTO outgoing_event (topic, key, value, headers) SELECT topic, convert_to(key, 'UTF8'),
    /// convert_to(value, 'UTF8'), headers::jsonb FROM unnest($1::text[], $2::text[], $3::text[], $4::text[])
    /// AS event (topic, key, value, headers)`, and a condition on the change. It is a data-modifying part of the
    /// statement that makes the change, because only those always run.
    #[must_use]
    pub fn into_params(self) -> Vec<Value> {
        unnest(self.rows)
    }
}
