//! What documents show of `spin.toml` and of Spin's runtime-config file is accepted by what reads them.

use super::checkout::{Block, blocks, refuse};
use fnhost_capabilities::key_value::{Readers, RuntimeConfig};
use fnhost_manifest::Manifest;
use std::collections::BTreeSet;
use std::path::Path;

/// What a fragment needs from the rest of its manifest, by its first line.
const COMPLETIONS: [(&str, &str); 3] = [
    (
        "[application.tool.fnhost.edge.shed]",
        "[component.stock.tool.fnhost.database]\nschema = \"stock\"\nurl_variable = \"stock_database_url\"\n\
         [[component.stock.tool.fnhost.kafka]]\nid = \"stock\"\ngroup = \"stock\"\ntopics = [\"order-events\"]\n\
         emits = []\nstart = \"earliest\"\n",
    ),
    (
        "[[application.tool.fnhost.live]]",
        "[[trigger.http]]\nroute = \"/orders/...\"\ncomponent = \"order\"\n[component.order]\nsource = \"order.wasm\"\n",
    ),
    (
        "[[component.order.tool.fnhost.schedule]]",
        "[component.order.tool.fnhost.database]\nschema = \"orders\"\nurl_variable = \"order_database_url\"\n",
    ),
];

/// A manifest that has the block as a part: with a name, a trigger, and the components and variables that the block names.
fn complete(block: &Block) -> String {
    let fragment = &block.text;
    if fragment.contains("spin_manifest_version") {
        return fragment.clone();
    }
    let first = block.first_line();
    let completion =
        COMPLETIONS.iter().find(|(line, _)| first.starts_with(line)).map_or("", |(_, more)| more);
    let mut manifest = String::from("spin_manifest_version = 2\n[application]\nname = \"documents\"\n");
    manifest.push_str(completion);
    let both = format!("{completion}\n{fragment}");
    let components: BTreeSet<&str> = both
        .split("[component.")
        .skip(1)
        .filter_map(|rest| rest.split(['.', ']']).next())
        .filter(|id| !both.contains(&format!("[component.{id}]\n")))
        .collect();
    for id in components {
        manifest.push_str(&format!("[component.{id}]\nsource = \"{id}.wasm\"\n"));
    }
    if !both.contains("[[trigger.") && !both.contains(".kafka]]") {
        manifest.push_str("[[trigger.http]]\nroute = \"/page\"\ncomponent = \"page\"\n");
        manifest.push_str("[component.page]\nsource = \"page.wasm\"\n");
    }
    if !both.contains("[variables]\n") {
        let named =
            ["_variable = \"", "signing_key = \""].into_iter().flat_map(|key| both.split(key).skip(1));
        let quoted = named.filter_map(|rest| rest.split('"').next());
        let templates = both.split("{{ ").skip(1).filter_map(|rest| rest.split(" }}").next());
        manifest.push_str("[variables]\n");
        for variable in quoted.chain(templates).collect::<BTreeSet<_>>() {
            manifest.push_str(&format!("{variable} = {{ default = \"0\" }}\n"));
        }
    }
    manifest + fragment
}

#[test]
fn manifests_are_accepted() {
    let mut faults = Vec::new();
    for block in blocks("toml") {
        if block.text.contains("[key_value_store.") {
            continue;
        }
        let manifest = complete(&block);
        if let Err(error) = Manifest::parse(Path::new("spin.toml"), &manifest) {
            faults.push(format!("{}: {error}\n{manifest}", block.place));
        }
    }
    refuse("manifests of the documents", &faults);
}

#[test]
fn runtime_config_files_are_accepted() {
    let stores: Vec<Block> =
        blocks("toml").into_iter().filter(|block| block.text.contains("[key_value_store.")).collect();
    assert!(!stores.is_empty(), "docs/cache.md shows none");
    for (index, block) in stores.iter().enumerate() {
        let file = std::env::temp_dir().join(format!("fnhost-docs-{}-{index}.toml", std::process::id()));
        std::fs::write(&file, &block.text).expect("a temporary file");
        let read = RuntimeConfig::read(Some(&file), Readers::Alone);
        std::fs::remove_file(&file).expect("the temporary file");
        assert!(read.is_ok(), "{}: {:?}", block.place, read.err());
    }
}
