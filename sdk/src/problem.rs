//! Errors that a caller sees: RFC 9457 problem details. Nothing internal is ever in one.
//!
//! ```
//! use fnhost_sdk::http::Response;
//! use fnhost_sdk::problem::Problem;
//!
//! let response = Response::from(Problem::invalid("items[3].sku", "there is no such product"));
//! assert_eq!(response.status, 422);
//! assert_eq!(response.header("content-type"), Some("application/problem+json"));
//! ```

use crate::http::Response;
use crate::sql::SqlError;
use serde::{Serialize, Serializer};

/// What the `type` of each problem begins with, where an application has not named [its own](Problem::in_namespace).
pub const NAMESPACE: &str = "urn:fnhost:problem:";

/// A refusal or a failure, as `application/problem+json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Problem {
    /// A URN that names the kind of problem, for programs; `about:blank` where the title says it all.
    #[serde(rename = "type")]
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = "uri-reference"))]
    kind: Kind,
    /// The kind of problem, for people.
    title: &'static str,
    /// The HTTP status code.
    pub status: u16,
    /// What is wrong with this request and, where it can be said, what would be right.
    pub detail: String,
    /// The input at fault: `items[3].sku`, `body`, or the name of a header or query parameter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    #[serde(skip)]
    header: Option<Box<(&'static str, String)>>,
}

/// The kind of a problem, `not-found`, and the namespace of such names.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Kind {
    namespace: &'static str,
    name: &'static str,
}

impl Serialize for Kind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&[self.namespace, self.name].concat())
    }
}

#[cfg(feature = "openapi")]
impl Problem {
    /// The header that is sent with it.
    pub(crate) fn header_name(&self) -> Option<&'static str> {
        self.header.as_ref().map(|header| header.0)
    }
}

impl Problem {
    /// A problem of another kind than those below: its HTTP status, the kind's name (`out-of-stock`) and title, and what is
    /// wrong this time.
    #[must_use]
    pub fn new(status: u16, name: &'static str, title: &'static str, detail: impl Into<String>) -> Self {
        let kind = Kind { namespace: NAMESPACE, name };
        Self { kind, title, status, detail: detail.into(), field: None, header: None }
    }

    /// The same problem as an application names it: its `type` begins with `namespace`, as in `urn:example:problem:`.
    #[must_use]
    pub fn in_namespace(self, namespace: &'static str) -> Self {
        Self { kind: Kind { namespace, ..self.kind }, ..self }
    }

    /// Names the input at fault.
    #[must_use]
    pub fn with_field(self, field: impl Into<String>) -> Self {
        Self { field: Some(field.into()), ..self }
    }

    fn with_header(self, name: &'static str, value: impl Into<String>) -> Self {
        Self { header: Some(Box::new((name, value.into()))), ..self }
    }

    /// 400: the request cannot be read.
    #[must_use]
    pub fn malformed(field: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::new(400, "malformed", "The request cannot be read", detail).with_field(field)
    }

    /// 401: no token, or one that is not accepted.
    #[must_use]
    pub fn unauthorized(detail: impl Into<String>) -> Self {
        let problem = Self::new(401, "unauthorized", "A valid access token is needed", detail);
        problem.with_field("authorization").with_header("www-authenticate", "Bearer")
    }

    /// 403: the caller is known and may not do this.
    #[must_use]
    pub fn forbidden(detail: impl Into<String>) -> Self {
        Self::new(403, "forbidden", "The caller may not do this", detail)
    }

    /// 404: nothing there, or nothing that this caller may know of.
    #[must_use]
    pub fn not_found(detail: impl Into<String>) -> Self {
        Self::new(404, "not-found", "There is nothing here", detail)
    }

    /// 405, with the methods that work.
    #[must_use]
    pub fn method_not_allowed(allow: &'static str) -> Self {
        let detail = format!("this address answers {allow}");
        let problem = Self::new(405, "method-not-allowed", "The method does not work here", detail);
        problem.with_header("allow", allow)
    }

    /// 409: the request contradicts what is.
    #[must_use]
    pub fn conflict(detail: impl Into<String>) -> Self {
        Self::new(409, "conflict", "The request contradicts the current state", detail)
    }

    /// 413: the body is over `limit_bytes`.
    #[must_use]
    pub fn too_large(limit_bytes: usize) -> Self {
        let detail = format!("the body may have {limit_bytes} bytes at most");
        Self::new(413, "too-large", "The body is too large", detail).with_field("body")
    }

