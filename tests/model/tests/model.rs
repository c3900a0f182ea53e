//! The protocol's models keep all promises, and lose one without each rule.

use protocol_model::functions::ALL;
use protocol_model::models;
use protocol_model::part::{Rule, Without};
use std::collections::BTreeSet;
use std::path::Path;

#[test]
fn with_all_rules_every_promise_is_kept_and_every_named_function_takes_a_step() {
    let mut used = BTreeSet::new();
    for model in models() {
        let report = model.explore(&Without::default());
        println!("{}: {} states", model.name(), report.states);
        assert!(report.fault.is_none(), "{}: {}", model.name(), report.fault.expect("a fault"));
        assert!(report.states > 50, "{}: {} states", model.name(), report.states);
        used.extend(report.functions);
    }
    let idle: Vec<String> =
        ALL.iter().filter(|function| !used.contains(function)).map(ToString::to_string).collect();
    assert!(idle.is_empty(), "no step is taken by {idle:?}");
}

#[test]
fn without_a_rule_its_promise_is_broken() {
    let mut names = BTreeSet::new();
    for model in models() {
        for rule in model.rules() {
            assert!(names.insert(rule.name), "two rules are called {}", rule.name);
            broken_without(model.name(), rule, model.explore(&Without::rules(&[rule])).fault);
        }
    }
    assert!(names.len() > 40, "{} rules", names.len());
}

fn broken_without(model: &str, rule: &Rule, fault: Option<protocol_model::explore::Fault>) {
    let fault = fault.unwrap_or_else(|| panic!("{model} keeps all promises without {}", rule.name));
    println!("{}: {} steps", rule.name, fault.way.len());
    assert_eq!(fault.promise, rule.keeps, "{model} without {}: {fault}", rule.name);
    assert!(!fault.way.is_empty());
}

#[test]
fn every_step_is_named_after_code_that_is_there() {
    let checkout = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    for function in ALL {
        let text = std::fs::read_to_string(checkout.join(function.file)).expect(function.file);
        let name = function.name;
        let forms = [format!("fn {name}("), format!("fn {name}<"), format!("FUNCTION {name}(")];
        assert!(forms.iter().any(|form| text.contains(form)), "{} has no {name}", function.file);
    }
}
