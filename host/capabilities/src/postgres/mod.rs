//! `spin:postgres`: SQL for components.
//!
//! [`CallPostgres`] is what one call of a component may do: inside a Kafka dispatch every connection that the guest
//! opens is the dispatch's own transaction, for an HTTP request each statement is its own. [`codec`] holds which
//! values fit which types, which is Spin's choice, so that a component behaves alike under both hosts. `host` joins
//! the two to the component model.
//!
//! **Invariant:** the server's inferred types decide how a parameter is sent; no statement is prepared with types
//! declared by the client, because connections cache prepared statements by their text alone.

mod address;
mod busy;
mod call;
mod codec;
#[path = "v2_v3.rs"]
mod earlier;
mod error;
mod foreign;
mod guard;
mod host;
mod statement;
#[cfg(test)]
mod tests;

pub use address::Address;
pub use call::{Access, AllowedHost, CallPostgres};
pub use error::{FailureClass, SqlFailure};
pub use foreign::AddressPools;
pub use host::{PostgresCtx, PostgresView};

/// Adds every version of the interface that is offered to a linker.
///
/// # Errors
/// Where the linker has one already.
pub fn add_to_linker<T: PostgresView + 'static>(
    linker: &mut wasmtime::component::Linker<T>,
) -> wasmtime::Result<()> {
    host::add_to_linker(linker)?;
    earlier::add_to_linker(linker)
}

/// The interface's own types, generated from its WIT.
#[allow(missing_docs, reason = "generated from the WIT, which documents them")]
pub mod bindings {
    wasmtime::component::bindgen!({
        world: "fnhost:capabilities/postgres",
        path: "capabilities/wit",
        imports: {
            "spin:postgres/postgres.[static]connection.open": async | store | trappable,
            "spin:postgres/postgres.[static]connection.open-async": async | store | trappable,
            "spin:postgres/postgres.[method]connection.query": async | store | trappable,
            "spin:postgres/postgres.[method]connection.query-async": async | store | trappable,
            "spin:postgres/postgres.[method]connection.execute": async | store | trappable,
            "spin:postgres/postgres.[method]connection.execute-async": async | store | trappable,
            "spin:postgres/postgres.[method]connection-builder.build": async | store | trappable,
            "spin:postgres/postgres.[method]connection-builder.build-async": async | store | trappable,
            default: trappable,
        },
        with: {
            "spin:postgres/postgres.connection": super::call::GuestConnection,
            "spin:postgres/postgres.connection-builder": super::host::ConnectionBuilder,
        },
        additional_derives: [PartialEq],
    });
}

use bindings::spin::postgres::postgres as wit;
