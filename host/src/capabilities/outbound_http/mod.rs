//! `wasi:http/client`: requests that a component sends, held to its `allowed_outbound_hosts`.

mod traced;

use std::sync::Arc;
use std::time::Duration;

use http::uri::Scheme;
use http_body_util::BodyExt as _;
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody, WasiHttpHooks, default_send_request};

use crate::engine::Origin;
use crate::manifest::hosts::{AllowedHosts, default_port};

/// Time a connection may take to be made where the function names none.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Time until the first byte of the answer where the function names none.
const FIRST_BYTE_TIMEOUT: Duration = Duration::from_secs(60);
/// Time between two parts of the answer where the function names none.
const BETWEEN_BYTES_TIMEOUT: Duration = Duration::from_secs(60);

type SendResult = Result<(http::Response<WasiBody>, Transfer), Error>;
type Transfer = Box<dyn Future<Output = Result<(), Error>> + Send>;

/// Sends the requests of one component.
pub struct OutboundHttp {
    allowed: Arc<AllowedHosts>,
    /// The call that sends them.
    origin: Arc<Origin>,
}

impl OutboundHttp {
    /// Lets requests to the allowed hosts through.
    pub(crate) fn new(allowed: Arc<AllowedHosts>, origin: Arc<Origin>) -> Self {
        Self { allowed, origin }
    }

    fn check<B>(&self, request: &http::Request<B>) -> Result<(), Error> {
        let uri = request.uri();
        let scheme = uri.scheme().unwrap_or(&Scheme::HTTPS).as_str();
        let host = uri.host().ok_or(Error::HttpRequestUriInvalid)?;
        let port = uri.port_u16().or_else(|| default_port(scheme)).ok_or(Error::HttpRequestUriInvalid)?;
        self.allowed.check(scheme, host, port).map_err(|refused| {
            tracing::warn!("{refused}");
            Error::HttpRequestDenied
        })
    }
}

impl WasiHttpHooks for OutboundHttp {
    fn send_request(
        &mut self,
        mut request: http::Request<WasiBody>,
        options: Option<RequestOptions>,
        // Resolves to what became of the response's body; there is nothing to do with it here.
        _processed: Transfer,
    ) -> Box<dyn Future<Output = SendResult> + Send> {
        let options = with_timeouts(options.unwrap_or_default());
        let allowed = self.check(&request);
        let traced = traced::follow(&mut request, self.origin.cause().context);
        Box::new(async move {
            allowed?;
            let sent = default_send_request(request, Some(options)).await;
            if let Some(traced) = traced {
                let outcome = sent.as_ref().map(|(response, _)| response.status());
                traced.answered(outcome.map_err(ToString::to_string));
            }
            let (response, transfer) = sent?;
            Ok((response.map(|body| body.boxed_unsync()), Box::new(transfer) as Transfer))
        })
    }
}

fn with_timeouts(options: RequestOptions) -> RequestOptions {
    RequestOptions {
        connect_timeout: options.connect_timeout.or(Some(CONNECT_TIMEOUT)),
        first_byte_timeout: options.first_byte_timeout.or(Some(FIRST_BYTE_TIMEOUT)),
        between_bytes_timeout: options.between_bytes_timeout.or(Some(BETWEEN_BYTES_TIMEOUT)),
    }
}
