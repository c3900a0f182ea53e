//! One table of cases: what comes back, what fits which type, what is refused.

use super::super::codec::properties::decimal;
use super::super::wit::RangeBoundKind::{Exclusive, Inclusive};
use super::super::wit::{Error as WitError, Interval, QueryError};
use proptest::strategy::{Strategy as _, ValueTree as _};
use proptest::test_runner::TestRunner;

use super::{DbValue as V, ParameterValue as P, Wanted, World, failure, rows};

fn text(value: &str) -> String {
    value.to_owned()
}

/// A value sent as the type and read back.
#[allow(clippy::too_many_lines, reason = "a table")]
fn round_trips() -> Vec<(&'static str, P, V)> {
    let uuid = "01932c07-209c-7f7a-8b3e-3a9d5f0c1e55";
    let interval = Interval { micros: -1, days: 2, months: -3 };
    vec![
        ("bool", P::Boolean(true), V::Boolean(true)),
        ("bool", P::Boolean(false), V::Boolean(false)),
        ("\"char\"", P::Int8(65), V::Unsupported(vec![65])),
        ("int2", P::Int16(i16::MIN), V::Int16(i16::MIN)),
        ("int4", P::Int32(i32::MAX), V::Int32(i32::MAX)),
        ("int8", P::Int64(i64::MIN), V::Int64(i64::MIN)),
        ("float4", P::Floating32(1.5), V::Floating32(1.5)),
        ("float8", P::Floating64(-0.1), V::Floating64(-0.1)),
        ("float8", P::Floating64(f64::INFINITY), V::Floating64(f64::INFINITY)),
        ("text", P::Str(text("snö ☃")), V::Str(text("snö ☃"))),
        ("text", P::Str(String::new()), V::Str(String::new())),
        ("varchar(10)", P::Str(text("abc")), V::Str(text("abc"))),
        ("bpchar", P::Str(text("abc ")), V::Str(text("abc "))),
        ("name", P::Str(text("abc")), V::Unsupported(b"abc".to_vec())),
        ("bytea", P::Binary(vec![0, 255]), V::Binary(vec![0, 255])),
        ("bytea", P::Binary(vec![]), V::Binary(vec![])),
        ("date", P::Date((2024, 2, 29)), V::Date((2024, 2, 29))),
        ("date", P::Date((-43, 3, 15)), V::Date((-43, 3, 15))),
        ("time", P::Time((23, 59, 59, 999_999_999)), V::Time((23, 59, 59, 999_999_000))),
        (
            "timestamp",
            P::Datetime((1969, 7, 20, 20, 17, 40, 1_000)),
            V::Datetime((1969, 7, 20, 20, 17, 40, 1_000)),
        ),
        ("uuid", P::Uuid(text(uuid)), V::Uuid(text(uuid))),
        ("uuid", P::Uuid(uuid.replace('-', "").to_uppercase()), V::Uuid(text(uuid))),
        ("jsonb", P::Jsonb(b"{\"a\":[1,null]}".to_vec()), V::Jsonb(b"{\"a\": [1, null]}".to_vec())),
        ("json", P::Jsonb(b"{\"b\":1,  \"a\":2}".to_vec()), V::Unsupported(b"{\"b\":1,  \"a\":2}".to_vec())),
        (
            "numeric",
            P::Decimal(text("-12345678901234567890.12300")),
            V::Decimal(text("-12345678901234567890.12300")),
        ),
        ("numeric", P::Decimal(text("0")), V::Decimal(text("0"))),
        ("numeric(12,2)", P::Decimal(text("10000")), V::Decimal(text("10000.00"))),
        (
            "int4range",
            P::RangeInt32((Some((1, Inclusive)), Some((5, Inclusive)))),
            V::RangeInt32((Some((1, Inclusive)), Some((6, Exclusive)))),
        ),
        (
            "int8range",
            P::RangeInt64((None, Some((-5, Exclusive)))),
            V::RangeInt64((None, Some((-5, Exclusive)))),
        ),
        ("int8range", P::RangeInt64((None, None)), V::RangeInt64((None, None))),
        (
            "numrange",
            P::RangeDecimal((Some((text("0.50"), Exclusive)), None)),
            V::RangeDecimal((Some((text("0.50"), Exclusive)), None)),
        ),
        ("int4[]", P::ArrayInt32(vec![Some(1), None]), V::ArrayInt32(vec![Some(1), None])),
        ("int4[]", P::ArrayInt32(vec![]), V::ArrayInt32(vec![])),
        ("int8[]", P::ArrayInt64(vec![Some(i64::MAX)]), V::ArrayInt64(vec![Some(i64::MAX)])),
        (
            "numeric[]",
            P::ArrayDecimal(vec![Some(text("1.10")), None]),
            V::ArrayDecimal(vec![Some(text("1.10")), None]),
        ),
        (
            "text[]",
            P::ArrayStr(vec![Some(text("a,\"b")), None, Some(String::new())]),
            V::ArrayStr(vec![Some(text("a,\"b")), None, Some(String::new())]),
        ),
        ("varchar[]", P::ArrayStr(vec![Some(text("x"))]), V::ArrayStr(vec![Some(text("x"))])),
        ("interval", P::Interval(interval), V::Interval(interval)),
        ("int8", P::DbNull, V::DbNull),
        ("text[]", P::DbNull, V::DbNull),
        ("json", P::DbNull, V::DbNull),
    ]
}

