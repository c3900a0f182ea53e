//! Rules for single values: names, numbers, templates, and keys that are not for fnhost.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use toml::Spanned;

use super::super::error::nearest;
use super::super::schema::SpinOnly;
use super::super::variables::valid_name;
use super::super::*;
use super::Builder;

/// Bytes that Postgres keeps of a name.
const MAX_POSTGRES_NAME_BYTES: usize = 63;
/// Bytes of a trigger's id: it is part of a header of every message the trigger emits.
const MAX_ID_BYTES: usize = 64;
/// Bytes of a Kafka topic's name.
pub(super) const MAX_TOPIC_BYTES: usize = 249;

impl Builder<'_> {
    pub(super) fn template(&self, text: &Spanned<String>) -> Result<Template, Error> {
        let at = text.span().start;
        let template = Template::parse(text.get_ref()).or_else(|fault| self.fail(at, fault))?;
        for name in template.variables() {
            self.check_variable(at, name)?;
        }
        Ok(template)
    }

    pub(super) fn variable_name(&self, name: &Spanned<String>) -> Result<(), Error> {
        if valid_name(name.get_ref()) {
            return Ok(());
        }
        self.fail(
            name.span().start,
            format!(
                "\"{name}\" is not a valid variable name; use lower-case letters, digits and single underscores"
            ),
        )
    }

    pub(super) fn check_variable(&self, at: usize, name: &str) -> Result<(), Error> {
        if self.variables.contains_key(name) {
            return Ok(());
        }
        match nearest(name, self.variables.keys().map(String::as_str)) {
            Some(near) => self.fail(at, format!("unknown variable \"{name}\"; did you mean \"{near}\"?")),
            None => self.fail(at, format!("unknown variable \"{name}\"; add it to [variables]")),
        }
    }

    pub(super) fn known_variable(&self, key: &str, name: Spanned<String>) -> Result<String, Error> {
        if name.get_ref().contains("{{") {
            return self.fail(name.span().start, format!("{key} is the variable's name, without braces"));
        }
        self.check_variable(name.span().start, name.get_ref())?;
        Ok(name.into_inner())
    }

    pub(super) fn check_component(
        &self,
        at: usize,
        id: &str,
        components: &BTreeMap<String, Component>,
    ) -> Result<(), Error> {
        if components.contains_key(id) {
            return Ok(());
        }
        match nearest(id, components.keys().map(String::as_str)) {
            Some(near) => self.fail(at, format!("unknown component \"{id}\"; did you mean \"{near}\"?")),
            None => self.fail(at, format!("unknown component \"{id}\"; add [component.{id}]")),
        }
    }

    pub(super) fn topics(&self, names: Vec<Spanned<String>>) -> Result<Vec<String>, Error> {
        let mut topics: Vec<String> = Vec::new();
        for name in names {
            self.topic(&name)?;
            if topics.contains(name.get_ref()) {
                return self.fail(name.span().start, format!("the topic \"{name}\" is listed twice"));
            }
            topics.push(name.into_inner());
        }
        Ok(topics)
    }

    pub(super) fn topic(&self, name: &Spanned<String>) -> Result<(), Error> {
        let text = name.get_ref().as_str();
        if text == crate::SCHEDULE_TOPIC {
            return self.fail(
                name.span().start,
                format!("the topic name \"{name}\" is reserved: ticks of schedules use it"),
            );
        }
        let valid = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        let fits = !text.is_empty() && text.len() <= MAX_TOPIC_BYTES && text != "." && text != "..";
        if fits && text.chars().all(valid) {
            return Ok(());
        }
        self.fail(
            name.span().start,
            format!(
                "\"{name}\" is not a valid topic name; use 1 to {MAX_TOPIC_BYTES} letters, \
             digits, \".\", \"-\" and \"_\""
            ),
        )
    }

    /// An id or a group.
    pub(super) fn plain_name(&self, key: &str, name: &Spanned<String>) -> Result<(), Error> {
        let text = name.get_ref();
        let valid = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if !text.is_empty() && text.len() <= MAX_ID_BYTES && text.chars().all(valid) {
            return Ok(());
        }
        self.fail(
            name.span().start,
            format!("{key} = \"{name}\" must be 1 to {MAX_ID_BYTES} letters, digits, \".\", \"-\" and \"_\""),
        )
    }

    pub(super) fn postgres_name(&self, key: &str, name: &Spanned<String>) -> Result<(), Error> {
        let text = name.get_ref();
        let first = |c: char| c.is_ascii_lowercase() || c == '_';
        let valid = |c: char| first(c) || c.is_ascii_digit();
        if text.starts_with(first) && text.chars().all(valid) && text.len() <= MAX_POSTGRES_NAME_BYTES {
            return Ok(());
        }
        self.fail(name.span().start, format!(
            "{key} = \"{text}\" must be 1 to {MAX_POSTGRES_NAME_BYTES} lower-case letters, digits and \"_\", \
             not beginning with a digit"
        ))
    }

    /// A number from 1 to `max`, or the default.
    pub(in super::super) fn number(
        &self,
        key: &str,
        written: Option<Spanned<i64>>,
        default: i64,
        max: i64,
    ) -> Result<u64, Error> {
        self.number_within(key, written, default, 1..=max)
    }

    /// A number of a range above zero, zero included, or the default.
    pub(in super::super) fn number_within(
        &self,
        key: &str,
        written: Option<Spanned<i64>>,
        default: i64,
        range: RangeInclusive<i64>,
    ) -> Result<u64, Error> {
        match written {
            None => Ok(default as u64),
            Some(number) if range.contains(number.get_ref()) => Ok(*number.get_ref() as u64),
            Some(number) => {
                let (min, max) = (range.start(), range.end());
                let message = format!("{key} = {number} is out of range: {min} to {max}");
                self.fail(number.span().start, message)
            }
        }
    }

    /// Refuses a key that only Spin can use, where it holds anything.
    pub(super) fn refuse(&self, key: &str, value: &SpinOnly) -> Result<(), Error> {
        let Some(value) = value else { return Ok(()) };
        let empty = match value.get_ref() {
            toml::Value::Array(items) => items.is_empty(),
            toml::Value::Table(table) => table.is_empty(),
            _ => false,
        };
        if empty {
            return Ok(());
        }
        self.fail(value.span().start, format!("fnhost does not support \"{key}\"; Spin does"))
    }

    /// Refuses a tool whose name is nearly ours: it would be ignored without a word.
    pub(super) fn tool_names(&self, others: &[Spanned<String>]) -> Result<(), Error> {
        match others.iter().find(|name| nearest(name.get_ref(), ["fnhost"].into_iter()).is_some()) {
            Some(name) => {
                self.fail(name.span().start, format!("unknown tool \"{name}\"; did you mean \"fnhost\"?"))
            }
            None => Ok(()),
        }
    }
}
