//! Properties of the codec: what is written is read, and any bytes are read or refused. That Postgres agrees is for the tests with a
//! server (`postgres/tests/codec.rs`).

use super::super::wit::{DbValue as V, Interval, ParameterValue as P, RangeBoundKind};
use super::{ColumnCodec, array, calendar, encode, numeric, oid, range};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use sqlx::postgres::PgTypeInfo;
use sqlx::postgres::types::Oid;

fn config() -> ProptestConfig {
    // Nothing is written into the checkout: the smallest case that fails is printed.
    ProptestConfig { failure_persistence: None, ..ProptestConfig::default() }
}

/// What a column of the type gives of a parameter of the type.
fn back(value: &P, oid: u32) -> Option<V> {
    let mut bytes = Vec::new();
    encode::put(value, &PgTypeInfo::with_oid(Oid(oid)), &mut bytes)?;
    ColumnCodec { oid }.decode(Some(&bytes)).ok()
}

/// A decimal as Postgres spells it.
pub(crate) fn decimal() -> impl Strategy<Value = String> + Clone {
    ("-?", "0|[1-9][0-9]{0,30}", option::of("[0-9]{1,20}")).prop_map(|(sign, whole, fraction)| {
        let digits = fraction.map_or(whole.clone(), |fraction| format!("{whole}.{fraction}"));
        // There is no negative zero.
        let is_zero = digits.bytes().all(|byte| matches!(byte, b'0' | b'.'));
        if is_zero { digits } else { sign + &digits }
    })
}

/// A bound of a range, where it has one.
type Bound<T> = Option<(T, RangeBoundKind)>;

/// A range of anything, by its bounds.
fn bounds<T>(value: impl Strategy<Value = T> + Clone) -> impl Strategy<Value = (Bound<T>, Bound<T>)>
where
    T: std::fmt::Debug + Clone,
{
    let kind = any::<bool>()
        .prop_map(|inclusive| if inclusive { RangeBoundKind::Inclusive } else { RangeBoundKind::Exclusive });
    let bound = option::of((value, kind));
    (bound.clone(), bound)
}

const READABLE: [u32; 22] = [
    oid::BOOL,
    oid::BYTEA,
    oid::INT2,
    oid::INT4,
    oid::INT8,
    oid::FLOAT4,
    oid::FLOAT8,
    oid::TEXT,
    oid::TIMESTAMP,
    oid::TIMESTAMPTZ,
    oid::DATE,
    oid::TIME,
    oid::UUID,
    oid::JSONB,
    oid::NUMERIC,
    oid::INT4_RANGE,
    oid::INT8_RANGE,
    oid::NUMERIC_RANGE,
    oid::INT4_ARRAY,
    oid::NUMERIC_ARRAY,
    oid::TEXT_ARRAY,
    oid::INTERVAL,
];

