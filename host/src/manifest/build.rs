//! Turns what is written into what can run, checking every rule that needs no server.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::Spanned;

use super::error::{Error, Source, nearest};
use super::hosts::AllowedHosts;
use super::route::{Pattern, Route};
use super::schema::{self, SpinOnly, TextOr};
use super::variables::{Secret, Template, valid_name};
use super::*;

/// Bytes that Postgres keeps of a name.
const MAX_POSTGRES_NAME_BYTES: usize = 63;
/// Bytes of a Kafka topic's name.
const MAX_TOPIC_BYTES: usize = 249;
/// Bytes of a trigger's id: it is part of a header of every message the trigger emits.
const MAX_ID_BYTES: usize = 64;

/// Reads and checks a manifest.
pub(super) fn manifest(source: &Source) -> Result<Manifest, Error> {
    let file: schema::File = toml::from_str(source.text).map_err(|error| source.parse_error(&error))?;
    let at = |span: &Spanned<i64>, message: String| Err(source.error_at(span.span().start, message));
    if *file.spin_manifest_version.get_ref() != 2 {
        return at(
            &file.spin_manifest_version,
            format!(
                "spin_manifest_version = {} is not supported; fnhost reads version 2",
                file.spin_manifest_version.get_ref()
            ),
        );
    }
    if let Some(other) = file.trigger.others.first() {
        let message = match nearest(other.get_ref(), ["http", "kafka"].into_iter()) {
            Some(near) => format!("unknown trigger type \"{other}\"; did you mean \"{near}\"?"),
            None => format!("fnhost does not run triggers of type \"{other}\"; it runs http and kafka"),
        };
        return Err(source.error_at(other.span().start, message));
    }
    let mut builder = Builder { source, root: root_of(source.path), variables: BTreeMap::new() };
    builder.variables(file.variables)?;
    let application = builder.application(file.application)?;
    let mut components = BTreeMap::new();
    let mut kafka = Vec::new();
    for (id, component) in file.component {
        let (component, triggers) = builder.component(&id, component)?;
        components.insert(component.id.clone(), component);
        kafka.extend(triggers);
    }
    let http = builder.http_triggers(file.trigger.http, &mut components, &mut kafka)?;
    for trigger in file.trigger.kafka {
        kafka.push(builder.shared_kafka_trigger(trigger, &components)?);
    }
    let kafka = builder.unique_kafka(kafka)?;
    if http.is_empty() && kafka.is_empty() {
        return Err(source.error("there is no trigger; add [[trigger.http]] or [[component.ID.tool.fnhost.kafka]]"));
    }
    Ok(Manifest {
        path: source.path.to_owned(),
        application,
        variables: builder.variables,
        components,
        http,
        kafka,
    })
}

fn root_of(path: &Path) -> PathBuf {
    path.parent().map(Path::to_owned).unwrap_or_default()
}

/// A Kafka trigger with the place of its id and of its group.
struct PlacedKafka {
    trigger: KafkaTrigger,
    id_at: usize,
    group_at: usize,
}

struct Builder<'a> {
    source: &'a Source<'a>,
    root: PathBuf,
    variables: BTreeMap<String, Variable>,
}

