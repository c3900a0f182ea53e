//! Other systems: how they are asked (`outbound`), and what stands in for them (`service`).

use std::path::Path;
use std::time::Duration;

use super::refused::{Case, refused};
use super::{GOOD, parse};
use crate::outbound::OutboundSettings;

#[test]
fn what_is_written_is_read_and_the_rest_has_its_default() {
    let manifest = parse(GOOD).expect("it is good");
    let ms = Duration::from_millis;
    let expected = OutboundSettings {
        connect_timeout: ms(100),
        first_byte_timeout: ms(200),
        total_timeout: ms(300),
        max_concurrent: 4,
        max_queued: 6,
        max_retries: 1,
        retry_budget_percent: 10,
        open_at_error_percent: 40,
        open_at_calls: 7,
        open_for: ms(800),
    };
    assert_eq!(manifest.components["order"].outbound, expected);
    assert_eq!(manifest.components["front-component"].outbound, OutboundSettings::default());
    let some =
        GOOD.replace("max_queued = 6\nmax_retries = 1\nretry_budget_percent = 10\n", "max_retries = 0\n");
    let some = parse(&some).expect("it is good").components["order"].outbound;
    assert_eq!(
        some,
        OutboundSettings { max_queued: 1_000, max_retries: 0, retry_budget_percent: 20, ..expected }
    );

    let [pay] = &manifest.application.services[..] else { panic!("one service") };
    assert_eq!((pay.name.as_str(), pay.ready.as_str(), pay.port), ("pay", "listens on", 4010));
    assert_eq!(pay.command, Path::new("app/target/tools/pay"), "relative to the manifest");
    assert_eq!((pay.arguments.len(), pay.arguments[2].as_str()), (7, "--in={folder}/x"));
    let variables = (pay.url_variable.as_str(), pay.secret_variable.as_deref());
    assert_eq!(variables, ("pay_url", Some("pay_secret")));
    let bare = GOOD
        .replace("secret_variable = \"pay_secret\"\n", "")
        .replace(", \"--secret\", \"{secret_file}\"", "");
    assert_eq!(parse(&bare).expect("it is good").application.services[0].secret_variable, None);
}

#[rustfmt::skip]
const OUTBOUND: &[Case] = &[
    ("connect_timeout_ms = 100", "connect_timeout = 100", "connect_timeout =", "unknown key \"connect_timeout\"; known here: connect_timeout_ms, "),
    ("max_concurrent = 4", "max_concurent = 4", "max_concurent", "did you mean \"max_concurrent\"?"),
    ("open_ms = 800", "open_ms = 800\nopen_ms = 900 # again", "# again", "duplicate key"),
    ("open_ms = 800", "open_ms = 800\n[component.order.tool.fnhost.outbound] # again", "# again", "duplicate key"),
    ("connect_timeout_ms = 100", "connect_timeout_ms = \"100ms\"", "100ms",
     "connect_timeout_ms is string \"100ms\", and has to be a whole number"),
    ("max_retries = 1", "max_retries = true", "max_retries", "max_retries is boolean `true`, and has to be a whole number"),
    ("open_at_error_percent = 40", "open_at_error_percent = 0.4", "open_at_error_percent",
     "open_at_error_percent is floating point `0.4`, and has to be a whole number"),
    ("connect_timeout_ms = 100", "connect_timeout_ms = 0", "connect_timeout_ms", "connect_timeout_ms = 0 is out of range: 1 to 900000"),
    ("first_byte_timeout_ms = 200", "first_byte_timeout_ms = 900001", "first_byte", "first_byte_timeout_ms = 900001 is out of range: 1 to 900000"),
    ("total_timeout_ms = 300", "total_timeout_ms = -1", "total_timeout_ms", "total_timeout_ms = -1 is out of range: 1 to 900000"),
    ("max_concurrent = 4", "max_concurrent = 0", "max_concurrent", "max_concurrent = 0 is out of range: 1 to 10000"),
    ("max_queued = 6", "max_queued = -1", "max_queued", "max_queued = -1 is out of range: 0 to 100000"),
    ("max_queued = 6", "max_queued = 100001", "max_queued", "max_queued = 100001 is out of range: 0 to 100000"),
    ("max_retries = 1", "max_retries = 11", "max_retries", "max_retries = 11 is out of range: 0 to 10"),
    ("retry_budget_percent = 10", "retry_budget_percent = 101", "retry_budget", "retry_budget_percent = 101 is out of range: 0 to 100"),
    ("open_at_error_percent = 40", "open_at_error_percent = 0", "open_at_error", "open_at_error_percent = 0 is out of range: 1 to 100"),
    ("open_at_calls = 7", "open_at_calls = 100001", "open_at_calls", "open_at_calls = 100001 is out of range: 1 to 100000"),
    ("open_ms = 800", "open_ms = 900001", "open_ms", "open_ms = 900001 is out of range: 1 to 900000"),
];

