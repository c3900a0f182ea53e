//! Programs that stand in for other systems.

use toml::Spanned;

use super::super::schema;
use super::super::*;
use super::Builder;

/// What may stand in a service's arguments.
const PLACEHOLDERS: [&str; 4] = ["{address}", "{folder}", "{secret_file}", "{http}"];

impl Builder<'_> {
    pub(super) fn services(&self, written: Vec<schema::Service>) -> Result<Vec<Service>, Error> {
        let mut services: Vec<Service> = Vec::new();
        for service in written {
            let at = service.name.span().start;
            self.plain_name("name", &service.name)?;
            if services.iter().any(|other| other.name == *service.name.get_ref()) {
                return self.fail(at, format!("two services have the name \"{}\"", service.name));
            }
            if service.ready.get_ref().is_empty() {
                return self.fail(service.ready.span().start, "ready is empty, which every line has in it");
            }
            let port = self.number("port", Some(service.port), 0, i64::from(u16::MAX))?;
            services.push(Service {
                name: service.name.into_inner(),
                command: self.root.join(service.command.into_inner()),
                arguments: self.arguments(service.arguments, service.secret_variable.is_some())?,
                ready: service.ready.into_inner(),
                port: u16::try_from(port).unwrap_or(u16::MAX),
                url_variable: self.known_variable("url_variable", service.url_variable)?,
                secret_variable: match service.secret_variable {
                    Some(name) => Some(self.known_variable("secret_variable", name)?),
                    None => None,
                },
            });
        }
        Ok(services)
    }

    fn arguments(&self, written: Vec<Spanned<String>>, has_secret: bool) -> Result<Vec<String>, Error> {
        for argument in &written {
            let mut rest = argument.get_ref().clone();
            PLACEHOLDERS.iter().for_each(|known| rest = rest.replace(known, ""));
            if rest.contains(['{', '}']) {
                let known = PLACEHOLDERS.join(", ");
                return self.fail(
                    argument.span().start,
                    format!("\"{argument}\" has braces that stand for nothing; there are {known}"),
                );
            }
            if !has_secret && argument.get_ref().contains("{secret_file}") {
                return self.fail(argument.span().start, "{secret_file} needs a secret_variable");
            }
        }
        Ok(written.into_iter().map(Spanned::into_inner).collect())
    }
}
