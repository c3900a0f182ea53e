//! The built component with a real service, a socket that answers as customers are known.

use fnhost_manifest::Secret;
use fnhost_manifest::hosts::AllowedHosts;
use fnhost_test_function::{Function, Sent, told};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Barrier;

/// Knows customer 7; has no answer for 9 and fails for 10.
async fn service() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(answer(stream));
        }
    });
    format!("http://{address}")
}

async fn answer(mut stream: TcpStream) {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        let Ok(byte) = stream.read_u8().await else { return };
        request.push(byte);
    }
    let request = String::from_utf8_lossy(&request);
    let (status, body) = match request.split(' ').nth(1).unwrap_or_default() {
        "/customers/7" => ("200 OK", "{\"name\":\"Ada\"}"),
        // Until the function gives up.
        "/customers/9" => return drop(stream.read_u8().await),
        "/customers/10" => ("500 Oops", ""),
        _ => ("404 Not Found", ""),
    };
    let length = body.len();
    let answer = format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}");
    // Whoever asked may have gone.
    let _ = stream.write_all(answer.as_bytes()).await;
}

fn purchase(customer: u64) -> Sent {
    Sent::plain(&customer.to_string(), &json!({"customer": customer, "amount": 5}).to_string())
}

#[tokio::test]
async fn a_customer_is_asked_once_and_what_is_not_known_waits_alone() {
    let url = service().await;
    let function = Function::start_in("examples/enrich", "enrich", |spec| {
        spec.allowed_hosts = AllowedHosts::parse("enrich", [&url]).expect("a host");
        spec.variables.insert("customers_url".to_owned(), Secret::new(url.clone()));
    })
    .await;
    let batch = [7, 8, 9, 10, 7].map(purchase);
    let (outcomes, emits) = function.deliver_plain(&batch).await;
    let [seven, eight, nine, ten, again] = &outcomes[..] else { panic!("{outcomes:?}") };
    for (outcome, expected) in [
        (seven, "done".to_owned()),
        (eight, "reject(there is no customer 8)".to_owned()),
        (ten, format!("retry({url}/customers/10: status 500)")),
        (again, "done".to_owned()),
    ] {
        assert_eq!(told(std::slice::from_ref(outcome)), expected);
    }
    let nine = told(std::slice::from_ref(nine));
    assert!(nine.starts_with("retry(") && nine.contains("Timeout"), "{nine}");
    assert_eq!(emits.len(), 2);
    let value: Value = serde_json::from_slice(emits[0].value.as_deref().expect("a value")).expect("JSON");
    assert_eq!(value, json!({"amount": 5, "customer": {"name": "Ada"}}));
    assert_eq!((emits[0].topic.as_str(), emits[0].key.as_deref()), ("purchases-enriched", Some(&b"7"[..])));
}

#[tokio::test]
async fn a_host_that_is_not_allowed_is_not_reached() {
    let url = service().await;
    let function = Function::start_in("examples/enrich", "enrich", |spec| {
        spec.variables.insert("customers_url".to_owned(), Secret::new(url.clone()));
    })
    .await;
    let (outcomes, emits) = function.deliver_plain(&[purchase(7)]).await;
    let told = told(&outcomes);
    assert!(told.starts_with("retry(") && told.contains("Denied"), "{told}");
    assert!(emits.is_empty());
}

/// Requests that are held until as many wait together.
const AT_ONCE: usize = 20;

/// A service that answers nobody before [`AT_ONCE`] ask at the same time.
async fn patient_service() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let together = Arc::new(Barrier::new(AT_ONCE));
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let together = together.clone();
            tokio::spawn(async move {
                let mut request = Vec::new();
                while !request.ends_with(b"\r\n\r\n") {
                    let Ok(byte) = stream.read_u8().await else { return };
                    request.push(byte);
                }
                together.wait().await;
                let answer = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}";
                // Whoever asked may have gone.
                let _ = stream.write_all(answer.as_bytes()).await;
            });
        }
    });
    format!("http://{address}")
}

#[tokio::test]
async fn the_records_of_a_batch_wait_for_the_service_together_and_keep_the_order_of_their_keys() {
    let url = patient_service().await;
    let function = Function::start_in("examples/enrich", "enrich", |spec| {
        spec.allowed_hosts = AllowedHosts::parse("enrich", [&url]).expect("a host");
        spec.variables.insert("customers_url".to_owned(), Secret::new(url.clone()));
    })
    .await;
    let batch: Vec<Sent> = (0..2).flat_map(|_| (1..=AT_ONCE as u64).map(purchase)).collect();
    let (outcomes, emits) = function.deliver_plain(&batch).await;
    // One that asked alone would have got no answer in time, and be a retry.
    assert_eq!(told(&outcomes), vec!["done"; batch.len()].join(" "));
    let keys: Vec<&[u8]> = emits.iter().filter_map(|emit| emit.key.as_deref()).collect();
    let sent: Vec<String> = (0..2).flat_map(|_| (1..=AT_ONCE).map(|id| id.to_string())).collect();
    assert_eq!(keys, sent.iter().map(String::as_bytes).collect::<Vec<_>>());
}

/// How long a slow service takes for each answer.
const SLOW: Duration = Duration::from_millis(50);
/// Records of a batch, each of a key of its own.
const TOGETHER: u64 = 100;
/// Records that come one by one.
const ALONE: u64 = 20;
/// By how much the records of a batch are faster than one after the other, at least.
const FACTOR_MIN: f64 = 20.0;
/// Batches that are timed, the best of which counts: what else the machine does only adds to it.
const TRIES: usize = 3;

async fn slow_service() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut request = Vec::new();
                while !request.ends_with(b"\r\n\r\n") {
                    let Ok(byte) = stream.read_u8().await else { return };
                    request.push(byte);
                }
                tokio::time::sleep(SLOW).await;
                let answer = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}";
                // Whoever asked may have gone.
                let _ = stream.write_all(answer.as_bytes()).await;
            });
        }
    });
    format!("http://{address}")
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_wait_together_are_processed_many_times_as_fast() {
    let url = slow_service().await;
    let function = Function::start_in("examples/enrich", "enrich", |spec| {
        spec.allowed_hosts = AllowedHosts::parse("enrich", [&url]).expect("a host");
        spec.variables.insert("customers_url".to_owned(), Secret::new(url.clone()));
    })
    .await;
    let rate = async |batch: Vec<Sent>| {
        let began = Instant::now();
        let (outcomes, _) = function.deliver_plain(&batch).await;
        assert_eq!(told(&outcomes), vec!["done"; batch.len()].join(" "));
        batch.len() as f64 / began.elapsed().as_secs_f64()
    };
    let mut together = 0.0_f64;
    for _ in 0..TRIES {
        together = together.max(rate((1..=TOGETHER).map(purchase).collect()).await);
    }
    let began = Instant::now();
    for customer in 1..=ALONE {
        rate(vec![purchase(customer)]).await;
    }
    let alone = ALONE as f64 / began.elapsed().as_secs_f64();
    let factor = together / alone;
    println!(
        "with {SLOW:?} a record: {together:.0} records/s of {TOGETHER} keys, {alone:.0} of one: {factor:.0} times"
    );
    assert!(factor >= FACTOR_MIN, "{factor:.1} times");
}
