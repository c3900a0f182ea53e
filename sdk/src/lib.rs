//! What a function needs that runs under fnhost, on Kafka records and HTTP requests.
//!
#![doc = include_str!("../README.md")]
//!
//! # Natively and as a component
//!
//! A function is written against [`Sql`], [`Host`], [`kafka::Batch`] and [`http::Request`], all plain Rust. The glue to WIT is in
//! `wasm`, compiled for WebAssembly only, and one line in a function's `lib.rs` exports each handler: [`export_http!`] and
//! [`export_kafka!`], which expand to nothing elsewhere.

pub mod cache;
pub mod client;
pub mod event;
pub mod http;
pub mod kafka;
pub mod nul_check;
pub mod object;
#[cfg(feature = "openapi")]
pub mod openapi;
pub mod outgoing;
pub mod page;
pub mod problem;
mod routes;
pub mod sql;
pub mod time;
#[cfg(feature = "token")]
pub mod token;
mod trace_context;

#[cfg(target_family = "wasm")]
#[doc(hidden)]
pub mod wasm;

pub use sql::{Row, Sql, SqlError, Value, unnest};
pub use uuid::Uuid;

/// What an HTTP handler has around it: its database and the component's variables.
#[allow(
    async_fn_in_trait,
    reason = "always dispatched statically; a caller that needs Send has the concrete type"
)]
pub trait Host: Sql {
    /// The value of a component variable.
    ///
    /// # Errors
    /// The variable is not defined; the text says which.
    async fn variable(&self, name: &str) -> Result<String, String>;
}

/// Exports `async fn handle<H: fnhost_sdk::Host>(host: &H, request: fnhost_sdk::http::Request) -> fnhost_sdk::http::Response` as the
/// component's `wasi:http/handler`. Natively it expands to nothing.
#[macro_export]
macro_rules! export_http {
    ($handle:path) => {
        #[cfg(target_family = "wasm")]
        mod export_http {
            struct Component;
            $crate::wasm::wasip3::http::service::export!(Component);
            impl $crate::wasm::wasip3::exports::http::handler::Guest for Component {
                async fn handle(
                    request: $crate::wasm::http::types::Request,
                ) -> Result<$crate::wasm::http::types::Response, $crate::wasm::http::types::ErrorCode>
                {
                    let host = $crate::wasm::Component::new();
                    let response = match $crate::wasm::http::read(request).await {
                        Ok(request) => $handle(&host, request).await,
                        Err(refused) => refused.into(),
                    };
                    Ok($crate::wasm::http::write(response))
                }
            }
        }
    };
}

/// Exports `async fn handle<S: fnhost_sdk::Sql>(db: &S, batch: fnhost_sdk::kafka::Batch<P>) -> Result<fnhost_sdk::kafka::Reply,
/// fnhost_sdk::kafka::Failure>` as the component's `fnhost:kafka/handler`. Natively it expands to nothing.
#[macro_export]
macro_rules! export_kafka {
    ($handle:path) => {
        #[cfg(target_family = "wasm")]
        mod export_kafka {
            use $crate::wasm::kafka::handler;
            struct Component;
            $crate::wasm::kafka::bindings::export!(Component with_types_in $crate::wasm::kafka::bindings);
            impl handler::Guest for Component {
                async fn handle(batch: handler::Batch) -> Result<handler::Reply, handler::Error> {
                    let host = $crate::wasm::Component::new();
                    let batch = $crate::wasm::kafka::read(batch);
                    $handle(&host, batch).await.map_or_else($crate::wasm::kafka::fail, $crate::wasm::kafka::write)
                }
            }
        }
    };
}
