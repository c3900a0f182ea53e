//! Components that misbehave, at load and when called: each is refused or ended with a message to act on.

use std::os::unix::fs::MetadataExt as _;
use std::time::{Duration, Instant};

use crate::support::{MEMORY_BYTES, Scratch, engine, holds, load, spec};
use bytes::Bytes;
use fnhost_engine::{CallError, ComponentSpec, Engine, EngineOptions, LoadedComponent};
use fnhost_types::wit::{Batch, Header, Message, Outcome};
use http::Request;
use http_body_util::Full;

/// Longer than a batch takes on a busy machine, and shorter than the deadline of the guest's calls.
const PATIENCE: Duration = Duration::from_secs(15);

fn batch(behaviour: &str, messages: usize) -> Batch {
    let message = |index| Message {
        offset: index as i64,
        timestamp_ms: 0,
        key: Some(b"key".to_vec()),
        value: Some(behaviour.as_bytes().to_vec()),
        headers: vec![Header { name: "h".to_owned(), value: vec![1, 2] }],
        attempt: 1,
        last_attempt: false,
    };
    Batch { topic: "in".to_owned(), partition: 0, messages: (0..messages).map(message).collect() }
}

async fn call(guest: &LoadedComponent, behaviour: &str) -> Result<Vec<Outcome>, CallError> {
    let (outcome, _) = guest.call_kafka(guest.call_state(), batch(behaviour, 2)).await;
    outcome.map(|reply| reply.expect("a reply").outcomes)
}

#[tokio::test]
async fn replies_come_back_as_the_function_gave_them() {
    let guest = load(|_| {});
    assert!(matches!(call(&guest, "done").await.unwrap()[..], [Outcome::Done, Outcome::Done]));
    assert!(matches!(&call(&guest, "retry-all").await.unwrap()[1], Outcome::Retry(why) if why == "later"));
    assert!(matches!(&call(&guest, "reject").await.unwrap()[0], Outcome::Reject(why) if why == "never"));
    assert!(
        call(&guest, "short-reply").await.unwrap().is_empty(),
        "the dispatch checks replies, not the engine"
    );
    let (outcome, report) = guest.call_kafka(guest.call_state(), batch("emit", 1)).await;
    let emit = &outcome.unwrap().unwrap().emits[0];
    assert_eq!((emit.topic.as_str(), emit.cause), ("out", 0));
    assert_eq!(emit.value.as_deref(), Some(&b"emitted"[..]));
    assert_eq!(emit.headers[0].value, [1, 2]);
    assert!(report.memory_peak_bytes > 0 && report.memory_peak_bytes <= MEMORY_BYTES);
    let (outcome, _) = guest.call_kafka(guest.call_state(), batch("error", 1)).await;
    let error = outcome.unwrap().unwrap_err();
    assert_eq!((error.reason.as_str(), error.message), ("asked to fail", Some(0)));
}

#[tokio::test]
async fn a_panic_is_reported_with_its_message_and_place() {
    let guest = load(|_| {});
    let Err(CallError::Trap { message, backtrace }) = call(&guest, "panic").await else {
        panic!("a panic is a trap");
    };
    assert!(message.contains("asked to panic"), "{message}");
    assert!(backtrace.contains("misbehave"), "{backtrace}");
    // The next call has a new instance.
    assert!(call(&guest, "done").await.is_ok());
}

#[tokio::test]
async fn a_guest_that_exits_has_failed() {
    let guest = load(|_| {});
    let error = call(&guest, "exit").await.unwrap_err().to_string();
    assert!(error.contains("exit"), "{error}");
}

#[tokio::test]
async fn a_loop_ends_at_the_deadline_and_blocks_nobody() {
    let looping = load(|spec| spec.limits.deadline = Duration::from_millis(1000));
    let other = load(|_| {});
    // One thread runs this test, so the other calls get through only because the loop yields.
    let (looped, others) = tokio::join!(async { (call(&looping, "loop").await, Instant::now()) }, async {
        for _ in 0..5 {
            call(&other, "done").await.unwrap();
        }
        Instant::now()
    });
    assert_eq!(looped.0.unwrap_err(), CallError::DeadlineExceeded { deadline_ms: 1000 });
    assert!(others < looped.1, "the other calls ended while the loop ran");
}

