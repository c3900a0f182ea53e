//! `wasi:http/client`: requests that a component sends, held to its `allowed_outbound_hosts`, and sent so that a host in
//! trouble harms nobody else.
//!
//! Each host that a component sends to is a [`target::Target`]: connections that are used again, time-outs, a circuit
//! breaker, retries within a budget, and a bound on what is under way. `docs/outbound.md` says what each does.

mod body;
mod breaker;
mod budget;
mod pool;
mod target;
#[cfg(test)]
mod tests;
mod tls;
mod traced;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::uri::Scheme;
pub use tls::secure;
use wasmtime::component::Linker;
use wasmtime_wasi_http::WasiHttpHooks;
pub use wasmtime_wasi_http::{Error, RequestOptions, WasiBody};

use crate::{Capability, NewCall, Provided, Refused, View};
use fnhost_manifest::ComponentSpec;
use fnhost_manifest::hosts::{AllowedHosts, default_port};
use fnhost_manifest::outbound::OutboundSettings;
use fnhost_metrics::OutboundMetrics;
use fnhost_trace::Origin;
use fnhost_types::trust::NoAuthorities;
use pool::Address;
use target::{Target, Times};

/// Time between two parts of the answer where the function names none.
const BETWEEN_BYTES_TIMEOUT: Duration = Duration::from_secs(60);
/// Hosts of one component that are remembered: a `*` in `allowed_outbound_hosts` stands for any number of them.
const TARGETS_MAX: usize = 256;

type SendResult = Result<(http::Response<WasiBody>, Transfer), Error>;
type Transfer = Box<dyn Future<Output = Result<(), Error>> + Send>;

/// What all calls of one component share: the hosts that it sends to.
#[derive(Debug)]
pub struct Outbound {
    component: String,
    allowed: Arc<AllowedHosts>,
    settings: OutboundSettings,
    targets: Mutex<HashMap<Address, Arc<Target>>>,
}

impl Outbound {
    /// Lets requests to the allowed hosts through.
    ///
    /// # Errors
    /// Some are asked by TLS, and the process was told of authorities that cannot be read.
    pub fn new(
        component: &str,
        allowed: Arc<AllowedHosts>,
        settings: OutboundSettings,
    ) -> Result<Self, NoAuthorities> {
        if allowed.entries(&[Scheme::HTTPS.as_str()]).next().is_some() {
            tls::connector()?;
        }
        Ok(Self { component: component.to_owned(), allowed, settings, targets: Mutex::default() })
    }

    /// Sends a request, as [`OutboundSettings`] say.
    ///
    /// # Errors
    /// The host is not allowed, or there is no answer.
    pub fn send(
        &self,
        request: http::Request<WasiBody>,
        options: RequestOptions,
    ) -> impl Future<Output = Result<http::Response<WasiBody>, Error>> + Send + use<> {
        let (target, times) = (self.target(&request), self.times(options));
        async move { target?.send(request, times).await }
    }

    /// The host that a request is for, where it is allowed.
    fn target<B>(&self, request: &http::Request<B>) -> Result<Arc<Target>, Error> {
        let uri = request.uri();
        let scheme = uri.scheme().unwrap_or(&Scheme::HTTPS);
        let host = uri.host().ok_or(Error::HttpRequestUriInvalid)?;
        let port = uri.port_u16().or_else(|| default_port(scheme.as_str()));
        let port = port.ok_or(Error::HttpRequestUriInvalid)?;
        let entry = self.allowed.check(scheme.as_str(), host, port).map_err(|refused| {
            tracing::warn!("{refused}");
            Error::HttpRequestDenied
        })?;
        let address = Address { host: host.to_ascii_lowercase(), port, tls: *scheme == Scheme::HTTPS };
        let mut targets = self.targets.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(target) = targets.get(&address) {
            return Ok(target.clone());
        }
        if targets.len() >= TARGETS_MAX {
            targets.retain(|_, target| !target.is_idle());
        }
        let metrics = OutboundMetrics::new(&self.component, entry);
        let target = Arc::new(Target::new(address.clone(), self.settings, metrics));
        targets.insert(address, target.clone());
        Ok(target)
    }

    /// What the function asks for, within what the manifest allows. The times that a function names bound all tries
    /// together: whoever waits for 300 ms does not wait for three times as long.
    fn times(&self, options: RequestOptions) -> Times {
        let settings = &self.settings;
        let connect = options.connect_timeout.unwrap_or(Duration::MAX).min(settings.connect_timeout);
        let first_byte = options.first_byte_timeout.unwrap_or(Duration::MAX).min(settings.first_byte_timeout);
        let total = match options.first_byte_timeout {
            Some(_) => settings.total_timeout.min(connect + first_byte),
            None => settings.total_timeout,
        };
        let between_bytes = options.between_bytes_timeout.unwrap_or(BETWEEN_BYTES_TIMEOUT);
        Times { connect, first_byte, between_bytes, total }
    }
}

impl Capability for Outbound {
    const OFFERS: &'static [&'static str] = &["wasi:http/client@0.3.0", "wasi:http/outgoing-handler@0.2"];

    type Call = OutboundHttp;

    fn validate(component: &ComponentSpec, _: &Provided) -> Result<Self, Refused> {
        let allowed = Arc::new(component.allowed_hosts.clone());
        Ok(Self::new(&component.id, allowed, component.outbound)?)
    }

    fn show_metrics(&self) {
        for entry in self.allowed.entries(&[Scheme::HTTP.as_str(), Scheme::HTTPS.as_str()]) {
            OutboundMetrics::new(&self.component, entry);
        }
    }

    fn link<T: View>(linker: &mut Linker<T>) -> wasmtime::Result<()> {
        wasmtime_wasi_http::p2::add_only_http_to_linker_async(linker)?;
        wasmtime_wasi_http::p3::add_to_linker(linker)
    }

    fn call(self: &Arc<Self>, call: &NewCall<'_>) -> Self::Call {
        OutboundHttp { outbound: self.clone(), origin: call.origin.clone() }
    }
}

/// Sends the requests of one call.
pub struct OutboundHttp {
    outbound: Arc<Outbound>,
    /// The call whose requests these are, for logs and spans.
    origin: Arc<Origin>,
}

impl WasiHttpHooks for OutboundHttp {
    fn send_request(
        &mut self,
        mut request: http::Request<WasiBody>,
        options: Option<RequestOptions>,
        // Resolves to what became of the response's body; there is nothing to do with it here.
        _processed: Transfer,
    ) -> Box<dyn Future<Output = SendResult> + Send> {
        // One span for the request, however often it is sent.
        let traced = traced::follow(&mut request, self.origin.cause().context);
        let sent = self.outbound.send(request, options.unwrap_or_default());
        Box::new(async move {
            let sent = sent.await;
            if let Some(traced) = traced {
                traced.answered(sent.as_ref().map(http::Response::status).map_err(ToString::to_string));
            }
            let response = sent?;
            // The connection's own task carries the rest.
            Ok((response, Box::new(std::future::ready(Ok(()))) as Transfer))
        })
    }
}