    /// 415: the body is not said to be JSON.
    #[must_use]
    pub fn unsupported_media_type() -> Self {
        let detail = "send the header content-type: application/json";
        Self::new(415, "unsupported-media-type", "The body is not JSON", detail).with_field("content-type")
    }

    /// 415: the body is compressed, or encoded in another way.
    #[must_use]
    pub fn unsupported_encoding() -> Self {
        let detail = "send the body as it is, without content-encoding";
        let problem = Self::new(415, "unsupported-encoding", "The body is encoded", detail);
        problem.with_field("content-encoding").with_header("accept-encoding", "identity")
    }

    /// 422: the request can be read and its content is not acceptable.
    #[must_use]
    pub fn invalid(field: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::new(422, "invalid", "The input is not acceptable", detail).with_field(field)
    }

    /// 429: nothing is tried for this caller, or for what it asks about, until so many seconds have passed.
    #[must_use]
    pub fn too_many_requests(seconds: i64) -> Self {
        let problem =
            Self::new(429, "too-many-requests", "Too many attempts", format!("try again in {seconds} s"));
        problem.with_header("retry-after", seconds.to_string())
    }

    /// 500: the fault is ours; `cause` goes to the log and nowhere else.
    #[must_use]
    pub fn internal(cause: impl std::fmt::Display) -> Self {
        eprintln!("internal error: {cause}");
        Self::new(500, "internal", "Something is wrong on our side", "the request was not carried out")
    }

    /// 503: worth another try; `cause` goes to the log and nowhere else.
    #[must_use]
    pub fn unavailable(cause: impl std::fmt::Display) -> Self {
        eprintln!("unavailable: {cause}");
        let problem = Self::new(503, "unavailable", "The service is not available", "try again in a moment");
        problem.with_header("retry-after", "1")
    }
}

impl From<SqlError> for Problem {
    /// A database that could not be reached, is out of room or going away, or lost a race, is worth another try;
    /// anything else is our fault.
    fn from(error: SqlError) -> Self {
        const TRANSIENT: [&str; 6] = ["08", "53", "57", "40", "25006", "55P03"];
        match &error.sqlstate {
            Some(state) if TRANSIENT.iter().any(|prefix| state.starts_with(prefix)) => {
                Self::unavailable(error)
            }
            _ => Self::internal(error),
        }
    }
}

impl From<Problem> for Response {
    fn from(problem: Problem) -> Self {
        let response =
            Self::json(problem.status, &problem).with_header("content-type", "application/problem+json");
        match problem.header {
            Some(header) => response.with_header(header.0, header.1),
            None => response,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_is_rfc_9457_and_tells_nothing_internal() {
        let response = Response::from(Problem::invalid("items[3].sku", "unknown"));
        assert_eq!(
            (response.status, response.header("content-type")),
            (422, Some("application/problem+json"))
        );
        let body: serde_json::Value = serde_json::from_slice(&response.body).unwrap();
        let expected = serde_json::json!({
            "type": "urn:fnhost:problem:invalid", "title": "The input is not acceptable", "status": 422,
            "detail": "unknown", "field": "items[3].sku",
        });
        assert_eq!(body, expected);

        for (sqlstate, status) in
            [(None, 500), (Some("42703"), 500), (Some("53300"), 503), (Some("08006"), 503)]
        {
            let error = SqlError { sqlstate: sqlstate.map(str::to_owned), message: "secret".to_owned() };
            let response = Response::from(Problem::from(error));
            assert_eq!(response.status, status);
            assert!(!String::from_utf8(response.body).unwrap().contains("secret"));
        }
    }

    #[test]
    fn an_application_names_its_kinds_of_problems() {
        let problem = Problem::new(409, "out-of-stock", "There is not enough of it", "2 are left");
        let problem = problem.in_namespace("urn:example:problem:");
        let body: serde_json::Value = serde_json::from_slice(&Response::from(problem).body).unwrap();
        assert_eq!(body["type"], "urn:example:problem:out-of-stock");
        assert_eq!(body["status"], 409);
    }

    #[test]
    fn a_problem_brings_the_header_its_status_asks_for() {
        assert_eq!(Response::from(Problem::method_not_allowed("GET")).header("allow"), Some("GET"));
        assert_eq!(Response::from(Problem::unauthorized("x")).header("www-authenticate"), Some("Bearer"));
        let encoded = Response::from(Problem::unsupported_encoding());
        assert_eq!(encoded.header("accept-encoding"), Some("identity"));
        assert_eq!(Response::from(Problem::too_many_requests(7)).header("retry-after"), Some("7"));
    }
}
