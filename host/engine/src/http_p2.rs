//! The HTTP handler of WASI 0.2, which components of Spin 2 and 3 export.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use bytes::Bytes;
use futures::FutureExt as _;
use http_body::Body;
use tokio::sync::oneshot;
use wasmtime::Store;
use wasmtime_wasi_http::WasiHttpView as _;
use wasmtime_wasi_http::p2::bindings::ProxyPre;
use wasmtime_wasi_http::p2::bindings::http::types::Scheme;

use super::CallError;
use super::call::CallState;
use super::http::{Head, ResponseBody};

/// Runs the handler in a new instance and sends the head of its response as soon as it is set; the guest then goes on
/// writing the body until it returns.
pub(super) async fn respond<B>(
    store: &mut Store<CallState>,
    pre: &ProxyPre<CallState>,
    request: http::Request<B>,
    head: &mut Option<oneshot::Sender<Head>>,
    failed: &Arc<AtomicBool>,
) -> Result<(), CallError>
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<wasmtime_wasi_http::Error>,
{
    let proxy = pre
        .instantiate_async(&mut *store)
        .await
        .map_err(|error| store.data().instantiation_failure(&error))?;
    let (set, is_set) = oneshot::channel();
    let mut context = store.data_mut().http();
    let resources = context
        .new_incoming_request(Scheme::Http, request)
        .and_then(|request| Ok((request, context.new_response_outparam(set)?)));
    let (request, out) = resources.map_err(|error| CallError::Instantiate(error.to_string()))?;
    let called = proxy.wasi_http_incoming_handler().call_handle(&mut *store, request, out);
    let forwarded = async {
        match is_set.await {
            Ok(Ok(response)) => {
                let response = response.map(|inner| ResponseBody { inner, failed: failed.clone() });
                if let Some(head) = head.take() {
                    // Without a reader the guest still ends its work: its writes report a closed stream.
                    let _ = head.send(Ok(response));
                }
                Ok(())
            }
            Ok(Err(code)) => Err(CallError::NoResponse(code.to_string())),
            Err(_) => not_set(),
        }
    };
    let (called, forwarded) = {
        let (mut called, mut forwarded) = (pin!(called), pin!(forwarded));
        tokio::select! {
            biased;
            forwarded = &mut forwarded => (called.await, forwarded),
            // Once the guest is gone its response is set or never will be; after a trap nobody says which.
            called = &mut called => (called, forwarded.now_or_never().unwrap_or_else(not_set)),
        }
    };
    // A trap also leaves the response unset; it is what tells more.
    called.map_err(|error| store.data().failure(&error))?;
    forwarded
}

fn not_set() -> Result<(), CallError> {
    Err(CallError::NoResponse("it returned without setting a response".to_owned()))
}
