//! How a function describes its HTTP interface: an OpenAPI 3.1 document from the types that it reads and writes, with the
//! limits of its `domain`. Compiled with the feature `openapi` only, which tools/api-docs asks for.
//!
//! Refusals are described by the very [`crate::problem::Problem`] that is sent.

mod call;

use crate::problem::NAMESPACE;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use utoipa::openapi::path::Paths;
use utoipa::openapi::schema::Schema;
use utoipa::openapi::{Object, RefOr};

pub use call::{Call, failures};
pub use utoipa::ToSchema;
pub use utoipa::openapi::path::HttpMethod;

/// The name of the security scheme: an access token as the bearer.
pub const BEARER: &str = "bearer";
/// The name of the security scheme: a signature over the body, by another system.
pub const SIGNATURE: &str = "signature";
/// The content type of refusals.
pub const PROBLEM: &str = "application/problem+json";
const JSON: &str = "application/json";

/// A schema of JSON Schema 2020-12.
pub type AnySchema = RefOr<Schema>;

/// Schemas by name.
pub type Schemas = BTreeMap<String, Value>;

/// What there is to know of an event's kind.
#[derive(Clone, Debug)]
pub struct Described {
    /// The header `ce_type`.
    pub event_type: &'static str,
    /// Where it is sent.
    pub topic: &'static str,
    /// The header `ce_source`.
    pub source: &'static str,
    /// The name of its value's schema.
    pub payload: String,
    /// That schema and what it refers to, by name.
    pub schemas: Schemas,
}

/// What one function contributes.
pub struct Api {
    /// Its name and what it is for, by which its operations are grouped.
    pub tag: (&'static str, &'static str),
    /// Its operations.
    pub paths: Paths,
    /// The types that they speak of.
    pub schemas: Schemas,
    problems: &'static str,
}

impl Api {
    /// Nothing yet.
    #[must_use]
    pub fn new(name: &'static str, description: &'static str) -> Self {
        let (paths, schemas) = (Paths::default(), Schemas::default());
        Self { tag: (name, description), paths, schemas, problems: NAMESPACE }
    }

    /// Names the kinds of problems of the operations that are added after it, as
    /// [`Problem::in_namespace`](crate::problem::Problem::in_namespace) does.
    #[must_use]
    pub fn with_problems_in(self, namespace: &'static str) -> Self {
        Self { problems: namespace, ..self }
    }

    /// Adds an operation.
    #[must_use]
    pub fn call(mut self, method: HttpMethod, path: &str, call: Call) -> Self {
        let (operation, schemas) = call.finish(self.tag.0, self.problems);
        self.paths.add_path_operation(path, vec![method], operation);
        self.schemas.extend(schemas);
        self
    }

    /// Adds keywords to the schema of a field, such as its limits.
    ///
    /// # Panics
    /// There is no such type or field.
    #[must_use]
    pub fn limit<T: ToSchema>(mut self, field: &str, keywords: Value) -> Self {
        limit(&mut self.schemas, &T::name(), field, keywords);
        self
    }

    /// Says of optional fields of answers that they are left out and never null.
    ///
    /// # Panics
    /// There is no such type or field.
    #[must_use]
    pub fn never_null<T: ToSchema>(mut self, fields: &[&str]) -> Self {
        for field in fields {
            never_null(self.schemas.get_mut(&*T::name()), field);
        }
        self
    }
}

/// Adds keywords to a field of the schema of this name.
///
/// # Panics
/// There is no such schema or field.
pub fn limit(schemas: &mut Schemas, name: &str, field: &str, keywords: Value) {
    let schema = schemas.get_mut(name).unwrap_or_else(|| panic!("no schema {name}"));
    let found = schema["properties"].get_mut(field).unwrap_or_else(|| panic!("{name} has no field {field}"));
    let (Value::Object(found), Value::Object(keywords)) = (found, keywords) else {
        panic!("{name}.{field}: keywords and what they limit are objects");
    };
    found.extend(keywords);
}

fn never_null(schema: Option<&mut Value>, field: &str) {
    let found = schema.and_then(|schema| schema["properties"].get_mut(field));
    let found = found.unwrap_or_else(|| panic!("no field {field}"));
    if let Some(Value::Array(types)) = found.get_mut("type") {
        types.retain(|name| name != "null");
        let only = types.remove(0);
        found["type"] = only;
    } else if let Some(Value::Array(choices)) = found.get_mut("oneOf") {
        choices.retain(|choice| choice["type"] != "null");
        *found = choices.remove(0);
    }
}

/// The schemas of a type and of all that it refers to.
///
/// # Panics
/// Never: schemas are JSON.
#[must_use]
pub fn schemas_of<T: ToSchema>() -> Schemas {
    let mut found = vec![(T::name().into_owned(), T::schema())];
    T::schemas(&mut found);
    let json = |schema: AnySchema| serde_json::to_value(schema).expect("a schema is JSON");
    found.into_iter().map(|(name, schema)| (name, json(schema))).collect()
}

/// A schema that is written out.
///
/// # Panics
/// It is none.
#[must_use]
pub fn schema(schema: Value) -> AnySchema {
    serde_json::from_value::<Object>(schema).map(|object| RefOr::T(Schema::Object(object))).expect("a schema")
}

/// The keywords of an id.
#[must_use]
pub fn id() -> Value {
    json!({ "type": "string", "format": "uuid" })
}

/// The keywords of the parameter `limit`.
#[must_use]
pub fn page(default: i64, max: i64) -> Value {
    json!({ "type": "integer", "minimum": 1, "maximum": max, "default": default })
}

/// The keywords of the parameter `cursor`, or of any other text without the character NUL.
#[must_use]
pub fn text() -> Value {
    json!({ "type": "string", "pattern": "^[^\\u0000]*$" })
}

/// The keywords of a time in RFC 3339.
#[must_use]
pub fn time() -> Value {
    json!({ "type": "string", "format": "date-time" })
}