impl Builder<'_> {
    fn fail<V>(&self, at: usize, message: impl Into<String>) -> Result<V, Error> {
        Err(self.source.error_at(at, message))
    }

    fn variables(&mut self, variables: BTreeMap<Spanned<String>, schema::Variable>) -> Result<(), Error> {
        for (name, variable) in variables {
            let at = name.span().start;
            if !valid_name(name.get_ref()) {
                return self.fail(at, format!(
                    "\"{name}\" is no name for a variable; use lower-case letters, digits and single underscores"
                ));
            }
            match (variable.required, &variable.default) {
                (true, Some(_)) => {
                    return self.fail(at, format!("variable \"{name}\" is required and has a default; keep one"));
                }
                (false, None) => {
                    return self.fail(at, format!("variable \"{name}\" needs a default or required = true"));
                }
                _ => {}
            }
            self.variables.insert(name.into_inner(), Variable {
                description: variable.description,
                default: variable.default.map(Secret::new),
                secret: variable.secret,
            });
        }
        Ok(())
    }

    fn application(&self, written: schema::Application) -> Result<Application, Error> {
        if written.name.get_ref().is_empty() {
            return self.fail(written.name.span().start, "the application's name is empty");
        }
        self.refuse("application.trigger", &written.trigger)?;
        self.tool_names(&written.tool.others)?;
        let tool = written.tool.fnhost;
        let mut topics = BTreeMap::new();
        for (name, topic) in tool.topics {
            self.topic(&name)?;
            let partitions =
                self.number("partitions", topic.partitions, DEFAULT_PARTITIONS, MAX_PARTITIONS)?;
            topics.insert(name.into_inner(), partitions as i32);
        }
        let database_host_variable = match tool.database {
            Some(database) => Some(self.known_variable("host_variable", database.host_variable)?),
            None => None,
        };
        Ok(Application {
            name: written.name.into_inner(),
            version: written.version,
            description: written.description,
            topics,
            database_host_variable,
        })
    }

    fn component(
        &self,
        id: &Spanned<String>,
        written: schema::Component,
    ) -> Result<(Component, Vec<PlacedKafka>), Error> {
        if !valid_component_id(id.get_ref()) {
            return self.fail(id.span().start, format!(
                "\"{id}\" is no id for a component; use words of lower-case letters and digits joined by \"-\""
            ));
        }
        for (key, value) in [
            ("files", &written.files),
            ("exclude_files", &written.exclude_files),
            ("allowed_http_hosts", &written.allowed_http_hosts),
            ("key_value_stores", &written.key_value_stores),
            ("sqlite_databases", &written.sqlite_databases),
            ("ai_models", &written.ai_models),
            ("dependencies", &written.dependencies),
        ] {
            self.refuse(key, value)?;
        }
        self.tool_names(&written.tool.others)?;
        let tool = written.tool.fnhost;
        let mut kafka = Vec::new();
        for subscription in tool.kafka {
            if let Some(component) = &subscription.component {
                return self.fail(component.span().start, format!(
                    "\"component\" stands in [[trigger.kafka]] only; this subscription is of component \"{id}\""
                ));
            }
            kafka.push(self.kafka_trigger(id.get_ref(), subscription)?);
        }
        let component = Component {
            id: id.get_ref().clone(),
            source: self.component_source(written.source)?,
            description: written.description,
            allowed_outbound_hosts: self.hosts(written.allowed_outbound_hosts)?,
            variables: self.component_variables(written.variables)?,
            environment: written.environment,
            build: written.build.map(build),
            limits: Limits {
                memory_bytes: self.number(
                    "memory_limit_mb", tool.memory_limit_mb, DEFAULT_MEMORY_LIMIT_MB, MAX_MEMORY_LIMIT_MB,
                )? as usize * (1 << 20),
                deadline: Duration::from_millis(self.number(
                    "deadline_ms", tool.deadline_ms, DEFAULT_DEADLINE_MS, MAX_DEADLINE_MS,
                )?),
                max_concurrency: match tool.max_concurrency {
                    Some(_) => Some(self.number(
                        "max_concurrency", tool.max_concurrency, MAX_MAX_CONCURRENCY, MAX_MAX_CONCURRENCY,
                    )? as usize),
                    None => None,
                },
            },
            database: tool.database.map(|database| self.database(database)).transpose()?,
        };
        Ok((component, kafka))
    }

    fn component_source(&self, written: Spanned<TextOr<schema::RemoteSource>>) -> Result<PathBuf, Error> {
        let at = written.span().start;
        match written.into_inner() {
            TextOr::Text(path) if path.is_empty() => self.fail(at, "the component's source is empty"),
            TextOr::Text(path) => Ok(self.root.join(path)),
            TextOr::Other(remote) => {
                let what = remote.url.or(remote.package).unwrap_or_default();
                self.fail(at, format!(
                    "fnhost does not download components ({what}); save the file and give its path as the source"
                ))
            }
        }
    }

    fn component_variables(
        &self,
        written: BTreeMap<Spanned<String>, Spanned<String>>,
    ) -> Result<BTreeMap<String, Template>, Error> {
        let mut variables = BTreeMap::new();
        for (name, value) in written {
            if !valid_name(name.get_ref()) {
                return self.fail(name.span().start, format!(
                    "\"{name}\" is no name for a variable; use lower-case letters, digits and single underscores"
                ));
            }
            let template = self.template(&value)?;
            variables.insert(name.into_inner(), template);
        }
        Ok(variables)
    }

    fn hosts(&self, written: Vec<Spanned<String>>) -> Result<Vec<Template>, Error> {
        let mut hosts = Vec::new();
        for entry in written {
            let template = self.template(&entry)?;
            // An entry with a variable is checked once the variable has its value.
            if let Some(literal) = template.literal()
                && let Err(fault) = AllowedHosts::parse("", [literal])
            {
                return self.fail(entry.span().start, fault);
            }
            hosts.push(template);
        }
        Ok(hosts)
    }

    fn template(&self, text: &Spanned<String>) -> Result<Template, Error> {
        let at = text.span().start;
        let template = Template::parse(text.get_ref()).or_else(|fault| self.fail(at, fault))?;
        for name in template.variables() {
            self.check_variable(at, name)?;
        }
        Ok(template)
    }

    fn check_variable(&self, at: usize, name: &str) -> Result<(), Error> {
        if self.variables.contains_key(name) {
            return Ok(());
        }
        match nearest(name, self.variables.keys().map(String::as_str)) {
            Some(near) => self.fail(at, format!("unknown variable \"{name}\"; did you mean \"{near}\"?")),
            None => self.fail(at, format!("unknown variable \"{name}\"; add it to [variables]")),
        }
    }

    fn known_variable(&self, key: &str, name: Spanned<String>) -> Result<String, Error> {
        if name.get_ref().contains("{{") {
            return self.fail(name.span().start, format!("{key} is the variable's name, without braces"));
        }
        self.check_variable(name.span().start, name.get_ref())?;
        Ok(name.into_inner())
    }

    fn database(&self, written: schema::ComponentDatabase) -> Result<Database, Error> {
        self.postgres_name("schema", &written.schema)?;
        if let Some(events) = &written.events {
            self.postgres_name("events", events)?;
        } else if let Some(topic) = written.event_topics.first() {
            return self.fail(topic.span().start, "event_topics needs events = \"TABLE\", the table they are for");
        }
        if let Some(events) = written.events.as_ref().filter(|_| written.event_topics.is_empty()) {
            return self.fail(events.span().start, "events needs event_topics = [...], the topics its rows may name");
        }
        Ok(Database {
            schema: written.schema.into_inner(),
            url_variable: self.known_variable("url_variable", written.url_variable)?,
            migrations: written.migrations.map(|path| self.root.join(path.into_inner())),
            demo: written.demo.map(|path| self.root.join(path.into_inner())),
            events: written.events.map(Spanned::into_inner),
            event_topics: self.topics(written.event_topics)?,
        })
    }

    fn http_triggers(
        &self,
        written: Vec<schema::HttpTrigger>,
        components: &mut BTreeMap<String, Component>,
        kafka: &mut Vec<PlacedKafka>,
    ) -> Result<Vec<HttpTrigger>, Error> {
        let mut triggers: Vec<HttpTrigger> = Vec::new();
        let mut ids = BTreeSet::new();
        for (index, trigger) in written.into_iter().enumerate() {
            self.refuse("static_response", &trigger.static_response)?;
            self.refuse("components", &trigger.components)?;
            self.refuse("dependencies", &trigger.dependencies)?;
            if let Some(id) = &trigger.id
                && !ids.insert(id.get_ref().clone())
            {
                return self.fail(id.span().start, format!("two HTTP triggers have the id \"{id}\""));
            }
            if let Some(executor) = &trigger.executor
                && !matches!(executor.get_ref().kind.as_str(), "spin" | "http")
            {
                return self.fail(executor.span().start, format!(
                    "fnhost does not run the executor \"{}\"; leave the key out",
                    executor.get_ref().kind
                ));
            }
            let route_at = trigger.route.span().start;
            let route = self.route(trigger.route)?;
            if let Route::Public(pattern) = &route {
                let same = |other: &&HttpTrigger| {
                    matches!(&other.route, Route::Public(taken) if taken.same_paths(pattern))
                };
                if let Some(other) = triggers.iter().find(same) {
                    return self.fail(route_at, format!(
                        "the route \"{}\" is that of component \"{}\" already",
                        pattern.raw(),
                        other.component
                    ));
                }
            }
            let Some(component) = trigger.component else {
                return self.fail(route_at, "this trigger has no component");
            };
            let at = component.span();
            let component = match component.into_inner() {
                TextOr::Text(id) => {
                    self.check_component(at.start, &id, components)?;
                    id
                }
                TextOr::Other(inline) => {
                    let name = trigger.id.map_or(format!("http-trigger-{}", index + 1), Spanned::into_inner);
                    let id = Spanned::new(at.clone(), format!("{name}-component"));
                    if components.contains_key(id.get_ref()) {
                        return self.fail(at.start, format!("there is a component \"{id}\" already"));
                    }
                    let (component, subscriptions) = self.component(&id, inline)?;
                    kafka.extend(subscriptions);
                    components.insert(id.get_ref().clone(), component);
                    id.into_inner()
                }
            };
            triggers.push(HttpTrigger { component, route });
        }
        Ok(triggers)
    }

    fn route(&self, written: Spanned<TextOr<schema::PrivateRoute>>) -> Result<Route, Error> {
        let at = written.span().start;
        match written.into_inner() {
            TextOr::Text(route) => match Pattern::parse(&route) {
                Ok(pattern) => Ok(Route::Public(pattern)),
                Err(fault) => self.fail(at, fault),
            },
            TextOr::Other(route) if *route.private.get_ref() => Ok(Route::Private),
            TextOr::Other(route) => self.fail(
                route.private.span().start,
                "private = false is no route; write the route as a string",
            ),
        }
    }

    fn shared_kafka_trigger(
        &self,
        mut written: schema::Subscription,
        components: &BTreeMap<String, Component>,
    ) -> Result<PlacedKafka, Error> {
        let Some(component) = written.component.take() else {
            return self.fail(written.id.span().start, format!("trigger \"{}\" has no component", written.id));
        };
        self.check_component(component.span().start, component.get_ref(), components)?;
        self.kafka_trigger(component.get_ref(), written)
    }

    fn check_component(
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

    fn kafka_trigger(&self, component: &str, written: schema::Subscription) -> Result<PlacedKafka, Error> {
        let (id_at, group_at) = (written.id.span().start, written.group.span().start);
        let plain = |text: &str| {
            let valid = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
            !text.is_empty() && text.len() <= MAX_ID_BYTES && text.chars().all(valid)
        };
        for (key, value) in [("id", &written.id), ("group", &written.group)] {
            if !plain(value.get_ref()) {
                return self.fail(value.span().start, format!(
                    "{key} = \"{value}\" must be 1 to {MAX_ID_BYTES} letters, digits, \".\", \"-\" and \"_\""
                ));
            }
        }
        let topics_at = written.topics.span().start;
        let topics = self.topics(written.topics.into_inner())?;
        if topics.is_empty() {
            return self.fail(topics_at, format!("trigger \"{}\" has no topic", written.id));
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
            max_batch: self.number("max_batch", written.max_batch, DEFAULT_MAX_BATCH, MAX_MAX_BATCH)? as usize,
            max_attempts: self.number(
                "max_attempts", written.max_attempts, DEFAULT_MAX_ATTEMPTS, MAX_MAX_ATTEMPTS,
            )? as u32,
            max_age: Duration::from_secs(self.number(
                "max_age_s", written.max_age_s, DEFAULT_MAX_AGE_S, MAX_MAX_AGE_S,
            )?),
            id: written.id.into_inner(),
            group: written.group.into_inner(),
        };
        Ok(PlacedKafka { trigger, id_at, group_at })
    }

    /// Refuses two triggers of one id or one group: the id names the streams, and two triggers in a group
    /// would take partitions from each other.
    fn unique_kafka(&self, placed: Vec<PlacedKafka>) -> Result<Vec<KafkaTrigger>, Error> {
        let mut triggers: Vec<KafkaTrigger> = Vec::new();
        for PlacedKafka { trigger, id_at, group_at } in placed {
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

    fn topics(&self, names: Vec<Spanned<String>>) -> Result<Vec<String>, Error> {
        let mut topics: Vec<String> = Vec::new();
        for name in names {
            self.topic(&name)?;
            if topics.contains(name.get_ref()) {
                return self.fail(name.span().start, format!("the topic \"{name}\" stands there twice"));
            }
            topics.push(name.into_inner());
        }
        Ok(topics)
    }

    fn topic(&self, name: &Spanned<String>) -> Result<(), Error> {
        let text = name.get_ref().as_str();
        let valid = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        let fits = !text.is_empty() && text.len() <= MAX_TOPIC_BYTES && text != "." && text != "..";
        if fits && text.chars().all(valid) {
            return Ok(());
        }
        self.fail(name.span().start, format!(
            "\"{name}\" is no name for a topic; use 1 to {MAX_TOPIC_BYTES} letters, digits, \".\", \"-\" and \"_\""
        ))
    }

    fn postgres_name(&self, key: &str, name: &Spanned<String>) -> Result<(), Error> {
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
    fn number(&self, key: &str, written: Option<Spanned<i64>>, default: i64, max: i64) -> Result<u64, Error> {
        match written {
            None => Ok(default as u64),
            Some(number) if (1..=max).contains(number.get_ref()) => Ok(*number.get_ref() as u64),
            Some(number) => {
                self.fail(number.span().start, format!("{key} = {number} is out of range: 1 to {max}"))
            }
        }
    }

    /// Refuses a key that only Spin can use, where it holds anything.
    fn refuse(&self, key: &str, value: &SpinOnly) -> Result<(), Error> {
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
    fn tool_names(&self, others: &[Spanned<String>]) -> Result<(), Error> {
        match others.iter().find(|name| nearest(name.get_ref(), ["fnhost"].into_iter()).is_some()) {
            Some(name) => self.fail(name.span().start, format!("unknown tool \"{name}\"; did you mean \"fnhost\"?")),
            None => Ok(()),
        }
    }
}

fn build(written: schema::Build) -> Build {
    let commands = match written.command {
        TextOr::Text(command) => vec![command],
        TextOr::Other(commands) => commands,
    };
    Build { commands, workdir: written.workdir.map(PathBuf::from), watch: written.watch }
}

fn valid_component_id(id: &str) -> bool {
    let word = |word: &str| {
        let lower = word.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
        let upper = word.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit());
        word.starts_with(|c: char| c.is_ascii_alphabetic()) && (lower || upper)
    };
    id.split('-').all(word)
}
