//! Parameters: does the value fit the type that the server inferred, and its binary form.

use sqlx::encode::IsNull;
use sqlx::error::BoxDynError;
use sqlx::postgres::types::Oid;
use sqlx::postgres::{PgArgumentBuffer, PgArguments, PgTypeInfo, PgTypeKind, Postgres};
use sqlx::{Arguments, Encode, Type};

use super::super::wit::{Interval, ParameterValue};
use super::{array, calendar, is_text, name_of, numeric, oid, oid_of, range};

/// The first byte of a `jsonb` value in its binary form.
const JSONB_VERSION: u8 = 1;

/// A parameter that does not fit; `index` counts from 1, as the statement does.
#[derive(Debug, Clone, thiserror::Error)]
#[error("parameter ${index}: {reason}")]
pub struct BadParameter {
    index: usize,
    reason: String,
}

/// The parameters of a statement in the binary form of the types that the server inferred for them.
///
/// # Errors
/// Where a value does not fit its type, or where the statement has more or fewer parameters.
pub fn arguments(values: &[ParameterValue], types: &[PgTypeInfo]) -> Result<PgArguments, BadParameter> {
    if values.len() != types.len() {
        let reason = format!("the statement has {} parameters, {} are given", types.len(), values.len());
        return Err(BadParameter { index: values.len().min(types.len()) + 1, reason });
    }
    let mut arguments = PgArguments::default();
    for (at, (value, ty)) in values.iter().zip(types).enumerate() {
        arguments
            .add(Parameter { value, ty })
            .map_err(|reason| BadParameter { index: at + 1, reason: reason.to_string() })?;
    }
    Ok(arguments)
}

struct Parameter<'a> {
    value: &'a ParameterValue,
    ty: &'a PgTypeInfo,
}

impl Type<Postgres> for Parameter<'_> {
    fn type_info() -> PgTypeInfo {
        // Never sent: the statement has been prepared, with no types declared, when its arguments are made.
        PgTypeInfo::with_oid(Oid(oid::UNKNOWN))
    }
}

impl Encode<'_, Postgres> for Parameter<'_> {
    fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        if matches!(self.value, ParameterValue::DbNull) {
            return Ok(IsNull::Yes);
        }
        if !fits(self.value, self.ty) {
            let (value, ty) = (kind_of(self.value), name_of(self.ty));
            return Err(format!("{value} does not fit the type {ty} that the server inferred").into());
        }
        match put(self.value, self.ty, buffer) {
            Some(()) => Ok(IsNull::No),
            None => Err(format!("not a valid {}", kind_of(self.value)).into()),
        }
    }
}

/// Spin's rule for what fits what.
fn fits(value: &ParameterValue, ty: &PgTypeInfo) -> bool {
    use ParameterValue as P;
    let is = |wanted: u32| oid_of(ty) == wanted;
    let array_of =
        |fits: fn(&PgTypeInfo) -> bool| matches!(ty.kind(), PgTypeKind::Array(element) if fits(element));
    let range_of = |wanted: u32| matches!(ty.kind(), PgTypeKind::Range(bound) if oid_of(bound) == wanted);
    match value {
        P::Boolean(_) => is(oid::BOOL),
        P::Int8(_) => is(oid::CHAR),
        P::Int16(_) => is(oid::INT2),
        P::Int32(_) => is(oid::INT4),
        P::Int64(_) => is(oid::INT8),
        P::Floating32(_) => is(oid::FLOAT4),
        P::Floating64(_) => is(oid::FLOAT8),
        P::Str(_) => is_text(ty),
        P::Binary(_) => is(oid::BYTEA),
        P::Date(_) => is(oid::DATE),
        P::Time(_) => is(oid::TIME),
        P::Datetime(_) => is(oid::TIMESTAMP),
        P::Timestamp(_) => is(oid::TIMESTAMPTZ),
        P::Uuid(_) => is(oid::UUID),
        P::Jsonb(_) => is(oid::JSONB) || is(oid::JSON),
        P::Decimal(_) => is(oid::NUMERIC),
        P::RangeInt32(_) => range_of(oid::INT4),
        P::RangeInt64(_) => range_of(oid::INT8),
        P::RangeDecimal(_) => range_of(oid::NUMERIC),
        P::ArrayInt32(_) => array_of(|element| oid_of(element) == oid::INT4),
        P::ArrayInt64(_) => array_of(|element| oid_of(element) == oid::INT8),
        P::ArrayDecimal(_) => array_of(|element| oid_of(element) == oid::NUMERIC),
        P::ArrayStr(_) => array_of(is_text),
        P::Interval(_) => is(oid::INTERVAL),
        P::DbNull => true,
    }
}

