//! The interfaces of Spin 2 and 3: `fermyon:spin/postgres@2.0.0` and `spin:postgres/postgres@3.0.0`.
//!
//! Both do what 4.2 does, with fewer types. As under Spin, a column whose type they lack is "other" and its values are
//! "unsupported"; and unsigned numbers, which 2.0 can pass, are refused.

use wasmtime::component::{Linker, Resource};

use super::call::GuestConnection;
use super::host::{PostgresCtx, PostgresView};
use super::statement::Wanted;
use super::wit as now;

mod v3 {
    wasmtime::component::bindgen!({
        world: "fnhost:spin-v2-v3/postgres3",
        path: "wit-v2-v3",
        imports: {
            "spin:postgres/postgres.[method]connection.query": async | trappable,
            "spin:postgres/postgres.[method]connection.execute": async | trappable,
            default: trappable,
        },
        with: { "spin:postgres/postgres.connection": crate::postgres::call::GuestConnection },
    });
}

mod v2 {
    wasmtime::component::bindgen!({
        world: "fnhost:spin-v2-v3/postgres2",
        path: "wit-v2-v3",
        imports: {
            "fermyon:spin/postgres.[method]connection.query": async | trappable,
            "fermyon:spin/postgres.[method]connection.execute": async | trappable,
            default: trappable,
        },
        with: { "fermyon:spin/postgres.connection": crate::postgres::call::GuestConnection },
    });
}

use super::host::Binding;
use v2::fermyon::spin::{postgres as api2, rdbms_types as types2};
use v3::spin::postgres::postgres as api3;

/// Adds both interfaces to a linker.
///
/// # Errors
/// Where the linker has one already.
pub fn add_to_linker<T: PostgresView + 'static>(linker: &mut Linker<T>) -> wasmtime::Result<()> {
    api3::add_to_linker::<T, Binding>(linker, T::postgres)?;
    types2::add_to_linker::<T, Binding>(linker, T::postgres)?;
    api2::add_to_linker::<T, Binding>(linker, T::postgres)
}

