//! Every way in which a manifest is refused, with the line and the message.

use std::path::Path;

use super::super::Manifest;
use super::{GOOD, parse};

/// A change of `GOOD`: what is replaced, by what, the part of a line the error must point at, and what its
/// message must hold.
pub(super) type Case = (&'static str, &'static str, &'static str, &'static str);

#[rustfmt::skip]
const UNKNOWN_KEYS: &[Case] = &[
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
    ("[component.order.tool.fnhost]", "[component.order.tool.fnhots]", "fnhots]", "did you mean \"fnhost\"?"),
    ("[application.tool.other]", "[application.tool.fn-host]", "fn-host", "did you mean \"fnhost\"?"),
    ("[[trigger.kafka]]", "[[trigger.kafak]]", "kafak", "did you mean \"kafka\"?"),
];

#[rustfmt::skip]
const SPIN_ONLY: &[Case] = &[
    ("exclude_files = []", "sqlite_databases = [\"default\"]", "sqlite", "fnhost does not support \"sqlite_databases\"; Spin does"),
    ("exclude_files = []", "ai_models = [\"llama2-chat\"]", "ai_models", "\"ai_models\""),
    ("exclude_files = []", "dependencies = { \"a:b\" = \">= 1\" }", "dependencies", "\"dependencies\""),
    ("exclude_files = []", "allowed_http_hosts = [\"a.com\"]", "allowed_http", "\"allowed_http_hosts\""),
    ("[[trigger.kafka]]", "[[trigger.redis]]", "trigger.redis", "type \"redis\"; it runs http and kafka"),
    ("{ type = \"spin\" }", "{ type = \"wagi\" }", "wagi", "the executor \"wagi\""),
    ("source = \"target/functions/order.wasm\"", 
     "source = { url = \"https://e.com/o.wasm\", digest = \"sha256:00\" }",
     "https://e.com", "does not download components (https://e.com/o.wasm)"),
    ("= 2", "= 1", "= 1", "fnhost reads version 2"),
];

#[rustfmt::skip]
const CONTRADICTIONS: &[Case] = &[
    ("component = \"order\"\nexecutor", "component = \"ordr\"\nexecutor", "ordr", "did you mean \"order\"?"),
    ("component = \"order\"\ngroup", "component = \"zebra\"\ngroup", "zebra", "add [component.zebra]"),
    ("route = \"/\"", "route = \"/orders/*\"", "/orders/*", "the route \"/orders/*\" is already used by component \"order\""),
    ("route = \"/\"", "route = \"orders\"", "route = \"orders\"", "must begin with"),
    ("{ private = true }", "{ private = false }", "private", "private = false is not a route"),
    ("id = \"front\"", "id = \"orders\" # again", "again", "two HTTP triggers have the id \"orders\""),
    ("{{ order_database_url }}", "{{ order_db_url }}", "order_db_url", "unknown variable \"order_db_url\""),
    ("{{ database_host }}", "{{ database_hos }}", "database_hos }", "did you mean \"database_host\"?"),
    ("{{ database_host }}", "{{ database_host", "postgres://", "does not close"),
    ("https://example.com\"", "example.com\"", "\"example.com\"", "scheme://host"),
    ("url_variable = \"order_database_url\"", "url_variable = \"nope\"", "nope", "unknown variable \"nope\""),
    ("host_variable = \"database_host\"", "host_variable = \"{{ x }}\"", "{{ x }}", "without braces"),
    ("schema = \"orders\"", "schema = \"Orders; drop\"", "Orders;", "lower-case letters"),
    ("events = \"outgoing_event\"\n", "", "event_topics", "needs events"),
    ("event_topics = [\"order-events\"]\n", "", "events = \"outgoing", "needs event_topics"),
    ("files = [\"img/*\"", "files = [\"[x\"", "[x", "\"[x\" is not a valid pattern"),
    ("exclude_files = []", "exclude_files = [\"a**\"]", "a**", "is not a valid pattern"),
    ("key_value_stores = [\"default\"]", "key_value_stores = [\"\"]", "key_value", "is empty"),
    ("default = \"127.0.0.1:5432\"", "required = false", "database_host = {", "needs a default or required"),
    ("required = true, secret = true", "required = true, default = \"\"", "default = \"\"", "keep one"),
    ("token_public_keys =", "Token =", "Token", "not a valid variable name"),
    ("[component.order]\n", "[component.Order_1]\nsource = \"x\"\n[component.order]\n", "Order_1", "not a valid component id"),
];