#[tokio::test]
async fn a_guest_that_waits_too_long_ends_at_the_deadline() {
    let guest = load(|spec| spec.limits.deadline = Duration::from_millis(100));
    assert_eq!(call(&guest, "sleep").await.unwrap_err(), CallError::DeadlineExceeded { deadline_ms: 100 });
}

#[tokio::test]
async fn memory_beyond_the_limit_is_refused() {
    let guest = load(|_| {});
    let (outcome, report) = guest.call_kafka(guest.call_state(), batch("memory", 1)).await;
    let Err(CallError::MemoryLimit { limit_bytes, wanted_bytes }) = outcome else {
        panic!("not a memory limit: {:?}", outcome.map(|_| ()));
    };
    assert_eq!(limit_bytes, MEMORY_BYTES);
    assert!(wanted_bytes > limit_bytes);
    assert!(report.memory_peak_bytes > MEMORY_BYTES / 2 && report.memory_peak_bytes <= MEMORY_BYTES);
}

#[tokio::test]
async fn memory_that_the_guest_starts_with_counts_too() {
    let guest = load(|spec| spec.limits.memory_bytes = 1 << 16);
    let error = call(&guest, "done").await.unwrap_err();
    assert!(matches!(error, CallError::MemoryLimit { limit_bytes: 65536, .. }), "{error}");
}

#[tokio::test]
async fn no_call_finds_what_another_one_left() {
    let engine = Engine::new(EngineOptions { max_calls: 4, ..EngineOptions::default() }).unwrap();
    let guest = engine.load(&spec()).unwrap();
    // Each place is used many times, one call after the other and at the same time.
    for _ in 0..20 {
        call(&guest, "leave").await.unwrap();
    }
    let calls = (0..100).map(|_| call(&guest, "leave"));
    for outcome in futures::future::join_all(calls).await {
        outcome.unwrap();
    }
}

#[tokio::test]
async fn a_full_pool_waits() {
    let engine = Engine::new(EngineOptions { max_calls: 2, ..EngineOptions::default() }).unwrap();
    let guest = engine.load(&spec()).unwrap();
    let calls = (0..20).map(|_| call(&guest, "done"));
    for outcome in futures::future::join_all(calls).await {
        outcome.unwrap();
    }
    engine.idle().await;
    assert_eq!(engine.free_places(), 2);
}

#[tokio::test]
async fn http_calls_leave_permits_for_kafka() {
    let engine = Engine::new(EngineOptions { max_calls: 4, ..EngineOptions::default() }).unwrap();
    let guest = engine.load(&spec()).unwrap();
    let sleep = || async {
        let request = Request::get("http://it/sleep/60000").body(Full::new(Bytes::new())).unwrap();
        guest.call_http(guest.call_state(), request).await
    };
    let flood = futures::future::join_all((0..8).map(|_| sleep()));
    let batches = async {
        holds(async || engine.free_places() <= 1).await;
        for _ in 0..3 {
            call(&guest, "done").await.unwrap();
        }
    };
    tokio::select! {
        _ = flood => panic!("the requests do not end"),
        done = tokio::time::timeout(PATIENCE, batches) => done.expect("no batch waits for a request"),
    }
}

/// A component in its binary form, from its sections.
fn component(sections: &[(u8, &[u8])]) -> Vec<u8> {
    let mut bytes = b"\0asm\x0d\0\x01\0".to_vec();
    for (id, content) in sections {
        bytes.push(*id);
        bytes.push(u8::try_from(content.len()).expect("a short section"));
        bytes.extend_from_slice(content);
    }
    bytes
}

/// An extern name: its kind, its length, its text.
fn name(text: &str) -> Vec<u8> {
    [&[0, text.len() as u8], text.as_bytes()].concat()
}

/// A component whose one export is an empty instance of this name.
fn exporting(export: &str) -> Vec<u8> {
    let instance = [1, 0x01, 0];
    let exports = [&[1][..], &name(export), &[0x05, 0, 0]].concat();
    component(&[(5, &instance), (11, &exports)])
}

