//! Manifests that are read; the ways in which one is refused are in `refused`, its variables in `values`.

mod any;
mod convention;
mod edge;
mod others;
mod refused;
mod values;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use super::route::Route;
use super::*;
use crate::files::Mount;

/// A manifest with every key that fnhost reads.
const GOOD: &str = r#"
spin_manifest_version = 2

[application]
name = "orders"
version = "0.1.0"
description = "An order system"
authors = ["a@example.com"]

[application.tool.fnhost]
topics = { order-events = { partitions = 6 }, "inventory.events" = {} }

[application.tool.fnhost.database]
host_variable = "database_host"

[[application.tool.fnhost.service]]
name = "pay"
command = "target/tools/pay"
arguments = ["--listen", "{address}", "--in={folder}/x", "--tell", "http://{http}/told", "--secret", "{secret_file}"]
ready = "listens on"
port = 4010
url_variable = "pay_url"
secret_variable = "pay_secret"

[application.tool.fnhost.edge]
trusted_proxies = "{{ proxies }}"
proxy_networks = ["10.0.0.0/8", "192.0.2.7"]
header_timeout_ms = 5000
token = { public_keys = "{{ gateway_keys }}", issuer = "us", audience = "ours" }
shed = { triggers = ["order"], target_ms = 300 }

[application.tool.fnhost.edge.defaults]
max_body_bytes = 2000
body_timeout_ms = 1000
cors = { origins = ["https://shop.example"], credentials = true }
security_headers = { x-frame-options = "", strict-transport-security = "max-age=60" }

[[application.tool.fnhost.edge.route]]
route = "/orders/:id/..."
max_header_bytes = 3000
max_headers = 30
request_timeout_ms = 7000
max_concurrency = 3
token = "required"
rate_limit = { requests = 5, per_s = 2, burst = 9 }
shed = { POST = "first", GET = "last" }

[application.tool.other]
anything = { goes = true }

[variables]
database_host = { default = "127.0.0.1:5432" }
proxies = { default = "2" }
pay_url = { default = "http://pay" }
pay_secret = { default = "hush" }
gateway_keys = { default = '{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"a","x":"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"}]}' }
order_database_url = { required = true, secret = true }
token_public_keys = { required = true, description = "JWKS" }

[[trigger.http]]
id = "orders"
route = "/orders/..."
component = "order"
executor = { type = "spin" }

[[trigger.http]]
route = { private = true }
component = "order"

[[trigger.http]]
id = "front"
route = "/"
component = { source = "front.wasm" }

[[trigger.kafka]]
id = "audit"
component = "order"
group = "audit"
topics = ["order-events"]

[component.order]
source = "target/functions/order.wasm"
description = "Takes orders"
allowed_outbound_hosts = ["postgres://{{ database_host }}", "https://example.com"]
files = ["img/*", { source = "site", destination = "/" }]
exclude_files = []
key_value_stores = ["default"]
environment = { LOG = "info" }

[component.order.variables]
database_url = "{{ order_database_url }}"
greeting = "hello"

[component.order.build]
command = "./dev build order"
workdir = "functions/order"
watch = ["src/**/*.rs"]

[component.order.tool.fnhost]
memory_limit_mb = 32
deadline_ms = 5000
max_concurrency = 1
http_sql = "any"

[component.order.tool.fnhost.outbound]
connect_timeout_ms = 100
first_byte_timeout_ms = 200
total_timeout_ms = 300
max_concurrent = 4
max_queued = 6
max_retries = 1
retry_budget_percent = 10
open_at_error_percent = 40
open_at_calls = 7
open_ms = 800

[component.order.tool.fnhost.database]
schema = "orders"
url_variable = "order_database_url"
migrations = "migrations/order"
events = "outgoing_event"
event_topics = ["order-events"]

[[component.order.tool.fnhost.kafka]]
id = "order"
group = "order"
topics = ["inventory.events", "payment-events"]
emits = ["order-events"]
start = "2026-01-01T00:00:00Z"
max_batch = 100
max_attempts = 3
max_age_s = 60
max_back_off_s = 20

