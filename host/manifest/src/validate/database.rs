//! A component's database, and what of it goes by convention.

use std::collections::BTreeMap;
use std::path::PathBuf;

use toml::Spanned;

use super::super::schema;
use super::super::*;
use super::Builder;

/// The component's variable that holds the URL of its database, as the SDK reads it.
const URL_VARIABLE: &str = "database_url";
/// The application variable with `host:port` of the database.
const HOST_VARIABLE: &str = "database_host";
/// The folder of migrations.
const MIGRATIONS: &str = "migrations";

impl Builder<'_> {
    /// The database of a component with this id and these variables. Without a schema of its own choice it is named after the
    /// component, and has the migrations of the folder `migrations/ID`, or else of `migrations`.
    pub(super) fn database(
        &self,
        id: &Spanned<String>,
        variables: &BTreeMap<String, Template>,
        written: schema::ComponentDatabase,
    ) -> Result<Database, Error> {
        let conventional = written.schema.is_none();
        let schema = written
            .schema
            .unwrap_or_else(|| Spanned::new(id.span(), id.get_ref().replace('-', "_").to_ascii_lowercase()));
        self.postgres_name("schema", &schema)?;
        if let Some(events) = &written.events {
            self.postgres_name("events", events)?;
        } else if let Some(topic) = written.event_topics.first() {
            return self
                .fail(topic.span().start, "event_topics needs events = \"TABLE\", the table they are for");
        }
        if let Some(events) = written.events.as_ref().filter(|_| written.event_topics.is_empty()) {
            return self.fail(
                events.span().start,
                "events needs event_topics = [...], the topics its rows may name",
            );
        }
        Ok(Database {
            schema: schema.into_inner(),
            url_variable: match written.url_variable {
                Some(name) => self.known_variable("url_variable", name)?,
                None => self.url_variable(id, variables)?,
            },
            migrations: match written.migrations {
                Some(path) => Some(self.root.join(path.into_inner())),
                None if conventional => self.migrations(id.get_ref()),
                None => None,
            },
            demo: written.demo.map(|path| self.root.join(path.into_inner())),
            events: written.events.map(Spanned::into_inner),
            event_topics: self.topics(written.event_topics)?,
        })
    }

    /// The application variable that the component's `database_url` is filled from.
    fn url_variable(
        &self,
        id: &Spanned<String>,
        variables: &BTreeMap<String, Template>,
    ) -> Result<String, Error> {
        match variables.get(URL_VARIABLE).and_then(Template::only_variable) {
            Some(name) => Ok(name.to_owned()),
            None => self.fail(
                id.span().start,
                format!(
                    "the database of component \"{id}\" needs url_variable = \"VARIABLE\", or the component's variable \
                     {URL_VARIABLE} = \"{{{{ VARIABLE }}}}\""
                ),
            ),
        }
    }

    fn migrations(&self, id: &str) -> Option<PathBuf> {
        let all = self.root.join(MIGRATIONS);
        let is_folder = |path: &PathBuf| path.is_dir();
        Some(all.join(id)).filter(is_folder).or_else(|| Some(all).filter(is_folder))
    }

    /// Where a component's database goes by convention, the variable `database_host` is filled without being named.
    pub(super) fn database_host(
        &self,
        application: &mut Application,
        components: &BTreeMap<Spanned<String>, schema::Component>,
    ) {
        let conventional = |component: &schema::Component| {
            component.tool.fnhost.database.as_ref().is_some_and(|database| database.schema.is_none())
        };
        if application.database_host_variable.is_none()
            && self.variables.contains_key(HOST_VARIABLE)
            && components.values().any(conventional)
        {
            application.database_host_variable = Some(HOST_VARIABLE.to_owned());
        }
    }
}
