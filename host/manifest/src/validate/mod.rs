//! Turns what is written into what can run, checking every rule that needs no server.

mod check;
mod database;
mod edge;
mod files;
mod http;
mod kafka;
mod live;
mod outbound;
mod schedule;
mod service;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::Spanned;

use super::error::{Error, Source, nearest};
use super::hosts::AllowedHosts;
use super::schema::{self, TextOr};
use super::variables::{Secret, Template};
use super::*;
use kafka::PlacedKafka;

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
    let mut application = builder.application(file.application)?;
    builder.database_host(&mut application, &file.component);
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
    let kafka = builder.kafka_triggers(kafka, &components)?;
    for wanted in application.edge.shed.iter().flat_map(|shed| &shed.triggers) {
        if !kafka.iter().any(|trigger| trigger.id == *wanted) {
            let ids = kafka.iter().map(|trigger| trigger.id.as_str());
            let near =
                nearest(wanted, ids).map(|near| format!("; did you mean \"{near}\"?")).unwrap_or_default();
            return Err(source.error(format!("edge.shed: there is no Kafka trigger \"{wanted}\"{near}")));
        }
    }
    if http.is_empty() && kafka.is_empty() {
        return Err(
            source.error("there is no trigger; add [[trigger.http]] or [[component.ID.tool.fnhost.kafka]]")
        );
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

pub(super) struct Builder<'a> {
    source: &'a Source<'a>,
    root: PathBuf,
    variables: BTreeMap<String, Variable>,
}

impl Builder<'_> {
    pub(super) fn fail<V>(&self, at: usize, message: impl Into<String>) -> Result<V, Error> {
        Err(self.source.error_at(at, message))
    }

    fn variables(&mut self, variables: BTreeMap<Spanned<String>, schema::Variable>) -> Result<(), Error> {
        for (name, variable) in variables {
            let at = name.span().start;
            self.variable_name(&name)?;
            match (variable.required, &variable.default) {
                (true, Some(_)) => {
                    return self
                        .fail(at, format!("variable \"{name}\" is required and has a default; keep one"));
                }
                (false, None) => {
                    return self.fail(at, format!("variable \"{name}\" needs a default or required = true"));
                }
                _ => {}
            }
            self.variables.insert(
                name.into_inner(),
                Variable {
                    description: variable.description,
                    default: variable.default.map(Secret::new),
                    secret: variable.secret,
                },
            );
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
            live: self.live_routes(tool.live)?,
            services: self.services(tool.service)?,
            edge: self.edge(tool.edge)?,
            key_value_max_age: self.key_value_max_age(tool.key_value_max_age_ms)?,
            example: tool.example,
        })
    }

    fn component(
        &self,
        id: &Spanned<String>,
        written: schema::Component,
    ) -> Result<(Component, Vec<PlacedKafka>), Error> {
        if !valid_component_id(id.get_ref()) {
            return self.fail(
                id.span().start,
                format!(
                    "\"{id}\" is not a valid component id; use words of \
                     lower-case letters and digits joined by \"-\""
                ),
            );
        }
        for (key, value) in [
            ("allowed_http_hosts", &written.allowed_http_hosts),
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
                return self.fail(
                    component.span().start,
                    format!(
                        "\"component\" stands in [[trigger.kafka]] only; \
                         this subscription is of component \"{id}\""
                    ),
                );
            }
            kafka.push(self.kafka_trigger(id.get_ref(), subscription)?);
        }
        let has_database = tool.database.is_some();
        let variables = self.component_variables(written.variables)?;
        let database = match tool.database {
            Some(database) => Some(self.database(id, &variables, database)?),
            None => None,
        };
        let component = Component {
            id: id.get_ref().clone(),
            source: self.component_source(written.source)?,
            description: written.description,
            allowed_outbound_hosts: self.hosts(written.allowed_outbound_hosts)?,
            variables,
            environment: written.environment,
            files: self.files(written.files, written.exclude_files)?,
            key_value_stores: self.key_value_stores(written.key_value_stores)?,
            build: written.build.map(build),
            limits: self.limits(tool.memory_limit_mb, tool.deadline_ms, tool.max_concurrency)?,
            outbound: self.outbound(tool.outbound)?,
            http_sql: self.http_sql(tool.http_sql)?,
            database,
            schedules: self.schedules(id, tool.schedule, has_database)?,
        };
        Ok((component, kafka))
    }

    fn limits(
        &self,
        memory_limit_mb: Option<Spanned<i64>>,
        deadline_ms: Option<Spanned<i64>>,
        max_concurrency: Option<Spanned<i64>>,
    ) -> Result<Limits, Error> {
        let memory_mb =
            self.number("memory_limit_mb", memory_limit_mb, DEFAULT_MEMORY_LIMIT_MB, MAX_MEMORY_LIMIT_MB)?;
        let deadline_ms = self.number("deadline_ms", deadline_ms, DEFAULT_DEADLINE_MS, MAX_DEADLINE_MS)?;
        let max_concurrency = max_concurrency
            .map(|written| {
                self.number("max_concurrency", Some(written), MAX_MAX_CONCURRENCY, MAX_MAX_CONCURRENCY)
            })
            .transpose()?;
        Ok(Limits {
            memory_bytes: memory_mb as usize * (1 << 20),
            deadline: Duration::from_millis(deadline_ms),
            max_concurrency: max_concurrency.map(|calls| calls as usize),
        })
    }

    fn http_sql(&self, written: Option<Spanned<String>>) -> Result<HttpSql, Error> {
        match written.as_ref().map(|written| written.get_ref().as_str()) {
            None | Some("rows") => Ok(HttpSql::Rows),
            Some("any") => Ok(HttpSql::Any),
            Some(other) => {
                let at = written.as_ref().map_or(0, |written| written.span().start);
                self.fail(at, format!("http_sql = \"{other}\" is neither \"rows\" nor \"any\""))
            }
        }
    }

    fn component_source(&self, written: Spanned<TextOr<schema::RemoteSource>>) -> Result<PathBuf, Error> {
        let at = written.span().start;
        match written.into_inner() {
            TextOr::Text(path) if path.is_empty() => self.fail(at, "the component's source is empty"),
            TextOr::Text(path) => Ok(self.root.join(path)),
            TextOr::Other(remote) => {
                let what = remote.url.or(remote.package).unwrap_or_default();
                self.fail(
                    at,
                    format!(
                        "fnhost does not download components ({what}); \
                         save the file and give its path as the source"
                    ),
                )
            }
        }
    }

    fn component_variables(
        &self,
        written: BTreeMap<Spanned<String>, Spanned<String>>,
    ) -> Result<BTreeMap<String, Template>, Error> {
        let mut variables = BTreeMap::new();
        for (name, value) in written {
            self.variable_name(&name)?;
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
