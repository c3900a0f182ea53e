//! Programs that stand in for other systems.

use toml::Spanned;

use super::super::schema;
use super::super::*;
use super::Builder;

/// What may stand in a service's arguments.
const PLACEHOLDERS: [&str; 4] = ["{address}", "{folder}", "{secret_file}", "{http}"];

/// Names that are taken: a service's files stand beside those of the private servers.
const PRIVATE_SERVERS: [&str; 3] = ["postgres", "kafka", "kafka-controller"];

impl Builder<'_> {
    pub(super) fn services(&self, written: Vec<schema::Service>) -> Result<Vec<Service>, Error> {
        let mut services: Vec<Service> = Vec::new();
        for service in written {
            let at = service.name.span().start;
            self.service_name(&service.name)?;
            if services.iter().any(|other| other.name == *service.name.get_ref()) {
                return self.fail(at, format!("two services have the name \"{}\"", service.name));
            }
            if service.ready.get_ref().is_empty() {
                return self.fail(service.ready.span().start, "ready is empty and would match every line");
            }
            let port = self.number("port", Some(service.port), 0, i64::from(u16::MAX))?;
            self.own_variables(&services, &service.url_variable, service.secret_variable.as_ref())?;
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

    fn service_name(&self, name: &Spanned<String>) -> Result<(), Error> {
        self.plain_name("name", name)?;
        let at = name.span().start;
        if name.get_ref().starts_with('.') {
            return self
                .fail(at, format!("name = \"{name}\" must not begin with \".\": a folder has this name"));
        }
        if PRIVATE_SERVERS.contains(&name.get_ref().as_str()) {
            return self.fail(at, format!("name = \"{name}\" is that of a private server; choose another"));
        }
        Ok(())
    }

    /// Each service fills variables of its own: the later one's value would replace the earlier one's.
    fn own_variables(
        &self,
        services: &[Service],
        url: &Spanned<String>,
        secret: Option<&Spanned<String>>,
    ) -> Result<(), Error> {
        let earlier = services.iter().flat_map(|other| {
            std::iter::once(other.url_variable.as_str()).chain(other.secret_variable.as_deref())
        });
        let mut taken: Vec<&str> = earlier.collect();
        for variable in std::iter::once(url).chain(secret) {
            if taken.contains(&variable.get_ref().as_str()) {
                let message = format!("two services, or two keys of one, set the variable \"{variable}\"");
                return self.fail(variable.span().start, message);
            }
            taken.push(variable.get_ref());
        }
        Ok(())
    }

    fn arguments(&self, written: Vec<Spanned<String>>, has_secret: bool) -> Result<Vec<String>, Error> {
        for argument in &written {
            let mut rest = argument.get_ref().clone();
            PLACEHOLDERS.iter().for_each(|known| rest = rest.replace(known, ""));
            if rest.contains(['{', '}']) {
                let known = PLACEHOLDERS.join(", ");
                return self.fail(
                    argument.span().start,
                    format!("\"{argument}\" has unknown braces; the known ones are {known}"),
                );
            }
            if !has_secret && argument.get_ref().contains("{secret_file}") {
                return self.fail(argument.span().start, "{secret_file} needs a secret_variable");
            }
        }
        Ok(written.into_iter().map(Spanned::into_inner).collect())
    }
}