#[tokio::test]
async fn values_come_back() {
    let world = World::new().await;
    let (call, _transaction) = world.kafka_call();
    let connection = world.open(&call);
    for (ty, sent, expected) in round_trips() {
        let found = rows(&call, &connection, &format!("SELECT $1::{ty}"), std::slice::from_ref(&sent)).await;
        assert_eq!(found, [[expected]], "{sent:?} as {ty}");
    }
}

#[tokio::test]
async fn values_reach_the_server_as_what_they_are() {
    let world = World::new().await;
    let call = world.http_call();
    let connection = world.open(&call);
    let cases = [
        ("SELECT extract(epoch FROM $1::timestamptz)::int8::text", P::Timestamp(1_700_000_000), "1700000000"),
        ("SELECT $1::numeric::text", P::Decimal(text("00012.340")), "12.340"),
        ("SELECT $1::time::text", P::Time((1, 2, 3, 4_000)), "01:02:03.000004"),
        ("SELECT $1::date::text", P::Date((0, 12, 31)), "0001-12-31 BC"),
        (
            "SELECT $1::interval::text",
            P::Interval(Interval { micros: 1_000_000, days: 1, months: 13 }),
            "1 year 1 mon 1 day 00:00:01",
        ),
        ("SELECT $1::numrange::text", P::RangeDecimal((None, Some((text("2.5"), Inclusive)))), "(,2.5]"),
        ("SELECT $1::text[]::uuid[]::text", P::ArrayStr(vec![None]), "{NULL}"),
        ("SELECT ($1::jsonb ->> 'k')", P::Jsonb(b"{\"k\":\"v\"}".to_vec()), "v"),
    ];
    for (sql, sent, expected) in cases {
        assert_eq!(rows(&call, &connection, sql, &[sent]).await, [[V::Str(text(expected))]], "{sql}");
    }
}

/// Decimals and days that are sent to a server at once.
const MANY: usize = 2_000;

#[tokio::test]
async fn many_decimals_and_days_are_what_postgres_says_they_are() {
    let world = World::new().await;
    let call = world.http_call();
    let connection = world.open(&call);
    let mut runner = TestRunner::deterministic();
    let decimals: Vec<String> =
        (0..MANY).map(|_| decimal().new_tree(&mut runner).expect("a decimal").current()).collect();
    let sent = [P::ArrayDecimal(decimals.iter().cloned().map(Some).collect())];
    let sql =
        "SELECT value, value::text FROM unnest($1::numeric[]) WITH ORDINALITY AS u(value, n) ORDER BY n";
    let expected: Vec<Vec<V>> =
        decimals.iter().map(|value| vec![V::Decimal(value.clone()), V::Str(value.clone())]).collect();
    assert_eq!(rows(&call, &connection, sql, &sent).await, expected);

    // A prime number of days apart, over 4,000 years.
    let sql = "SELECT day::date, extract(year FROM day)::int4, extract(month FROM day)::int4, extract(day FROM day)::int4
                 FROM generate_series('0001-01-01'::timestamp, '4000-01-01', '367 days') AS day";
    let days = rows(&call, &connection, sql, &[]).await;
    assert!(days.len() > 3_900, "{}", days.len());
    for day in days {
        let [V::Date((y, m, d)), V::Int32(year), V::Int32(month), V::Int32(of_month)] = day[..] else {
            panic!("{day:?}")
        };
        assert_eq!((y, i32::from(m), i32::from(d)), (year, month, of_month));
    }
}