/// A component that imports an instance with one function, and exports an HTTP handler's name.
fn importing(import: &str) -> Vec<u8> {
    // (instance (type (func)) (export "get" (func (type 0))))
    let get = [&[0x04][..], &name("get"), &[0x01, 0]].concat();
    let ty = [&[1, 0x42, 2, 0x01, 0x40, 0, 0x01, 0][..], &get].concat();
    let imports = [&[1][..], &name(import), &[0x05, 0]].concat();
    let instance = [1, 0x01, 0];
    let exports = [&[1][..], &name("wasi:http/handler@0.3.0"), &[0x05, 1, 0]].concat();
    component(&[(7, &ty), (10, &imports), (5, &instance), (11, &exports)])
}

#[test]
fn components_that_cannot_serve_are_refused_with_what_to_do() {
    let scratch = Scratch::new("refused");
    let refusal = |bytes: &[u8], change: fn(&mut ComponentSpec)| {
        let mut spec = spec();
        spec.source = scratch.path().join("component.wasm");
        std::fs::write(&spec.source, bytes).unwrap();
        change(&mut spec);
        engine().load(&spec).err().expect("refused").to_string()
    };
    let cases: &[(Vec<u8>, &[&str])] = &[
        (b"#!/bin/sh".to_vec(), &["not a WebAssembly file", "wasm32-wasip2"]),
        (b"\0asm\x01\0\0\0".to_vec(), &["exports neither", "its exports: none"]),
        (b"\0asm\x0d\0\x01\0\xff".to_vec(), &["does not compile"]),
        (component(&[]), &["exports neither", "its exports: none", "http_service"]),
        (exporting("acme:other/thing@1.0.0"), &["exports neither", "acme:other/thing@1.0.0"]),
        (exporting("wasi:http/handler@0.3.0"), &["a Kafka trigger", "fnhost:kafka/handler@0.1.0"]),
        (exporting("fnhost:kafka/handler@0.1.0"), &["an HTTP trigger", "wasi:http/handler@0.3.0"]),
    ];
    for (bytes, parts) in cases {
        let message = refusal(bytes, |_| {});
        for part in *parts {
            assert!(message.contains(part), "{part} in: {message}");
        }
        assert!(message.starts_with("component \"guest\""), "{message}");
    }
    let message = refusal(&importing("spin:sqlite/sqlite@3.1.0"), |spec| spec.kafka = false);
    assert!(message.contains("imports spin:sqlite/sqlite@3.1.0, which fnhost does not offer"), "{message}");
    assert!(message.contains("spin:variables@3.0.0"), "it says what there is: {message}");
    let message = refusal(&exporting("wasi:http/handler@0.3.0"), |spec| spec.kafka = false);
    assert!(message.contains("in a form that fnhost does not know"), "{message}");
}

#[test]
fn a_missing_file_is_said() {
    let mut spec = spec();
    spec.source = "no/such/file.wasm".into();
    let message = engine().load(&spec).err().expect("refused").to_string();
    assert!(message.contains("no/such/file.wasm"), "{message}");
}

#[tokio::test]
async fn images_are_kept_and_damaged_ones_compiled_anew() {
    let scratch = Scratch::new("images");
    let directory = scratch.path().join("cache");
    let options =
        EngineOptions { cache_dir: Some(directory.clone()), max_calls: 4, ..EngineOptions::default() };
    let first = Engine::new(options.clone()).unwrap();
    first.load(&spec()).unwrap();
    let image_of = |extension: &str| {
        let entries = std::fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().path());
        let mut found = entries.filter(|path| path.extension().is_some_and(|found| found == extension));
        let image = found.next().expect("an image");
        assert!(found.next().is_none());
        image
    };
    let image = image_of("cwasm");
    let bytes = std::fs::read(&image).unwrap();
    drop(first);
    // A compilation would put another file in the image's place.
    let inode = std::fs::metadata(&image).unwrap().ino();
    let second = Engine::new(options.clone()).unwrap();
    let guest = second.load(&spec()).unwrap();
    assert_eq!(std::fs::metadata(&image).unwrap().ino(), inode, "the image was used");
    assert!(call(&guest, "done").await.is_ok());
    drop((guest, second));
    // Each damage is one that a crash or a disk can do.
    let flipped =
        bytes.iter().enumerate().map(|(at, byte)| if at == bytes.len() / 2 { byte ^ 1 } else { *byte });
    for damaged in [bytes[..bytes.len() / 2].to_vec(), Vec::new(), flipped.collect()] {
        std::fs::remove_file(&image).unwrap();
        std::fs::write(&image, &damaged).unwrap();
        let third = Engine::new(options.clone()).unwrap();
        let guest = third.load(&spec()).unwrap();
        assert!(call(&guest, "done").await.is_ok());
        assert_eq!(std::fs::read(image_of("cwasm")).unwrap().len(), bytes.len(), "the image is whole again");
    }
}

