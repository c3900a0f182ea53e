//! What runs, on the admin address: components, their versions, swaps, and all hosts of the deployment.

use super::Admin;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use fnhost_db::hosts::{self, VersionView};
use fnhost_deployment::offer::{Changed, Offer, Refused};
use fnhost_deployment::{CANARY_DURATION, COMPONENT_BYTES_MAX, fetch};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

/// Bytes of a request: a component in Base64, and what else an offer says.
pub(super) const BODY_BYTES_MAX: usize = COMPONENT_BYTES_MAX / 3 * 4 + (8 << 20);
/// What the paths of requests begin with that may bring code.
pub(super) const PATH: &str = "/components/";
const WASM: &str = "application/wasm";
const JSON: &str = "application/json";

/// Routes for versions, swaps and rollbacks: `/deployment` and `/components`.
pub(super) fn router() -> Router<Admin> {
    Router::new()
        .route("/components", get(components))
        .route("/components/{id}/versions", get(versions).post(offer))
        .route("/components/{id}/rollback", post(roll_back))
        .route("/deployment", get(deployment))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
}

#[derive(Serialize)]
struct ComponentView {
    id: String,
    /// Number of the version that runs.
    version: i64,
    digest: String,
    http: bool,
    kafka: bool,
    on_trial: bool,
    canary: Option<CanaryView>,
}

#[derive(Serialize)]
struct CanaryView {
    version: i64,
    digest: String,
    percent: u32,
}

async fn components(State(admin): State<Admin>) -> Json<Vec<ComponentView>> {
    let views = admin.deployment.slots().iter().map(|(id, slot)| {
        let running = slot.running();
        let version = &running.current.version;
        ComponentView {
            id: id.clone(),
            version: version.number,
            digest: version.component.digest().to_owned(),
            http: version.component.handles_http(),
            kafka: version.component.handles_kafka(),
            on_trial: running.on_trial,
            canary: running.candidate.as_ref().map(|candidate| CanaryView {
                version: candidate.lane.version.number,
                digest: candidate.lane.version.component.digest().to_owned(),
                percent: candidate.percent,
            }),
        }
    });
    Json(views.collect())
}

async fn versions(
    State(admin): State<Admin>,
    Path(component): Path<String>,
) -> Result<Json<Vec<VersionView>>, Failure> {
    let versions = hosts::versions(&admin.owner, admin.deployment.id(), &component).await;
    let versions = versions.map_err(Refused::from)?;
    if versions.is_empty() {
        let known = admin.deployment.slots().keys().cloned().collect::<Vec<_>>().join(", ");
        return Err(Refused::NoComponent { component, known }.into());
    }
    Ok(Json(versions))
}

async fn deployment(State(admin): State<Admin>) -> Result<Json<serde_json::Value>, Failure> {
    let view = hosts::deployment_view(&admin.owner, admin.deployment.id()).await;
    Ok(Json(view.map_err(Refused::from)?))
}

/// How a version is tried, of a request with the code as its body.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct OfferQuery {
    sha256: Option<String>,
    canary_percent: Option<u32>,
    canary_s: Option<u64>,
}

/// An offer as JSON: one of `wasm`, `url` and `path`, or only the `sha256` of code that is kept.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OfferBody {
    /// Base64.
    wasm: Option<String>,
    /// Fetched by this host; needs `sha256`.
    url: Option<String>,
    /// A file that this host can read.
    path: Option<std::path::PathBuf>,
    sha256: Option<String>,
    /// In minisign's form.
    signature: Option<String>,
    origin: Option<String>,
    canary_percent: Option<u32>,
    canary_s: Option<u64>,
    #[serde(default)]
    variables: BTreeMap<String, String>,
    #[serde(default)]
    clear_variables: bool,
}

