//! The edge's tables: what is read, what a route takes over from the defaults, and how they are refused.

use std::time::Duration;

use super::super::VariableSources;
use super::super::edge::{Edge, RateLimit, Shed, TokenRule, Turn};
use super::refused::{Case, refused};
use super::{GOOD, parse};
use http::Method;

fn good() -> Edge {
    parse(GOOD).expect("it is good").application.edge
}

#[test]
fn a_route_says_what_the_defaults_do_not() {
    let edge = good();
    assert_eq!(edge.header_timeout, Duration::from_secs(5));
    let networks: Vec<String> = edge.proxy_networks.iter().map(ToString::to_string).collect();
    assert_eq!(networks, ["10.0.0.0/8", "192.0.2.7/32"]);
    let [(pattern, orders)] = &edge.routes[..] else { panic!("one route") };
    assert_eq!(pattern.raw(), "/orders/:id/...");
    assert_eq!((orders.max_header_bytes, orders.max_headers), (3000, 30));
    assert_eq!((edge.defaults.max_header_bytes, edge.defaults.max_headers), (32 << 10, 64));
    assert_eq!((orders.token, edge.defaults.token), (TokenRule::Required, TokenRule::Ignored));
    let rate = RateLimit { requests: 5, per: Duration::from_secs(2), burst: 9 };
    assert_eq!((orders.rate_limit, edge.defaults.rate_limit), (Some(rate), None));
    let shed = Shed { triggers: vec!["order".to_owned()], target: Duration::from_millis(300) };
    assert_eq!(edge.shed, Some(shed));
    assert_eq!(orders.shed, [(Method::GET, Turn::Last), (Method::POST, Turn::First)]);
    assert!(edge.defaults.shed.is_empty());
    assert_eq!(orders.request_timeout, Some(Duration::from_secs(7)));
    assert_eq!(edge.defaults.request_timeout, None);
    assert_eq!((orders.max_concurrency, edge.defaults.max_concurrency), (Some(3), None));
    for policy in [orders, &edge.defaults] {
        assert_eq!((policy.max_body_bytes, policy.body_timeout), (2000, Duration::from_secs(1)));
        let cors = policy.cors.as_ref().expect("declared");
        assert_eq!((cors.methods.len(), cors.max_age, cors.credentials), (3, Duration::from_secs(600), true));
        let headers: Vec<&str> = policy.security_headers.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(headers, ["x-content-type-options", "referrer-policy", "strict-transport-security"]);
    }
}

#[test]
fn without_a_table_the_defaults_are_sane() {
    let none = "spin_manifest_version = 2\n[application]\nname = \"a\"\n[[trigger.http]]\nid = \"front\"\nroute = \"/\"\n\
                component = { source = \"a.wasm\" }\n";
    let edge = parse(none).expect("it is good").application.edge;
    assert!(edge.routes.is_empty() && edge.token.is_none() && edge.defaults.cors.is_none());
    assert_eq!(edge.defaults.max_body_bytes, 1 << 20);
    assert_eq!(edge.header_timeout, Duration::from_secs(30));
    assert_eq!(edge.defaults.security_headers.len(), 3);
}

#[rustfmt::skip]
const CASES: &[Case] = &[
    ("max_headers = 30", "max_header = 30", "max_header =", "did you mean \"max_headers\"?"),
    ("header_timeout_ms", "head_timeout_ms", "head_timeout_ms", "did you mean \"header_timeout_ms\"?"),
    ("burst = 9", "burts = 9", "burts", "did you mean \"burst\"?"),
    ("credentials = true", "credential = true", "credential =", "did you mean \"credentials\"?"),
    ("max_body_bytes = 2000", "max_body_bytes = 0", "max_body_bytes", "out of range: 1 to 1073741824"),
    ("body_timeout_ms = 1000", "body_timeout_ms = 3600001", "body_timeout_ms", "out of range: 1 to 3600000"),
    ("max_concurrency = 3", "max_concurrency = 10001", "max_concurrency", "out of range: 1 to 10000"),
    ("requests = 5", "requests = 0", "requests", "requests = 0 is out of range: 1 to 1000000"),
    ("per_s = 2", "per_s = 3601", "per_s", "out of range: 1 to 3600"),
    ("token = \"required\"", "token = \"always\"", "always", "must be one of \"required\", \"optional\", \"ignored\""),
    ("token = { public_keys = \"{{ gateway_keys }}\", issuer = \"us\", audience = \"ours\" }\n", "",
     "token = \"required\"", "add [application.tool.fnhost.edge.token]"),
    ("\"10.0.0.0/8\"", "\"10.0.0.0/33\"", "10.0.0.0/33", "is not a network"),
    ("{{ proxies }}", "{{ proxis }}", "proxis", "did you mean \"proxies\"?"),
    ("\"https://shop.example\"", "\"https://shop.example/\"", "shop.example/", "is not an origin"),
    ("\"https://shop.example\"", "\"*\"", "\"*\"", "credentials = true needs origins by name"),
    ("\"https://shop.example\"", "\"*\", \"https://a.example\"", "\"*\"", "name no other next to it"),
    ("x-frame-options = \"\"", "\"x frame\" = \"\"", "x frame", "is not a header name"),
    ("max-age=60", "a\\nb", "strict", "is not a header value"),
    ("route = \"/orders/:id/...\"", "route = \"orders\"", "route = \"orders\"", "must begin with"),
    ("[application.tool.fnhost.edge.defaults]", "[application.tool.fnhost.edge.defaults]\nroute = \"/\" # all", "# all",
     "the defaults are for every route"),
    ("[[application.tool.fnhost.edge.route]]", "[[application.tool.fnhost.edge.route]]\nroute = \"/orders/:a/*\"\n[[application.tool.fnhost.edge.route]] # again",
     "route = \"/orders/:id/...\"", "the edge has rules for \"/orders/:a/*\" already"),
    ("route = \"/orders/:id/...\"\n", "", "[[application.tool.fnhost.edge.route]]", "this has no route"),
];

#[test]
fn tables_that_cannot_be_are_refused_with_their_place() {
    refused(CASES);
}

#[test]
fn values_that_cannot_be_are_said_without_them() {
    let manifest = parse(GOOD).expect("it is good");
    let resolve = |given: &[&str]| {
        let flags = given.iter().copied().chain(["token_public_keys=k", "order_database_url=u"]);
        let sources = VariableSources::new(flags, []).expect("they are named");
        manifest.resolve(&sources).map(|values| values.edge).map_err(|error| error.to_string())
    };
    let good = resolve(&["proxies= 1 "]).expect("it is good");
    assert_eq!((good.trusted_proxies, good.keys.is_some()), (1, true));
    for (given, part) in [
        ("gateway_keys=hush", "token.public_keys: not a JSON Web Key Set"),
        ("gateway_keys={\"keys\":[]}", "no key with kty"),
        ("proxies=hush", "trusted_proxies must be a number from 0 to 16"),
        ("proxies=17", "trusted_proxies must be"),
    ] {
        let said = resolve(&[given]).expect_err(part);
        assert!(
            said.contains(part) && said.contains("app/spin.toml: [application.tool.fnhost.edge]"),
            "{said}"
        );
        assert!(!said.contains("hush"), "{said}");
    }
}
