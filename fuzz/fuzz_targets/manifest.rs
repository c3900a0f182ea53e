//! Any text is a manifest or refused with a message.
#![no_main]

use fnhost_manifest::Manifest;
use libfuzzer_sys::fuzz_target;
use std::path::Path;

fuzz_target!(|text: &str| {
    if let Err(error) = Manifest::parse(Path::new("spin.toml"), text) {
        assert!(!error.to_string().is_empty());
    }
});
