//! The schedules of a component.

use std::time::Duration;

use toml::Spanned;

use super::super::schema;
use super::super::*;
use super::Builder;

impl Builder<'_> {
    pub(super) fn schedules(
        &self,
        component: &Spanned<String>,
        written: Vec<schema::Schedule>,
        has_database: bool,
    ) -> Result<Vec<Schedule>, Error> {
        let mut schedules: Vec<Schedule> = Vec::new();
        for schedule in written {
            let at = schedule.id.span().start;
            self.plain_name("id", &schedule.id)?;
            if schedules.iter().any(|other| other.id == *schedule.id.get_ref()) {
                return self.fail(at, format!("two schedules have the id \"{}\"", schedule.id));
            }
            if !has_database {
                return self.fail(
                    at,
                    format!(
                        "a schedule needs a database, which holds what is done of it: add \
                         [component.{component}.tool.fnhost.database] with schema and url_variable"
                    ),
                );
            }
            let every_s = self.number("every_s", Some(schedule.every_s), MAX_EVERY_S, MAX_EVERY_S)?;
            schedules.push(Schedule {
                id: schedule.id.into_inner(),
                every: Duration::from_secs(every_s),
                emits: self.topics(schedule.emits)?,
            });
        }
        Ok(schedules)
    }
}