[[component.order.tool.fnhost.schedule]]
id = "expire"
every_s = 30
emits = ["order-events"]
"#;

fn parse(text: &str) -> Result<Manifest, Error> {
    Manifest::parse(Path::new("app/spin.toml"), text)
}

#[test]
fn everything_that_is_written_is_read() {
    let manifest = parse(GOOD).unwrap();
    assert_eq!(manifest.application.name, "orders");
    let topics = BTreeMap::from([("order-events".to_owned(), 6), ("inventory.events".to_owned(), 3)]);
    assert_eq!(manifest.application.topics, topics);
    assert_eq!(manifest.application.database_host_variable.as_deref(), Some("database_host"));
    let order = &manifest.components["order"];
    assert_eq!(order.source, Path::new("app/target/functions/order.wasm"), "relative to the manifest");
    assert_eq!(order.environment["LOG"], "info");
    let site = Mount::Placement { source: "site".to_owned(), destination: "/".to_owned() };
    assert_eq!(order.files.mounts, [Mount::Pattern("img/*".to_owned()), site]);
    assert_eq!(order.files.root, Path::new("app"));
    assert_eq!(order.key_value_stores, BTreeSet::from(["default".to_owned()]));
    let build = order.build.as_ref().unwrap();
    assert_eq!((build.commands.as_slice(), build.watch.len()), (&["./dev build order".to_owned()][..], 1));
    let limits =
        Limits { memory_bytes: 32 << 20, deadline: Duration::from_secs(5), max_concurrency: Some(1) };
    assert_eq!(order.limits, limits);
    assert_eq!(order.http_sql, HttpSql::Any);
    assert_eq!(manifest.components["front-component"].http_sql, HttpSql::Rows, "where nothing is said");
    let database = order.database.as_ref().unwrap();
    assert_eq!((database.schema.as_str(), database.url_variable.as_str()), ("orders", "order_database_url"));
    assert_eq!(database.migrations.as_deref(), Some(Path::new("app/migrations/order")));
    assert_eq!((database.events.as_deref(), database.event_topics.len()), (Some("outgoing_event"), 1));
    let routes: Vec<_> =
        manifest.http.iter().map(|trigger| (&trigger.route, trigger.component.as_str())).collect();
    assert!(matches!(routes[0], (Route::Public(pattern), "order") if pattern.raw() == "/orders/..."));
    assert!(matches!(routes[1], (Route::Private, "order")));
    assert!(matches!(routes[2], (Route::Public(_), "front-component")));
    assert!(
        manifest.components.contains_key("front-component"),
        "an inline component is one like the others"
    );
    let [schedule] = &order.schedules[..] else { panic!("one schedule") };
    assert_eq!(
        (schedule.id.as_str(), schedule.every, schedule.emits.len()),
        ("expire", Duration::from_secs(30), 1)
    );
    let [order, audit] = &manifest.kafka[..] else { panic!("two Kafka triggers") };
    assert_eq!((order.id.as_str(), order.topics.len(), order.emits.len()), ("order", 2, 1));
    assert_eq!(order.start, Start::Time(1_767_225_600_000));
    assert_eq!(
        (order.config.max_batch, order.config.max_attempts, order.config.max_age),
        (100, 3, Duration::from_secs(60))
    );
    assert_eq!(order.config.back_off.cap, Duration::from_secs(20));
    assert_eq!(
        (audit.id.as_str(), audit.component.as_str(), audit.start),
        ("audit", "order", Start::Earliest)
    );
}

#[test]
fn what_is_not_written_has_its_default() {
    let manifest = parse(GOOD).unwrap();
    let front = &manifest.components["front-component"];
    let limits = Limits { memory_bytes: 64 << 20, deadline: Duration::from_secs(30), max_concurrency: None };
    assert_eq!(front.limits, limits);
    let audit = &manifest.kafka[1];
    assert_eq!(
        (audit.config.max_batch, audit.config.max_attempts, audit.config.max_age),
        (500, 8, Duration::from_secs(86_400))
    );
    assert_eq!(audit.config.back_off, BackOff::default());
}
