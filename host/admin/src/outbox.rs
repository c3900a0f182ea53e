//! The streams that wait because Kafka refuses their oldest message: `/outbox`.

use super::{Admin, Failure};
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use fnhost_db::refused::{self, RefusedView};
use fnhost_types::record::TopicPartition;
use serde::Deserialize;
use serde_json::json;

pub(super) fn router() -> Router<Admin> {
    Router::new()
        .route("/outbox", get(list))
        .route("/outbox/retry", post(retry))
        .route("/outbox/to-dead", post(to_dead))
}

/// A stream, as `/outbox` names it.
#[derive(Deserialize)]
struct Stream {
    trigger: String,
    /// Empty for a relay and a schedule.
    #[serde(default)]
    topic: String,
    #[serde(default)]
    partition: i32,
}

impl Stream {
    fn partition(&self) -> TopicPartition {
        TopicPartition::new(&self.topic, self.partition)
    }
}

async fn list(State(admin): State<Admin>) -> Result<Json<Vec<RefusedView>>, Failure> {
    Ok(Json(refused::list(&admin.owner, admin.deployment.id()).await?))
}

async fn retry(State(admin): State<Admin>, Json(stream): Json<Stream>) -> Result<Response, Failure> {
    let found =
        refused::retry(&admin.owner, admin.deployment.id(), &stream.trigger, &stream.partition()).await?;
    Ok(if found { StatusCode::ACCEPTED.into_response() } else { waits_not() })
}

async fn to_dead(State(admin): State<Admin>, Json(stream): Json<Stream>) -> Result<Response, Failure> {
    let given_up =
        refused::give_up(&admin.owner, admin.deployment.id(), &stream.trigger, &stream.partition()).await?;
    let accepted = |seq| (StatusCode::ACCEPTED, Json(json!({ "seq": seq }))).into_response();
    Ok(given_up.map_or_else(waits_not, accepted))
}

fn waits_not() -> Response {
    (
        StatusCode::NOT_FOUND,
        "that stream does not wait for a refused message; GET /outbox shows those that do\n",
    )
        .into_response()
}