/// Implements one of the interfaces: `$api` has the resource, `$types` its types, `$typed` what 3.0 has over 2.0.
macro_rules! version {
    ($api:ident, $types:ident, [$($typed:ident),*], [$($unsigned:ident),*]) => {
        impl $api::Host for PostgresCtx<'_> {}

        impl $api::HostConnection for PostgresCtx<'_> {
            fn open(
                &mut self,
                address: String,
            ) -> wasmtime::Result<Result<Resource<GuestConnection>, $types::Error>> {
                Ok(PostgresCtx::open(self, &address, None)?.map_err(Into::into))
            }

            async fn query(
                &mut self,
                connection: Resource<GuestConnection>,
                statement: String,
                params: Vec<$types::ParameterValue>,
            ) -> wasmtime::Result<Result<$types::RowSet, $types::Error>> {
                let params = match parameters(params) {
                    Ok(params) => params,
                    Err(error) => return Ok(Err(error)),
                };
                let answer = self.run(&connection, &statement, &params, Wanted::Rows).await?;
                Ok(answer.map_err(Into::into).map(|answer| $types::RowSet {
                    columns: answer.columns.into_iter().map(Into::into).collect(),
                    rows: answer.rows.into_iter().map(|row| row.into_iter().map(Into::into).collect()).collect(),
                }))
            }

            async fn execute(
                &mut self,
                connection: Resource<GuestConnection>,
                statement: String,
                params: Vec<$types::ParameterValue>,
            ) -> wasmtime::Result<Result<u64, $types::Error>> {
                let params = match parameters(params) {
                    Ok(params) => params,
                    Err(error) => return Ok(Err(error)),
                };
                let answer = self.run(&connection, &statement, &params, Wanted::Count).await?;
                Ok(answer.map(|answer| answer.affected).map_err(Into::into))
            }

            fn drop(&mut self, connection: Resource<GuestConnection>) -> wasmtime::Result<()> {
                now::HostConnection::drop(self, connection)
            }
        }

        impl TryFrom<$types::ParameterValue> for now::ParameterValue {
            type Error = $types::Error;

            fn try_from(value: $types::ParameterValue) -> Result<Self, Self::Error> {
                Ok(match value {
                    $types::ParameterValue::Boolean(value) => Self::Boolean(value),
                    $types::ParameterValue::Int8(value) => Self::Int8(value),
                    $types::ParameterValue::Int16(value) => Self::Int16(value),
                    $types::ParameterValue::Int32(value) => Self::Int32(value),
                    $types::ParameterValue::Int64(value) => Self::Int64(value),
                    $types::ParameterValue::Floating32(value) => Self::Floating32(value),
                    $types::ParameterValue::Floating64(value) => Self::Floating64(value),
                    $types::ParameterValue::Str(value) => Self::Str(value),
                    $types::ParameterValue::Binary(value) => Self::Binary(value),
                    $types::ParameterValue::DbNull => Self::DbNull,
                    $($types::ParameterValue::$typed(value) => Self::$typed(value),)*
                    $($types::ParameterValue::$unsigned(_) => {
                        let reason = "Postgres has no unsigned integers: pass a signed one";
                        return Err($types::Error::ValueConversionFailed(reason.to_owned()));
                    })*
                })
            }
        }

        impl From<now::DbValue> for $types::DbValue {
            fn from(value: now::DbValue) -> Self {
                match value {
                    now::DbValue::Boolean(value) => Self::Boolean(value),
                    now::DbValue::Int8(value) => Self::Int8(value),
                    now::DbValue::Int16(value) => Self::Int16(value),
                    now::DbValue::Int32(value) => Self::Int32(value),
                    now::DbValue::Int64(value) => Self::Int64(value),
                    now::DbValue::Floating32(value) => Self::Floating32(value),
                    now::DbValue::Floating64(value) => Self::Floating64(value),
                    now::DbValue::Str(value) => Self::Str(value),
                    now::DbValue::Binary(value) => Self::Binary(value),
                    now::DbValue::DbNull => Self::DbNull,
                    $(now::DbValue::$typed(value) => Self::$typed(value),)*
                    _ => Self::Unsupported,
                }
            }
        }

        impl From<now::Column> for $types::Column {
            fn from(column: now::Column) -> Self {
                let data_type = match column.data_type {
                    now::DbDataType::Boolean => $types::DbDataType::Boolean,
                    now::DbDataType::Int8 => $types::DbDataType::Int8,
                    now::DbDataType::Int16 => $types::DbDataType::Int16,
                    now::DbDataType::Int32 => $types::DbDataType::Int32,
                    now::DbDataType::Int64 => $types::DbDataType::Int64,
                    now::DbDataType::Floating32 => $types::DbDataType::Floating32,
                    now::DbDataType::Floating64 => $types::DbDataType::Floating64,
                    now::DbDataType::Str => $types::DbDataType::Str,
                    now::DbDataType::Binary => $types::DbDataType::Binary,
                    $(now::DbDataType::$typed => $types::DbDataType::$typed,)*
                    _ => $types::DbDataType::Other,
                };
                Self { name: column.name, data_type }
            }
        }

        impl From<now::Error> for $types::Error {
            fn from(error: now::Error) -> Self {
                match error {
                    now::Error::ConnectionFailed(text) => Self::ConnectionFailed(text),
                    now::Error::BadParameter(text) => Self::BadParameter(text),
                    now::Error::QueryFailed(now::QueryError::Text(text)) => Self::QueryFailed(text),
                    now::Error::QueryFailed(now::QueryError::DbError(error)) => Self::QueryFailed(error.as_text),
                    now::Error::ValueConversionFailed(text) => Self::ValueConversionFailed(text),
                    now::Error::Other(text) => Self::Other(text),
                }
            }
        }
    };
}

impl types2::Host for PostgresCtx<'_> {}

version!(api3, api3, [Date, Time, Datetime, Timestamp], []);
version!(api2, types2, [], [Uint8, Uint16, Uint32, Uint64]);

fn parameters<V, E>(params: Vec<V>) -> Result<Vec<now::ParameterValue>, E>
where
    now::ParameterValue: TryFrom<V, Error = E>,
{
    params.into_iter().map(TryInto::try_into).collect()
}
