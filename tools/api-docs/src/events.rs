//! Schemas of what is said of events: their values, and what of them is pushed.

use crate::manifest::LiveRoute;
use contract::event::Event;
use fnhost_sdk::openapi::{Described, Schemas};
use serde_json::{Map, Value, json};

/// What an event's payload says of the order's status, where that is always the same.
const STATUSES: [(&str, &[&str]); 4] = [
    ("order.confirmed", &["CONFIRMED"]),
    ("order.rejected", &["REJECTED", "PAYMENT_FAILED"]),
    ("order.cancelled", &["CANCELLED"]),
    ("order.expired", &["EXPIRED"]),
];

/// The value of an event as one schema that stands alone.
pub fn payload(event: &Described) -> Value {
    let mut schemas = event.schemas.clone();
    let mut schema = schemas.remove(&event.payload).unwrap_or_default();
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema".into();
    schema["$id"] = format!("urn:orders:event:{}", event.event_type).into();
    schema["title"] = event.event_type.into();
    if let Some((_, statuses)) = STATUSES.iter().find(|(name, _)| *name == event.event_type) {
        schema["properties"]["status"] = json!({ "type": "string", "enum": statuses });
    }
    settle(&mut schema, &schemas);
    schema
}

/// Optional fields are left out and never null, and what a schema refers to stands in it: what `#` is within a schema with an
/// `$id`, readers of AsyncAPI and of JSON Schema do not agree on.
fn settle(schema: &mut Value, schemas: &Schemas) {
    match schema {
        Value::Object(fields) => {
            if let Some(Value::String(reference)) = fields.remove("$ref") {
                let name = reference.rsplit('/').next().unwrap_or_default();
                let mut whole = schemas.get(name).cloned().unwrap_or_default();
                whole["title"] = name.into();
                // What is said beside a reference is of this place.
                std::mem::take(fields).into_iter().for_each(|(key, said)| whole[key] = said);
                *schema = whole;
                return settle(schema, schemas);
            }
            if let Some(Value::Array(types)) = fields.get_mut("type") {
                types.retain(|name| name != "null");
                let only = types.remove(0);
                fields.insert("type".to_owned(), only);
            }
            if let Some(Value::Array(choices)) = fields.get("oneOf")
                && let [null, only] = &choices[..]
                && null["type"] == "null"
            {
                *schema = only.clone();
                return settle(schema, schemas);
            }
            let inner = schema.as_object_mut().into_iter().flat_map(Map::values_mut);
            inner.for_each(|inner| settle(inner, schemas));
        }
        Value::Array(values) => values.iter_mut().for_each(|inner| settle(inner, schemas)),
        _ => {}
    }
}

/// The schema of what a live route sends of a record, and of what that refers to.
pub fn live(push: &LiveRoute) -> Schemas {
    let events: Vec<_> = Event::described()
        .into_iter()
        .filter(|event| push.topics.iter().any(|topic| topic == event.topic))
        .collect();
    let mut schemas: Schemas = events.iter().flat_map(|event| event.schemas.clone()).collect();
    let mut fields = Map::new();
    for event in &events {
        let properties = schemas[&event.payload]["properties"].as_object().cloned().unwrap_or_default();
        fields.extend(properties.into_iter().filter(|(name, _)| push.fields.contains(name)));
    }
    let types: Vec<_> = events.iter().map(|event| event.event_type).collect();
    schemas.retain(|name, _| ["Money", "OrderStatus"].contains(&name.as_str()));
    let schema = json!({
        "type": "object",
        "description": "An event of an order, as it is pushed.",
        "required": ["topic", "type", "time", "data"],
        "properties": {
            "topic": { "type": "string", "enum": push.topics },
            "type": { "type": "string", "enum": types },
            "time": { "type": "string", "format": "date-time" },
            "data": { "type": "object", "properties": fields },
        },
    });
    schemas.insert("LiveEvent".to_owned(), schema);
    schemas
}
