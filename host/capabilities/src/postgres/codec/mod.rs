//! Which value of the interface fits which Postgres type, and its binary form, both ways.
//!
//! A parameter must fit the type that the server inferred for it exactly as Spin demands: an `int32` does not fit an
//! `int8`, a `str` fits the text types only, null fits any. Columns of other types than the interface knows arrive
//! as `unsupported` with their raw bytes.

mod array;
mod calendar;
mod decode;
mod encode;
mod numeric;
#[cfg(test)]
pub(super) mod properties;
mod range;

pub(super) use decode::{ColumnCodec, columns};
pub(super) use encode::{BadParameter, arguments};

use sqlx::postgres::PgTypeInfo;

/// The object identifiers of built-in types, which are the same on every server.
mod oid {
    pub const BOOL: u32 = 16;
    pub const BYTEA: u32 = 17;
    pub const CHAR: u32 = 18;
    pub const NAME: u32 = 19;
    pub const INT8: u32 = 20;
    pub const INT2: u32 = 21;
    pub const INT4: u32 = 23;
    pub const TEXT: u32 = 25;
    pub const JSON: u32 = 114;
    pub const FLOAT4: u32 = 700;
    pub const FLOAT8: u32 = 701;
    pub const UNKNOWN: u32 = 705;
    pub const INT4_ARRAY: u32 = 1007;
    pub const TEXT_ARRAY: u32 = 1009;
    pub const BPCHAR_ARRAY: u32 = 1014;
    pub const VARCHAR_ARRAY: u32 = 1015;
    pub const INT8_ARRAY: u32 = 1016;
    pub const BPCHAR: u32 = 1042;
    pub const VARCHAR: u32 = 1043;
    pub const DATE: u32 = 1082;
    pub const TIME: u32 = 1083;
    pub const TIMESTAMP: u32 = 1114;
    pub const TIMESTAMPTZ: u32 = 1184;
    pub const INTERVAL: u32 = 1186;
    pub const NUMERIC_ARRAY: u32 = 1231;
    pub const NUMERIC: u32 = 1700;
    pub const UUID: u32 = 2950;
    pub const JSONB: u32 = 3802;
    pub const INT4_RANGE: u32 = 3904;
    pub const NUMERIC_RANGE: u32 = 3906;
    pub const INT8_RANGE: u32 = 3926;
}

/// The type's object identifier; 0, which is no type, where the driver knows it by name alone.
fn oid_of(ty: &PgTypeInfo) -> u32 {
    ty.oid().map_or(0, |oid| oid.0)
}

/// The type's name as `pg_type` spells it: `_text` where the driver says `TEXT[]`.
fn name_of(ty: &PgTypeInfo) -> String {
    let shown = sqlx::TypeInfo::name(ty);
    match shown.strip_suffix("[]") {
        Some(element) => format!("_{}", element.trim_matches('"').to_lowercase()),
        None => shown.trim_matches('"').to_lowercase(),
    }
}

/// True for the types that a `str` parameter and the elements of an `array-str` fit.
fn is_text(ty: &PgTypeInfo) -> bool {
    matches!(oid_of(ty), oid::TEXT | oid::VARCHAR | oid::BPCHAR | oid::NAME | oid::UNKNOWN)
        || matches!(name_of(ty).as_str(), "citext" | "ltree" | "lquery" | "ltxtquery")
}
