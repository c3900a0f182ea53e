//! Columns of a result: their type in the interface, and their values out of the binary form.

use sqlx::postgres::{PgColumn, PgTypeInfo};
use sqlx::{Column as _, TypeInfo as _};

use super::super::wit::{Column, DbDataType, DbValue, Interval};
use super::{array, calendar, name_of, numeric, oid, oid_of, range};

/// How the values of one column are read.
#[derive(Debug, Clone, Copy)]
pub struct ColumnCodec {
    pub(super) oid: u32,
}

/// The columns of a result as the interface describes them, each with its codec.
pub fn columns(columns: &[PgColumn]) -> (Vec<Column>, Vec<ColumnCodec>) {
    let describe = |column: &PgColumn| {
        let ty = column.type_info();
        let described = Column { name: column.name().to_owned(), data_type: data_type(ty) };
        (described, ColumnCodec { oid: oid_of(ty) })
    };
    columns.iter().map(describe).unzip()
}

fn data_type(ty: &PgTypeInfo) -> DbDataType {
    match oid_of(ty) {
        oid::BOOL => DbDataType::Boolean,
        oid::BYTEA => DbDataType::Binary,
        oid::FLOAT4 => DbDataType::Floating32,
        oid::FLOAT8 => DbDataType::Floating64,
        oid::INT2 => DbDataType::Int16,
        oid::INT4 => DbDataType::Int32,
        oid::INT8 => DbDataType::Int64,
        oid::TEXT | oid::VARCHAR | oid::BPCHAR => DbDataType::Str,
        oid::TIMESTAMP | oid::TIMESTAMPTZ => DbDataType::Datetime,
        oid::DATE => DbDataType::Date,
        oid::TIME => DbDataType::Time,
        oid::UUID => DbDataType::Uuid,
        oid::JSONB => DbDataType::Jsonb,
        oid::NUMERIC => DbDataType::Decimal,
        oid::INT4_RANGE => DbDataType::RangeInt32,
        oid::INT8_RANGE => DbDataType::RangeInt64,
        oid::NUMERIC_RANGE => DbDataType::RangeDecimal,
        oid::INT4_ARRAY => DbDataType::ArrayInt32,
        oid::INT8_ARRAY => DbDataType::ArrayInt64,
        oid::NUMERIC_ARRAY => DbDataType::ArrayDecimal,
        oid::TEXT_ARRAY | oid::VARCHAR_ARRAY | oid::BPCHAR_ARRAY => DbDataType::ArrayStr,
        oid::INTERVAL => DbDataType::Interval,
        _ => DbDataType::Other(if ty.is_null() { "unknown".to_owned() } else { name_of(ty) }),
    }
}