#[rustfmt::skip]
const SERVICE: &[Case] = &[
    ("url_variable = \"pay_url\"", "url_varable = \"pay_url\"", "url_varable", "did you mean \"url_variable\"?"),
    ("ready = \"listens on\"\n", "", "[[application.tool.fnhost.service]]", "the key \"ready\" is missing"),
    ("port = 4010\n", "", "[[application.tool.fnhost.service]]", "the key \"port\" is missing"),
    ("[[application.tool.fnhost.service]]", "[application.tool.fnhost.service]", "[application.tool.fnhost.service]", "service is a table, and has to be a list"),
    ("port = 4010", "port = \"4010\"", "port =", "port is string \"4010\", and has to be a whole number"),
    ("port = 4010", "port = 0", "port =", "port = 0 is out of range: 1 to 65535"),
    ("port = 4010", "port = 65536", "port =", "port = 65536 is out of range: 1 to 65535"),
    ("port = 4010", "port = 4010\nport = 4011 # again", "# again", "duplicate key"),
    ("command = \"target/tools/pay\"", "command = [\"pay\"]", "command", "has to be a string"),
    ("ready = \"listens on\"", "ready = \"\"", "ready =", "ready is empty and would match every line"),
    ("\"{address}\"", "\"{adress}\"", "{adress}", "has unknown braces; the known ones are {address}, {folder}, {secret_file}, {http}"),
    ("\"{address}\"", "7", "arguments", "has to be a string"),
    ("secret_variable = \"pay_secret\"\n", "", "{secret_file}", "{secret_file} needs a secret_variable"),
    ("url_variable = \"pay_url\"", "url_variable = \"pay_uri\"", "pay_uri", "unknown variable \"pay_uri\"; did you mean \"pay_url\"?"),
    ("url_variable = \"pay_url\"", "url_variable = \"{{ pay_url }}\"", "{{ pay_url }}", "url_variable is the variable's name, without braces"),
    ("secret_variable = \"pay_secret\"", "secret_variable = \"pay_url\"", "secret_variable", "set the variable \"pay_url\""),
    ("name = \"pay\"", "name = \"pay gate\"", "pay gate", "name = \"pay gate\" must be 1 to 64 letters"),
    ("name = \"pay\"", "name = \"..\"", "name = \"..\"", "must not begin with \".\""),
    ("name = \"pay\"", "name = \"kafka\"", "name = \"kafka\"", "is that of a private server"),
    ("[application.tool.fnhost.edge]",
     "[[application.tool.fnhost.service]]\nname = \"pay\" # again\ncommand = \"x\"\nready = \"r\"\nport = 1\nurl_variable = \"proxies\"\n[application.tool.fnhost.edge]",
     "# again", "two services have the name \"pay\""),
    ("[application.tool.fnhost.edge]",
     "[[application.tool.fnhost.service]]\nname = \"other\"\ncommand = \"x\"\nready = \"r\"\nport = 1\nurl_variable = \"pay_url\" # again\n[application.tool.fnhost.edge]",
     "# again", "two services, or two keys of one, set the variable \"pay_url\""),
];

#[test]
fn requests_that_cannot_be_sent_like_that_are_refused() {
    refused(OUTBOUND);
}

#[test]
fn services_that_cannot_run_are_refused() {
    refused(SERVICE);
}
