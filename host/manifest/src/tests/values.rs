//! Where the values of variables come from, and what is said of those that are missing.

use super::super::{Secret, VariableSources};
use super::{GOOD, parse};

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