impl ColumnCodec {
    /// The value of a column; without bytes it is null.
    ///
    /// # Errors
    /// Where the interface cannot hold the value, with the reason and, where there is one, the way round.
    pub fn decode(self, bytes: Option<&[u8]>) -> Result<DbValue, &'static str> {
        if self.oid == oid::TIMESTAMPTZ {
            // Spin cannot read it either, not even a null: a component that relied on it would run only here.
            return Err("timestamptz cannot be read through this interface: \
                        select it as text, as epoch seconds, or as `value AT TIME ZONE 'UTC'`");
        }
        let Some(bytes) = bytes else {
            return Ok(DbValue::DbNull);
        };
        self.value(bytes).ok_or_else(|| self.reason())
    }

    /// Bytes beside the value itself that it takes in memory once it is read, by its binary form alone: a decimal of ten bytes can
    /// be a text of a hundred thousand.
    pub fn heap_bytes(self, bytes: &[u8]) -> usize {
        match self.oid {
            oid::NUMERIC => numeric::text_bytes(bytes),
            oid::NUMERIC_RANGE => range::heap_bytes(bytes, numeric::text_bytes),
            oid::INT4_ARRAY => array::heap_bytes::<i32>(bytes, |_| 0),
            oid::INT8_ARRAY => array::heap_bytes::<i64>(bytes, |_| 0),
            oid::NUMERIC_ARRAY => array::heap_bytes::<String>(bytes, numeric::text_bytes),
            oid::TEXT_ARRAY | oid::VARCHAR_ARRAY | oid::BPCHAR_ARRAY => {
                array::heap_bytes::<String>(bytes, <[u8]>::len)
            }
            // As text.
            oid::UUID => uuid::fmt::Hyphenated::LENGTH,
            _ => bytes.len(),
        }
    }

    fn value(self, bytes: &[u8]) -> Option<DbValue> {
        Some(match self.oid {
            oid::BOOL => DbValue::Boolean(*bytes.first()? != 0),
            oid::BYTEA => DbValue::Binary(bytes.to_vec()),
            oid::FLOAT4 => DbValue::Floating32(f32::from_be_bytes(fixed(bytes)?)),
            oid::FLOAT8 => DbValue::Floating64(f64::from_be_bytes(fixed(bytes)?)),
            oid::INT2 => DbValue::Int16(i16::from_be_bytes(fixed(bytes)?)),
            oid::INT4 => DbValue::Int32(int4(bytes)?),
            oid::INT8 => DbValue::Int64(int8(bytes)?),
            oid::TEXT | oid::VARCHAR | oid::BPCHAR => DbValue::Str(text(bytes)?),
            oid::TIMESTAMP => DbValue::Datetime(calendar::datetime_from_postgres(int8(bytes)?)?),
            oid::DATE => DbValue::Date(calendar::date_from_postgres(int4(bytes)?)?),
            oid::TIME => DbValue::Time(calendar::time_from_postgres(int8(bytes)?)?),
            oid::UUID => DbValue::Uuid(uuid::Uuid::from_slice(bytes).ok()?.to_string()),
            // Without the version byte.
            oid::JSONB => DbValue::Jsonb(bytes.get(1..)?.to_vec()),
            oid::NUMERIC => DbValue::Decimal(numeric::decode(bytes)?),
            oid::INT4_RANGE => DbValue::RangeInt32(range::decode(bytes, int4)?),
            oid::INT8_RANGE => DbValue::RangeInt64(range::decode(bytes, int8)?),
            oid::NUMERIC_RANGE => DbValue::RangeDecimal(range::decode(bytes, numeric::decode)?),
            oid::INT4_ARRAY => DbValue::ArrayInt32(array::decode(bytes, int4)?),
            oid::INT8_ARRAY => DbValue::ArrayInt64(array::decode(bytes, int8)?),
            oid::NUMERIC_ARRAY => DbValue::ArrayDecimal(array::decode(bytes, numeric::decode)?),
            oid::TEXT_ARRAY | oid::VARCHAR_ARRAY | oid::BPCHAR_ARRAY => {
                DbValue::ArrayStr(array::decode(bytes, text)?)
            }
            oid::INTERVAL => DbValue::Interval(interval(bytes)?),
            _ => DbValue::Unsupported(bytes.to_vec()),
        })
    }

    fn reason(self) -> &'static str {
        match self.oid {
            oid::TIMESTAMP | oid::DATE => "an infinite date cannot be read through this interface",
            oid::NUMERIC | oid::NUMERIC_ARRAY => "NaN and infinity cannot be read as a decimal",
            oid::INT4_RANGE | oid::INT8_RANGE | oid::NUMERIC_RANGE => {
                "the empty range cannot be read through this interface"
            }
            oid::INT4_ARRAY | oid::INT8_ARRAY | oid::TEXT_ARRAY | oid::VARCHAR_ARRAY | oid::BPCHAR_ARRAY => {
                "an array of several dimensions cannot be read through this interface"
            }
            _ => "the server sent bytes that are not a value of the column's type",
        }
    }
}

fn fixed<const LENGTH: usize>(bytes: &[u8]) -> Option<[u8; LENGTH]> {
    bytes.try_into().ok()
}

fn int4(bytes: &[u8]) -> Option<i32> {
    Some(i32::from_be_bytes(fixed(bytes)?))
}

fn int8(bytes: &[u8]) -> Option<i64> {
    Some(i64::from_be_bytes(fixed(bytes)?))
}

fn text(bytes: &[u8]) -> Option<String> {
    std::str::from_utf8(bytes).ok().map(str::to_owned)
}

fn interval(bytes: &[u8]) -> Option<Interval> {
    let (micros, rest) = bytes.split_first_chunk()?;
    let (days, rest) = rest.split_first_chunk()?;
    Some(Interval {
        micros: i64::from_be_bytes(*micros),
        days: i32::from_be_bytes(*days),
        months: i32::from_be_bytes(fixed(rest)?),
    })
}
