//! Hands any bytes to the handlers of the order system's functions, and holds what they answer to be an answer: a response that says
//! what is wrong, or one outcome for each record. A handler that panics would take its call down.
//!
//! The host behind them has keys and secrets, and a database that refuses every statement.

mod host;
pub mod kafka;

use contract::token::{AUDIENCE, Claims, ISSUER, Role, Signer};
use fnhost_sdk::http::{Body, Request, Response};
use host::{KeysOnly, PRIVATE_KEY, PUBLIC_KEYS, WEBHOOK_SECRET};
use std::pin::pin;
use std::sync::LazyLock;
use std::task::{Context, Poll, Waker};
use uuid::Uuid;

/// How long the token of a request is good, in seconds: longer than a fuzzer runs.
const TOKEN_SECONDS: u64 = 24 * 60 * 60;
/// The content type of a problem.
const PROBLEM: &str = "application/problem+json";

/// A function that answers HTTP requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Function {
    /// Accounts and sessions.
    Auth,
    /// Orders.
    Order,
    /// Products and stock.
    Inventory,
    /// Payments and the gateway's webhook.
    Payment,
    /// Notifications.
    Notify,
    /// Forecasts.
    Forecast,
}

impl Function {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Auth, Self::Order, Self::Inventory, Self::Payment, Self::Notify, Self::Forecast];

    /// Its calls: method and path.
    pub const fn calls(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Auth => &[
                ("POST", "/auth/register"),
                ("POST", "/auth/login"),
                ("POST", "/auth/refresh"),
                ("POST", "/auth/logout"),
                ("GET", "/auth/me"),
                ("POST", "/auth/verify"),
                ("POST", "/auth/password"),
                ("POST", "/auth/password/forgot"),
                ("POST", "/auth/password/reset"),
                ("POST", "/auth/sessions/01890a5d-ac96-774b-bcce-b302099a8057/end"),
                ("GET", "/auth/activity"),
                ("POST", "/auth/passkeys"),
                ("POST", "/auth/passkeys/options"),
                ("POST", "/auth/passkeys/01890a5d-ac96-774b-bcce-b302099a8057/remove"),
                ("POST", "/auth/login/passkey"),
            ],
            Self::Order => &[
                ("POST", "/orders"),
                ("GET", "/orders"),
                ("POST", "/orders/01890a5d-ac96-774b-bcce-b302099a8057/refund"),
                ("POST", "/orders/01890a5d-ac96-774b-bcce-b302099a8057/cancel"),
                ("GET", "/orders/01890a5d-ac96-774b-bcce-b302099a8057/timeline"),
            ],
            Self::Inventory => &[("PUT", "/inventory/MUG-RED"), ("GET", "/products")],
            Self::Payment => {
                &[("POST", "/payments/webhook"), ("GET", "/payments/01890a5d-ac96-774b-bcce-b302099a8057")]
            }
            Self::Notify => &[("GET", "/notifications")],
            Self::Forecast => {
                &[("GET", "/forecast"), ("GET", "/forecast/MUG-RED"), ("PUT", "/forecast/MUG-RED")]
            }
        }
    }

    fn answer(self, request: Request) -> Response {
        match self {
            Self::Auth => at_once(auth::http::handle(&KeysOnly, request)),
            Self::Order => at_once(order::http::handle(&KeysOnly, request)),
            Self::Inventory => at_once(inventory::http::handle(&KeysOnly, request)),
            Self::Payment => at_once(payment::http::handle(&KeysOnly, request)),
            Self::Notify => at_once(notify::http::handle(&KeysOnly, request)),
            Self::Forecast => at_once(forecast::http::handle(&KeysOnly, request)),
        }
    }
}

/// What a caller sends.
#[derive(Clone, Debug, Default)]
pub struct Sent {
    /// Which of [`Function::calls`]; counted on from the first after the last.
    pub call: usize,
    /// Another path in place of the call's.
    pub path: Option<String>,
    /// The query.
    pub query: String,
    /// Headers beside the token and the content type.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The body.
    pub body: Vec<u8>,
}

/// Sends a request of an administrator, and answers the response's status.
///
/// # Panics
/// The response is none: a refusal that is no problem, or one that names another status.
pub fn send(function: Function, sent: Sent) -> u16 {
    let calls = function.calls();
    let (method, path) = calls[sent.call % calls.len()];
    let mut headers = sent.headers;
    headers.push(("authorization".to_owned(), format!("Bearer {}", *TOKEN).into_bytes()));
    headers.push(("content-type".to_owned(), b"application/json".to_vec()));
    headers.push((payment::webhook::SIGNATURE_HEADER.to_owned(), signature(&sent.body).into_bytes()));
    let response = function.answer(Request {
        method: method.to_owned(),
        path: sent.path.unwrap_or_else(|| path.to_owned()),
        query: sent.query,
        headers,
        body: Body::Read(sent.body),
    });
    let status = response.status;
    assert!((200..600).contains(&status), "{status}");
    if status >= 400 {
        assert_eq!(response.header("content-type"), Some(PROBLEM));
        let problem: serde_json::Value = serde_json::from_slice(&response.body).expect("JSON");
        assert_eq!(problem["status"], status);
    }
    status
}

/// Awaits what never waits.
fn at_once<T>(answer: impl Future<Output = T>) -> T {
    let Poll::Ready(answer) = pin!(answer).poll(&mut Context::from_waker(Waker::noop())) else {
        panic!("a call waits for something")
    };
    answer
}

/// An administrator's.
static TOKEN: LazyLock<String> = LazyLock::new(|| {
    let keys = serde_json::from_str(PUBLIC_KEYS).expect("keys");
    let now = fnhost_sdk::time::unix_seconds();
    let claims = Claims {
        iss: ISSUER.to_owned(),
        aud: AUDIENCE.to_owned(),
        sub: Uuid::from_u128(1),
        role: Role::Admin,
        iat: now,
        nbf: now,
        exp: now + TOKEN_SECONDS,
    };
    Signer::new(PRIVATE_KEY, &keys).and_then(|signer| signer.sign(&claims)).expect("a token")
});

/// The payment gateway's, for a body that it sends now.
fn signature(body: &[u8]) -> String {
    use hmac::{Hmac, KeyInit as _, Mac as _};
    let now = fnhost_sdk::time::unix_seconds();
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(WEBHOOK_SECRET.as_bytes()).expect("any length");
    mac.update(format!("{now}.").as_bytes());
    mac.update(body);
    let hex: String = mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("t={now},v1={hex}")
}