/// Bytes that a value holds beside itself.
fn heap(value: &V) -> usize {
    fn elements<T>(array: &[Option<T>], of: impl Fn(&T) -> usize) -> usize {
        array.iter().flatten().map(of).sum::<usize>() + size_of_val(array)
    }
    match value {
        V::Str(text) | V::Decimal(text) | V::Uuid(text) => text.len(),
        V::Binary(bytes) | V::Jsonb(bytes) | V::Unsupported(bytes) => bytes.len(),
        V::RangeDecimal((lower, upper)) => {
            [lower, upper].into_iter().flatten().map(|(bound, _)| bound.len()).sum()
        }
        V::ArrayInt32(array) => elements(array, |_| 0),
        V::ArrayInt64(array) => elements(array, |_| 0),
        V::ArrayDecimal(array) | V::ArrayStr(array) => elements(array, String::len),
        _ => 0,
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn scalars_come_back(
        flag: bool, small: i16, int: i32, big: i64, text: String, bytes in vec(any::<u8>(), 0..40), uuid: u128, interval: (i64, i32, i32)
    ) {
        let uuid = uuid::Uuid::from_u128(uuid).to_string();
        let (micros, days, months) = interval;
        for (oid, sent, read) in [
            (oid::BOOL, P::Boolean(flag), V::Boolean(flag)),
            (oid::INT2, P::Int16(small), V::Int16(small)),
            (oid::INT4, P::Int32(int), V::Int32(int)),
            (oid::INT8, P::Int64(big), V::Int64(big)),
            (oid::TEXT, P::Str(text.clone()), V::Str(text)),
            (oid::BYTEA, P::Binary(bytes.clone()), V::Binary(bytes)),
            (oid::UUID, P::Uuid(uuid.clone()), V::Uuid(uuid)),
            (
                oid::INTERVAL,
                P::Interval(Interval { micros, days, months }),
                V::Interval(Interval { micros, days, months }),
            ),
        ] {
            prop_assert_eq!(back(&sent, oid), Some(read));
        }
    }

    #[test]
    fn floats_come_back_bit_by_bit(single: u32, double: u64) {
        let single = f32::from_bits(single);
        match back(&P::Floating32(single), oid::FLOAT4) {
            Some(V::Floating32(read)) => prop_assert_eq!(read.to_bits(), single.to_bits()),
            other => prop_assert!(false, "{:?}", other),
        }
        let double = f64::from_bits(double);
        match back(&P::Floating64(double), oid::FLOAT8) {
            Some(V::Floating64(read)) => prop_assert_eq!(read.to_bits(), double.to_bits()),
            other => prop_assert!(false, "{:?}", other),
        }
    }

    #[test]
    fn decimals_come_back(text in decimal()) {
        prop_assert_eq!(back(&P::Decimal(text.clone()), oid::NUMERIC), Some(V::Decimal(text)));
    }

    #[test]
    fn any_text_is_a_decimal_or_refused(text in prop_oneof![any::<String>(), "[-+0-9.eE]{0,12}"]) {
        let mut bytes = Vec::new();
        if numeric::encode(&text, &mut bytes).is_some() {
            let read = numeric::decode(&bytes).expect("what was written");
            // One spelling of the same number, which comes back as it is.
            prop_assert_eq!(back(&P::Decimal(read.clone()), oid::NUMERIC), Some(V::Decimal(read)));
        }
    }

    #[test]
    fn moments_come_back_to_the_microsecond(
        date in (-4_000_i32..200_000, 1_u8..13, 1_u8..32), time in (0_u8..24, 0_u8..60, 0_u8..60, 0_u32..1_000_000)
    ) {
        let (h, mi, s, micros) = time;
        let time = (h, mi, s, micros * 1_000);
        prop_assert_eq!(back(&P::Time(time), oid::TIME), Some(V::Time(time)));
        let (y, mo, d) = date;
        let datetime = (y, mo, d, h, mi, s, micros * 1_000);
        match back(&P::Date(date), oid::DATE) {
            // There is no such day.
            None => prop_assert!(d > 28 && back(&P::Datetime(datetime), oid::TIMESTAMP).is_none()),
            read => {
                prop_assert_eq!(read, Some(V::Date(date)));
                prop_assert_eq!(back(&P::Datetime(datetime), oid::TIMESTAMP), Some(V::Datetime(datetime)));
            }
        }
    }

    #[test]
    fn any_moment_is_written_or_refused(
        date: (i32, u8, u8), time: (u8, u8, u8, u32), seconds: i64, micros: i64, days: i32
    ) {
        let _ = (calendar::date_to_postgres(date), calendar::time_to_postgres(time));
        let _ = calendar::datetime_to_postgres((date.0, date.1, date.2, time.0, time.1, time.2, time.3));
        let _ = calendar::unix_seconds_to_postgres(seconds);
        if let Some(moment) = calendar::datetime_from_postgres(micros) {
            prop_assert_eq!(calendar::datetime_to_postgres(moment), Some(micros));
        }
        if let Some(date) = calendar::date_from_postgres(days) {
            prop_assert_eq!(calendar::date_to_postgres(date), Some(days));
        }
    }

    #[test]
    fn ranges_come_back(ints in bounds(any::<i32>()), bigs in bounds(any::<i64>()), decimals in bounds(decimal())) {
        prop_assert_eq!(back(&P::RangeInt32(ints), oid::INT4_RANGE), Some(V::RangeInt32(ints)));
        prop_assert_eq!(back(&P::RangeInt64(bigs), oid::INT8_RANGE), Some(V::RangeInt64(bigs)));
        let sent = P::RangeDecimal(decimals.clone());
        prop_assert_eq!(back(&sent, oid::NUMERIC_RANGE), Some(V::RangeDecimal(decimals)));
    }

    #[test]
    fn arrays_come_back(
        ints in vec(option::of(any::<i32>()), 0..6), texts in vec(option::of(any::<String>()), 0..6),
        decimals in vec(option::of(decimal()), 0..6)
    ) {
        let mut bytes = Vec::new();
        array::encode(&ints, oid::INT4, &mut bytes, |value, out| { out.extend(value.to_be_bytes()); Some(()) }).expect("fits");
        prop_assert_eq!(ColumnCodec { oid: oid::INT4_ARRAY }.decode(Some(&bytes)), Ok(V::ArrayInt32(ints)));
        let mut bytes = Vec::new();
        array::encode(&texts, oid::TEXT, &mut bytes, |value, out| { out.extend(value.as_bytes()); Some(()) }).expect("fits");
        prop_assert_eq!(ColumnCodec { oid: oid::TEXT_ARRAY }.decode(Some(&bytes)), Ok(V::ArrayStr(texts)));
        let mut bytes = Vec::new();
        array::encode(&decimals, oid::NUMERIC, &mut bytes, |value, out| numeric::encode(value, out)).expect("fits");
        prop_assert_eq!(ColumnCodec { oid: oid::NUMERIC_ARRAY }.decode(Some(&bytes)), Ok(V::ArrayDecimal(decimals)));
    }

    #[test]
    fn any_bytes_are_a_value_or_refused(oid in select(&READABLE[..]), bytes in prop_oneof![
        vec(any::<u8>(), 0..64),
        // The head of an array or a number, and then anything.
        (vec(0_u8..3, 4), vec(any::<u8>(), 0..40)).prop_map(|(head, rest)| [vec![0; 3], head, rest].concat()),
    ]) {
        let codec = ColumnCodec { oid };
        match codec.decode(Some(&bytes)) {
            Err(reason) => prop_assert!(!reason.is_empty()),
            // It is counted before it is read, and never as too little.
            Ok(value) => prop_assert!(heap(&value) <= codec.heap_bytes(&bytes), "{value:?}"),
        }
        let _ = range::decode(&bytes, |bound| Some(bound.to_vec()));
        let _ = array::decode(&bytes, |element| Some(element.to_vec()));
    }
}
