//! Blocks of code: Rust is compiled somewhere, JSON parses, and every language has a check.

use super::checkout::{all_blocks, blocks, refuse, root, sources};
use fnhost_kafka::access::Properties;
use std::path::Path;

/// How blocks of a language are checked, or why they are not.
const LANGUAGES: [(&str, &str); 8] = [
    ("rust", "rust_is_compiled_somewhere"),
    ("json", "json_parses"),
    ("properties", "properties_are_accepted"),
    ("sh", "scripts_parse_and_their_commands_exist; some run in commands_of_the_documents_do_what_they_say"),
    ("toml", "manifests_are_accepted"),
    (
        "sql",
        "no check: statements with … for what differs; the one without runs in commands_of_the_documents_do_what_they_say",
    ),
    (
        "js",
        "no check: it is a browser's; the protocol that it speaks is tested in tests/tests/orders/viewers.rs",
    ),
    ("text", "no check: drawings, listings and output for people"),
];

#[test]
fn every_language_has_a_check_or_a_reason() {
    let known = |language: &str| LANGUAGES.iter().any(|(known, _)| *known == language);
    let unknown = all_blocks().into_iter().filter(|block| !known(&block.language));
    let faults: Vec<String> = unknown.map(|block| format!("{}: {:?}", block.place, block.language)).collect();
    refuse("blocks in a language that nothing checks", &faults);
}

/// True where a crate has its own README as documentation, so that `cargo test` compiles the README's blocks.
fn is_doctested(document: &str) -> bool {
    let lib = Path::new(document).with_file_name("src").join("lib.rs");
    std::fs::read_to_string(root().join(lib)).is_ok_and(|lib| lib.contains("include_str!(\"../README.md\")"))
}

#[test]
fn rust_is_compiled_somewhere() {
    let sources = sources();
    let mut faults = Vec::new();
    for block in blocks("rust").iter().filter(|block| !is_doctested(&block.document)) {
        let compiled = |(name, text): &&(String, String)| name.ends_with(".rs") && text.contains(&block.text);
        if !sources.iter().any(|source| compiled(&source)) {
            faults.push(format!("{}: {}", block.place, block.first_line()));
        }
    }
    refuse("Rust that is part of no source file, and so may not compile", &faults);
}

#[test]
fn json_parses() {
    let parse = |text: &str| serde_json::from_str::<serde_json::Value>(text);
    let faults: Vec<String> = blocks("json")
        .iter()
        .filter_map(|block| parse(&block.text).err().map(|error| format!("{}: {error}", block.place)))
        .collect();
    refuse("JSON of the documents", &faults);
}

#[test]
fn properties_are_accepted() {
    for (index, block) in blocks("properties").iter().enumerate() {
        let file = std::env::temp_dir().join(format!("fnhost-docs-{}-{index}", std::process::id()));
        std::fs::write(&file, &block.text).expect("a temporary file");
        let read = Properties::read(Some(&file), []);
        std::fs::remove_file(&file).expect("the temporary file");
        assert!(read.is_ok(), "{}: {:?}", block.place, read.err());
    }
}
