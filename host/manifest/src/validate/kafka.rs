//! Kafka triggers: those of the components' own tables and those of `[[trigger.kafka]]`.

use std::collections::BTreeMap;

use fnhost_types::record::{DEAD_LETTER_SUFFIX, dead_letter_topic};

use toml::Spanned;

use super::super::schema;
use super::super::*;
use super::Builder;
use super::check::MAX_TOPIC_BYTES;

/// A Kafka trigger with the place of its id and of its group.
pub(super) struct PlacedKafka {
    trigger: KafkaTrigger,
    id_at: usize,
    group_at: usize,
}

impl Builder<'_> {
    pub(super) fn shared_kafka_trigger(
        &self,
        mut written: schema::Subscription,
        components: &BTreeMap<String, Component>,
    ) -> Result<PlacedKafka, Error> {
        // Spin makes an id up where there is none, and a trigger has to have the same one under both hosts.
        let Some(id) = &written.id else {
            return self.fail(written.topics.span().start, "a trigger in [[trigger.kafka]] needs an id");
        };
        let Some(component) = written.component.take() else {
            return self.fail(id.span().start, format!("trigger \"{id}\" has no component"));
        };
        self.check_component(component.span().start, component.get_ref(), components)?;
        self.kafka_trigger(component.get_ref(), written)
    }

    pub(super) fn kafka_trigger(
        &self,
        component: &str,
        written: schema::Subscription,
    ) -> Result<PlacedKafka, Error> {
        let config = TriggerConfig::check(&written, self)?;
        let topics_at = written.topics.span().start;
        let id = written.id.unwrap_or_else(|| Spanned::new(written.topics.span(), component.to_owned()));
        let group = written.group.unwrap_or_else(|| id.clone());
        let (id_at, group_at) = (id.span().start, group.span().start);
        self.plain_name("id", &id)?;
        self.plain_name("group", &group)?;
        let topics = self.topics(written.topics.into_inner())?;
        if topics.is_empty() {
            return self.fail(topics_at, format!("trigger \"{id}\" has no topic"));
        }
        if let Some(topic) = &written.dead_letter_topic {
            self.topic(topic)?;
            if topics.contains(topic.get_ref()) {
                return self.fail(
                    topic.span().start,
                    format!("trigger \"{id}\" would consume its own dead letters"),
                );
            }
        } else if let Some(topic) =
            topics.iter().find(|topic| dead_letter_topic(topic).len() > MAX_TOPIC_BYTES)
        {
            return self.fail(topics_at, format!(
                "the topic \"{topic}\" is too long for its dead-letter topic {topic}{DEAD_LETTER_SUFFIX}: a name has at most \
                 {MAX_TOPIC_BYTES} characters"
            ));
        }
        let start = match &written.start {
            None => Start::Earliest,
            Some(start) => match start.get_ref().parse() {
                Ok(start) => start,
                Err(fault) => return self.fail(start.span().start, fault),
            },
        };
        let trigger = KafkaTrigger {
            component: component.to_owned(),
            topics,
            emits: self.topics(written.emits)?,
            start,
            config,
            filter: Filter::check(written.filter, self)?,
            dead_letter_topic: written.dead_letter_topic.map(Spanned::into_inner),
            id: id.into_inner(),
            group: group.into_inner(),
        };
        Ok(PlacedKafka { trigger, id_at, group_at })
    }

    /// Refuses two triggers of one id or one group: the id names the streams, and two triggers in a group
    /// would take partitions from each other.
    ///
    /// And one of a component without a database, which holds its positions.
    pub(super) fn kafka_triggers(
        &self,
        placed: Vec<PlacedKafka>,
        components: &BTreeMap<String, Component>,
    ) -> Result<Vec<KafkaTrigger>, Error> {
        let mut triggers: Vec<KafkaTrigger> = Vec::new();
        for PlacedKafka { trigger, id_at, group_at } in placed {
            if components.get(&trigger.component).is_some_and(|component| component.database.is_none()) {
                return self.fail(id_at, format!(
                    "component \"{0}\" has a Kafka trigger and no database, which holds its positions: add \
                     [component.{0}.tool.fnhost.database] with schema and url_variable",
                    trigger.component
                ));
            }
            for other in &triggers {
                if other.id == trigger.id {
                    return self.fail(id_at, format!("two Kafka triggers have the id \"{}\"", trigger.id));
                }
                if other.group == trigger.group {
                    return self.fail(group_at, format!(
                        "the Kafka triggers \"{}\" and \"{}\" have the same group \"{}\"; give each its own",
                        other.id, trigger.id, trigger.group
                    ));
                }
            }
            triggers.push(trigger);
        }
        Ok(triggers)
    }
}
