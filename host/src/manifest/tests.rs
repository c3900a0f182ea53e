//! Manifests that are read, and every way in which one is refused, with its message.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use super::route::Route;
use super::*;

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

[application.tool.other]
anything = { goes = true }

[variables]
database_host = { default = "127.0.0.1:5432" }
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
files = []
key_value_stores = []
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
"#;

fn parse(text: &str) -> Result<Manifest, Error> {
    Manifest::parse(Path::new("app/spin.toml"), text)
}

/// The line of `GOOD` that holds a text, counted from 1.
fn line_of(text: &str, part: &str) -> usize {
    text.lines().position(|line| line.contains(part)).expect("the part is there") + 1
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
    let build = order.build.as_ref().unwrap();
    assert_eq!((build.commands.as_slice(), build.watch.len()), (&["./dev build order".to_owned()][..], 1));
    let limits =
        Limits { memory_bytes: 32 << 20, deadline: Duration::from_secs(5), max_concurrency: Some(1) };
    assert_eq!(order.limits, limits);
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
    let [order, audit] = &manifest.kafka[..] else { panic!("two Kafka triggers") };
    assert_eq!((order.id.as_str(), order.topics.len(), order.emits.len()), ("order", 2, 1));
    assert_eq!(order.start, Start::Time(1_767_225_600_000));
    assert_eq!((order.max_batch, order.max_attempts, order.max_age), (100, 3, Duration::from_secs(60)));
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
    assert_eq!((audit.max_batch, audit.max_attempts, audit.max_age), (500, 8, Duration::from_secs(86_400)));
}

/// A change of `GOOD`: what is replaced, by what, the part of a line the error must point at, and what its
/// message must hold.
type Case = (&'static str, &'static str, &'static str, &'static str);

fn refused(cases: &[Case]) {
    for (old, new, at, part) in cases {
        assert!(GOOD.contains(old), "{old} is in the good manifest");
        let text = GOOD.replacen(old, new, 1);
        let message = parse(&text).expect_err(new).to_string();
        let place = format!("app/spin.toml:{}: ", line_of(&text, at));
        assert!(message.starts_with(&place), "{new}: at {place}, got {message}");
        assert!(message.contains(part), "{new}: {part} in {message}");
    }
}

#[test]
fn unknown_keys_are_refused_with_the_nearest() {
    refused(&[
        ("name = \"orders\"", "nam = \"orders\"", "nam =", "unknown key \"nam\"; did you mean \"name\"?"),
        ("[variables]", "[variable]", "[variable]", "did you mean \"variables\"?"),
        ("source = \"target", "sorce = \"target", "sorce", "did you mean \"source\"?"),
        ("deadline_ms = 5000", "deadline = 5000", "deadline =", "known here: memory_limit_mb, deadline_ms"),
        ("emits = [", "emit = [", "emit =", "did you mean \"emits\"?"),
        ("route = \"/orders/...\"", "rout = \"/orders/...\"", "rout =", "did you mean \"route\"?"),
        ("{ partitions = 6 }", "{ partition = 6 }", "partition =", "did you mean \"partitions\"?"),
        ("secret = true", "secrt = true", "secrt", "did you mean \"secret\"?"),
        ("migrations =", "migration =", "migration =", "did you mean \"migrations\"?"),
        ("{ source = \"front.wasm\" }", "{ sauce = \"front.wasm\" }", "sauce", "did you mean \"source\"?"),
        (
            "[component.order.tool.fnhost]",
            "[component.order.tool.fnhots]",
            "fnhots]",
            "did you mean \"fnhost\"?",
        ),
        ("[application.tool.other]", "[application.tool.fn-host]", "fn-host", "did you mean \"fnhost\"?"),
        ("[[trigger.kafka]]", "[[trigger.kafak]]", "kafak", "did you mean \"kafka\"?"),
    ]);
}

#[test]
fn what_only_spin_runs_is_refused_by_name() {
    refused(&[
        ("files = []", "files = [\"a/*\"]", "files", "fnhost does not support \"files\"; Spin does"),
        ("key_value_stores = []", "key_value_stores = [\"default\"]", "key_value", "\"key_value_stores\""),
        ("files = []", "sqlite_databases = [\"default\"]", "sqlite", "\"sqlite_databases\""),
        ("files = []", "ai_models = [\"llama2-chat\"]", "ai_models", "\"ai_models\""),
        ("files = []", "dependencies = { \"a:b\" = \">= 1\" }", "dependencies", "\"dependencies\""),
        ("files = []", "allowed_http_hosts = [\"a.com\"]", "allowed_http", "\"allowed_http_hosts\""),
        ("[[trigger.kafka]]", "[[trigger.redis]]", "trigger.redis", "type \"redis\"; it runs http and kafka"),
        ("{ type = \"spin\" }", "{ type = \"wagi\" }", "wagi", "the executor \"wagi\""),
        (
            "source = \"target/functions/order.wasm\"",
            "source = { url = \"https://e.com/o.wasm\", digest = \"sha256:00\" }",
            "https://e.com",
            "does not download components (https://e.com/o.wasm)",
        ),
        ("= 2", "= 1", "= 1", "fnhost reads version 2"),
    ]);
}

