//! The documents in `web/api/`: those of today's code, and sound. Whether examples fit their schemas, and records theirs, is
//! asked in `tests/tests/system/api/`.

use contract::event::Event;
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;

fn document(name: &str) -> Value {
    let files = api_docs::files().unwrap();
    let (_, text) = files.iter().find(|(found, _)| *found == name).unwrap();
    serde_json::from_str(text).unwrap()
}

/// Every object in a document, with its path.
fn visit(value: &Value, path: &str, see: &mut impl FnMut(&str, &Value)) {
    see(path, value);
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                visit(value, &format!("{path}/{}", name.replace('~', "~0").replace('/', "~1")), see);
            }
        }
        Value::Array(values) => {
            for (index, value) in values.iter().enumerate() {
                visit(value, &format!("{path}/{index}"), see);
            }
        }
        _ => {}
    }
}

#[test]
fn the_files_are_those_of_today() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../web/api");
    for (name, text) in api_docs::files().unwrap() {
        let found = std::fs::read_to_string(folder.join(name)).unwrap_or_default();
        assert!(found == text, "web/api/{name} is out of date: run ./dev api-docs");
    }
}

#[test]
fn every_reference_leads_somewhere() {
    for name in ["openapi.json", "asyncapi.json"] {
        let document = document(name);
        let mut references = 0;
        visit(&document, "", &mut |path, value| {
            let Some(reference) = value.get("$ref").and_then(Value::as_str) else { return };
            references += 1;
            let pointer = reference.strip_prefix('#').unwrap_or_else(|| panic!("{path}: {reference}"));
            // From the root, also within schemas: what AsyncAPI's own tools go by.
            assert!(document.pointer(pointer).is_some(), "{name}: {path}: {reference}");
        });
        assert!(references > 20, "{name}: {references} references");
    }
}

#[test]
fn ids_of_operations_are_unique_and_refusals_are_problems() {
    let document = document("openapi.json");
    let operations = api_docs::openapi::operations(&document).unwrap();
    let ids: BTreeSet<_> =
        operations.iter().map(|(.., operation)| operation["operationId"].to_string()).collect();
    assert_eq!(ids.len(), operations.len());
    for (method, path, operation) in operations {
        for (status, response) in operation["responses"].as_object().unwrap() {
            let reference = response["$ref"].as_str().and_then(|reference| reference.strip_prefix('#'));
            let response = reference.map_or(response, |pointer| document.pointer(pointer).unwrap());
            let problem = response["content"].get("application/problem+json").is_some();
            assert_eq!(problem, status.as_str() >= "400", "{method} {path}: {status}");
        }
        let signed_in = operation.get("security").is_some();
        assert_eq!(
            signed_in,
            operation["responses"]["401"]["headers"]["www-authenticate"].is_object(),
            "{path}"
        );
    }
}

#[test]
fn every_event_is_on_one_topic_and_has_a_sender_and_a_receiver() {
    let document = document("asyncapi.json");
    let channels = document["channels"].as_object().unwrap();
    for event in Event::TYPES {
        let on: Vec<_> =
            channels.iter().filter(|(_, channel)| channel["messages"].get(event).is_some()).collect();
        assert_eq!(on.len(), 1, "{event}");
        for action in ["send", "receive"] {
            let reference = format!("#/channels/{}/messages/{event}", on[0].0);
            let operations = document["operations"].as_object().unwrap().values();
            let does = |operation: &&Value| {
                let messages = operation["messages"].as_array().unwrap();
                operation["action"] == action && messages.iter().any(|message| message["$ref"] == reference)
            };
            assert!(operations.filter(does).count() >= 1, "nobody does {action} {event}");
        }
    }
}

#[test]
fn an_operation_speaks_of_the_messages_of_its_channel() {
    let document = document("asyncapi.json");
    for (name, operation) in document["operations"].as_object().unwrap() {
        let channel = operation["channel"]["$ref"].as_str().unwrap();
        let messages = operation["messages"].as_array().unwrap();
        assert!(!messages.is_empty(), "{name}");
        for message in messages {
            let prefix = format!("{channel}/messages/");
            assert!(message["$ref"].as_str().unwrap().starts_with(&prefix), "{name}: {message}");
        }
    }
}
