//! The collector: who takes spans, by OTLP over HTTP with protobuf, and how a request to it looks.

use super::span::attribute;
use anyhow::Context as _;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Uri, header};
use http_body_util::{BodyExt as _, Full, Limited};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::{InstrumentationScope, any_value::Value};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message as _;
use std::collections::BTreeMap;
use std::time::Duration;
use wasmtime_wasi_http::{RequestOptions, default_send_request};

/// Longest wait for the collector's answer, its connection included.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes of an answer that are read.
const ANSWER_MAX_BYTES: usize = 64 << 10;
/// The path that OTLP/HTTP adds to a base URL for traces.
const TRACES_PATH: &str = "v1/traces";

/// The attribute with the name of the service.
const SERVICE: &str = "service.name";

/// Variables of OpenTelemetry that say more than the command line does.
const TRACES_ENDPOINT: &str = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT";
const HEADERS: [&str; 2] = ["OTEL_EXPORTER_OTLP_HEADERS", "OTEL_EXPORTER_OTLP_TRACES_HEADERS"];
const PROTOCOLS: [&str; 2] = ["OTEL_EXPORTER_OTLP_PROTOCOL", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"];
const SERVICE_NAME: &str = "OTEL_SERVICE_NAME";
const RESOURCE_ATTRIBUTES: &str = "OTEL_RESOURCE_ATTRIBUTES";

/// A trace collector: its URL, headers and resource attributes.
pub struct Collector {
    uri: Uri,
    /// Without what may be secret in it.
    shown: String,
    /// Values are marked as sensitive: keys of hosted collectors are among them.
    headers: HeaderMap,
    /// What all spans say of this host.
    attributes: BTreeMap<String, String>,
}

/// Why the collector did not take a request.
#[derive(Debug)]
pub(super) struct Refused {
    /// Why the collector refused, for the log.
    pub reason: String,
    /// Whether it may take the same request later.
    pub may_pass: bool,
}

impl Collector {
    /// The one at `base`, or at the endpoint for traces that the environment names; none where neither does. `variable`
    /// reads the environment.
    ///
    /// # Errors
    /// A value that cannot be meant, with the name of its variable.
    pub fn from_settings(
        base: Option<&str>,
        variable: impl Fn(&str) -> Option<String>,
    ) -> anyhow::Result<Option<Self>> {
        let variable = |name: &str| variable(name).filter(|value| !value.trim().is_empty());
        let base = base.filter(|base| !base.trim().is_empty());
        let url = match (variable(TRACES_ENDPOINT), base) {
            (Some(url), _) => parse(&url).with_context(|| format!("{TRACES_ENDPOINT}={url}"))?,
            (None, Some(base)) => {
                let mut url = parse(base).with_context(|| format!("--otlp {base}"))?;
                let path = format!("{}/{TRACES_PATH}", url.path().trim_end_matches('/'));
                url.set_path(&path);
                url
            }
            (None, None) => return Ok(None),
        };
        for name in PROTOCOLS {
            if let Some(protocol) = variable(name).filter(|protocol| protocol != "http/protobuf") {
                anyhow::bail!(
                    "{name}={protocol}: fnhost speaks http/protobuf, which collectors take on port 4318"
                );
            }
        }
        let mut headers = HeaderMap::new();
        for name in HEADERS {
            for (key, value) in pairs(&variable(name).unwrap_or_default()).with_context(|| name.to_owned())? {
                let key = HeaderName::try_from(key)
                    .with_context(|| format!("{name}: a name is not a header name"))?;
                // The value may be a secret: it is not in the message.
                let value = HeaderValue::try_from(value);
                let mut value =
                    value.map_err(|_| anyhow::anyhow!("{name}: the value of {key} is not a header value"))?;
                value.set_sensitive(true);
                headers.insert(key, value);
            }
        }
        let mut shown = url.clone();
        shown.set_query(None);
        Ok(Some(Self {
            uri: url.as_str().parse().context("the collector's URL")?,
            shown: shown.to_string(),
            headers,
            attributes: pairs(&variable(RESOURCE_ATTRIBUTES).unwrap_or_default())
                .context(RESOURCE_ATTRIBUTES)?
                .into_iter()
                .chain(variable(SERVICE_NAME).map(|name| (SERVICE.to_owned(), name)))
                .collect(),
        }))
    }

    /// For spans of this process, `instance`, of an application, which is the service where the environment names no other.
    #[must_use]
    pub fn of(mut self, application: &str, instance: &str) -> Self {
        for (name, value) in [
            (SERVICE, application),
            ("service.instance.id", instance),
            ("telemetry.sdk.name", "fnhost"),
            ("telemetry.sdk.language", "rust"),
            ("telemetry.sdk.version", env!("CARGO_PKG_VERSION")),
        ] {
            self.attributes.entry(name.to_owned()).or_insert_with(|| value.to_owned());
        }
        self
    }

    /// Its URL, for people.
    pub(super) fn shown(&self) -> &str {
        &self.shown
    }

    /// The request with these spans.
    pub(super) fn encode(&self, spans: Vec<Span>) -> Bytes {
        let scope = InstrumentationScope {
            name: "fnhost".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ..InstrumentationScope::default()
        };
        let scope_spans = vec![ScopeSpans { scope: Some(scope), spans, ..ScopeSpans::default() }];
        let attributes = self.attributes.iter();
        let attributes = attributes.map(|(name, value)| attribute(name, Value::StringValue(value.clone())));
        let resource = Some(Resource { attributes: attributes.collect(), ..Resource::default() });
        let resource_spans = vec![ResourceSpans { resource, scope_spans, ..ResourceSpans::default() }];
        ExportTraceServiceRequest { resource_spans }.encode_to_vec().into()
    }

    /// Sends a request; answers how many of its spans the collector rejected.
    pub(super) async fn send(&self, body: Bytes) -> Result<usize, Refused> {
        match tokio::time::timeout(ANSWER_TIMEOUT, self.exchange(body)).await {
            Ok(answer) => answer,
            Err(_) => Err(Refused { reason: format!("no answer within {ANSWER_TIMEOUT:?}"), may_pass: true }),
        }
    }

    async fn exchange(&self, body: Bytes) -> Result<usize, Refused> {
        let broken = |reason: String| Refused { reason, may_pass: true };
        let mut request = Request::post(self.uri.clone());
        if let Some(headers) = request.headers_mut() {
            headers.extend(self.headers.clone());
        }
        let host = self.uri.authority().map(|authority| authority.as_str()).unwrap_or_default();
        let request = request
            .header(header::HOST, host)
            .header(header::CONTENT_TYPE, "application/x-protobuf")
            .header(header::USER_AGENT, concat!("fnhost/", env!("CARGO_PKG_VERSION")))
            .header(header::CONTENT_LENGTH, body.len())
            .body(Full::new(body).map_err(|never| match never {}))
            .map_err(|error| broken(error.to_string()))?;
        let options = RequestOptions {
            connect_timeout: Some(ANSWER_TIMEOUT),
            first_byte_timeout: Some(ANSWER_TIMEOUT),
            between_bytes_timeout: Some(ANSWER_TIMEOUT),
        };
        let (response, transfer) =
            default_send_request(request, Some(options)).await.map_err(|error| broken(error.to_string()))?;
        let status = response.status();
        let read = Limited::new(response.into_body(), ANSWER_MAX_BYTES).collect();
        // The transfer drives the connection.
        let (read, transfer) = (std::pin::pin!(read), std::pin::pin!(transfer));
        let read = match futures::future::select(read, transfer).await {
            futures::future::Either::Left((read, _)) => read,
            futures::future::Either::Right((_, read)) => read.await,
        };
        if !status.is_success() {
            let may_pass = matches!(status.as_u16(), 429 | 502 | 503 | 504);
            return Err(Refused { reason: format!("it answered {status}"), may_pass });
        }
        // The spans are taken; what else it says is a matter of detail.
        let answer = read.ok().and_then(|body| ExportTraceServiceResponse::decode(body.to_bytes()).ok());
        let rejected = answer.and_then(|answer| answer.partial_success).map_or(0, |part| part.rejected_spans);
        Ok(usize::try_from(rejected).unwrap_or(0))
    }
}

fn parse(url: &str) -> anyhow::Result<url::Url> {
    let url =
        url::Url::parse(url).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    url.context("is not a URL of the form http://HOST:4318")
}

/// `name=value` pairs with commas between, percent-encoded: as W3C's baggage has them.
fn pairs(text: &str) -> anyhow::Result<Vec<(String, String)>> {
    let decoded =
        |part: &str| percent_encoding::percent_decode_str(part.trim()).decode_utf8_lossy().into_owned();
    text.split(',')
        .filter(|pair| !pair.trim().is_empty())
        .map(|pair| {
            // Not shown: it may hold a secret.
            let (name, value) = pair.split_once('=').context("is not of the form name=value,name=value")?;
            Ok((decoded(name), decoded(value)))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A base URL, variables, and the URL that traces go to or what the error says.
    type Case = (
        Option<&'static str>,
        &'static [(&'static str, &'static str)],
        Result<Option<&'static str>, &'static str>,
    );

    #[test]
    fn settings_say_where_traces_go() {
        const CASES: &[Case] = &[
            (None, &[], Ok(None)),
            (Some(""), &[], Ok(None)),
            (Some("http://c:4318"), &[], Ok(Some("http://c:4318/v1/traces"))),
            (Some("https://c/otlp/"), &[], Ok(Some("https://c/otlp/v1/traces"))),
            (
                Some("http://c:4318"),
                &[(TRACES_ENDPOINT, "http://d:1/as/it/stands")],
                Ok(Some("http://d:1/as/it/stands")),
            ),
            (Some("c:4318"), &[], Err("is not a URL")),
            (Some("grpc://c:4317"), &[], Err("is not a URL")),
            (
                Some("http://c"),
                &[("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")],
                Err("fnhost speaks http/protobuf"),
            ),
            (Some("http://c"), &[("OTEL_EXPORTER_OTLP_HEADERS", "secret-without-a-name")], Err("name=value")),
        ];
        for (base, variables, expected) in CASES {
            let variable = |name: &str| {
                variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
            };
            let made = Collector::from_settings(*base, variable);
            match (made, expected) {
                (Ok(made), Ok(url)) => {
                    assert_eq!(
                        made.map(|made| made.uri.to_string()).as_deref(),
                        *url,
                        "{base:?} {variables:?}"
                    );
                }
                (Err(error), Err(expected)) => {
                    let said = format!("{error:#}");
                    assert!(said.contains(expected) && !said.contains("secret"), "{said}");
                }
                (made, _) => panic!("{base:?} {variables:?}: {:?}", made.map(|made| made.is_some())),
            }
        }
    }

    #[test]
    fn what_the_environment_says_of_the_service_counts() {
        let variable = |name: &str| match name {
            RESOURCE_ATTRIBUTES => Some("deployment.environment=a%20b,service.name=other".to_owned()),
            SERVICE_NAME => Some("shop".to_owned()),
            "OTEL_EXPORTER_OTLP_HEADERS" => Some("api-key=k".to_owned()),
            _ => None,
        };
        let collector =
            Collector::from_settings(Some("http://c"), variable).unwrap().unwrap().of("orders", "1");
        let request = ExportTraceServiceRequest::decode(collector.encode(vec![Span::default()])).unwrap();
        let said = format!("{:?}", request.resource_spans[0].resource);
        for text in ["\"shop\"", "\"a b\"", "service.instance.id"] {
            assert!(said.contains(text), "{text} in {said}");
        }
        assert!(!said.contains("orders") && !format!("{:?}", collector.headers).contains("\"k\""));
    }
}
