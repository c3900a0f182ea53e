//! `/metrics` says what `host/metrics/src/names.rs` and `docs/metrics.md` say, and the numbers are true.

use super::shared;
use fnhost_metrics::names::{self, ALL, Kind, Name};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};
use tests::customer::{Customer, FINAL_DEADLINE, NewOrder, Status};
use tests::outcome::Outcome;
use tests::scrape::Scrape;
use tests::wait::{Look, until};

/// Time that one scrape may take.
const SCRAPE_MAX: Duration = Duration::from_millis(20);
/// Time in which everything that is reported from time to time has been.
const REPORT_DEADLINE: Duration = Duration::from_secs(20);

/// A system that has taken orders of every kind: one that is confirmed, one whose payment needs several attempts, requests
/// without a route and without a token.
pub async fn used() -> anyhow::Result<(tests::system::Shared, Scrape)> {
    let fnhost = shared().await?;
    let (client, admin) = (fnhost.client()?, fnhost.admin()?);
    let customer = Customer::register(&client).await?;
    let order = customer.order_to_end(&NewOrder::of(&[("COFFEE-1KG", 1)])).await?;
    assert_eq!(order.status, Status::Confirmed);
    client.get("/nowhere/at/all").await?;
    client.get("/orders/0190b7a0-0000-7000-8000-000000000000").await?;
    let scrape = until("every metric to be there", REPORT_DEADLINE, async || {
        let scrape = Scrape::of(&admin).await?;
        let missing: Vec<&str> =
            ALL.iter().map(|n| n.name).filter(|n| !scrape.families.contains_key(*n)).collect();
        Ok(match missing.is_empty() {
            true => Look::Found(scrape),
            false => Look::NotYet(format!("not in the scrape: {}", missing.join(", "))),
        })
    });
    let scrape = scrape.await?;
    Ok((fnhost, scrape))
}

fn kind(name: &Name) -> &'static str {
    match name.kind {
        Kind::Counter => "counter",
        Kind::Gauge => "gauge",
        Kind::Histogram(_) => "histogram",
    }
}

#[tokio::test]
async fn the_table_of_names_and_the_scrape_agree() -> Outcome {
    let (_fnhost, scrape) = used().await?;
    let known: BTreeMap<&str, &&Name> = ALL.iter().map(|name| (name.name, name)).collect();
    assert_eq!(known.len(), ALL.len(), "a name stands in the table twice");
    for (name, family) in &scrape.families {
        let expected = known.get(name.as_str());
        let expected = expected.unwrap_or_else(|| panic!("{name} is scraped and not in the table"));
        assert_eq!(family.kind, kind(expected), "{name}");
        assert_eq!(family.help, expected.help, "{name}");
        let labels: BTreeSet<&str> = expected.labels.iter().copied().collect();
        for sample in &family.samples {
            let own = sample.labels.keys().map(String::as_str).filter(|label| *label != "le");
            assert_eq!(own.collect::<BTreeSet<_>>(), labels, "{sample:?}");
        }
    }
    Ok(())
}

#[test]
fn the_table_of_names_and_its_page_agree() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/metrics.md");
    let page = std::fs::read_to_string(page).expect("docs/metrics.md");
    let rows: BTreeSet<&str> = page.lines().filter(|line| line.starts_with("| `")).collect();
    let mut faults = Vec::new();
    let mut expected = BTreeSet::new();
    for name in ALL {
        let labels: Vec<String> = name.labels.iter().map(|label| format!("`{label}`")).collect();
        let row = format!(
            "| `{}` | {} | {} | {} | {} |",
            name.name,
            kind(name),
            name.unit,
            labels.join(", "),
            name.help
        );
        if !rows.contains(row.as_str()) {
            faults.push(format!("missing: {row}"));
        }
        expected.insert(row);
    }
    faults.extend(rows.iter().filter(|row| !expected.contains(**row)).map(|row| format!("unknown: {row}")));
    assert!(
        faults.is_empty(),
        "docs/metrics.md differs from host/metrics/src/names.rs:\n{}",
        faults.join("\n")
    );
}