#[tokio::test]
async fn what_does_not_fit_is_a_bad_parameter() {
    let world = World::new().await;
    let call = world.http_call();
    let connection = world.open(&call);
    let cases = [
        ("int8", P::Int32(1)),
        ("int4", P::Int64(1)),
        ("int4", P::Int16(1)),
        ("int2", P::Int8(1)),
        ("int4", P::Str(text("1"))),
        ("text", P::Int32(1)),
        ("uuid", P::Str(text("01932c07-209c-7f7a-8b3e-3a9d5f0c1e55"))),
        ("uuid", P::Uuid(text("not-a-uuid"))),
        ("timestamptz", P::Datetime((2024, 1, 1, 0, 0, 0, 0))),
        ("timestamp", P::Timestamp(0)),
        ("date", P::Date((2023, 2, 29))),
        ("time", P::Time((24, 0, 0, 0))),
        ("jsonb", P::Jsonb(b"{".to_vec())),
        ("jsonb", P::Str(text("{}"))),
        ("numeric", P::Decimal(text("1e3"))),
        ("numeric", P::Floating64(1.0)),
        ("float8", P::Floating32(1.0)),
        ("bytea", P::Str(text("x"))),
        ("uuid[]", P::ArrayStr(vec![])),
        ("int8[]", P::ArrayInt32(vec![])),
        ("int8range", P::RangeInt32((None, None))),
        ("bool", P::Int32(1)),
    ];
    for (ty, sent) in cases {
        let error =
            failure(&call, &connection, &format!("SELECT $1::{ty}"), std::slice::from_ref(&sent)).await;
        assert!(matches!(error.into_wit(), WitError::BadParameter(_)), "{sent:?} as {ty}");
    }
    for (sql, given) in [("SELECT $1::int4", 0), ("SELECT 1", 1), ("SELECT $1::int4", 2)] {
        let error = failure(&call, &connection, sql, &vec![P::Int32(1); given]).await;
        assert!(matches!(error.into_wit(), WitError::BadParameter(_)), "{sql} with {given}");
    }
}

#[tokio::test]
async fn what_the_interface_cannot_hold_fails_and_leaves_the_connection_usable() {
    let world = World::new().await;
    let (call, _transaction) = world.kafka_call();
    let connection = world.open(&call);
    for value in [
        "now()",
        "NULL::timestamptz",
        "'infinity'::timestamp",
        "'-infinity'::date",
        "'NaN'::numeric",
        "'empty'::int4range",
        "'{{1,2}}'::int4[]",
    ] {
        let error =
            failure(&call, &connection, &format!("SELECT {value} FROM generate_series(1, 3)"), &[]).await;
        assert!(matches!(error.into_wit(), WitError::QueryFailed(QueryError::Text(_))), "{value}");
        assert_eq!(rows(&call, &connection, "SELECT 1", &[]).await, [[V::Int32(1)]], "after {value}");
    }
}

#[tokio::test]
async fn rows_that_nobody_wants_need_not_be_readable() {
    let world = World::new().await;
    let call = world.http_call();
    let connection = world.open(&call);
    let sql = "SELECT now() FROM generate_series(1, 3)";
    let answer = call.run(&connection, sql, &[], Wanted::Count).await.expect("an answer");
    assert_eq!((answer.affected, answer.rows.len()), (3, 0));
    assert!(answer.error.is_none());
}

#[tokio::test]
async fn columns_are_described() {
    let world = World::new().await;
    let call = world.http_call();
    let connection = world.open(&call);
    let sql = "SELECT 1::int8 AS id, 'x'::json AS j, '{}'::bool[] AS flags, 'a'::\"char\" AS c WHERE false";
    let sql = sql.replace("'x'::json", "'1'::json");
    let answer = call.run(&connection, &sql, &[], Wanted::Rows).await.expect("an answer");
    let described: Vec<String> =
        answer.columns.iter().map(|column| format!("{} {:?}", column.name, column.data_type)).collect();
    assert_eq!(
        described,
        [
            "id DbDataType::Int64",
            "j DbDataType::Other(\"json\")",
            "flags DbDataType::Other(\"_bool\")",
            "c DbDataType::Other(\"char\")",
        ]
    );
}

#[tokio::test]
async fn a_null_first_and_a_value_later_fit_the_same_text() {
    let world = World::new().await;
    let (call, _transaction) = world.kafka_call();
    let connection = world.open(&call);
    let sql = "SELECT $1::int4 + 1";
    assert_eq!(rows(&call, &connection, sql, &[P::DbNull]).await, [[V::DbNull]]);
    assert_eq!(rows(&call, &connection, sql, &[P::Int32(1)]).await, [[V::Int32(2)]]);
    let error = failure(&call, &connection, sql, &[P::Int64(1)]).await;
    assert!(matches!(error.into_wit(), WitError::BadParameter(_)));
    let prepared = rows(
        &call,
        &connection,
        "SELECT count(*) FROM pg_prepared_statements WHERE statement LIKE '%+ 1'",
        &[],
    );
    assert_eq!(prepared.await, [[V::Int64(1)]]);
}