/// Writes a value that fits; nothing where its content is not valid.
pub(super) fn put(value: &ParameterValue, ty: &PgTypeInfo, out: &mut Vec<u8>) -> Option<()> {
    use ParameterValue as P;
    let element = || match ty.kind() {
        PgTypeKind::Array(element) => oid_of(element),
        _ => 0,
    };
    match value {
        P::Boolean(value) => put_bytes(out, &[u8::from(*value)]),
        P::Int8(value) => put_bytes(out, &value.to_be_bytes()),
        P::Int16(value) => put_bytes(out, &value.to_be_bytes()),
        P::Int32(value) => put_bytes(out, &value.to_be_bytes()),
        P::Int64(value) => put_bytes(out, &value.to_be_bytes()),
        P::Floating32(value) => put_bytes(out, &value.to_be_bytes()),
        P::Floating64(value) => put_bytes(out, &value.to_be_bytes()),
        P::Str(value) => put_text(out, value, ty),
        P::Binary(value) => put_bytes(out, value),
        P::Date(value) => put_bytes(out, &calendar::date_to_postgres(*value)?.to_be_bytes()),
        P::Time(value) => put_bytes(out, &calendar::time_to_postgres(*value)?.to_be_bytes()),
        P::Datetime(value) => put_bytes(out, &calendar::datetime_to_postgres(*value)?.to_be_bytes()),
        P::Timestamp(value) => put_bytes(out, &calendar::unix_seconds_to_postgres(*value)?.to_be_bytes()),
        P::Uuid(value) => put_bytes(out, uuid::Uuid::parse_str(value).ok()?.as_bytes()),
        P::Jsonb(value) => put_json(out, value, ty),
        P::Decimal(value) => numeric::encode(value, out),
        P::RangeInt32(value) => range::encode(value, out, |bound, out| put_bytes(out, &bound.to_be_bytes())),
        P::RangeInt64(value) => range::encode(value, out, |bound, out| put_bytes(out, &bound.to_be_bytes())),
        P::RangeDecimal(value) => range::encode(value, out, |bound, out| numeric::encode(bound, out)),
        P::ArrayInt32(values) => {
            array::encode(values, element(), out, |value, out| put_bytes(out, &value.to_be_bytes()))
        }
        P::ArrayInt64(values) => {
            array::encode(values, element(), out, |value, out| put_bytes(out, &value.to_be_bytes()))
        }
        P::ArrayDecimal(values) => {
            array::encode(values, element(), out, |value, out| numeric::encode(value, out))
        }
        P::ArrayStr(values) => {
            array::encode(values, element(), out, |value, out| put_bytes(out, value.as_bytes()))
        }
        P::Interval(Interval { micros, days, months }) => {
            put_bytes(out, &micros.to_be_bytes())?;
            put_bytes(out, &days.to_be_bytes())?;
            put_bytes(out, &months.to_be_bytes())
        }
        P::DbNull => Some(()),
    }
}

/// Writes what `put` writes with its length before it.
pub(super) fn put_length_prefixed(
    out: &mut Vec<u8>,
    put: impl FnOnce(&mut Vec<u8>) -> Option<()>,
) -> Option<()> {
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    put(out)?;
    let length = i32::try_from(out.len() - start - 4).ok()?;
    out[start..start + 4].copy_from_slice(&length.to_be_bytes());
    Some(())
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) -> Option<()> {
    out.extend_from_slice(bytes);
    Some(())
}

/// The `ltree` family has a version byte before its text, the other text types have not.
fn put_text(out: &mut Vec<u8>, text: &str, ty: &PgTypeInfo) -> Option<()> {
    const LTREE_VERSION: u8 = 1;
    if matches!(name_of_custom(ty).as_deref(), Some("ltree" | "lquery" | "ltxtquery")) {
        out.push(LTREE_VERSION);
    }
    put_bytes(out, text.as_bytes())
}

/// The name of a type that an extension brought, which has no fixed identifier.
fn name_of_custom(ty: &PgTypeInfo) -> Option<String> {
    let built_in = matches!(oid_of(ty), oid::TEXT | oid::VARCHAR | oid::BPCHAR | oid::NAME | oid::UNKNOWN);
    (!built_in).then(|| name_of(ty))
}

fn put_json(out: &mut Vec<u8>, text: &[u8], ty: &PgTypeInfo) -> Option<()> {
    let text = std::str::from_utf8(text).ok()?;
    serde_json::from_str::<serde::de::IgnoredAny>(text).ok()?;
    if oid_of(ty) == oid::JSONB {
        out.push(JSONB_VERSION);
    }
    put_bytes(out, text.as_bytes())
}

/// What the interface calls the value's case.
fn kind_of(value: &ParameterValue) -> &'static str {
    use ParameterValue as P;
    match value {
        P::Boolean(_) => "boolean",
        P::Int8(_) => "int8",
        P::Int16(_) => "int16",
        P::Int32(_) => "int32",
        P::Int64(_) => "int64",
        P::Floating32(_) => "floating32",
        P::Floating64(_) => "floating64",
        P::Str(_) => "str",
        P::Binary(_) => "binary",
        P::Date(_) => "date",
        P::Time(_) => "time",
        P::Datetime(_) => "datetime",
        P::Timestamp(_) => "timestamp",
        P::Uuid(_) => "uuid",
        P::Jsonb(_) => "jsonb",
        P::Decimal(_) => "decimal",
        P::RangeInt32(_) => "range-int32",
        P::RangeInt64(_) => "range-int64",
        P::RangeDecimal(_) => "range-decimal",
        P::ArrayInt32(_) => "array-int32",
        P::ArrayInt64(_) => "array-int64",
        P::ArrayDecimal(_) => "array-decimal",
        P::ArrayStr(_) => "array-str",
        P::Interval(_) => "interval",
        P::DbNull => "db-null",
    }
}