#[test]
fn names_are_as_prometheus_wants_them() {
    for name in ALL {
        let Name { name: text, help, unit, .. } = name;
        assert_eq!(text.ends_with("_total"), name.kind == Kind::Counter, "{text}");
        assert!(text.starts_with("fnhost_") || text.starts_with("process_"), "{text}");
        assert!(help.ends_with('.') && !unit.is_empty(), "{text}");
        for measure in ["seconds", "bytes"] {
            let stem = text.trim_end_matches("_total");
            assert_eq!(stem.ends_with(measure), *unit == measure, "{text} in {unit}");
        }
    }
}

#[tokio::test]
async fn labels_are_bounded() -> Outcome {
    let (fnhost, _) = used().await?;
    let (client, admin) = (fnhost.client()?, fnhost.admin()?);
    let routes = [
        "",
        "/auth/...",
        "/.well-known/jwks.json",
        "/orders/...",
        "/products/...",
        "/inventory/...",
        "/payments/...",
        "/notifications/...",
        "/forecast/...",
    ];
    for n in 0..20 {
        client.get(&format!("/orders/{n}")).await?;
        client.get(&format!("/elsewhere/{n}")).await?;
    }
    let scrape = Scrape::of(&admin).await?;
    for sample in scrape.samples("fnhost_http_requests_total", &[]) {
        assert!(routes.contains(&sample.labels["route"].as_str()), "{sample:?}");
    }
    assert!(scrape.sum("fnhost_http_requests_total", &[("route", ""), ("status", "404")]) >= 20.0);
    let values = scrape.families.values().flat_map(|f| &f.samples).flat_map(|s| s.labels.values());
    let longest = values.max_by_key(|value| value.len()).cloned().unwrap_or_default();
    assert!(longest.len() <= 32, "a label has the value {longest:?}");
    Ok(())
}

#[tokio::test]
async fn the_numbers_are_true() -> Outcome {
    const ORDERS: usize = 10;
    let (fnhost, _) = used().await?;
    let (client, admin) = (fnhost.client()?, fnhost.admin()?);
    let customer = Customer::register(&client).await?;
    let before = Scrape::of(&admin).await?;
    for _ in 0..ORDERS {
        let order = customer.order_to_end(&NewOrder::of(&[("COFFEE-1KG", 1)])).await?;
        assert_eq!(order.status, Status::Confirmed);
    }
    let after = Scrape::of(&admin).await?;
    let rose = |name: &str, labels: &[(&str, &str)]| after.sum(name, labels) - before.sum(name, labels);
    let orders = ORDERS as f64;
    let post = [("component", "order"), ("route", "/orders/..."), ("method", "POST")];
    let accepted: f64 = ["201", "202"]
        .iter()
        .map(|status| rose("fnhost_http_requests_total", &[&post[..], &[("status", status)]].concat()))
        .sum();
    assert!(accepted >= orders, "{accepted} orders were accepted");
    assert!(rose("fnhost_relay_events_total", &[("trigger", "order:events")]) >= orders);
    for trigger in ["order", "inventory", "payment"] {
        let own = [("trigger", trigger)];
        let (records, batches) = (rose("fnhost_records_total", &own), rose("fnhost_batches_total", &own));
        assert!(
            records >= orders && batches >= 1.0 && batches <= records,
            "{trigger}: {records} in {batches}"
        );
        let (whole, seconds) = (
            rose("fnhost_dispatch_duration_seconds_count", &own),
            rose("fnhost_dispatch_duration_seconds_sum", &own),
        );
        let parts = rose("fnhost_dispatch_phase_duration_seconds_sum", &own);
        assert!(whole >= 1.0 && parts > 0.0, "{trigger}: {whole} dispatches, {parts} s");
        // The parts follow each other within the whole; one dispatch may be counted in one scrape and its whole in the next.
        assert!(parts <= seconds * 1.2 + 0.05, "{trigger}: parts of {parts} s in dispatches of {seconds} s");
        let phase = |phase| {
            rose("fnhost_dispatch_phase_duration_seconds_count", &[("trigger", trigger), ("phase", phase)])
        };
        for name in ["wait", "instantiate", "guest", "sql", "commit", "produce"] {
            assert!(phase(name) >= 1.0, "{trigger}: phase {name}");
        }
        let kafka = [("component", trigger), ("handler", "kafka"), ("outcome", "ok")];
        assert!(rose("fnhost_calls_total", &kafka) >= 1.0);
        assert!(rose("fnhost_call_cpu_seconds_total", &kafka[..2]) > 0.0, "{trigger} used no CPU time");
        let calls = rose("fnhost_call_memory_peak_bytes_count", &kafka[..2]);
        let mean = rose("fnhost_call_memory_peak_bytes_sum", &kafka[..2]) / calls;
        assert!((1e5..=64.0 * 1024.0 * 1024.0).contains(&mean), "{trigger}: {mean} bytes in a call");
    }
    for pool in ["order", "inventory", "host:owner"] {
        let limit = after.sum("fnhost_database_connections_limit", &[("pool", pool)]);
        let open = after.sum("fnhost_database_connections_used", &[("pool", pool)])
            + after.sum("fnhost_database_connections_idle", &[("pool", pool)]);
        assert!(open >= 1.0 && open <= limit, "{pool}: {open} of {limit}");
    }
    assert!(rose("process_cpu_seconds_total", &[]) > 0.0);
    assert!(after.sum("process_resident_memory_bytes", &[]) > 1e7);
    Ok(())
}

