//! Which records of its topics a trigger wants.

use fnhost_types::record::Record;
use serde::Deserialize;
use serde_json::Value;
use toml::Spanned;

use super::Error;
use super::validate::Builder;

/// Header of a CloudEvent (Kafka protocol binding 1.0, binary mode) with the type of the event.
const EVENT_TYPE_HEADER: &str = "ce_type";

/// A condition as it is written: one of `header`, `event_type` and `path`, and what it `equals`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Written {
    header: Option<String>,
    event_type: Option<toml::Value>,
    path: Option<String>,
    equals: Option<toml::Value>,
}

/// The conditions of a trigger, all of which a record has to meet; none: it wants every record.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Filter(Vec<Condition>);

#[derive(Clone, Debug, PartialEq)]
struct Condition {
    subject: Subject,
    /// One of these has to be there.
    values: Vec<Value>,
}

#[derive(Clone, Debug, PartialEq)]
enum Subject {
    /// The value of a header, as text.
    Header(String),
    /// A place in the record's value, which is JSON: a JSON Pointer (RFC 6901).
    Path(String),
}

impl Filter {
    /// True where every record is wanted.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the trigger wants this record.
    pub fn wants(&self, record: &Record) -> bool {
        let mut parsed: Option<Value> = None;
        self.0.iter().all(|condition| match &condition.subject {
            Subject::Header(name) => {
                let text = record.header(name).and_then(|value| std::str::from_utf8(value).ok());
                text.is_some_and(|text| condition.values.iter().any(|value| value == text))
            }
            Subject::Path(path) => {
                let value = parsed.get_or_insert_with(|| {
                    let bytes = record.value.as_deref().unwrap_or_default();
                    serde_json::from_slice(bytes).unwrap_or(Value::Null)
                });
                value.pointer(path).is_some_and(|found| condition.values.contains(found))
            }
        })
    }

    pub(crate) fn check(written: Vec<Spanned<Written>>, builder: &Builder<'_>) -> Result<Self, Error> {
        let conditions = written.into_iter().map(|condition| {
            let at = condition.span().start;
            let Written { header, event_type, path, equals } = condition.into_inner();
            let (subject, values) = match (header, event_type, path, equals) {
                (Some(name), None, None, Some(values)) => (Subject::Header(name), values),
                (None, Some(values), None, None) => (Subject::Header(EVENT_TYPE_HEADER.to_owned()), values),
                (None, None, Some(path), Some(values)) => (Subject::Path(path), values),
                _ => {
                    return builder.fail(
                        at,
                        "a condition of a filter is { header = NAME, equals = TEXT }, { event_type = TEXT } or \
                         { path = JSON_POINTER, equals = VALUE }; a list stands for one of its values",
                    );
                }
            };
            let values = match values {
                toml::Value::Array(values) => values,
                one => vec![one],
            };
            let values: Option<Vec<Value>> = values.into_iter().map(scalar).collect();
            let Some(values) = values.filter(|values| !values.is_empty()) else {
                return builder.fail(at, "a filter compares with texts, numbers and true or false");
            };
            match &subject {
                Subject::Header(name) if !values.iter().all(Value::is_string) => {
                    builder.fail(at, format!("the header \"{name}\" is compared with text"))
                }
                Subject::Path(path) if !path.is_empty() && !path.starts_with('/') => builder.fail(
                    at,
                    format!("path = \"{path}\" is not a JSON Pointer (RFC 6901), like \"/customer/tier\""),
                ),
                _ => Ok(Condition { subject, values }),
            }
        });
        conditions.collect::<Result<_, _>>().map(Self)
    }
}

fn scalar(value: toml::Value) -> Option<Value> {
    match value {
        toml::Value::String(text) => Some(Value::from(text)),
        toml::Value::Integer(number) => Some(Value::from(number)),
        toml::Value::Float(number) => Some(Value::from(number)),
        toml::Value::Boolean(flag) => Some(Value::from(flag)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fnhost_types::wit::Header;

    fn record(kind: &str, value: Option<&str>) -> Record {
        let headers = vec![Header { name: EVENT_TYPE_HEADER.to_owned(), value: kind.into() }];
        Record { offset: 0, timestamp_ms: 0, key: None, value: value.map(Into::into), headers }
    }

    fn condition(subject: Subject, values: &[Value]) -> Condition {
        Condition { subject, values: values.to_vec() }
    }

    #[test]
    fn all_conditions_hold_for_what_is_wanted() {
        assert!(Filter::default().wants(&record("any", None)));
        let created = Subject::Header(EVENT_TYPE_HEADER.to_owned());
        let filter = Filter(vec![
            condition(created, &["order.created".into(), "order.paid".into()]),
            condition(Subject::Path("/customer/tier".to_owned()), &["gold".into(), 3.into()]),
        ]);
        let gold = Some(r#"{"customer":{"tier":"gold"}}"#);
        assert!(filter.wants(&record("order.created", gold)));
        assert!(filter.wants(&record("order.paid", Some(r#"{"customer":{"tier":3}}"#))));
        assert!(!filter.wants(&record("order.cancelled", gold)));
        for value in [None, Some("no JSON"), Some("{}"), Some(r#"{"customer":{"tier":"silver"}}"#)] {
            assert!(!filter.wants(&record("order.created", value)), "{value:?}");
        }
    }

    #[test]
    fn bytes_that_are_no_text_match_nothing() {
        let filter = Filter(vec![condition(Subject::Header("h".to_owned()), &["\u{fffd}".into()])]);
        let mut record = record("any", None);
        record.headers = vec![Header { name: "h".to_owned(), value: vec![0xff] }];
        assert!(!filter.wants(&record));
    }
}
