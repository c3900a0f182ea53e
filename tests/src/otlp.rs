//! A collector of traces: takes spans by OTLP over HTTP, and keeps them.

use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value::Value};
pub use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::{Span as Proto, status::StatusCode as SpanStatus};
use prost::Message as _;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// A span as it arrived.
#[derive(Clone, Debug)]
pub struct Span {
    /// 32 hexadecimal digits.
    pub trace: String,
    /// 16 hexadecimal digits.
    pub id: String,
    /// The parent's id; empty where there is none.
    pub parent: String,
    /// What it is called.
    pub name: String,
    /// Kind of the span: server, client, producer, consumer or internal.
    pub kind: SpanKind,
    /// Nanoseconds since 1970 when it began and ended.
    pub times: (u64, u64),
    /// Attributes as text.
    pub attributes: BTreeMap<String, String>,
    /// Whether its status is an error.
    pub failed: bool,
    /// `service.name` of the resource.
    pub service: String,
}

/// The collector, for as long as this lives.
pub struct Collector {
    /// Base URL of the collector, `http://host:port`.
    pub url: String,
    taken: Arc<Mutex<Vec<Span>>>,
    /// Stops with this value.
    _serving: JoinSet<()>,
}

impl Collector {
    /// One on a free port.
    ///
    /// # Errors
    /// There is none.
    pub async fn start() -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}", listener.local_addr()?);
        let taken: Arc<Mutex<Vec<Span>>> = Arc::default();
        let mut serving = JoinSet::new();
        serving.spawn(serve(listener, taken.clone()));
        Ok(Self { url, taken, _serving: serving })
    }

    /// All spans so far.
    pub fn spans(&self) -> Vec<Span> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn serve(listener: TcpListener, taken: Arc<Mutex<Vec<Span>>>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let taken = taken.clone();
        let service = service_fn(move |request| {
            let taken = taken.clone();
            async move { Ok::<_, Infallible>(take(request, &taken).await) }
        });
        connections.spawn(async move {
            // A host that was killed breaks off.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

/// Takes a request as the protocol has it, and refuses anything else.
async fn take(request: Request<Incoming>, taken: &Mutex<Vec<Span>>) -> Response<Full<Bytes>> {
    let is_otlp = request.method() == http::Method::POST
        && request.uri().path() == "/v1/traces"
        && request.headers().get(header::CONTENT_TYPE).is_some_and(|kind| kind == "application/x-protobuf");
    let body = request.into_body().collect().await.map(|body| body.to_bytes());
    let decoded = body.ok().and_then(|body| ExportTraceServiceRequest::decode(body).ok());
    let mut response = Response::new(Full::default());
    match decoded.filter(|_| is_otlp) {
        Some(decoded) => {
            taken.lock().unwrap_or_else(PoisonError::into_inner).extend(spans(decoded));
            *response.body_mut() = ExportTraceServiceResponse::default().encode_to_vec().into();
        }
        None => *response.status_mut() = StatusCode::BAD_REQUEST,
    }
    response
}

fn spans(request: ExportTraceServiceRequest) -> Vec<Span> {
    let mut spans = Vec::new();
    for resource in request.resource_spans {
        let about = resource.resource.map(|resource| texts(resource.attributes)).unwrap_or_default();
        let service = about.get("service.name").cloned().unwrap_or_default();
        for span in resource.scope_spans.into_iter().flat_map(|scope| scope.spans) {
            spans.push(read(span, &service));
        }
    }
    spans
}

fn read(span: Proto, service: &str) -> Span {
    let hex = |id: &[u8]| id.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    Span {
        trace: hex(&span.trace_id),
        id: hex(&span.span_id),
        parent: hex(&span.parent_span_id),
        kind: span.kind(),
        times: (span.start_time_unix_nano, span.end_time_unix_nano),
        failed: span.status.is_some_and(|status| status.code() == SpanStatus::Error),
        attributes: texts(span.attributes),
        name: span.name,
        service: service.to_owned(),
    }
}

fn texts(attributes: Vec<KeyValue>) -> BTreeMap<String, String> {
    let text = |value: Value| match value {
        Value::StringValue(text) => text,
        Value::IntValue(number) => number.to_string(),
        Value::DoubleValue(number) => number.to_string(),
        other => format!("{other:?}"),
    };
    let value = |pair: KeyValue| Some((pair.key, text(pair.value?.value?)));
    attributes.into_iter().filter_map(value).collect()
}
