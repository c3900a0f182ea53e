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
mod error;
mod foreign;
mod guard;
mod host;
mod leaves;
mod statement;
#[cfg(test)]
mod tests;
mod v2_v3;

pub use address::Address;
pub use call::{Access, AllowedHost, CallPostgres};
pub use error::SqlFailure;
pub use foreign::AddressPools;
pub use host::{PostgresCtx, PostgresView};

use std::sync::Arc;

use fnhost_db::session::RolePool;
use fnhost_manifest::hosts::AllowedHosts;
use fnhost_manifest::{ComponentSpec, HttpSql};
use wasmtime::component::Linker;

use crate::{Capability, NewCall, Provided, Refused, View};

/// The databases that a component may reach: its own, and those that its `allowed_outbound_hosts` name.
pub struct Postgres {
    own: Option<RolePool>,
    foreign: Arc<AddressPools>,
    allowed: Arc<AllowedHosts>,
    http_sql: HttpSql,
}

impl Postgres {
    /// With the component's own database, which it reaches as its role.
    #[must_use]
    pub fn with_own(&self, own: RolePool) -> Self {
        Self {
            own: Some(own),
            foreign: self.foreign.clone(),
            allowed: self.allowed.clone(),
            http_sql: self.http_sql,
        }
    }

    /// The component's own database, where it has one.
    pub fn own(&self) -> Option<&RolePool> {
        self.own.as_ref()
    }
}

impl Capability for Postgres {
    const OFFERS: &'static [&'static str] =
        &["spin:postgres@4.2.0", "spin:postgres@3.0.0", "fermyon:spin/postgres@2.0.0"];

    type Call = CallPostgres;

    fn validate(component: &ComponentSpec, _: &Provided) -> Result<Self, Refused> {
        Ok(Self {
            own: None,
            foreign: Arc::new(AddressPools::new(component.limits.deadline)),
            allowed: Arc::new(component.allowed_hosts.clone()),
            http_sql: component.http_sql,
        })
    }

    fn link<T: View>(linker: &mut Linker<T>) -> wasmtime::Result<()> {
        add_to_linker(linker)
    }

    fn call(self: &Arc<Self>, call: &NewCall<'_>) -> Self::Call {
        let dispatch = call.postgres.clone();
        let call_postgres = dispatch.unwrap_or_else(|| {
            let hosts = self.allowed.clone();
            CallPostgres::new(Access::Autocommit {
                own: self.own.clone(),
                foreign: self.foreign.clone(),
                allowed: Arc::new(move |host, port| hosts.allows("postgres", host, port)),
                sql: self.http_sql,
            })
        });
        call_postgres.held_in(call.memory.clone());
        call_postgres
    }
}

impl<T: View> PostgresView for T {
    fn postgres(&mut self) -> PostgresCtx<'_> {
        let (calls, table) = self.capabilities();
        PostgresCtx { call: &mut calls.postgres, table }
    }
}

/// Adds every version of the interface that is offered to a linker.
fn add_to_linker<T: PostgresView + 'static>(linker: &mut Linker<T>) -> wasmtime::Result<()> {
    host::add_to_linker(linker)?;
    v2_v3::add_to_linker(linker)
}

/// The interface's own types, generated from its WIT.
#[allow(missing_docs, reason = "generated from the WIT, which documents them")]
pub mod bindings {
    wasmtime::component::bindgen!({
        world: "fnhost:capabilities/postgres",
        path: "wit",
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