async fn offer(
    State(admin): State<Admin>,
    Path(component): Path<String>,
    Query(query): Query<OfferQuery>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<(StatusCode, Json<Changed>), Failure> {
    if headers.contains_key(header::CONTENT_ENCODING) {
        return Err(Failure::ContentEncoding);
    }
    let offer = match content_type(&headers) {
        Some(WASM) => Offer {
            wasm: body.to_vec(),
            sha256: query.sha256,
            origin: "uploaded".to_owned(),
            canary: canary(query.canary_percent, query.canary_s),
            ..Offer::default()
        },
        Some(JSON) => {
            let body: OfferBody = serde_json::from_slice(&body)
                .map_err(|error| Refused::Invalid(format!("the request cannot be read: {error}")))?;
            read(&admin, body).await?
        }
        _ => return Err(Failure::ContentType),
    };
    let changed = admin.deployment.offer(&component, offer).await?;
    Ok((StatusCode::CREATED, Json(changed)))
}

async fn read(admin: &Admin, body: OfferBody) -> Result<Offer, Refused> {
    let invalid = |message: &str| Refused::Invalid(message.to_owned());
    let mut signature = body.signature;
    let (wasm, origin) = match (body.wasm, body.url, body.path, &body.sha256) {
        (Some(wasm), None, None, _) => {
            let decoded = BASE64_STANDARD.decode(wasm).map_err(|_| invalid("\"wasm\" is not Base64"))?;
            (decoded, "uploaded".to_owned())
        }
        (None, Some(_), None, None) => {
            return Err(invalid(
                "code from a URL needs its \"sha256\", so that whoever controls the URL cannot change what runs",
            ));
        }
        (None, Some(url), None, Some(_)) => {
            let fetched = fetch::fetch(&url, &admin.sources).await;
            (fetched.map_err(|error| Refused::Invalid(error.to_string()))?, url)
        }
        (None, None, Some(path), _) => {
            let shown = path.display().to_string();
            let read = tokio::task::spawn_blocking(move || fetch::read(&path)).await;
            let read = read.unwrap_or_else(|_| Err(std::io::Error::other("the read was broken off")));
            (read.map_err(|error| Refused::Invalid(format!("cannot read {shown}: {error}")))?, shown)
        }
        (None, None, None, Some(digest)) => {
            let (wasm, stored) = admin.deployment.stored_code(digest).await?;
            signature = signature.or(stored);
            (wasm, "an earlier version".to_owned())
        }
        _ => {
            return Err(invalid(
                "give one of \"wasm\", \"url\" and \"path\", or the \"sha256\" of an earlier version",
            ));
        }
    };
    Ok(Offer {
        wasm,
        signature,
        sha256: body.sha256,
        origin: body.origin.unwrap_or(origin),
        variables: body.variables,
        clear_variables: body.clear_variables,
        canary: canary(body.canary_percent, body.canary_s),
        found: false,
    })
}

fn canary(percent: Option<u32>, seconds: Option<u64>) -> Option<(u32, Duration)> {
    Some((percent?, seconds.map_or(CANARY_DURATION, Duration::from_secs)))
}

async fn roll_back(
    State(admin): State<Admin>,
    Path(component): Path<String>,
    headers: HeaderMap,
) -> Result<Json<Changed>, Failure> {
    if content_type(&headers) != Some(JSON) {
        return Err(Failure::ContentType);
    }
    Ok(Json(admin.deployment.roll_back(&component, "rolled back by an operator").await?))
}

fn content_type(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
    value.split(';').next().map(str::trim)
}

enum Failure {
    ContentType,
    ContentEncoding,
    Refused(Refused),
}

impl From<Refused> for Failure {
    fn from(refused: Refused) -> Self {
        Self::Refused(refused)
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let refused = match self {
            Self::ContentType => {
                let cure = format!("send content-type {WASM} or {JSON}\n");
                return (StatusCode::UNSUPPORTED_MEDIA_TYPE, cure).into_response();
            }
            Self::ContentEncoding => {
                let cure = "send the code as it is, without content-encoding\n";
                return (StatusCode::UNSUPPORTED_MEDIA_TYPE, cure).into_response();
            }
            Self::Refused(refused) => refused,
        };
        let status = match &refused {
            Refused::NoComponent { .. } => StatusCode::NOT_FOUND,
            Refused::Invalid(_) | Refused::Load(_) => StatusCode::UNPROCESSABLE_ENTITY,
            Refused::NoFallback(_) => StatusCode::CONFLICT,
            Refused::Host(error) => {
                tracing::warn!(
                    error = fnhost_types::causes::chain(error),
                    "a request to the admin address failed"
                );
                StatusCode::SERVICE_UNAVAILABLE
            }
        };
        (status, fnhost_types::causes::chain(&refused) + "\n").into_response()
    }
}
