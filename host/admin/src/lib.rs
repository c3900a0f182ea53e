//! The admin address: health, readiness, what runs, and what waits or died. Never the public one.

mod audit;
mod deployment;
mod door;
pub mod health;
mod listen;
mod login;
mod outbox;
mod records;
mod scrape;
mod tls;
mod triggers;

use crate::health::Health;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
pub use door::{AllowedHosts, Door};
use fnhost_db::{OwnerPool, views};
use fnhost_deployment::Deployment;
use fnhost_deployment::fetch::Sources;
use fnhost_dispatch::operator::Operator;
use fnhost_dispatch::status::PartitionStatus;
pub use listen::serve;
pub use login::{Networks, Role, TOKEN_CHARS_MIN, TOKENS_MAX, Tokens};
pub use scrape::Scrape;
use serde::Serialize;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
pub use tls::Certificate;

/// What the admin address needs.
#[derive(Clone)]
pub struct Admin {
    /// The components that run on this host, and their swaps.
    pub deployment: Deployment,
    /// Connections as the owner role.
    pub owner: OwnerPool,
    /// Health, and the triggers with their partitions.
    pub health: Health,
    /// Metrics.
    pub scrape: Scrape,
    /// What needs both Kafka and the database; nothing is there where this host has no Kafka, and while it starts.
    pub operator: Arc<OnceLock<Operator>>,
    /// Who may ask it.
    pub door: Door,
    /// Hosts beyond public ones from which code may be fetched.
    pub sources: Sources,
}

/// All routes of the admin address.
pub fn router(admin: Admin) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .merge(audit::router())
        .merge(deployment::router())
        .merge(outbox::router())
        .route("/partitions", get(partitions))
        .route("/totals", get(totals))
        .merge(records::router())
        .merge(triggers::router())
        // The last one comes first.
        .layer(middleware::from_fn_with_state(admin.clone(), audit::record))
        .layer(middleware::from_fn_with_state(admin.door.clone(), login::guard))
        .layer(middleware::from_fn_with_state(admin.door.clone(), door::guard))
        .with_state(admin)
}

async fn ready(State(admin): State<Admin>) -> Response {
    let readiness = admin.health.readiness();
    let status = if readiness.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(readiness)).into_response()
}

async fn metrics(State(admin): State<Admin>) -> Response {
    match admin.scrape.text() {
        Ok(text) => ([(header::CONTENT_TYPE, scrape::CONTENT_TYPE)], text).into_response(),
        Err(error) => {
            tracing::error!(%error, "the metrics cannot be written");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

#[derive(Serialize)]
struct PartitionView {
    trigger: String,
    component: String,
    group: String,
    topic: String,
    partition: i32,
    #[serde(flatten)]
    state: fnhost_dispatch::status::State,
    position: i64,
    records: u64,
    batches: u64,
    duplicates_refused: u64,
    failed_attempts: u64,
    parked: u64,
    dead: u64,
}

async fn partitions(State(admin): State<Admin>) -> Json<Vec<PartitionView>> {
    let mut views = Vec::new();
    for trigger in admin.health.registry().triggers() {
        for status in trigger.partitions() {
            views.push(partition_view(&trigger, &status));
        }
    }
    Json(views)
}

fn partition_view(
    trigger: &fnhost_dispatch::status::TriggerStatus,
    status: &PartitionStatus,
) -> PartitionView {
    PartitionView {
        trigger: trigger.id.clone(),
        component: trigger.component.clone(),
        group: trigger.group.clone(),
        topic: status.tp.topic.clone(),
        partition: status.tp.partition,
        state: status.state(),
        position: status.position.load(Ordering::Relaxed),
        records: status.counts.records.load(Ordering::Relaxed),
        batches: status.counts.batches.load(Ordering::Relaxed),
        duplicates_refused: status.counts.duplicates.load(Ordering::Relaxed),
        failed_attempts: status.counts.failed_attempts.load(Ordering::Relaxed),
        parked: status.parked.load(Ordering::Relaxed),
        dead: status.counts.dead.load(Ordering::Relaxed),
    }
}

async fn totals(State(admin): State<Admin>) -> Result<Json<views::Totals>, Failure> {
    Ok(Json(views::totals(&admin.owner, admin.deployment.id()).await?))
}

struct Failure(fnhost_db::Error);

impl From<fnhost_db::Error> for Failure {
    fn from(error: fnhost_db::Error) -> Self {
        Self(error)
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        tracing::warn!(
            error = fnhost_types::causes::chain(&self.0),
            "the admin address cannot read the database"
        );
        (StatusCode::SERVICE_UNAVAILABLE, "the database does not answer\n").into_response()
    }
}
