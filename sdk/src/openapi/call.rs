//! One operation: what it takes, answers and refuses.

use super::{AnySchema, BEARER, JSON, PROBLEM, SIGNATURE, Schemas, schema, schemas_of};
use crate::http::BODY_LIMIT_BYTES;
use crate::problem::{NAMESPACE, Problem};
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use utoipa::ToSchema;
use utoipa::openapi::content::{Content, ContentBuilder};
use utoipa::openapi::example::ExampleBuilder;
use utoipa::openapi::header::{Header, HeaderBuilder};
use utoipa::openapi::path::{Operation, OperationBuilder, ParameterBuilder, ParameterIn};
use utoipa::openapi::request_body::RequestBodyBuilder;
use utoipa::openapi::response::{Response, ResponseBuilder};
use utoipa::openapi::schema::Ref;
use utoipa::openapi::security::SecurityRequirement;
use utoipa::openapi::{RefOr, Required};

/// One operation.
pub struct Call {
    operation: OperationBuilder,
    refusals: BTreeMap<u16, Vec<Refusal>>,
    schemas: Schemas,
}

/// What any call can come to, whatever it asks for: status, name, title, why.
const FAILURES: [(u16, &str, &str, &str); 6] = [
    (408, "TooSlow", "Request Timeout", "The request did not arrive in time"),
    (
        429,
        "TooMany",
        "Too Many Requests",
        "Too many requests of this caller; retry-after says when to come again",
    ),
    (
        431,
        "HeadTooLarge",
        "Request Header Fields Too Large",
        "The head has too many headers, or too many bytes",
    ),
    (500, "Failed", "Internal Server Error", "The fault is ours; the log tells more"),
    (503, "Unavailable", "Service Unavailable", "The database or the broker is not there; try again"),
    (504, "TimedOut", "Gateway Timeout", "The function did not answer in time"),
];

/// The answers by name that every call refers to.
pub fn failures() -> impl Iterator<Item = (&'static str, RefOr<Response>)> {
    FAILURES.into_iter().map(|(status, name, title, why)| {
        let example = Sent::Value(of_host(status, title, &why.to_lowercase()));
        let header = matches!(status, 429 | 503).then_some("retry-after");
        (name, RefOr::T(response(vec![(why, example, header)], NAMESPACE)))
    })
}

/// What is told of a refusal, and what is sent.
type Refusal = (&'static str, Sent, Option<&'static str>);

/// What is sent to refuse a request.
enum Sent {
    /// The function's own, named once it is known how.
    Problem(Problem),
    /// The host's.
    Value(Value),
}

impl Call {
    /// An operation with a unique id for programs and a summary for people.
    #[must_use]
    pub fn new(id: &str, summary: &str) -> Self {
        let operation = OperationBuilder::new().operation_id(Some(id)).summary(Some(summary));
        let call = Self { operation, refusals: BTreeMap::new(), schemas: schemas_of::<Problem>() };
        let unread = Problem::malformed("query", "the query parameter is not percent-encoded UTF-8 text");
        let call = call.refuses("A header, or the query, cannot be read", &unread);
        FAILURES.into_iter().fold(call, |mut call, (status, name, ..)| {
            call.operation = call.operation.response(status.to_string(), Ref::from_response_name(name));
            call
        })
    }

    /// The operation under this tag, its problems named in this namespace, and the schemas that it speaks of.
    pub(super) fn finish(self, tag: &str, namespace: &'static str) -> (Operation, Schemas) {
        let refusals =
            self.refusals.into_iter().map(|(status, refusals)| (status, response(refusals, namespace)));
        let operation = refusals.fold(self.operation.tag(tag), |operation, (status, response)| {
            operation.response(status.to_string(), response)
        });
        (operation.build(), self.schemas)
    }

    /// What else is to be known.
    #[must_use]
    pub fn about(mut self, description: &str) -> Self {
        self.operation = self.operation.description(Some(description));
        self
    }

    /// It needs an access token.
    #[must_use]
    pub fn signed_in(mut self) -> Self {
        self.operation = self.operation.security(SecurityRequirement::new::<_, [&str; 0], _>(BEARER, []));
        self.refuses(
            "There is no access token, or one that is not accepted",
            &Problem::unauthorized("the token has expired"),
        )
    }

    /// It needs the signature of another system.
    #[must_use]
    pub fn signed(mut self) -> Self {
        self.operation = self.operation.security(SecurityRequirement::new::<_, [&str; 0], _>(SIGNATURE, []));
        self.refuses("It is not signed, or not lately", &Problem::unauthorized("the webhook is not signed"))
    }

    /// A parameter in the path.
    #[must_use]
    pub fn path(self, name: &str, description: &str, keywords: Value) -> Self {
        self.parameter(ParameterIn::Path, name, description, keywords)
    }

    /// An optional parameter in the query.
    #[must_use]
    pub fn query(self, name: &str, description: &str, keywords: Value) -> Self {
        self.parameter(ParameterIn::Query, name, description, keywords)
    }

    /// An optional header.
    #[must_use]
    pub fn header(self, name: &str, description: &str, keywords: Value) -> Self {
        self.parameter(ParameterIn::Header, name, description, keywords)
    }

