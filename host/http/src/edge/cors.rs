//! Which pages of other origins may call, as browsers ask for it (the Fetch standard's CORS protocol).

use http::{HeaderMap, HeaderValue, Method, Request, header};

use fnhost_manifest::edge as declared;

/// What is declared, as answers say it.
pub(super) struct Cors {
    /// None means every origin.
    origins: Option<Vec<String>>,
    methods: HeaderValue,
    headers: Option<HeaderValue>,
    expose: Option<HeaderValue>,
    max_age: HeaderValue,
    credentials: bool,
}

impl Cors {
    pub fn new(declared: &declared::Cors) -> Self {
        let joined =
            |names: Vec<&str>| HeaderValue::from_str(&names.join(", ")).ok().filter(|v| !v.is_empty());
        Self {
            origins: declared.origins.clone(),
            methods: joined(declared.methods.iter().map(Method::as_str).collect())
                .unwrap_or(HeaderValue::from_static("GET")),
            headers: joined(declared.headers.iter().map(|name| name.as_str()).collect()),
            expose: joined(declared.expose.iter().map(|name| name.as_str()).collect()),
            max_age: HeaderValue::from(declared.max_age.as_secs()),
            credentials: declared.credentials,
        }
    }

    /// What an answer to this request says of the origin; none where it comes from none that is allowed.
    pub fn allowed(&self, headers: &HeaderMap) -> Option<HeaderValue> {
        let origin = headers.get(header::ORIGIN)?;
        match &self.origins {
            None => Some(HeaderValue::from_static("*")),
            Some(origins) => {
                origins.iter().any(|known| known.as_bytes() == origin.as_bytes()).then(|| origin.clone())
            }
        }
    }

    /// The headers of an answer to a preflight; what the page intends is for the browser to compare.
    pub fn write_preflight(&self, headers: &mut HeaderMap) {
        headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, self.methods.clone());
        headers.insert(header::ACCESS_CONTROL_MAX_AGE, self.max_age.clone());
        if let Some(allowed) = &self.headers {
            headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, allowed.clone());
        }
    }

    /// What every answer says; a function that says something itself has the word.
    pub fn write(&self, allowed: Option<HeaderValue>, headers: &mut HeaderMap) {
        if self.origins.is_some() {
            // Also where the origin is not allowed: a cache must not give another one this answer.
            headers.append(header::VARY, HeaderValue::from_static("origin"));
        }
        let Some(allowed) = allowed else { return };
        if headers.contains_key(header::ACCESS_CONTROL_ALLOW_ORIGIN) {
            return;
        }
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, allowed);
        if self.credentials {
            headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        }
        if let Some(expose) = &self.expose {
            headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, expose.clone());
        }
    }
}

/// Whether a browser asks before it sends what a page wants.
pub(super) fn is_preflight<B>(request: &Request<B>) -> bool {
    let headers = request.headers();
    request.method() == Method::OPTIONS
        && headers.contains_key(header::ORIGIN)
        && headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
}
