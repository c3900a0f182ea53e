//! A component made with the SDK of Spin 3 runs unchanged: its handler, its interfaces, its files.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;
use std::sync::LazyLock;

use crate::support::{Scratch, checkout, load, target_dir};
use bytes::Bytes;
use fnhost_engine::{CallError, ComponentSpec, LoadedComponent};
use fnhost_manifest::files::{Files, Mount};
use fnhost_manifest::hosts::AllowedHosts;
use fnhost_test_postgres::TestPostgres;
use http::Request;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::Frame;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

/// The component, and its core module as SDKs for Spin 2 and 3 left it; a crate outside of the workspace, so that its
/// dependencies stay its own.
fn built() -> &'static (PathBuf, PathBuf) {
    static BUILT: LazyLock<(PathBuf, PathBuf)> = LazyLock::new(|| {
        let target = target_dir().join("spin3");
        let build = |linker_arguments: &[&str], name: &str| {
            let status = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()))
                .current_dir(checkout().join("host/tests/spin3"))
                .args([
                    "rustc",
                    "--quiet",
                    "--release",
                    "--locked",
                    "--target",
                    "wasm32-wasip2",
                    "--target-dir",
                ])
                .arg(&target)
                .arg("--")
                .args(linker_arguments)
                .status()
                .expect("cargo runs");
            assert!(status.success(), "the component builds");
            let copy = target.join(name);
            std::fs::copy(target.join("wasm32-wasip2/release/fnhost_test_spin3.wasm"), &copy)
                .expect("a copy");
            copy
        };
        let module = build(&["-C", "link-arg=--skip-wit-component"], "module.wasm");
        (build(&[], "component.wasm"), module)
    });
    &BUILT
}

fn component(change: impl FnOnce(&mut ComponentSpec)) -> LoadedComponent {
    load(|spec| {
        spec.source = built().0.clone();
        spec.kafka = false;
        change(spec);
    })
}

async fn try_send(component: &LoadedComponent, path: &str, body: &str) -> Result<(u16, String), CallError> {
    let request =
        Request::post(format!("http://127.0.0.1{path}")).body(Full::new(Bytes::from(body.to_owned())));
    let response = component.call_http(component.call_state(), request.expect("a request")).await?;
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.expect("a whole body").to_bytes();
    Ok((status, String::from_utf8_lossy(&body).into_owned()))
}

async fn send(component: &LoadedComponent, path: &str, body: &str) -> String {
    let (status, body) = try_send(component, path, body).await.expect("an answer");
    assert_eq!(status, 200, "{path}: {body}");
    body
}

#[tokio::test]
async fn requests_are_answered() {
    let component = component(|_| {});
    assert!(component.handles_http() && !component.handles_kafka());
    let long = "x".repeat(200_000);
    assert_eq!(send(&component, "/echo", &long).await, long, "streamed both ways");
    assert_eq!(try_send(&component, "/nothing", "").await, Ok((404, String::new())));
    assert_eq!(send(&component, "/variable", "").await, "hello");
    match try_send(&component, "/panic", "").await {
        Err(CallError::Trap { message, .. }) => assert!(message.contains("asked to panic"), "{message}"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_body_that_breaks_off_ends_the_call() {
    let component = component(|_| {});
    let part = Ok(Frame::data(Bytes::from_static(b"a part")));
    let parts = [part, Err(wasmtime_wasi_http::Error::ConnectionTerminated)];
    let body = StreamBody::new(futures::stream::iter(parts));
    let request = Request::post("http://127.0.0.1/echo").body(body).expect("a request");
    let ended = component.call_http(component.call_state(), request).await.map(|answer| answer.status());
    assert!(matches!(ended, Err(CallError::RequestBroken(_))), "{ended:?}");
}

#[tokio::test]
async fn a_core_module_runs_as_the_component_that_it_describes() {
    let module = std::fs::read(&built().1).expect("the module");
    assert!(module.starts_with(b"\0asm\x01\0\0\0"), "no component yet");
    let component = component(|spec| spec.source = built().1.clone());
    assert_eq!(send(&component, "/echo", "hi").await, "hi");
    assert_eq!(send(&component, "/variable", "").await, "hello");
}

#[tokio::test]
async fn files_are_seen_and_not_changed() {
    let folder = Scratch::new("earlier-files");
    std::fs::create_dir_all(folder.path().join("public")).expect("made");
    let page = folder.path().join("public/index.html");
    std::fs::write(&page, "<h1>hi</h1>").expect("written");
    let mount = Mount::Placement { source: "public".to_owned(), destination: "/site".to_owned() };
    let files = Files { root: folder.path().to_owned(), mounts: vec![mount], exclude: vec![] };
    let component = component(|spec| spec.files = files);
    assert_eq!(send(&component, "/file", "").await, "<h1>hi</h1>");
    let told = send(&component, "/write", "").await;
    assert!(told.starts_with("Err("), "{told}");
    std::fs::write(&page, "changed").expect("written");
    assert_eq!(send(&component, "/file", "").await, "<h1>hi</h1>", "what was loaded stays");
}

#[tokio::test]
async fn key_value_stores_are_those_of_the_manifest() {
    let component = component(|spec| spec.key_value_stores = BTreeSet::from(["default".to_owned()]));
    for count in 1..=2 {
        assert_eq!(send(&component, "/counter", "").await, format!("{count} [\"count\"] false"));
    }
    assert_eq!(send(&component, "/stores", "").await, "Some(Error::AccessDenied)");
}

#[tokio::test]
async fn sql_of_both_earlier_versions() {
    let postgres = TestPostgres::shared();
    let (place, _owner) = postgres.new_database().await;
    let address = format!("postgres://{place}:unused@127.0.0.1:{}/{place}", postgres.port());
    let host = format!("postgres://127.0.0.1:{}", postgres.port());
    let component =
        component(|spec| spec.allowed_hosts = AllowedHosts::parse("guest", [&host]).expect("a host"));
    let told = send(&component, "/sql3", &address).await;
    assert_eq!(
        told,
        "Some(DbDataType::Other) [[DbValue::Int64(42), DbValue::Str(\"x\"), DbValue::Date((2024, 2, 29)), \
         DbValue::DbNull, DbValue::Unsupported]] Some(Error::QueryFailed(\"ERROR: division by zero (SQLSTATE 22012)\"))"
    );
    let told = send(&component, "/sql2", &address).await;
    assert_eq!(
        told,
        "[[DbValue::Int32(42)]] \
         Some(Error::ValueConversionFailed(\"Postgres has no unsigned integers: pass a signed one\"))"
    );
    let other = component_without_hosts();
    assert_eq!(try_send(&other, "/sql3", &address).await.map(|(status, _)| status), Ok(500));
}

fn component_without_hosts() -> LoadedComponent {
    component(|_| {})
}

#[tokio::test]
async fn requests_that_it_sends_are_held_to_the_allowed_hosts() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("a request");
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            request.push(stream.read_u8().await.expect("a byte"));
        }
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nhi";
        stream.write_all(answer).await.expect("sent");
    });
    let refused = send(&component_without_hosts(), "/get", &url).await;
    assert!(refused.contains("Denied"), "{refused}");
    let allowed =
        component(|spec| spec.allowed_hosts = AllowedHosts::parse("guest", [&url]).expect("a host"));
    assert_eq!(send(&allowed, "/get", &url).await, "200 hi");
}
