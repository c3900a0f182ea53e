//! Finds the handler of a path: of all routes that match, the most specific.

use fnhost_manifest::route::{Captures, Pattern};

/// Routes with what they lead to.
pub(super) struct Router<H> {
    routes: Vec<(Pattern, H)>,
}

impl<H> Default for Router<H> {
    fn default() -> Self {
        Self { routes: Vec::new() }
    }
}

impl<H> Router<H> {
    pub fn add(&mut self, pattern: Pattern, handler: H) {
        self.routes.push((pattern, handler));
    }

    /// The handler of a path. Applications have few routes, so that comparing all that match is cheap; they
    /// cannot be put in one order beforehand, for routes that match no common path have none.
    pub fn route<'path>(&self, path: &'path str) -> Option<(&Pattern, &H, Captures<'path>)> {
        self.routes
            .iter()
            .filter_map(|(pattern, handler)| Some((pattern, handler, pattern.matches(path)?)))
            .min_by(|(a, ..), (b, ..)| a.specificity(b))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_specific_route_wins_in_any_order() {
        let routes = [
            "/",
            "/...",
            "/one",
            "/one/...",
            "/one/two/...",
            "/:x/two",
            "/one/:y",
            "/one/:y/three",
            "/:x/...",
        ];
        // path, route
        let cases = [
            ("/", "/"),
            ("/zero", "/:x/..."),
            ("/one", "/one"),
            ("/one/", "/one"),
            ("/one/two", "/one/two/..."),
            ("/one/two/four", "/one/two/..."),
            ("/one/2/three", "/one/:y/three"),
            ("/one/2/four", "/one/..."),
            ("/one/2", "/one/:y"),
            ("/1/two", "/:x/two"),
            ("/1/2/3", "/:x/..."),
        ];
        let forwards: Vec<&str> = routes.to_vec();
        let backwards: Vec<&str> = routes.iter().rev().copied().collect();
        for order in [forwards, backwards] {
            let mut router = Router::default();
            for route in &order {
                router.add(Pattern::parse(route).unwrap(), *route);
            }
            for (path, expected) in cases {
                let (_, handler, _) = router.route(path).unwrap();
                assert_eq!(*handler, expected, "{path}");
            }
        }
    }

    #[test]
    fn a_path_without_a_route_has_no_handler() {
        let mut router = Router::default();
        router.add(Pattern::parse("/one").unwrap(), ());
        assert!(router.route("/two").is_none());
        assert!(router.route("*").is_none());
    }
}
