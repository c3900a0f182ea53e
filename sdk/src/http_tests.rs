//! How bodies and parameters are read.

use super::*;
use serde::Deserialize;

#[derive(Debug, Deserialize)]
struct Line {
    #[allow(dead_code, reason = "only its decoding is tested")]
    sku: String,
    #[allow(dead_code, reason = "only its decoding is tested")]
    quantity: i64,
}

#[derive(Debug, Deserialize)]
struct Input {
    #[allow(dead_code, reason = "only its decoding is tested")]
    items: Vec<Line>,
}

fn post(content_type: &str, body: Body) -> Request {
    Request {
        method: "POST".to_owned(),
        path: "/notes".to_owned(),
        query: "status=A%20B&limit=5&broken=%zz&nul=%00".to_owned(),
        headers: vec![("content-type".to_owned(), content_type.into())],
        body,
    }
}

#[test]
fn a_body_that_does_not_fit_names_the_field() {
    let json = |text: &str| post("application/json; charset=utf-8", Body::Read(text.into())).json::<Input>();
    json(r#"{"items":[{"sku":"a","quantity":1}],"unknown":1}"#).unwrap();
    for (body, status, field) in [
        ("", 400, "body"),
        ("{", 400, "body"),
        ("{} {}", 422, "items"),
        (r#"{"items":[]} {}"#, 400, "body"),
        ("[]", 422, "body"),
        (r#"[[{"sku":"a","quantity":1}]]"#, 422, "body"),
        (" [[]", 400, "body"),
        ("7", 422, "body"),
        ("null", 422, "body"),
        ("{}", 422, "items"),
        (r#"{"items":[{"sku":"a"}]}"#, 422, "items[0].quantity"),
        (r#"{"items":[{"sku":"a","quantity":"1"}]}"#, 422, "items[0].quantity"),
        (r#"{"items":[{"sku":"a","quantity":1e30}]}"#, 422, "items[0].quantity"),
        (r#"{"items":[{"sku":"a","quantity":99999999999999999999}]}"#, 422, "items[0].quantity"),
        (r#"{"items":[{"sku":"a\u0000","quantity":1}]}"#, 422, "items[0].sku"),
    ] {
        let problem = json(body).unwrap_err();
        assert_eq!((problem.status, problem.field.as_deref()), (status, Some(field)), "{body}");
    }
    let wrong_type = post("text/plain", Body::Read(b"{}".to_vec())).json::<Input>().unwrap_err();
    assert_eq!((wrong_type.status, wrong_type.field.as_deref()), (415, Some("content-type")));
    for (encoding, accepted) in [("gzip", false), ("identity, br", false), (" Identity ", true)] {
        let mut request = post("application/json", Body::Read(br#"{"items":[]}"#.to_vec()));
        request.headers.push(("content-encoding".to_owned(), encoding.into()));
        let refused = request.json::<Input>().err().map(|problem| (problem.status, problem.field));
        let expected = (!accepted).then(|| (415, Some("content-encoding".to_owned())));
        assert_eq!(refused, expected, "{encoding}");
    }
    let too_large = post("application/json", Body::TooLarge).json::<Input>().unwrap_err();
    assert_eq!((too_large.status, too_large.field.as_deref()), (413, Some("body")));
}

#[test]
fn parameters_are_decoded() {
    let request = post("", Body::Read(Vec::new()));
    assert_eq!(request.parameter("status").unwrap().as_deref(), Some("A B"));
    assert_eq!(request.parameter("limit").unwrap().as_deref(), Some("5"));
    assert_eq!(request.parameter("cursor").unwrap(), None);
    assert_eq!(request.parameter("broken").unwrap_err().field.as_deref(), Some("broken"));
    assert_eq!(request.parameter("nul").unwrap_err().status, 400);
}

#[test]
fn a_limit_is_kept_within_bounds() {
    let limit = |query: &str| {
        let query = query.to_owned();
        Request { query, ..post("", Body::Read(Vec::new())) }.limit(20, 100)
    };
    assert_eq!(limit(""), Ok(20));
    assert_eq!(limit("limit=1"), Ok(1));
    assert_eq!(limit("limit=100"), Ok(100));
    for query in ["limit=0", "limit=101", "limit=-1", "limit=x", "limit=", "limit=99999999999999999999"] {
        let problem = limit(query).unwrap_err();
        assert_eq!((problem.status, problem.field.as_deref()), (422, Some("limit")), "{query}");
    }
}
