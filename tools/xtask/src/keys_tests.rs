//! Making, keeping and rotating the keys of a data directory.

use super::*;
use crate::scratch::Scratch;
use std::os::unix::fs::PermissionsExt as _;
use std::time::SystemTime;

/// The private key of RFC 8037, A.1, as `openssl genpkey -algorithm ed25519` would have written it.
const RFC_8037_PEM: &str = "-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g
-----END PRIVATE KEY-----
";
const RFC_8037_RAW: &str = "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A";

fn files(data_dir: &Path) -> (String, Value) {
    let text = |name| read(&data_dir.join("keys").join(name)).expect("it is there");
    (text("private.pem"), serde_json::from_str(&text("public.json")).expect("JSON"))
}

fn kids(set: &Value) -> Vec<String> {
    set["keys"]
        .as_array()
        .expect("keys")
        .iter()
        .map(|key| key["kid"].as_str().expect("an id").into())
        .collect()
}

/// Sets when the keys were made.
fn age(data_dir: &Path, made: SystemTime) {
    let file = File::options().write(true).open(data_dir.join("keys/public.json")).expect("it is there");
    file.set_modified(made).expect("a time");
}

#[test]
fn the_forms_are_those_of_the_rfcs() {
    let raw = URL_SAFE_NO_PAD.decode(RFC_8037_RAW).expect("base64");
    let pair = KeyPair::from_raw(&raw.try_into().expect("32 bytes")).expect("a pair");
    assert_eq!(pair.private_pem(), RFC_8037_PEM);
    let expected = json!({
        "kty": "OKP",
        "crv": "Ed25519",
        "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo",
        "kid": "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k",
        "alg": "EdDSA",
        "use": "sig",
    });
    assert_eq!(pair.public_jwk(), expected);
}

#[test]
fn what_is_no_key_is_refused_without_showing_it() {
    let rsa = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VuBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g\n-----END PRIVATE KEY-----";
    let broken = RFC_8037_PEM.replace('/', "!");
    for (pem, expected) in [
        ("secret", "it has no PEM block PRIVATE KEY"),
        (&broken, "its PEM block is not base64"),
        (rsa, "it is not an Ed25519 key in PKCS#8 (WrongAlgorithm)"),
    ] {
        assert_eq!(format!("{:#}", KeyPair::from_pem(pem).expect_err(pem)), expected);
    }
    let debug = format!("{:?}", KeyPair::from_pem(RFC_8037_PEM).expect("a pair"));
    assert_eq!(debug, r#"KeyPair { x: "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo", .. }"#);
}

#[test]
fn keys_are_made_once_and_kept() {
    let scratch = Scratch::new();
    let data_dir = scratch.path().join("data");
    let first = ensure(&data_dir).expect("keys");
    let (pem, set) = files(&data_dir);
    let pair = KeyPair::from_pem(&pem).expect("a pair");
    assert_eq!(set, json!({ "keys": [pair.public_jwk()] }));
    assert_eq!(first.pairs().map(|(name, _)| name), [PRIVATE_KEY, PUBLIC_KEYS]);
    assert_eq!((first.private_key.as_str(), first.public_keys), (pem.trim_end(), set.to_string()));
    assert_eq!(ensure(&data_dir).expect("keys").private_key, first.private_key);
    let other = ensure(&scratch.path().join("other")).expect("keys");
    assert_ne!(other.private_key, first.private_key, "each directory has its own");
    let mode = |path: &str| data_dir.join(path).metadata().expect("it is there").permissions().mode() & 0o777;
    let modes = ["", "keys", "keys/private.pem", "keys/public.json"].map(mode);
    assert_eq!(modes, [0o755, 0o700, 0o600, 0o600]);
}

#[test]
fn one_half_of_a_pair_is_made_anew() {
    let scratch = Scratch::new();
    ensure(scratch.path()).expect("keys");
    // As when the first start was killed between the two files.
    std::fs::write(scratch.path().join("keys/public.json"), "").expect("a file");
    ensure(scratch.path()).expect("keys");
    let (pem, set) = files(scratch.path());
    assert!(published(&set.to_string(), &KeyPair::from_pem(&pem).expect("a pair")).is_ok());
}

#[test]
fn a_rotation_keeps_the_key_before_and_no_older_one() {
    let scratch = Scratch::new();
    let data_dir = scratch.path();
    ensure(data_dir).expect("keys");
    let mut expected = kids(&files(data_dir).1);
    for _ in 0..2 {
        rotate(data_dir, true).expect("it is rotated");
        let (pem, set) = files(data_dir);
        let signs = KeyPair::from_pem(&pem).expect("a pair").public_jwk();
        assert_eq!(set["keys"][0], signs, "the newest signs");
        expected = vec![signs["kid"].as_str().expect("an id").to_owned(), expected[0].clone()];
        assert_eq!(kids(&set), expected);
    }
    let used = ensure(data_dir).expect("keys");
    assert_eq!(used.private_key, files(data_dir).0.trim_end());
}

#[test]
fn a_second_rotation_within_an_hour_is_refused() {
    let scratch = Scratch::new();
    let data_dir = scratch.path();
    ensure(data_dir).expect("keys");
    let minutes = |count: u64| Duration::from_secs(60 * count);
    for made in [SystemTime::now(), SystemTime::now() - minutes(59), SystemTime::now() + minutes(90)] {
        age(data_dir, made);
        let before = files(data_dir);
        let refused = rotate(data_dir, false).expect_err("less than an hour old").to_string();
        assert!(
            refused.contains("less than an hour old") && refused.ends_with("(--now does it)"),
            "{refused}"
        );
        assert_eq!(files(data_dir), before);
    }
    age(data_dir, SystemTime::now() - minutes(61));
    rotate(data_dir, false).expect("it is old enough");
    rotate(data_dir, false).expect_err("it has just been made");
}

#[test]
fn keys_that_do_not_belong_together_are_left_alone() {
    let scratch = Scratch::new();
    let missing = rotate(scratch.path(), true).expect_err("there are none").to_string();
    assert!(missing.ends_with("keys: `./dev up` makes them"), "{missing}");
    ensure(scratch.path()).expect("keys");
    std::fs::write(scratch.path().join("keys/private.pem"), RFC_8037_PEM).expect("a file");
    let before = files(scratch.path());
    let refused = format!("{:#}", rotate(scratch.path(), true).expect_err("another pair's"));
    assert!(refused.ends_with("private.pem: it does not have the public part of it"), "{refused}");
    assert_eq!(files(scratch.path()), before);
}
