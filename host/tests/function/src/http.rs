//! Requests as the HTTP trigger makes them.

use super::Function;
use bytes::Bytes;
use contract::token::{AUDIENCE, Claims, ISSUER, Role, Signer};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use serde_json::Value;
use uuid::Uuid;

/// A key pair that is for tests alone.
pub(super) const PRIVATE_KEY: &str = include_str!("../../../../functions/contract/testing/private.pem");
pub(super) const PUBLIC_KEYS: &str = include_str!("../../../../functions/contract/testing/public.json");

/// How long the tokens of tests are good, in seconds.
const TOKEN_SECONDS: u64 = 600;

/// A request under way.
#[must_use = "send it"]
pub struct Call<'a> {
    function: &'a Function,
    request: http::request::Builder,
}

/// A function's response, read to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The body, which is JSON; null where it is empty.
    pub body: Value,
    /// `location`, where there is one.
    pub location: Option<String>,
    /// `retry-after`, where there is one.
    pub retry_after: Option<String>,
}

impl Function {
    /// A GET request.
    pub fn get(&self, path: &str) -> Call<'_> {
        self.request(Method::GET, path)
    }

    /// A POST request.
    pub fn post(&self, path: &str) -> Call<'_> {
        self.request(Method::POST, path)
    }

    /// A PUT request.
    pub fn put(&self, path: &str) -> Call<'_> {
        self.request(Method::PUT, path)
    }

    fn request(&self, method: Method, path: &str) -> Call<'_> {
        let request = Request::builder().method(method).uri(format!("http://127.0.0.1{path}"));
        Call { function: self, request }
    }
}

impl Call<'_> {
    /// As this user, a customer.
    pub fn by(self, user_id: Uuid) -> Self {
        self.header("authorization", &bearer(user_id, Role::Customer))
    }

    /// Sends the token of an administrator.
    pub fn by_admin(self) -> Self {
        self.header("authorization", &bearer(Uuid::nil(), Role::Admin))
    }

    /// Adds a request header.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.request = self.request.header(name, value);
        self
    }

    /// Sends it without a body.
    ///
    /// # Panics
    /// Where the call fails.
    pub async fn send(self) -> Answer {
        self.send_bytes(Bytes::new()).await
    }

    /// Sends it with JSON.
    ///
    /// # Panics
    /// Where the call fails.
    pub async fn json(self, body: Value) -> Answer {
        self.header("content-type", "application/json").send_bytes(body.to_string().into()).await
    }

    async fn send_bytes(self, body: Bytes) -> Answer {
        self.try_send_bytes(body).await.unwrap_or_else(|error| panic!("{error}"))
    }

    /// Sends it with JSON; the error is what the host would answer 500 for.
    ///
    /// # Errors
    /// The function failed.
    pub async fn try_json(self, body: Value) -> Result<Answer, fnhost_engine::CallError> {
        self.header("content-type", "application/json").try_send_bytes(body.to_string().into()).await
    }

    async fn try_send_bytes(self, body: Bytes) -> Result<Answer, fnhost_engine::CallError> {
        let component = &self.function.component;
        let request = self.request.body(Full::new(body)).expect("a request");
        let response = component.call_http(component.call_state(), request).await?;
        let status: StatusCode = response.status();
        let header =
            |name: &str| -> Option<String> { Some(response.headers().get(name)?.to_str().ok()?.to_owned()) };
        let (location, retry_after) = (header("location"), header("retry-after"));
        let body = response.into_body().collect().await.expect("a whole body").to_bytes();
        let body = if body.is_empty() { Value::Null } else { serde_json::from_slice(&body).expect("JSON") };
        Ok(Answer { status: status.as_u16(), body, location, retry_after })
    }
}

/// The value of `authorization` for a caller, signed with the tests' key.
///
/// # Panics
/// Where it cannot be signed.
pub fn bearer(user_id: Uuid, role: Role) -> String {
    let now = fnhost_sdk::time::unix_seconds();
    let (iss, aud) = (ISSUER.to_owned(), AUDIENCE.to_owned());
    let claims = Claims { iss, aud, sub: user_id, role, iat: now, nbf: now, exp: now + TOKEN_SECONDS };
    let keys = serde_json::from_str(PUBLIC_KEYS).expect("public keys");
    let signer = Signer::new(PRIVATE_KEY, &keys).expect("a key pair");
    format!("Bearer {}", signer.sign(&claims).expect("a token"))
}