#[test]
fn a_cache_that_others_can_write_to_is_refused() {
    use std::os::unix::fs::PermissionsExt as _;
    let scratch = Scratch::new("open-cache");
    std::fs::set_permissions(scratch.path(), std::fs::Permissions::from_mode(0o770)).unwrap();
    let options = EngineOptions { cache_dir: Some(scratch.path().to_owned()), ..EngineOptions::default() };
    let message = Engine::new(options).err().expect("refused").to_string();
    assert!(message.contains("chmod 700"), "{message}");
}

/// Options under which components are compiled by another process.
fn elsewhere(scratch: &Scratch, compiler: &str) -> EngineOptions {
    let cache_dir = Some(scratch.path().join("cache"));
    EngineOptions { cache_dir, compiler: Some(compiler.into()), max_calls: 4, ..EngineOptions::default() }
}

/// Names of the images in the cache.
fn images(options: &EngineOptions) -> Vec<String> {
    let entries = std::fs::read_dir(options.cache_dir.as_ref().expect("a cache")).expect("a folder");
    let names = entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("a name"));
    names.filter(|name| name.ends_with(".cwasm")).collect()
}

#[tokio::test]
async fn another_process_compiles_and_leaves_the_image() {
    let scratch = Scratch::new("compiler");
    let options = elsewhere(&scratch, env!("CARGO_BIN_EXE_fnhost"));
    let guest = Engine::new(options.clone()).unwrap().load(&spec()).unwrap();
    assert!(call(&guest, "done").await.is_ok());
    assert_eq!(images(&options), [format!("{}{}", guest.digest(), &images(&options)[0][64..])]);
    // It says why a file does not compile, in the same words as this process.
    let broken = ComponentSpec { source: scratch.path().join("broken.wasm"), ..spec() };
    std::fs::write(&broken.source, b"\0asm\x0d\0\x01\0broken").unwrap();
    let [there, here] = [options.clone(), EngineOptions { compiler: None, ..options.clone() }]
        .map(|options| Engine::new(options).unwrap().load(&broken).err().expect("refused").to_string());
    assert!(there.contains("does not compile"), "{there}");
    assert_eq!(there, here);
    assert_eq!(images(&options).len(), 1);
}

#[tokio::test]
async fn a_compiling_process_that_fails_is_done_without() {
    for (name, compiler) in
        [("ends", "/bin/false"), ("leaves nothing", "/bin/true"), ("is missing", "/nowhere/fnhost")]
    {
        let scratch = Scratch::new(name);
        let options = elsewhere(&scratch, compiler);
        let guest = Engine::new(options.clone()).unwrap().load(&spec()).expect(name);
        assert!(call(&guest, "done").await.is_ok(), "{name}");
        assert_eq!(images(&options).len(), 1, "{name}");
    }
}

#[test]
fn the_images_that_were_used_last_are_kept() {
    let scratch = Scratch::new("many-images");
    let options = elsewhere(&scratch, env!("CARGO_BIN_EXE_fnhost"));
    let engine = Engine::new(options.clone()).unwrap();
    let folder = options.cache_dir.clone().unwrap();
    let hours_ago = |name: &str, hours: u64| {
        let file = std::fs::File::create(folder.join(name)).unwrap();
        file.set_modified(std::time::SystemTime::now() - Duration::from_secs(hours * 3600)).unwrap();
    };
    for age in 1..=70 {
        hours_ago(&format!("{age:02}.cwasm"), age);
        hours_ago(&format!("{age:02}.sha256"), age);
    }
    hours_ago("crashed.1-0.tmp", 2);
    hours_ago("writing.1-0.tmp", 0);
    engine.load(&spec()).unwrap();
    let kept = images(&options);
    assert_eq!(kept.len(), 64);
    for (name, there) in [
        ("63.cwasm", true),
        ("63.sha256", true),
        ("64.cwasm", false),
        ("64.sha256", false),
        ("crashed.1-0.tmp", false),
        ("writing.1-0.tmp", true),
    ] {
        assert_eq!(folder.join(name).exists(), there, "{name}");
    }
}