#[test]
fn what_contradicts_itself_is_refused() {
    refused(&[
        (
            "component = \"order\"\nexecutor",
            "component = \"ordr\"\nexecutor",
            "ordr",
            "did you mean \"order\"?",
        ),
        ("component = \"order\"\ngroup", "component = \"zebra\"\ngroup", "zebra", "add [component.zebra]"),
        ("route = \"/\"", "route = \"/orders/*\"", "/orders/*", "that of component \"order\" already"),
        ("route = \"/\"", "route = \"orders\"", "route = \"orders\"", "must begin with"),
        ("{ private = true }", "{ private = false }", "private", "private = false is no route"),
        ("id = \"front\"", "id = \"orders\" # again", "again", "two HTTP triggers have the id \"orders\""),
        (
            "{{ order_database_url }}",
            "{{ order_db_url }}",
            "order_db_url",
            "unknown variable \"order_db_url\"",
        ),
        ("{{ database_host }}", "{{ database_hos }}", "database_hos }", "did you mean \"database_host\"?"),
        ("{{ database_host }}", "{{ database_host", "postgres://", "does not close"),
        ("https://example.com\"", "example.com\"", "\"example.com\"", "scheme://host"),
        (
            "url_variable = \"order_database_url\"",
            "url_variable = \"nope\"",
            "nope",
            "unknown variable \"nope\"",
        ),
        ("host_variable = \"database_host\"", "host_variable = \"{{ x }}\"", "{{ x }}", "without braces"),
        ("schema = \"orders\"", "schema = \"Orders; drop\"", "Orders;", "lower-case letters"),
        ("events = \"outgoing_event\"\n", "", "event_topics", "needs events"),
        ("event_topics = [\"order-events\"]\n", "", "events = \"outgoing", "needs event_topics"),
        (
            "default = \"127.0.0.1:5432\"",
            "required = false",
            "database_host = {",
            "needs a default or required",
        ),
        ("required = true, secret = true", "required = true, default = \"\"", "default = \"\"", "keep one"),
        ("token_public_keys =", "Token =", "Token", "no name for a variable"),
        (
            "[component.order]\n",
            "[component.Order_1]\nsource = \"x\"\n[component.order]\n",
            "Order_1",
            "no id",
        ),
    ]);
}

#[test]
fn kafka_triggers_that_cannot_run_are_refused() {
    refused(&[
        ("topics = [\"inventory.events\", \"payment-events\"]", "topics = []", "topics = []", "has no topic"),
        ("\"payment-events\"", "\"inventory.events\"", "inventory.events\", \"inv", "stands there twice"),
        ("\"payment-events\"", "\"pay ment\"", "pay ment", "no name for a topic"),
        ("start = \"2026-01-01T00:00:00Z\"", "start = \"yesterday\"", "yesterday", "RFC 3339"),
        ("max_batch = 100", "max_batch = 0", "max_batch", "max_batch = 0 is out of range: 1 to 10000"),
        ("max_attempts = 3", "max_attempts = -1", "max_attempts", "out of range: 1 to 1000"),
        ("max_age_s = 60", "max_age_s = 99999999", "max_age_s", "out of range: 1 to 2592000"),
        ("partitions = 6", "partitions = 0", "partitions", "out of range: 1 to 1000"),
        ("memory_limit_mb = 32", "memory_limit_mb = 5000", "memory_limit", "out of range: 1 to 1024"),
        ("deadline_ms = 5000", "deadline_ms = 0", "deadline_ms", "out of range: 1 to 900000"),
        ("max_concurrency = 1", "max_concurrency = 0", "max_concurrency", "out of range: 1 to 10000"),
        ("max_batch = 100", "max_batch = \"many\"", "max_batch", "expected i64"),
        ("id = \"order\"\ngroup", "id = \"o r\"\ngroup", "o r", "id = \"o r\" must be 1 to 64 letters"),
    ]);
    let same_id = GOOD.replace("id = \"audit\"", "id = \"order\" # twice");
    let message = parse(&same_id).unwrap_err().to_string();
    assert!(message.contains("two Kafka triggers have the id \"order\""), "{message}");
    assert!(message.contains(&format!(":{}:", line_of(&same_id, "# twice"))), "{message}");
    let same_group = GOOD.replace("group = \"audit\"", "group = \"order\" # twice");
    let message = parse(&same_group).unwrap_err().to_string();
    assert!(message.contains("\"order\" and \"audit\" have the same group"), "{message}");
    assert!(message.contains(&format!(":{}:", line_of(&same_group, "# twice"))), "{message}");
}