#[tokio::test]
async fn a_record_that_is_tried_again_shows_and_goes() -> Outcome {
    let (fnhost, _) = used().await?;
    let (client, admin) = (fnhost.client()?, fnhost.admin()?);
    let customer = Customer::register(&client).await?;
    let payment = [("trigger", "payment")];
    let before = Scrape::of(&admin).await?.sum("fnhost_failed_attempts_total", &payment);
    // Fails at first, and succeeds within the attempts of the tests' manifest.
    let order = customer.order(&NewOrder::of(&[("COFFEE-1KG", 1)]).paid_with("tok_slow")).await?;
    until("a parked record", FINAL_DEADLINE, async || {
        let scrape = Scrape::of(&admin).await?;
        let parked = scrape.sum("fnhost_partition_parked_records", &payment);
        let age = scrape.sum("fnhost_partition_oldest_record_age_seconds", &payment);
        let failed = scrape.sum("fnhost_failed_attempts_total", &payment) - before;
        let seen = format!("{parked} parked, {age} s old, {failed} failed attempts");
        Ok(Look::from_bool(parked >= 1.0 && age > 0.0 && failed >= 1.0, seen))
    })
    .await?;
    assert_eq!(customer.wait_final(order.order_id).await?.status, Status::Confirmed);
    until("nothing to be left", REPORT_DEADLINE, async || {
        let scrape = Scrape::of(&admin).await?;
        let left = [
            "partition_parked_records",
            "partition_oldest_record_age_seconds",
            "partition_lag_records",
            "outbox_rows",
            "outbox_oldest_age_seconds",
        ]
        .map(|name| (name, scrape.sum(&format!("fnhost_{name}"), &[])));
        Ok(Look::from_bool(left.iter().all(|(_, value)| *value == 0.0), format!("{left:?}")))
    })
    .await?;
    Ok(())
}

#[tokio::test]
async fn a_scrape_is_quick() -> Outcome {
    let (fnhost, _) = used().await?;
    let admin = fnhost.admin()?;
    // The best of several: others use the machine too.
    let mut best = Duration::MAX;
    for _ in 0..20 {
        let began = Instant::now();
        admin.get("/metrics").await?;
        best = best.min(began.elapsed());
    }
    assert!(best <= SCRAPE_MAX, "{best:?}");
    let own = Scrape::of(&admin).await?.sum(names::SCRAPE.name, &[]);
    assert!(own > 0.0 && own <= SCRAPE_MAX.as_secs_f64() * 5.0, "{own} s");
    Ok(())
}
