//! Rules for `[[application.tool.fnhost.live]]`.

use toml::Spanned;

use super::super::route::Pattern;
use super::super::{Error, LiveRoute, schema};
use super::Builder;

impl Builder<'_> {
    pub(super) fn live_routes(&self, written: Vec<schema::LiveRoute>) -> Result<Vec<LiveRoute>, Error> {
        let mut routes: Vec<LiveRoute> = Vec::with_capacity(written.len());
        for push in written {
            let at = push.route.span().start;
            let push = self.live_route(push)?;
            if let Some(same) = routes.iter().find(|other| other.route.same_paths(&push.route)) {
                let message = format!(
                    "route \"{}\" is a live route already, as \"{}\"",
                    push.route.raw(),
                    same.route.raw()
                );
                return self.fail(at, message);
            }
            routes.push(push);
        }
        Ok(routes)
    }

    fn live_route(&self, written: schema::LiveRoute) -> Result<LiveRoute, Error> {
        let route = self.pattern(&written.route)?;
        let snapshot = self.pattern(&written.snapshot)?;
        if !route.params().any(|name| name == written.key.get_ref()) {
            let message =
                format!("key = \"{0}\" is not a parameter of the route; write \":{0}\" in it", written.key);
            return self.fail(written.key.span().start, message);
        }
        if let Some(unknown) = snapshot.params().find(|name| !route.params().any(|given| given == *name)) {
            let message = format!("\":{unknown}\" is not a parameter of the route \"{}\"", route.raw());
            return self.fail(written.snapshot.span().start, message);
        }
        let topics_at = written.topics.span().start;
        let topics = self.topics(written.topics.into_inner())?;
        if topics.is_empty() {
            return self.fail(topics_at, "a live route needs at least one topic");
        }
        let origins =
            written.origins.into_iter().map(|origin| self.origin(origin)).collect::<Result<_, _>>()?;
        Ok(LiveRoute {
            route,
            key: written.key.into_inner(),
            snapshot,
            topics,
            fields: written.fields,
            origins,
        })
    }

    /// An origin as browsers send it.
    pub(super) fn origin(&self, written: Spanned<String>) -> Result<String, Error> {
        match url::Url::parse(written.get_ref()) {
            Ok(url) if url.origin().ascii_serialization() == *written.get_ref() => Ok(written.into_inner()),
            _ => self.fail(
                written.span().start,
                format!(
                    "\"{written}\" is not an origin; write scheme, host and port, as in \"https://shop.example\""
                ),
            ),
        }
    }

    /// A route without a wildcard.
    fn pattern(&self, written: &Spanned<String>) -> Result<Pattern, Error> {
        let at = written.span().start;
        let pattern = Pattern::parse(written.get_ref()).or_else(|fault| self.fail(at, fault))?;
        if pattern.has_wildcard() {
            return self.fail(at, format!("\"{written}\" cannot end in a wildcard here"));
        }
        Ok(pattern)
    }
}