#[test]
fn broken_toml_and_missing_parts_are_placed() {
    let message = parse("spin_manifest_version = 2\n[application\n").unwrap_err().to_string();
    assert!(message.starts_with("app/spin.toml:2: "), "{message}");
    let message = parse("spin_manifest_version = 2\n[application]\nname = \"x\"\n").unwrap_err().to_string();
    assert!(message.contains("there is no trigger"), "{message}");
    let twice =
        GOOD.replace("[component.order.build]", "[component.order]\nsource = \"x\"\n[component.order.build]");
    assert!(parse(&twice).is_err(), "one component twice");
    let message = Manifest::load(Path::new("no/spin.toml")).unwrap_err().to_string();
    assert_eq!(message, "cannot read no/spin.toml; give the manifest with -f PATH");
}

#[test]
fn files_that_are_not_there_are_said_with_their_build_command() {
    let message = parse(GOOD).unwrap().check_files().unwrap_err().to_string();
    assert!(message.contains("component \"front-component\" has no file at app/front.wasm"), "{message}");
    let inline = "[[trigger.http]]\nid = \"front\"\nroute = \"/\"\ncomponent = { source = \"front.wasm\" }\n";
    let message = parse(&GOOD.replace(inline, "")).unwrap().check_files().unwrap_err().to_string();
    assert!(message.ends_with("order.wasm; build it with: ./dev build order"), "{message}");
}

fn sources(flags: &[&str], environment: &[(&str, &str)]) -> VariableSources {
    let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    VariableSources::new(flags.iter().copied(), environment).unwrap()
}

#[test]
fn a_value_comes_from_the_first_that_gives_one() {
    let manifest = parse(GOOD).unwrap();
    let mut given = sources(&["token_public_keys=hush"], &[("SPIN_VARIABLE_ORDER_DATABASE_URL", "env")]);
    given.host.insert("order_database_url".to_owned(), Secret::new("host"));
    given.host.insert("database_host".to_owned(), Secret::new("db:6000"));
    let url = |given: &VariableSources| {
        let values = manifest.resolve(given).unwrap();
        values.components["order"].variables["database_url"].expose().to_owned()
    };
    assert_eq!(url(&given), "env");
    given.flags.insert("order_database_url".to_owned(), Secret::new("flag"));
    assert_eq!(url(&given), "flag");
    given.flags.remove("order_database_url");
    given.environment.clear();
    assert_eq!(url(&given), "host");
    let values = manifest.resolve(&given).unwrap();
    assert_eq!(values.application["database_host"].expose(), "db:6000", "the host goes before the default");
    let order = &values.components["order"];
    assert_eq!(order.variables["greeting"].expose(), "hello");
    assert!(order.allowed_hosts.allows("postgres", "db", 6000));
    assert!(!order.allowed_hosts.allows("postgres", "127.0.0.1", 5432));
    assert!(!format!("{values:?}").contains("hush"), "no value is ever shown");
}

#[test]
fn missing_values_are_said_all_at_once_with_what_to_set() {
    let manifest = parse(GOOD).unwrap();
    let message = manifest.resolve(&sources(&["database_hots=x"], &[])).unwrap_err().to_string();
    let lines: Vec<&str> = message.lines().collect();
    assert_eq!(lines.len(), 3, "{message}");
    assert!(lines[0].contains("no variable \"database_hots\"; did you mean \"database_host\"?"), "{message}");
    assert_eq!(
        lines[1],
        "variable \"order_database_url\" has no value (component order needs it); set \
         SPIN_VARIABLE_ORDER_DATABASE_URL or pass --variable order_database_url=VALUE"
    );
    assert!(lines[2].contains("\"token_public_keys\" has no value (no component uses it)"), "{message}");
}

#[test]
fn a_host_that_is_wrong_once_its_variable_is_filled_is_refused() {
    let manifest = parse(GOOD).unwrap();
    let given = sources(&["database_host=a b/c", "order_database_url=u", "token_public_keys=k"], &[]);
    let message = manifest.resolve(&given).unwrap_err().to_string();
    assert!(
        message.contains("component \"order\": allowed_outbound_hosts: \"postgres://a b/c\""),
        "{message}"
    );
}
