//! Records that died or wait, of the whole deployment: `/dead-letters` and `/parked`.

use super::{Admin, Failure};
use axum::extract::{FromRequest, Path, Query, Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use fnhost_db::dead::{self, DeadFilter, DeadGroup, DeadLetter, Redriven};
use fnhost_db::parked::{self, ParkedFilter};
use fnhost_db::views::RecordView;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// Records that a list shows where the caller names no limit.
const LIST_DEFAULT: i64 = 100;
/// Records that a list shows at most.
const LIST_MAX: i64 = 1_000;

pub(super) fn router() -> Router<Admin> {
    Router::new()
        .route("/dead-letters", get(dead_letters))
        .route("/dead-letters/groups", get(groups))
        .route("/dead-letters/{id}", get(dead_letter))
        .route("/dead-letters/redrive", post(redrive))
        .route("/dead-letters/discard", post(discard))
        .route("/parked", get(parked_records))
        .route("/parked/retry", post(retry))
        .route("/parked/discard", post(discard_parked))
}

/// How long a list may be, and what it is about.
#[derive(Deserialize)]
struct DeadQuery {
    limit: Option<i64>,
    trigger: Option<String>,
    topic: Option<String>,
    partition: Option<i32>,
    since_ms: Option<i64>,
    until_ms: Option<i64>,
    reason: Option<String>,
    group: Option<String>,
}

impl DeadQuery {
    fn read(self) -> (DeadFilter, i64) {
        let Self { limit, trigger, topic, partition, since_ms, until_ms, reason, group } = self;
        let filter =
            DeadFilter { ids: Vec::new(), trigger, topic, partition, since_ms, until_ms, reason, group };
        (filter, bounded(limit))
    }
}

fn bounded(limit: Option<i64>) -> i64 {
    limit.unwrap_or(LIST_DEFAULT).clamp(1, LIST_MAX)
}

async fn dead_letters(
    State(admin): State<Admin>,
    Query(query): Query<DeadQuery>,
) -> Result<Json<Vec<DeadLetter>>, Failure> {
    let (filter, limit) = query.read();
    Ok(Json(dead::list(&admin.owner, admin.deployment.id(), &filter, limit).await?))
}

async fn groups(
    State(admin): State<Admin>,
    Query(query): Query<DeadQuery>,
) -> Result<Json<Vec<DeadGroup>>, Failure> {
    let (filter, limit) = query.read();
    Ok(Json(dead::groups(&admin.owner, admin.deployment.id(), &filter, limit).await?))
}

async fn dead_letter(State(admin): State<Admin>, Path(id): Path<i64>) -> Result<Response, Failure> {
    let filter = DeadFilter { ids: vec![id], ..DeadFilter::default() };
    let found = dead::list(&admin.owner, admin.deployment.id(), &filter, 1).await?;
    Ok(match found.into_iter().next() {
        Some(letter) => Json(letter).into_response(),
        None => (StatusCode::NOT_FOUND, "there is no such dead letter\n").into_response(),
    })
}

/// What a change is about: a filter, or `"all": true` in its place, so that an empty one does not change everything by mistake.
struct Chosen<F>(F);

/// How that is written.
#[derive(Deserialize)]
struct Written<F> {
    #[serde(default)]
    all: bool,
    filter: Option<F>,
}

impl<F: DeserializeOwned + Default, S: Send + Sync> FromRequest<S> for Chosen<F> {
    type Rejection = Response;

    async fn from_request(request: Request, state: &S) -> Result<Self, Response> {
        let read = Json::<Written<F>>::from_request(request, state).await;
        match read.map_err(IntoResponse::into_response)?.0 {
            Written { filter: Some(filter), all: false } => Ok(Self(filter)),
            Written { filter: None, all: true } => Ok(Self(F::default())),
            _ => {
                Err((StatusCode::BAD_REQUEST, "send {\"filter\": {…}} or {\"all\": true}\n").into_response())
            }
        }
    }
}

async fn redrive(
    State(admin): State<Admin>,
    Chosen(filter): Chosen<DeadFilter>,
) -> Result<Json<Redriven>, Failure> {
    Ok(Json(dead::redrive(&admin.owner, admin.deployment.id(), &filter).await?))
}

async fn discard(
    State(admin): State<Admin>,
    Chosen(filter): Chosen<DeadFilter>,
) -> Result<Json<Value>, Failure> {
    let discarded = dead::discard(&admin.owner, admin.deployment.id(), &filter).await?;
    Ok(Json(json!({ "discarded": discarded })))
}

#[derive(Deserialize)]
struct ParkedQuery {
    limit: Option<i64>,
    trigger: Option<String>,
    topic: Option<String>,
    partition: Option<i32>,
    offset: Option<i64>,
    key: Option<String>,
    reason: Option<String>,
}

async fn parked_records(
    State(admin): State<Admin>,
    Query(query): Query<ParkedQuery>,
) -> Result<Json<Vec<RecordView>>, Failure> {
    let ParkedQuery { limit, trigger, topic, partition, offset, key, reason } = query;
    let filter = ParkedFilter { trigger, topic, partition, offset, key, reason };
    Ok(Json(parked::list(&admin.owner, admin.deployment.id(), &filter, bounded(limit)).await?))
}

async fn retry(
    State(admin): State<Admin>,
    Chosen(filter): Chosen<ParkedFilter>,
) -> Result<Json<Value>, Failure> {
    let retried = parked::retry(&admin.owner, admin.deployment.id(), &filter).await?;
    Ok(Json(json!({ "retried": retried })))
}

async fn discard_parked(
    State(admin): State<Admin>,
    Chosen(filter): Chosen<ParkedFilter>,
) -> Result<Json<Value>, Failure> {
    let discarded = parked::discard(&admin.owner, admin.deployment.id(), &filter).await?;
    Ok(Json(json!({ "discarded": discarded })))
}
