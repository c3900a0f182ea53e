//! HTTP as a function handles it: whole requests in, whole responses out, both plain values.

use crate::nul_check;
use crate::object::Object;
use crate::problem::Problem;
use crate::trace_context;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The largest request body that is read, in bytes.
pub const BODY_LIMIT_BYTES: usize = 64 * 1024;

/// A request whose body was read, up to [`BODY_LIMIT_BYTES`].
#[derive(Clone, Debug)]
pub struct Request {
    /// In capitals: `GET`.
    pub method: String,
    /// As sent, without the query: `/notes/7`.
    pub path: String,
    /// What follows `?`, as sent; empty where there is none.
    pub query: String,
    /// Names in lower case.
    pub headers: Vec<(String, Vec<u8>)>,
    /// What was sent.
    pub body: Body,
}

/// A request's body.
#[derive(Clone, Debug)]
pub enum Body {
    /// All of it.
    Read(Vec<u8>),
    /// It is larger than [`BODY_LIMIT_BYTES`] and was not kept.
    TooLarge,
}

impl Request {
    /// The path's segments, for matching: `["notes", "7"]`. A trailing `/` makes an empty last one.
    #[must_use]
    pub fn segments(&self) -> Vec<&str> {
        self.path.trim_start_matches('/').split('/').collect()
    }

    /// The first header of this name, in lower case.
    ///
    /// # Errors
    /// 400 where its value is no text.
    pub fn header(&self, name: &str) -> Result<Option<&str>, Problem> {
        let Some((_, value)) = self.headers.iter().find(|(found, _)| found == name) else {
            return Ok(None);
        };
        match std::str::from_utf8(value) {
            Ok(text) => Ok(Some(text)),
            Err(_) => Err(Problem::malformed(name, "the header is not UTF-8")),
        }
    }

    /// The access token that the request brings, unchecked: what follows `Bearer` in the header `authorization`.
    ///
    /// # Errors
    /// 401 where it brings none.
    pub fn bearer(&self) -> Result<&str, Problem> {
        let header = self.header("authorization")?.unwrap_or_default();
        match header.split_once(' ') {
            Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => Ok(token.trim()),
            _ => Err(Problem::unauthorized("send the header authorization: Bearer ACCESS_TOKEN")),
        }
    }

    /// The W3C trace context; a header that is none is ignored.
    #[must_use]
    pub fn traceparent(&self) -> Option<&str> {
        let (_, value) = self.headers.iter().find(|(name, _)| name == trace_context::TRACEPARENT)?;
        trace_context::read(value)
    }

    /// The first query parameter of this name, decoded.
    ///
    /// # Errors
    /// 400 where its value does not decode to text without NUL.
    pub fn parameter(&self, name: &str) -> Result<Option<String>, Problem> {
        let found = self.query.split('&').find_map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (key == name).then_some(value)
        });
        let Some(value) = found else { return Ok(None) };
        match percent_decode(value) {
            Some(text) if !text.contains('\0') => Ok(Some(text)),
            _ => Err(Problem::malformed(name, "the query parameter is not percent-encoded UTF-8 text")),
        }
    }

    /// The query parameter `limit`: how many entries a page may have, `default` where the caller does not say.
    ///
    /// # Errors
    /// 422 where it is not a number within 1 and `max`.
    pub fn limit(&self, default: i64, max: i64) -> Result<i64, Problem> {
        let Some(text) = self.parameter("limit")? else {
            return Ok(default);
        };
        let limit = text.parse().ok().filter(|limit| (1..=max).contains(limit));
        limit.ok_or_else(|| Problem::invalid("limit", format!("1 to {max}")))
    }

    /// The body, which is a JSON object.
    ///
    /// # Errors
    /// 415 without a JSON content type or with a content encoding, which nobody decodes here, 413 over the limit, 400 for broken JSON, 422 for JSON that is no object and
    /// naming the field whose content does not fit.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, Problem> {
        let content_type = self.header("content-type")?.unwrap_or_default();
        let essence = content_type.split(';').next().unwrap_or_default().trim();
        if !essence.eq_ignore_ascii_case("application/json") {
            return Err(Problem::unsupported_media_type());
        }
        if self.is_encoded() {
            return Err(Problem::unsupported_encoding());
        }
        let Body::Read(body) = &self.body else {
            return Err(Problem::too_large(BODY_LIMIT_BYTES));
        };
        let mut deserializer = serde_json::Deserializer::from_slice(body);
        let Object(value) =
            serde_path_to_error::deserialize(&mut deserializer).map_err(|error| field_problem(&error))?;
        if let Err(error) = deserializer.end() {
            return Err(Problem::malformed("body", format!("broken JSON: {error}")));
        }
        match nul_check::find(body) {
            Some(field) => Err(Problem::invalid(field, "the character NUL is not allowed")),
            None => Ok(value),
        }
    }

    /// Whether the body is compressed or the like.
    fn is_encoded(&self) -> bool {
        let encodings = self.headers.iter().filter(|(name, _)| name == "content-encoding");
        encodings.into_iter().any(|(_, value)| !value.trim_ascii().eq_ignore_ascii_case(b"identity"))
    }
}

fn field_problem(error: &serde_path_to_error::Error<serde_json::Error>) -> Problem {
    let (path, cause) = (error.path().to_string(), error.inner().to_string());
    if !error.inner().is_data() {
        return Problem::malformed("body", format!("broken JSON: {cause}"));
    }
    let path = if path == "." { String::new() } else { path };
    // serde reports a missing field at the object that lacks it, and its name in the text alone.
    let missing = cause.strip_prefix("missing field `").and_then(|rest| rest.split('`').next());
    let field = match (path.is_empty(), missing) {
        (true, None) => "body".to_owned(),
        (true, Some(name)) => name.to_owned(),
        (false, None) => path,
        (false, Some(name)) => format!("{path}.{name}"),
    };
    Problem::invalid(field, cause)
}

/// `None` where an escape is broken or the result is not UTF-8. `+` is a space, as in forms.
fn percent_decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let (high, low) = (char::from(rest.next()?), char::from(rest.next()?));
                u8::try_from(high.to_digit(16)? * 16 + low.to_digit(16)?).ok()?
            }
            other => other,
        });
    }
    String::from_utf8(bytes).ok()
}

/// A whole response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// Names in lower case, each once.
    pub headers: Vec<(&'static str, String)>,
    /// Sent as it is.
    pub body: Vec<u8>,
}

impl Response {
    /// `body` as JSON.
    #[must_use]
    pub fn json(status: u16, body: &impl Serialize) -> Self {
        match serde_json::to_vec(body) {
            Ok(body) => Self::empty(status).with_body(body).with_header("content-type", "application/json"),
            Err(error) => Problem::internal(error).into(),
        }
    }

    /// No body.
    #[must_use]
    pub fn empty(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Vec::new() }
    }

    /// Sets the body.
    #[must_use]
    pub fn with_body(self, body: Vec<u8>) -> Self {
        Self { body, ..self }
    }

    /// Sets a header, in place of an earlier one.
    #[must_use]
    pub fn with_header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.retain(|(found, _)| *found != name);
        self.headers.push((name, value.into()));
        self
    }

    /// A header's value.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| *found == name).map(|(_, value)| value.as_str())
    }
}

impl From<Result<Self, Problem>> for Response {
    fn from(result: Result<Self, Problem>) -> Self {
        result.unwrap_or_else(Self::from)
    }
}

#[cfg(test)]
#[path = "http_tests.rs"]
mod tests;
