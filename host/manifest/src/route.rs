//! HTTP routes as Spin writes them: `/exact`, `/items/:id`, `/files/...`, or private.

use std::cmp::Ordering;

/// Where an HTTP trigger answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    /// Requests whose path matches.
    Public(Pattern),
    /// None: the component is not reached over HTTP.
    Private,
}

/// A route's path, cut into segments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    raw: String,
    segments: Vec<Segment>,
    wildcard: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Segment {
    Exact(String),
    Param(String),
}

/// What a path gave a pattern that it matches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Captures<'path> {
    /// Values of the `:name` segments, in order.
    pub params: Vec<(String, &'path str)>,
    /// What stands in place of `...`, with its leading slash; empty without a wildcard.
    pub path_info: String,
}

impl Pattern {
    /// Reads a route; the error says what is wrong with it.
    pub fn parse(raw: &str) -> Result<Self, String> {
        if !raw.starts_with('/') {
            return Err(format!("route \"{raw}\" must begin with \"/\""));
        }
        let (path, wildcard) = match raw.strip_suffix("/...").or_else(|| raw.strip_suffix("/*")) {
            Some(path) => (path, true),
            None => (raw, false),
        };
        let mut segments = Vec::new();
        for segment in path.split('/').skip(1) {
            segments.push(Segment::parse(raw, segment)?);
        }
        // `/items/` is the same route as `/items`, and "/" has no segment.
        if matches!(segments.last(), Some(Segment::Exact(last)) if last.is_empty()) {
            segments.pop();
        }
        if segments.iter().any(|segment| matches!(segment, Segment::Exact(text) if text.is_empty())) {
            return Err(format!("route \"{raw}\" has an empty segment"));
        }
        Ok(Self { raw: raw.to_owned(), segments, wildcard })
    }

    /// The route as the manifest writes it.
    pub fn raw(&self) -> &str {
        &self.raw
    }

    /// The route without its trailing wildcard.
    pub fn prefix(&self) -> &str {
        self.raw.strip_suffix("/...").unwrap_or(&self.raw)
    }

    /// Names of the `:name` segments, in order.
    pub fn params(&self) -> impl Iterator<Item = &str> {
        self.segments.iter().filter_map(|segment| match segment {
            Segment::Param(name) => Some(name.as_str()),
            Segment::Exact(_) => None,
        })
    }

    /// Whether it ends in `...`.
    pub fn has_wildcard(&self) -> bool {
        self.wildcard
    }

    /// The path with these values in the place of its parameters; one that is not among them stays empty.
    pub fn fill(&self, values: &[(String, &str)]) -> String {
        let mut path = String::new();
        for segment in &self.segments {
            path.push('/');
            path.push_str(match segment {
                Segment::Exact(text) => text,
                Segment::Param(name) => {
                    values.iter().find(|(given, _)| given == name).map_or("", |(_, value)| value)
                }
            });
        }
        if path.is_empty() { "/".to_owned() } else { path }
    }

    /// Whether the same paths match both, whatever their parameters are called.
    pub fn same_paths(&self, other: &Self) -> bool {
        let kind = |segment: &Segment| match segment {
            Segment::Exact(text) => Some(text.clone()),
            Segment::Param(_) => None,
        };
        self.wildcard == other.wildcard && self.segments.iter().map(kind).eq(other.segments.iter().map(kind))
    }

    /// Matches a path (not decoded, without its query); one trailing slash of it makes no difference.
    pub fn matches<'path>(&self, path: &'path str) -> Option<Captures<'path>> {
        let mut params = Vec::new();
        let rest = self.walk(path, |name, value| params.push((name.to_owned(), value)))?;
        Some(Captures { params, path_info: if self.wildcard { rest.to_owned() } else { String::new() } })
    }

    /// Whether it matches a path.
    pub fn covers(&self, path: &str) -> bool {
        self.walk(path, |_, _| ()).is_some()
    }

    /// What is left of a path that matches; `param` is told the parameters.
    fn walk<'path>(&self, path: &'path str, mut param: impl FnMut(&str, &'path str)) -> Option<&'path str> {
        let mut rest = path.strip_prefix('/')?;
        for (index, segment) in self.segments.iter().enumerate() {
            if index > 0 {
                rest = rest.strip_prefix('/')?;
            }
            let (head, tail) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
            match segment {
                Segment::Exact(text) if text == head => {}
                Segment::Param(name) if !head.is_empty() => param(name, head),
                _ => return None,
            }
            rest = tail;
        }
        if self.segments.is_empty() {
            // The slash that was taken off belongs to what the wildcard stands for.
            rest = path;
        }
        (self.wildcard || matches!(rest, "" | "/")).then_some(rest)
    }

    /// `Less` where this one is the more specific of two patterns that match the same path: segment by
    /// segment an exact one goes before a parameter and either before the wildcard.
    pub fn specificity(&self, other: &Self) -> Ordering {
        for (mine, theirs) in self.segments.iter().zip(&other.segments) {
            match (mine, theirs) {
                (Segment::Exact(_), Segment::Param(_)) => return Ordering::Less,
                (Segment::Param(_), Segment::Exact(_)) => return Ordering::Greater,
                _ => {}
            }
        }
        other.segments.len().cmp(&self.segments.len()).then(self.wildcard.cmp(&other.wildcard))
    }
}

