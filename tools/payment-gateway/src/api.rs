//! Its HTTP interface: reads requests, misbehaves as it is told to, and has the rest done.

use crate::behaviour::{Behaviour, Outage};
use crate::ledger::{Answer, Authorization, Operation, problem};
use crate::{Gateway, ledger};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::{Method, Request, Response, StatusCode};
use serde::Deserialize;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use std::fmt::Write as _;
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// Bytes of a request's body.
const BODY_MAX_BYTES: usize = 64 * 1024;
/// Characters of an idempotency key or a reference.
const NAME_MAX_CHARS: usize = 255;

/// A request that asks for something to be done.
#[derive(Debug)]
pub struct Call {
    pub key: String,
    /// What the request is known by: method, path and body.
    pub fingerprint: String,
    pub reference: String,
    pub operation: Operation,
}

/// Answers a request; an error closes the connection without an answer.
///
/// # Errors
/// The gateway is to behave so.
pub async fn answer(
    gateway: Arc<Gateway>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, io::Error> {
    let path = request.uri().path().to_owned();
    if !path.starts_with("/admin/") && path != "/healthz" {
        let behaviour = gateway.behaviour();
        misbehave(behaviour.outage).await?;
        if behaviour.latency_ms > 0 {
            tokio::time::sleep(Duration::from_millis(behaviour.latency_ms)).await;
        }
        if behaviour.outage == Outage::Errors || behaviour.fails(gateway.next_request()) {
            return Ok(respond(&problem(503, "unavailable", "the gateway does not work at present")));
        }
    }
    Ok(respond(&route(gateway, request, &path).await.unwrap_or_else(|refused| refused)))
}

async fn misbehave(outage: Outage) -> Result<(), io::Error> {
    match outage {
        Outage::None | Outage::Errors => Ok(()),
        Outage::Closed => Err(io::Error::other("an outage")),
        Outage::Silence => std::future::pending().await,
    }
}

async fn route(gateway: Arc<Gateway>, request: Request<Incoming>, path: &str) -> Result<Answer, Answer> {
    let segments: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    let method = request.method().clone();
    match (&method, segments.as_slice()) {
        (&Method::GET, ["healthz"]) => Ok(Answer { status: 200, body: json!({ "status": "ok" }) }),
        (&Method::GET, ["v1", "payments", reference]) => {
            let state = gateway.lock();
            let payment = state.ledger.payment(reference);
            let payment =
                payment.ok_or_else(|| problem(404, "unknown", "there is no payment with this reference"))?;
            Ok(Answer { status: 200, body: json!(payment) })
        }
        (&Method::POST, ["v1", "payments", ..]) => {
            let call = read_call(request, path, &segments[2..]).await?;
            // In a task of its own: it goes on where the caller does not wait for it.
            let performed = tokio::spawn(gateway.perform(call)).await;
            performed.map_err(|_| problem(500, "internal", "the gateway failed"))
        }
        (&Method::GET, ["admin", "payments"]) => {
            let state = gateway.lock();
            let payments: Vec<&ledger::Payment> = state.ledger.payments().collect();
            Ok(Answer { status: 200, body: json!({ "payments": payments }) })
        }
        (&Method::GET, ["admin", "behaviour"]) => {
            Ok(Answer { status: 200, body: json!(gateway.behaviour()) })
        }
        (&Method::PUT, ["admin", "behaviour"]) => {
            let behaviour: Behaviour = parse(&body(request).await?)?;
            behaviour.check().map_err(|detail| problem(422, "out_of_range", &detail))?;
            gateway.set_behaviour(behaviour);
            Ok(Answer { status: 200, body: json!(behaviour) })
        }
        _ => Err(problem(404, "no_such_address", "there is nothing at this address")),
    }
}

async fn read_call(request: Request<Incoming>, path: &str, segments: &[&str]) -> Result<Call, Answer> {
    let key = request.headers().get("idempotency-key").and_then(|key| key.to_str().ok());
    let key = key.map(str::to_owned).filter(|key| !key.is_empty() && key.len() <= NAME_MAX_CHARS);
    let key = key.ok_or_else(|| {
        problem(
            400,
            "key_missing",
            "a request that changes something needs an Idempotency-Key of 1 to 255 characters",
        )
    })?;
    let body = body(request).await?;
    let operation = match segments {
        [] => Operation::Authorize(authorization(&body)?),
        [_, "capture"] => Operation::Capture,
        [_, "cancel"] => Operation::Cancel,
        [_, "refund"] => {
            #[derive(Deserialize)]
            #[serde(deny_unknown_fields)]
            struct Refund {
                total: i64,
            }
            let Refund { total } = parse(&body)?;
            if total < 1 {
                return Err(problem(422, "out_of_range", "total is less than 1"));
            }
            Operation::Refund { total }
        }
        _ => return Err(problem(404, "no_such_address", "there is nothing at this address")),
    };
    let reference = match (&operation, segments) {
        (Operation::Authorize(wanted), _) => wanted.reference.clone(),
        (_, [reference, ..]) => (*reference).to_owned(),
        (_, []) => String::new(),
    };
    Ok(Call { key, fingerprint: fingerprint(path, &body), reference, operation })
}

fn authorization(body: &[u8]) -> Result<Authorization, Answer> {
    let wanted: Authorization = parse(body)?;
    if wanted.reference.is_empty() || wanted.reference.len() > NAME_MAX_CHARS {
        return Err(problem(422, "out_of_range", "reference has not 1 to 255 characters"));
    }
    if wanted.amount < 0 {
        return Err(problem(422, "out_of_range", "amount is less than 0"));
    }
    if wanted.currency.len() != 3 {
        return Err(problem(422, "out_of_range", "currency is no ISO 4217 code"));
    }
    Ok(wanted)
}

fn fingerprint(path: &str, body: &[u8]) -> String {
    let mut hash = Sha256::new();
    hash.update(path.as_bytes());
    hash.update([0]);
    hash.update(body);
    hash.finalize().iter().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

async fn body(request: Request<Incoming>) -> Result<Bytes, Answer> {
    let read = Limited::new(request.into_body(), BODY_MAX_BYTES).collect().await;
    Ok(read
        .map_err(|_| problem(413, "too_large", "the body broke off or has more than 65536 bytes"))?
        .to_bytes())
}

fn parse<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Answer> {
    serde_json::from_slice(body).map_err(|error| problem(400, "malformed", &error.to_string()))
}

fn respond(answer: &Answer) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(answer.body.to_string())));
    *response.status_mut() = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let json = hyper::header::HeaderValue::from_static("application/json");
    response.headers_mut().insert(hyper::header::CONTENT_TYPE, json);
    response
}
