//! Whatever is sent, functions answer.

use any_input::kafka::{self, TYPES};
use any_input::{Function, Sent, send};
use fnhost_sdk::kafka::{Header, Message};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Map, Value, json};

/// Names that the functions' bodies and events know.
const FIELDS: [&str; 22] = [
    "items",
    "sku",
    "quantity",
    "payment_token",
    "email",
    "password",
    "name",
    "refresh_token",
    "on_hand",
    "events",
    "id",
    "created",
    "payment",
    "reference",
    "status",
    "amount",
    "refunded",
    "order_id",
    "user_id",
    "version",
    "reason",
    "total",
];
/// How many cases each property tries.
const CASES: u32 = 512;

fn config() -> ProptestConfig {
    // Nothing is written into the checkout: the smallest case that fails is printed.
    ProptestConfig { cases: CASES, failure_persistence: None, ..ProptestConfig::default() }
}

fn scalar() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (-2_i64..101).prop_map(Value::from),
        any::<f64>().prop_map(|number| json!(number)),
        any::<String>().prop_map(Value::from),
        select(vec![
            "MUG-RED",
            "tok_ok",
            "a@example.com",
            "correct horse",
            "EUR",
            "CONFIRMED",
            "\0",
            "01890a5d-ac96-774b-bcce-b302099a8057",
        ])
        .prop_map(Value::from),
    ]
}

/// JSON of any shape that often has the right names in it.
fn value() -> impl Strategy<Value = Value> {
    scalar().prop_recursive(4, 64, 6, |inner| {
        let name = prop_oneof![4 => select(&FIELDS[..]).prop_map(str::to_owned), 1 => any::<String>()];
        prop_oneof![
            vec(inner.clone(), 0..6).prop_map(Value::from),
            vec((name, inner), 0..8)
                .prop_map(|fields| Value::from(fields.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

/// A body with the fields of a call's own, any of which may hold anything.
fn body() -> impl Strategy<Value = Value> {
    let line = (value(), value()).prop_map(|(sku, quantity)| json!({"sku": sku, "quantity": quantity}));
    let order = (vec(prop_oneof![line, value()], 0..4), value())
        .prop_map(|(items, token)| json!({"items": items, "payment_token": token, "reason": token}));
    let account = (value(), value(), value()).prop_map(|(email, password, name)| {
        json!({"email": email, "password": password, "name": name, "refresh_token": name})
    });
    let stock = scalar().prop_map(|on_hand| json!({"on_hand": on_hand}));
    let told = vec(value(), 0..4).prop_map(|events| json!({"events": events}));
    prop_oneof![order, account, stock, told, value()]
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![4 => body().prop_map(|value| value.to_string().into_bytes()), 1 => vec(any::<u8>(), 0..256)]
}

fn sent() -> impl Strategy<Value = Sent> {
    let headers = vec(
        (
            select(vec![
                "idempotency-key",
                "traceparent",
                "cache-control",
                "x-forwarded-for",
                "content-encoding",
            ])
            .prop_map(str::to_owned),
            vec(any::<u8>(), 0..64),
        ),
        0..3,
    );
    let query =
        prop_oneof!["(limit|cursor|status|from|to)=[ -~]{0,24}(&limit=[0-9-]{0,6})?", any::<String>()];
    let path = option::weighted(
        0.2,
        "/(orders|payments|inventory|products|auth|notifications|forecast)(/[^?#]{0,40}){0,3}",
    );
    (0_usize..8, path, query, headers, bytes()).prop_map(|(call, path, query, headers, body)| Sent {
        call,
        path,
        query,
        headers,
        body,
    })
}

fn message() -> impl Strategy<Value = Message> {
    let ids = select(vec![
        "01890a5d-ac96-774b-bcce-b302099a8057".to_owned(),
        "00000000-0000-0000-0000-000000000001".to_owned(),
        String::new(),
    ]);
    let event = (ids.clone(), ids, prop_oneof![Just(json!(1)), scalar()], value(), value()).prop_map(
        |(order_id, user_id, version, items, reason)| {
            json!({"order_id": order_id, "user_id": user_id, "version": version, "items": items, "reason": reason,
                   "status": "CONFIRMED", "total": {"amount": 1, "currency": "EUR"}, "payment_token": "tok_ok"})
        },
    );
    let value = prop_oneof![event.prop_map(|event| event.to_string().into_bytes()), bytes(),];
    let headers = vec(("[a-z_-]{0,12}", vec(any::<u8>(), 0..64)), 0..3);
    (select(&TYPES[..]), option::of(vec(any::<u8>(), 0..48)), option::of(value), headers).prop_map(
        |(ce_type, key, value, headers)| {
            let mut message = kafka::message(ce_type, key, value);
            message.headers.extend(headers.into_iter().map(|(name, value)| Header { name, value }));
            message
        },
    )
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn any_request_gets_an_answer_or_a_problem(sent in sent()) {
        for function in Function::ALL {
            send(function, sent.clone());
        }
    }

    #[test]
    fn any_records_get_an_outcome_each(messages in vec(message(), 1..5)) {
        kafka::deliver(&messages);
    }
}

#[test]
fn what_is_tried_comes_as_far_as_the_database() {
    // Or the properties would see nothing but refusals of the first check.
    let body = |value: Value| value.to_string().into_bytes();
    for (function, call, value) in [
        (Function::Auth, 0, json!({"email": "a@example.com", "password": "correct horse battery"})),
        (Function::Auth, 1, json!({"email": "a@example.com", "password": "correct horse battery"})),
        (
            Function::Order,
            0,
            json!({"items": [{"sku": "MUG-RED", "quantity": 1}], "payment_token": "tok_ok"}),
        ),
        (Function::Inventory, 0, json!({"on_hand": 3})),
        (
            Function::Payment,
            0,
            json!({"events": [{"id": "1", "created": 1, "payment": {
            "reference": "01890a5d-ac96-774b-bcce-b302099a8057", "status": "captured", "amount": 1, "refunded": 0}}]}),
        ),
    ] {
        let status = send(function, Sent { call, body: body(value), ..Sent::default() });
        assert!(status >= 500, "{function:?}: {status}");
    }
    let id = "01890a5d-ac96-774b-bcce-b302099a8057";
    let event = json!({"order_id": id, "user_id": id, "version": 2, "status": "CONFIRMED"});
    assert!(kafka::is_event(&kafka::message("order.confirmed", Some(id.into()), Some(body(event)))));
}