#[rustfmt::skip]
const KAFKA: &[Case] = &[
    ("topics = [\"inventory.events\", \"payment-events\"]", "topics = []", "topics = []", "has no topic"),
    ("\"payment-events\"", "\"inventory.events\"", "inventory.events\", \"inv", "is listed twice"),
    ("\"payment-events\"", "\"pay ment\"", "pay ment", "not a valid topic name"),
    ("start = \"2026-01-01T00:00:00Z\"", "start = \"yesterday\"", "yesterday", "RFC 3339"),
    ("max_batch = 100", "max_batch = 0", "max_batch", "max_batch = 0 is out of range: 1 to 10000"),
    ("max_attempts = 3", "max_attempts = -1", "max_attempts", "out of range: 1 to 1000"),
    ("max_age_s = 60", "max_age_s = 99999999", "max_age_s", "out of range: 1 to 2592000"),
    ("partitions = 6", "partitions = 0", "partitions", "out of range: 1 to 1000"),
    ("memory_limit_mb = 32", "memory_limit_mb = 5000", "memory_limit", "out of range: 1 to 1024"),
    ("deadline_ms = 5000", "deadline_ms = 0", "deadline_ms", "out of range: 1 to 900000"),
    ("max_concurrency = 1", "max_concurrency = 0", "max_concurrency = 0", "out of range: 1 to 10000"),
    ("http_sql = \"any\"", "http_sql = \"all\"", "http_sql", "http_sql = \"all\" is neither \"rows\" nor \"any\""),
    ("max_batch = 100", "max_batch = \"many\"", "max_batch", "max_batch is string \"many\", and has to be a whole number"),
    ("max_back_off_s = 20", "max_backoff_s = 20", "max_backoff_s", "did you mean \"max_back_off_s\"?"),
    ("max_back_off_s = 20", "max_back_off_s = 0", "max_back_off_s", "max_back_off_s = 0 is out of range: 1 to 60"),
    ("max_back_off_s = 20", "max_back_off_s = 61", "max_back_off_s", "max_back_off_s = 61 is out of range: 1 to 60"),
    ("max_back_off_s = 20", "max_back_off_s = 0.5", "max_back_off_s",
     "max_back_off_s is floating point `0.5`, and has to be a whole number"),
    ("max_back_off_s = 20", "max_back_off_s = 20\nmax_back_off_s = 21 # again", "# again", "duplicate key"),
    ("id = \"order\"\ngroup", "id = \"o r\"\ngroup", "o r", "id = \"o r\" must be 1 to 64 letters"),
    ("\"payment-events\"", "\"fnhost.schedule\"", "fnhost.schedule", "is reserved"),
    ("component = \"order\"\ngroup", "component = \"front-component\"\ngroup", "id = \"audit\"",
     "has a Kafka trigger and no database, which holds its positions: add [component.front-component.tool.fnhost.database]"),
    ("every_s = 30", "every_s = 0", "every_s", "every_s = 0 is out of range: 1 to 2592000"),
    ("id = \"expire\"", "id = \"ex pire\"", "ex pire", "must be 1 to 64 letters"),
    ("every_s = 30\n", "every_s = 30\n[[component.order.tool.fnhost.schedule]]\nid = \"expire\" # again\nevery_s = 5\n",
     "again", "two schedules have the id \"expire\""),
];

/// The line of `GOOD` that holds a text, counted from 1.
fn line_of(text: &str, part: &str) -> usize {
    text.lines().position(|line| line.contains(part)).expect("the part is there") + 1
}

pub(super) fn refused(cases: &[Case]) {
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
    refused(UNKNOWN_KEYS);
}

#[test]
fn what_only_spin_runs_is_refused_by_name() {
    refused(SPIN_ONLY);
}

#[test]
fn what_contradicts_itself_is_refused() {
    refused(CONTRADICTIONS);
}

#[test]
fn kafka_triggers_that_cannot_run_are_refused() {
    refused(KAFKA);
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
fn a_consumed_topic_leaves_room_for_its_dead_letter_topic() {
    let renamed = |length: usize| GOOD.replace("\"payment-events\"", &format!("\"{}\"", "p".repeat(length)));
    assert!(parse(&renamed(245)).is_ok());
    let message = parse(&renamed(246)).unwrap_err().to_string();
    assert!(message.contains("too long for its dead-letter topic"), "{message}");
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
