//! Triggers and their partitions, of the whole deployment: `/lag`, `/positions`, `/replay`, `/triggers/pause` and `/triggers/resume`.

use super::{Admin, Failure};
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use fnhost_db::positions;
use fnhost_dispatch::operator::{Error, Operator, Place, Replay, topic_partition};
use fnhost_types::record::TopicPartition;
use serde::{Deserialize, Deserializer};
use serde_json::json;
use std::time::{Duration, Instant};

/// How long one request puts records before a trigger; the caller goes on from where it says.
const REPLAY_TIME_MAX: Duration = Duration::from_secs(20);

pub(super) fn router() -> Router<Admin> {
    Router::new()
        .route("/lag", get(lag))
        .route("/positions", post(move_position))
        .route("/replay", post(replay))
        .route("/triggers/pause", post(pause))
        .route("/triggers/resume", post(resume))
}

/// Reads `"TOPIC/NUMBER"`.
fn partition<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<TopicPartition>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    text.map(|text| topic_partition(&text).map_err(serde::de::Error::custom)).transpose()
}

/// Why nothing was done.
enum Refusal {
    Failed(Failure),
    Operator(Error),
    NoKafka,
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self::Operator(error)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        match self {
            Self::Failed(failure) => failure.into_response(),
            Self::Operator(Error::Database(error)) => Failure::from(error).into_response(),
            Self::Operator(Error::Refused(reason)) => {
                (StatusCode::UNPROCESSABLE_ENTITY, format!("{reason}\n")).into_response()
            }
            Self::Operator(error @ Error::Kafka(_)) => {
                let error = fnhost_types::causes::chain(&error);
                (StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n")).into_response()
            }
            Self::NoKafka => {
                (StatusCode::CONFLICT, "this host is still starting, or has no Kafka: ask another one\n")
                    .into_response()
            }
        }
    }
}

fn operator(admin: &Admin) -> Result<&Operator, Refusal> {
    admin.operator.get().ok_or(Refusal::NoKafka)
}

#[derive(Deserialize)]
struct LagQuery {
    trigger: Option<String>,
}

async fn lag(State(admin): State<Admin>, Query(query): Query<LagQuery>) -> Result<Response, Refusal> {
    Ok(Json(operator(&admin)?.lag(query.trigger.as_deref()).await?).into_response())
}

/// A partition of a trigger, or all of them.
#[derive(Deserialize)]
struct Move {
    trigger: String,
    #[serde(default, deserialize_with = "partition")]
    partition: Option<TopicPartition>,
    #[serde(default)]
    all: bool,
    to: Place,
    #[serde(default)]
    dry_run: bool,
}

async fn move_position(State(admin): State<Admin>, Json(asked): Json<Move>) -> Result<Response, Refusal> {
    let Move { trigger, partition, all, to, dry_run } = asked;
    if all == partition.is_some() {
        return Err(Error::Refused("name a partition, or say \"all\": true".into()).into());
    }
    let moved = operator(&admin)?.move_position(&trigger, partition.as_ref(), to, dry_run).await?;
    Ok(Json(moved).into_response())
}

#[derive(Deserialize)]
struct ReplayRequest {
    #[serde(flatten)]
    replay: Replay,
    #[serde(default, deserialize_with = "partition")]
    partition: Option<TopicPartition>,
    #[serde(default)]
    dry_run: bool,
}

async fn replay(State(admin): State<Admin>, Json(asked): Json<ReplayRequest>) -> Result<Response, Refusal> {
    let ReplayRequest { replay, partition, dry_run } = asked;
    let operator = operator(&admin)?;
    let mut parts = operator.plan_replay(&replay, partition.as_ref()).await?;
    let deadline = Instant::now() + REPLAY_TIME_MAX;
    for part in parts.iter_mut().filter(|_| !dry_run) {
        while !part.is_done() && Instant::now() < deadline {
            operator.replay_next(&replay, part).await?;
        }
    }
    Ok(Json(json!({ "complete": parts.iter().all(|part| part.is_done()), "parts": parts })).into_response())
}

#[derive(Deserialize)]
struct Pause {
    trigger: String,
    #[serde(default, deserialize_with = "partition")]
    partition: Option<TopicPartition>,
    #[serde(default)]
    reason: Option<String>,
}

async fn pause(State(admin): State<Admin>, Json(asked): Json<Pause>) -> Result<Response, Refusal> {
    let reason = asked.reason.as_deref().unwrap_or("paused by an operator");
    let (owner, deployment) = (&admin.owner, admin.deployment.id());
    changed(positions::pause(owner, deployment, &asked.trigger, asked.partition.as_ref(), reason).await)
}

async fn resume(State(admin): State<Admin>, Json(asked): Json<Pause>) -> Result<Response, Refusal> {
    let (owner, deployment) = (&admin.owner, admin.deployment.id());
    changed(positions::resume(owner, deployment, &asked.trigger, asked.partition.as_ref()).await)
}

fn changed(found: Result<bool, fnhost_db::Error>) -> Result<Response, Refusal> {
    match found {
        Ok(true) => Ok(StatusCode::NO_CONTENT.into_response()),
        Ok(false) => Ok((
            StatusCode::NOT_FOUND,
            "there is no such trigger or partition, or its whole trigger is paused; GET /lag shows them\n",
        )
            .into_response()),
        Err(error) => Err(Refusal::Failed(error.into())),
    }
}
