//! Code that runs only where a declared key has signed it.

use super::{LONG, World, variant_of};
use crate::support::engine;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fnhost_deployment::signed::{EXTENSION, Signers};
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use std::path::Path;

/// Number of the key in minisign's forms.
const KEY_NUMBER: [u8; 8] = [7; 8];

fn pair(seed: u8) -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).expect("a key")
}

fn signers(seed: u8) -> Signers {
    let key = [b"Ed", &KEY_NUMBER[..], pair(seed).public_key().as_ref()].concat();
    Signers::new(&[STANDARD.encode(key)]).expect("a key")
}

/// As `minisign -S -l` signs.
fn signature(wasm: &[u8], seed: u8) -> String {
    let (pair, comment) = (pair(seed), "timestamp:1800000000");
    let signature = pair.sign(wasm);
    let global = pair.sign(&[signature.as_ref(), comment.as_bytes()].concat());
    let line = STANDARD.encode([b"Ed", &KEY_NUMBER[..], signature.as_ref()].concat());
    format!("untrusted comment: of a test\n{line}\ntrusted comment: {comment}\n{}\n", STANDARD.encode(global))
}

fn sign(file: &Path, seed: u8) {
    let wasm = std::fs::read(file).expect("the file");
    let mut name = file.as_os_str().to_owned();
    name.push(format!(".{EXTENSION}"));
    std::fs::write(name, signature(&wasm, seed)).expect("written");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_code_that_a_declared_key_has_signed_runs_on_any_host() {
    let world = World::new("signed").await;
    let file = world.file("a");
    let start = async |instance: &str, seed| {
        world.start(instance, &file, LONG, engine().clone(), signers(seed)).await
    };
    let refused = start("one", 1).await.err().expect("nobody has signed it").to_string();
    assert!(refused.contains("may not run: it is not signed"), "{refused}");
    sign(&file, 2);
    let refused = start("one", 1).await.err().expect("another key has signed it").to_string();
    assert!(refused.contains("not declared with --code-key"), "{refused}");
    assert_eq!(world.value::<i64>("SELECT count(*) FROM fnhost.version").await, 0);

    sign(&file, 1);
    let one = start("one", 1).await.expect("it is signed");
    let other = [None, Some(signature(b"other bytes", 1)), Some(signature(&variant_of("b"), 2))];
    for unsigned in other {
        let refused =
            one.swap("b", |offer| offer.signature = unsigned).await.expect_err("not signed").to_string();
        assert!(refused.contains("may not run"), "{refused}");
    }
    assert_eq!(world.value::<i64>("SELECT count(*) FROM fnhost.version").await, 1);
    one.swap("b", |offer| offer.signature = Some(signature(&variant_of("b"), 1)))
        .await
        .expect("it is signed");
    one.until_runs("b").await;

    // A host that knows another key takes nothing from the database on trust.
    sign(&file, 2);
    let refused = start("two", 2).await.err().expect("of a key that it does not know").to_string();
    assert!(refused.contains("may not run"), "{refused}");
    sign(&file, 1);
    let two = start("two", 1).await.expect("the signature is kept with the code");
    two.until_runs("b").await;
    two.stop().await;
    one.stop().await;
}
