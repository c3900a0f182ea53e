//! HTTP triggers, with the components that are written inside of them.

use std::collections::{BTreeMap, BTreeSet};

use toml::Spanned;

use super::super::route::Pattern;
use super::super::schema::{self, TextOr};
use super::super::*;
use super::Builder;
use super::kafka::PlacedKafka;

impl Builder<'_> {
    pub(super) fn http_triggers(
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
                return self.fail(
                    executor.span().start,
                    format!(
                        "fnhost does not run the executor \"{}\"; leave the key out",
                        executor.get_ref().kind
                    ),
                );
            }
            let route_at = trigger.route.span().start;
            let route = self.route(trigger.route)?;
            if let Route::Public(pattern) = &route {
                let same = |other: &&HttpTrigger| match &other.route {
                    Route::Public(taken) => taken.same_paths(pattern),
                    Route::Private => false,
                };
                if let Some(other) = triggers.iter().find(same) {
                    return self.fail(
                        route_at,
                        format!(
                            "the route \"{}\" is already used by component \"{}\"",
                            pattern.raw(),
                            other.component
                        ),
                    );
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
                        return self.fail(at.start, format!("there is already a component \"{id}\""));
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
                "private = false is not a route; write the route as a string",
            ),
        }
    }
}
