//! The AsyncAPI document: the topics, the events on them, and who sends and receives which.

use crate::events;
use crate::manifest::{Handlers, Manifest};
use contract::event::Event;
use fnhost_sdk::openapi::Described;
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;

const DESCRIPTION: &str = "Events are CloudEvents in Kafka's binary mode: attributes in headers, the payload as JSON in the \
    value. The key is the order's id, so an order's events of a topic are in one partition. Payloads may gain fields: \
    consumers ignore those that they do not know. A record can be on a topic twice; `fnhost-stream` and `fnhost-seq` tell. \
    What cannot be handled goes to `<topic>.dlq` with its bytes and headers.";

/// The whole AsyncAPI document.
#[must_use]
pub fn document(manifest: &Manifest) -> Value {
    let described = Event::described();
    let messages: Map<_, _> =
        described.iter().map(|event| (event.event_type.to_owned(), message(event))).collect();
    let channels: Map<_, _> = manifest
        .application
        .tool
        .fnhost
        .topics
        .iter()
        .map(|(topic, settings)| (topic.clone(), channel(topic, settings.partitions, &described)))
        .collect();
    json!({
        "asyncapi": "3.0.0",
        "id": "urn:orders",
        "info": {
            "title": "Events of orders",
            "version": manifest.application.version,
            "description": DESCRIPTION,
            "license": { "name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0" },
        },
        "defaultContentType": "application/json",
        "servers": { "kafka": {
            "host": "{host}",
            "protocol": "kafka",
            "description": "`--kafka`, or the private Kafka that fnhost starts.",
            "variables": { "host": { "default": "127.0.0.1:9092", "description": "HOST:PORT of a broker." } },
        } },
        "channels": channels,
        "operations": operations(manifest, &described),
        "components": { "messages": messages, "messageTraits": { "cloudEvent": { "contentType": "application/json", "bindings": { "kafka": { "key": { "type": "string", "format": "uuid", "description": "The order's id; of a mail about an account, the account's." } } } } } },
    })
}

fn channel(topic: &str, partitions: u32, described: &[Described]) -> Value {
    let messages: Map<_, _> = described
        .iter()
        .filter(|event| event.topic == topic)
        .map(|event| {
            (
                event.event_type.to_owned(),
                json!({ "$ref": format!("#/components/messages/{}", event.event_type) }),
            )
        })
        .collect();
    json!({ "address": topic, "messages": messages, "bindings": { "kafka": { "topic": topic, "partitions": partitions } } })
}

fn message(event: &Described) -> Value {
    json!({
        "name": event.event_type,
        "title": event.event_type,
        "headers": { "schemaFormat": SCHEMA_FORMAT, "schema": headers(event) },
        "payload": { "schemaFormat": SCHEMA_FORMAT, "schema": events::payload(event) },
        "traits": [{ "$ref": "#/components/messageTraits/cloudEvent" }],
    })
}

/// The dialect of all schemas here; what AsyncAPI takes by itself is an older one.
pub const SCHEMA_FORMAT: &str = "application/schema+json;version=2020-12";

/// The attributes of CloudEvents 1.0, and what fnhost adds.
fn headers(event: &Described) -> Value {
    let text = |description: &str| json!({ "type": "string", "minLength": 1, "description": description });
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": format!("urn:orders:headers:{}", event.event_type),
        "type": "object",
        "required": ["ce_specversion", "ce_id", "ce_type", "ce_source", "ce_time", "ce_subject", "content-type", "fnhost-stream", "fnhost-seq", "fnhost-mac"],
        "properties": {
            "ce_specversion": { "const": "1.0" },
            "ce_id": { "type": "string", "format": "uuid", "description": "The event; one that comes again has the same." },
            "ce_type": { "const": event.event_type },
            "ce_source": { "const": event.source },
            "ce_time": { "type": "string", "format": "date-time" },
            "ce_subject": { "type": "string", "format": "uuid", "description": "The order's id; of a mail about an account, the account's." },
            "content-type": { "const": "application/json" },
            "traceparent": { "type": "string", "pattern": "^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$", "description": "W3C trace context." },
            "fnhost-stream": text("Numbered by fnhost: the stream that the record belongs to."),
            "fnhost-seq": { "type": "string", "pattern": "^[0-9]+$", "description": "Its number in the stream; a lower or equal one was there before." },
            "fnhost-mac": { "type": "string", "pattern": "^[0-9]+:[0-9a-f]{32}$", "description": "By it fnhost knows that the number is its own." },
            "fnhost-version": text("The digest of the component that sent it."),
        },
    })
}

/// What each function sends and receives. An event's source is the function that sends it.
fn operations(manifest: &Manifest, described: &[Described]) -> Value {
    let mut operations = Map::new();
    for (id, component) in &manifest.component {
        let Handlers { database, kafka } = &component.tool.fnhost;
        let sent: BTreeSet<_> =
            kafka.iter().flat_map(|trigger| &trigger.emits).chain(&database.event_topics).collect();
        for topic in sent {
            let source = format!("/{id}");
            let messages = references(topic, described, |event| event.source == source);
            let operation = operation("send", topic, &format!("{id} sends to {topic}."), messages);
            operations.insert(format!("{id}.send.{topic}"), operation);
        }
        for trigger in kafka {
            for topic in &trigger.topics {
                let summary = format!("{id} receives {topic}, in the consumer group {}.", trigger.group);
                let messages = references(topic, described, |_| true);
                let mut operation = operation("receive", topic, &summary, messages);
                operation["bindings"] =
                    json!({ "kafka": { "groupId": { "type": "string", "const": trigger.group } } });
                operations.insert(format!("{id}.receive.{topic}"), operation);
            }
        }
    }
    operations.into()
}

fn operation(action: &str, topic: &str, summary: &str, messages: Vec<Value>) -> Value {
    json!({ "action": action, "channel": { "$ref": format!("#/channels/{topic}") }, "summary": summary, "messages": messages })
}

fn references(topic: &str, described: &[Described], wanted: impl Fn(&Described) -> bool) -> Vec<Value> {
    let of_topic = described.iter().filter(|event| event.topic == topic && wanted(event));
    of_topic
        .map(|event| json!({ "$ref": format!("#/channels/{topic}/messages/{}", event.event_type) }))
        .collect()
}