impl Segment {
    fn parse(route: &str, text: &str) -> Result<Self, String> {
        if let Some(name) = text.strip_prefix(':') {
            let valid = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
            if name.is_empty() || !name.chars().all(valid) {
                return Err(format!(
                    "route \"{route}\": \"{text}\" is not a parameter; \
                     write \":name\" with letters, digits, - and _"
                ));
            }
            return Ok(Self::Param(name.to_owned()));
        }
        if text == "..." || text.contains(['*', ':', '?', '#', '[', ']']) {
            return Err(format!(
                "route \"{route}\": \"{text}\" is neither a literal nor \":name\"; \
                 \"...\" stands only at the end"
            ));
        }
        Ok(Self::Exact(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_match() {
        /// Route, path, path info (`None` where it must not match), parameters.
        type Case =
            (&'static str, &'static str, Option<&'static str>, &'static [(&'static str, &'static str)]);
        let cases: &[Case] = &[
            ("/", "/", Some(""), &[]),
            ("/", "/x", None, &[]),
            ("/foo", "/foo", Some(""), &[]),
            ("/foo", "/foo/", Some(""), &[]),
            ("/foo/", "/foo", Some(""), &[]),
            ("/foo", "/foobar", None, &[]),
            ("/foo", "/foo/bar", None, &[]),
            ("/...", "/", Some("/"), &[]),
            ("/...", "/a/b", Some("/a/b"), &[]),
            ("/foo/...", "/foo", Some(""), &[]),
            ("/foo/...", "/foo/", Some("/"), &[]),
            ("/foo/...", "/foo/bar", Some("/bar"), &[]),
            ("/foo/...", "/foo/bar/", Some("/bar/"), &[]),
            ("/foo/...", "/foobar", None, &[]),
            ("/foo/*", "/foo/bar", Some("/bar"), &[]),
            ("/items/:sku", "/items/a.1", Some(""), &[("sku", "a.1")]),
            ("/items/:sku", "/items/", None, &[]),
            ("/items/:sku/stock", "/items/a/stock", Some(""), &[("sku", "a")]),
            ("/u/:user/...", "/u/42/x/y", Some("/x/y"), &[("user", "42")]),
            ("/foo", "foo", None, &[]),
        ];
        for (route, path, expected, params) in cases {
            let pattern = Pattern::parse(route).unwrap();
            assert_eq!(pattern.covers(path), expected.is_some(), "{route} on {path}");
            let got = pattern.matches(path);
            let expected = expected.map(|path_info| Captures {
                params: params.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect(),
                path_info: path_info.to_owned(),
            });
            assert_eq!(got, expected, "{route} on {path}");
        }
    }

    #[test]
    fn the_more_specific_goes_first() {
        let ordered = ["/a/b/c", "/a/:x/c", "/a/b/...", "/a/:x/...", "/a/...", "/..."];
        // Each pair that can match the same path, more specific first.
        let pairs = [(0, 1), (0, 2), (1, 3), (2, 3), (2, 4), (3, 4), (4, 5), (0, 5), (2, 1)];
        for (first, second) in pairs {
            let (a, b) = (Pattern::parse(ordered[first]).unwrap(), Pattern::parse(ordered[second]).unwrap());
            assert_eq!(a.specificity(&b), Ordering::Less, "{} before {}", ordered[first], ordered[second]);
            assert_eq!(b.specificity(&a), Ordering::Greater);
        }
        let exact = Pattern::parse("/a").unwrap();
        assert_eq!(exact.specificity(&Pattern::parse("/a/...").unwrap()), Ordering::Less);
    }

    #[test]
    fn routes_that_are_refused() {
        for (route, part) in [
            ("foo", "must begin"),
            ("/a//b", "empty segment"),
            ("/a/:", "not a parameter"),
            ("/a/:b.json", "not a parameter"),
            ("/.../a", "only at the end"),
            ("/a*b", "only at the end"),
        ] {
            let error = Pattern::parse(route).unwrap_err();
            assert!(error.contains(part) && error.contains(route), "{error}");
        }
    }

    #[test]
    fn names_of_parameters_do_not_tell_routes_apart() {
        let same = |a, b| Pattern::parse(a).unwrap().same_paths(&Pattern::parse(b).unwrap());
        assert!(same("/a/:x", "/a/:y"));
        assert!(same("/a/", "/a"));
        assert!(same("/a/*", "/a/..."));
        assert!(!same("/a/:x", "/a/x"));
        assert!(!same("/a", "/a/..."));
    }
}