    fn parameter(mut self, place: ParameterIn, name: &str, description: &str, keywords: Value) -> Self {
        let required = if matches!(place, ParameterIn::Path) { Required::True } else { Required::False };
        let parameter = ParameterBuilder::new().name(name).parameter_in(place).required(required);
        self.operation =
            self.operation.parameter(parameter.description(Some(description)).schema(Some(schema(keywords))));
        self
    }

    /// A body, as JSON, with an example that is accepted.
    #[must_use]
    pub fn body<T: ToSchema>(mut self, example: Value) -> Self {
        self.schemas.extend(schemas_of::<T>());
        let content = ContentBuilder::new().schema(Some(reference::<T>())).example(Some(example)).build();
        let body = RequestBodyBuilder::new().required(Some(Required::True)).content(JSON, content).build();
        self.operation = self.operation.request_body(Some(body));
        self.refuses(
            "The body is no JSON",
            &Problem::malformed("body", "broken JSON: EOF while parsing a value at line 1 column 0"),
        )
        .refuses("The body is too large", &Problem::too_large(BODY_LIMIT_BYTES))
        .refuses("The body is not said to be JSON", &Problem::unsupported_media_type())
        .refuses("The body is encoded", &Problem::unsupported_encoding())
    }

    /// An answer with JSON in it, and an example of it.
    #[must_use]
    pub fn answers<T: ToSchema>(self, status: u16, description: &str, example: &impl Serialize) -> Self {
        self.answers_with::<T>(status, description, example, &[])
    }

    /// As [`Call::answers`], with headers: their names and what they say.
    ///
    /// # Panics
    /// The example is no JSON.
    #[must_use]
    pub fn answers_with<T: ToSchema>(
        mut self,
        status: u16,
        description: &str,
        example: &impl Serialize,
        headers: &[(&str, &str)],
    ) -> Self {
        self.schemas.extend(schemas_of::<T>());
        let example = serde_json::to_value(example).expect("an example is JSON");
        let content = ContentBuilder::new().schema(Some(reference::<T>())).example(Some(example)).build();
        self.answers_content(status, description, JSON, content, headers)
    }

    /// An answer of another content type.
    #[must_use]
    pub fn answers_content(
        mut self,
        status: u16,
        description: &str,
        content_type: &str,
        content: Content,
        headers: &[(&str, &str)],
    ) -> Self {
        let response = ResponseBuilder::new().description(description).content(content_type, content);
        let response = headers
            .iter()
            .fold(response, |response, (name, description)| response.header(*name, text_header(description)));
        self.operation = self.operation.response(status.to_string(), response);
        self
    }

    /// An answer without a body.
    #[must_use]
    pub fn answers_nothing(mut self, status: u16, description: &str) -> Self {
        self.operation =
            self.operation.response(status.to_string(), ResponseBuilder::new().description(description));
        self
    }

    /// A refusal of the host's, before or instead of the function's.
    #[must_use]
    pub fn host_refuses(mut self, status: u16, why: &'static str, title: &str, detail: &str) -> Self {
        let sent = Sent::Value(of_host(status, title, detail));
        self.refusals.entry(status).or_default().push((why, sent, None));
        self
    }

    /// A refusal, and why there is one. There can be several of a status.
    #[must_use]
    pub fn refuses(mut self, why: &'static str, problem: &Problem) -> Self {
        let sent = Sent::Problem(problem.clone());
        self.refusals.entry(problem.status).or_default().push((why, sent, problem.header_name()));
        self
    }
}

/// What the host itself answers: it knows no kinds of problems.
fn of_host(status: u16, title: &str, detail: &str) -> Value {
    json!({ "type": "about:blank", "title": title, "status": status, "detail": detail })
}

fn reference<T: ToSchema>() -> AnySchema {
    RefOr::Ref(Ref::from_schema_name(T::name()))
}

fn text_header(description: &str) -> Header {
    let text = schema(json!({ "type": "string" }));
    HeaderBuilder::new().schema(Some(text)).description(Some(description)).build()
}

/// All refusals of one status as one response, their problems named in this namespace.
fn response(refusals: Vec<Refusal>, namespace: &'static str) -> Response {
    let description = refusals.iter().map(|(why, ..)| *why).collect::<Vec<_>>().join("; or: ");
    let headers: BTreeMap<_, _> =
        refusals.iter().filter_map(|(.., header)| *header).map(|name| (name, header_says(name))).collect();
    let examples = refusals.into_iter().enumerate().map(|(index, (why, sent, _))| {
        let example = match sent {
            Sent::Value(value) => value,
            Sent::Problem(problem) => {
                serde_json::to_value(problem.in_namespace(namespace)).expect("a problem is JSON")
            }
        };
        let example = ExampleBuilder::new().summary(why).value(Some(example)).build();
        (format!("{}", index + 1), RefOr::T(example))
    });
    let content =
        ContentBuilder::new().schema(Some(reference::<Problem>())).examples_from_iter(examples).build();
    let response = ResponseBuilder::new().description(description).content(PROBLEM, content);
    let response =
        headers.into_iter().fold(response, |response, (name, says)| response.header(name, text_header(says)));
    response.build()
}

fn header_says(name: &str) -> &'static str {
    match name {
        "retry-after" => "Seconds until another try is worth it",
        "accept-encoding" => "The encodings that are accepted",
        "www-authenticate" => "The scheme that is asked for",
        _ => "The methods that work here",
    }
}
