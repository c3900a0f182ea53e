//! What `deploy/` and `docker-compose.yml` say holds: files that are mounted exist, images are pinned, and every metric and
//! label that a dashboard or an alert names is there when a system runs. Where Debian's `prometheus` is installed, the real one
//! scrapes, loads the alerts and answers every query.

use super::metrics::used;
use anyhow::Context as _;
use fnhost_capabilities::key_value::{Readers, RuntimeConfig};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use tests::outcome::Outcome;
use tests::prometheus::Prometheus;
use tests::promql::named;
use tests::scrape::Scrape;

/// Labels that Prometheus itself adds to what it scrapes, and metrics that it makes.
const ADDED_LABELS: [&str; 2] = ["instance", "job"];
const ADDED_METRIC: &str = "up";
/// The labels of [`ADDED_METRIC`] and of every series besides its own.
const BUCKET_BOUND: &str = "le";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: &str) -> anyhow::Result<String> {
    std::fs::read_to_string(root().join(path)).with_context(|| format!("read {path}"))
}

fn yaml(path: &str) -> anyhow::Result<Value> {
    serde_yaml_ng::from_str(&read(path)?).with_context(|| format!("{path} is no YAML"))
}

/// A query, and where it stands.
#[derive(Debug)]
struct Query {
    place: String,
    text: String,
    /// What the names of its results are made of.
    legend: String,
}

/// The queries of the dashboards, as Grafana would send them for all hosts, triggers and components.
fn dashboard_queries() -> anyhow::Result<Vec<Query>> {
    let folder = "deploy/grafana/dashboards";
    let mut queries = Vec::new();
    for entry in std::fs::read_dir(root().join(folder))? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        let dashboard: Value = serde_json::from_str(&read(&format!("{folder}/{name}"))?)?;
        let panels = dashboard["panels"].as_array().context("panels")?;
        for panel in panels.iter().filter(|panel| panel["type"] != "row") {
            let title = panel["title"].as_str().context("a title")?;
            anyhow::ensure!(
                panel["description"].as_str().is_some_and(|d| !d.is_empty()),
                "{title}: no description"
            );
            let targets = panel["targets"].as_array().context("targets")?;
            anyhow::ensure!(!targets.is_empty(), "{title} asks nothing");
            for target in targets {
                let mut text = target["expr"].as_str().context("an expression")?.to_owned();
                for (variable, value) in [
                    ("$__rate_interval", "1m"),
                    ("$__range", "30m"),
                    ("$instance", ".*"),
                    ("$trigger", ".*"),
                    ("$component", ".*"),
                ] {
                    text = text.replace(variable, value);
                }
                anyhow::ensure!(!text.contains('$'), "{title}: an unknown variable in {text}");
                let legend = target["legendFormat"].as_str().unwrap_or_default().to_owned();
                queries.push(Query { place: format!("{name}, {title}"), text, legend });
            }
        }
        for variable in dashboard["templating"]["list"].as_array().context("variables")? {
            // `label_values(metric, label)` asks for the series of a metric that have the label.
            let text = variable["definition"].as_str().context("a definition")?;
            let inner = text.strip_prefix("label_values(").and_then(|t| t.strip_suffix(')'));
            let (metric, label) = inner.and_then(|t| t.split_once(", ")).context("label_values")?;
            let text = format!("count by ({label}) ({metric})");
            queries.push(Query { place: format!("{name}, a variable"), text, legend: String::new() });
        }
    }
    anyhow::ensure!(queries.len() > 50, "only {} queries: is the dashboard empty?", queries.len());
    Ok(queries)
}

/// The queries of the alerts.
fn alert_queries() -> anyhow::Result<Vec<Query>> {
    let alerts = yaml("deploy/prometheus/alerts.yml")?;
    let groups = alerts["groups"].as_array().context("groups")?;
    let rules = groups.iter().flat_map(|group| group["rules"].as_array().into_iter().flatten());
    let mut queries = Vec::new();
    for rule in rules {
        let name = rule["alert"].as_str().context("an alert")?;
        let annotations = &rule["annotations"];
        for text in ["summary", "description"] {
            anyhow::ensure!(
                annotations[text].as_str().is_some_and(|t| !t.is_empty()),
                "{name} has no {text}"
            );
        }
        let severity = rule["labels"]["severity"].as_str().unwrap_or_default();
        anyhow::ensure!(["critical", "warning"].contains(&severity), "{name} is {severity:?}");
        // Its texts name labels as `{{ $labels.x }}`.
        let texts = format!("{} {}", annotations["summary"], annotations["description"]);
        let labels = texts.split("$labels.").skip(1).map(|rest| {
            format!(
                "{{{{{}}}}}",
                rest.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').next().unwrap_or_default()
            )
        });
        let legend = labels.collect();
        let text = rule["expr"].as_str().context("an expression")?.to_owned();
        queries.push(Query { place: format!("alert {name}"), text, legend });
    }
    anyhow::ensure!(queries.len() >= 15, "only {} alerts", queries.len());
    Ok(queries)
}

/// What is wrong with a query, measured by what a running system shows.
fn faults(query: &Query, series: &BTreeMap<String, BTreeSet<String>>) -> Vec<String> {
    let mut faults = Vec::new();
    let mut known: BTreeSet<&str> = ADDED_LABELS.into_iter().chain([BUCKET_BOUND]).collect();
    let named = named(&query.text);
    if named.metrics.is_empty() {
        faults.push(format!("{}: it names no metric", query.place));
    }
    for (metric, labels) in &named.metrics {
        let own = series.get(metric);
        if own.is_none() && metric != ADDED_METRIC {
            faults.push(format!("{}: there is no {metric}", query.place));
        }
        let own: BTreeSet<&str> = own.into_iter().flatten().map(String::as_str).chain(ADDED_LABELS).collect();
        faults.extend(
            labels
                .iter()
                .filter(|label| !own.contains(label.as_str()))
                .map(|label| format!("{}: {metric} has no label {label}", query.place)),
        );
        known.extend(own);
    }
    let shown = query.legend.split("{{").skip(1).filter_map(|part| part.split("}}").next());
    let grouped = named.grouped.iter().map(String::as_str).chain(shown.map(str::trim));
    faults.extend(
        grouped
            .filter(|l| !known.contains(l))
            .map(|label| format!("{}: no metric of it has {label}", query.place)),
    );
    faults
}

#[tokio::test]
async fn every_query_names_what_a_running_system_shows() -> Outcome {
    let (fnhost, _) = used().await?;
    let series = Scrape::of(&fnhost.admin()?).await?.series();
    let queries: Vec<Query> = dashboard_queries()?.into_iter().chain(alert_queries()?).collect();
    let faults: Vec<String> = queries.iter().flat_map(|query| faults(query, &series)).collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    // The check itself can fail.
    for wrong in [
        "fnhost_recods_total",
        "fnhost_records_total{triger=\"x\"}",
        "sum by (triger) (fnhost_records_total)",
    ] {
        let query = Query { place: "here".to_owned(), text: wrong.to_owned(), legend: String::new() };
        assert_eq!(self::faults(&query, &series).len(), 1, "{wrong}");
    }
    Ok(())
}

#[tokio::test]
async fn prometheus_answers_every_query() -> Outcome {
    let Some(program) = Prometheus::installed() else {
        println!(
            "SKIPPED: no `prometheus` and `promtool` on PATH (./dev setup --tests installs them); queries were checked by name only"
        );
        return Ok(());
    };
    let deploy = root().join("deploy/prometheus");
    program.check(&["check", "rules"], &deploy.join("alerts.yml"))?;
    program.check(&["check", "config"], &deploy.join("prometheus.yml"))?;

    let (fnhost, _) = used().await?;
    let prometheus = program.start(fnhost.admin()?.address(), &deploy.join("alerts.yml")).await?;
    prometheus.wait_scrapes(3).await?;
    let mut empty = Vec::new();
    for query in dashboard_queries()? {
        let results = prometheus.query(&query.text).await.with_context(|| query.place.clone())?;
        if results.is_empty() {
            empty.push(format!("{}: {}", query.place, query.text));
        }
    }
    assert!(empty.is_empty(), "queries without an answer:\n{}", empty.join("\n"));
    let alerts: BTreeSet<String> = alert_queries()?.into_iter().map(|query| query.place).collect();
    let loaded = prometheus.rules().await?;
    let names: BTreeSet<String> = loaded.iter().map(|rule| format!("alert {}", rule.name)).collect();
    assert_eq!(names, alerts);
    for rule in loaded {
        assert!(rule.health == "ok" && rule.last_error.is_none(), "{rule:?}");
        assert!(rule.state != "firing", "nothing is wrong, and it fires: {rule:?}");
    }
    Ok(())
}

#[test]
fn compose_runs_what_is_here() -> Outcome {
    let compose = yaml("docker-compose.yml")?;
    let services = compose["services"].as_object().context("services")?;
    let names: BTreeSet<&str> = services.keys().map(String::as_str).collect();
    let expected = ["kafka", "postgres", "redis", "prometheus", "grafana", "fnhost", "payment-gateway"];
    assert_eq!(names, BTreeSet::from(expected));
    let built: Vec<&Value> =
        services.values().filter(|s| s.get("build").is_some()).map(|s| &s["image"]).collect();
    let volumes = compose["volumes"].as_object().context("volumes")?;
    for (name, service) in services {
        let image = service["image"].as_str().context("an image")?;
        let pinned =
            image.split_once(':').is_some_and(|(_, tag)| tag.contains('.') && tag.contains(char::is_numeric));
        assert!(pinned || built.contains(&&service["image"]), "{name}: {image} is not pinned");
        for port in service["ports"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            assert!(port.starts_with("127.0.0.1:"), "{name} publishes {port} to everybody");
        }
        for volume in service["volumes"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            let source = volume.split(':').next().unwrap_or_default();
            match source.strip_prefix("./") {
                Some(path) => {
                    assert!(root().join(path).exists(), "{name} mounts {path}, which does not exist")
                }
                None => assert!(volumes.contains_key(source), "{name}: the volume {source} is not declared"),
            }
        }
        let needed = &service["depends_on"];
        let needed = needed.as_object().map(|o| o.keys().map(String::as_str).collect::<Vec<_>>());
        for other in needed.into_iter().flatten() {
            assert!(names.contains(other), "{name} depends on {other}");
        }
    }
    // Where the cache is.
    let stores = services["fnhost"]["environment"]["RUNTIME_CONFIG_FILE"].as_str().context("stores")?;
    let mounted = &services["fnhost"]["configs"][0];
    assert_eq!((&mounted["source"], &mounted["target"]), (&"stores".into(), &stores.into()));
    let content = compose["configs"]["stores"]["content"].as_str().context("its content")?;
    const PASSWORD: &str = "${REDIS_PASSWORD:?use ./dev compose, which makes it}";
    let config = std::env::temp_dir().join(format!("fnhost-compose-{}.toml", std::process::id()));
    std::fs::write(&config, content.replace(PASSWORD, "secret"))?;
    let read_back = RuntimeConfig::read(Some(&config), Readers::Alone);
    std::fs::remove_file(&config)?;
    read_back?;
    let url = format!("url = \"redis://default:{PASSWORD}@redis:6379\"");
    assert!(content.contains(&url), "the name and the port of its service");
    let settings = compose["configs"]["redis"]["content"].as_str().context("Redis's settings")?;
    assert!(settings.lines().any(|line| line == format!("requirepass {PASSWORD}")), "{settings}");
    let command = services["redis"]["command"].to_string();
    let target = services["redis"]["configs"][0]["target"].as_str().context("where they are")?;
    assert!(command.contains(target) && !command.contains("PASSWORD"), "{command}");
    // What scrapes what, and who shows it.
    let scraped = yaml("deploy/prometheus/prometheus.yml")?["scrape_configs"].to_string();
    let admin = services["fnhost"]["environment"]["FNHOST_ADMIN"].as_str().context("FNHOST_ADMIN")?;
    let port = admin.rsplit_once(':').context("a port")?.1;
    assert!(scraped.contains(&format!("fnhost:{port}")), "{scraped} misses fnhost:{port}");
    let source = &yaml("deploy/grafana/provisioning/datasources/prometheus.yml")?["datasources"][0];
    assert_eq!(source["url"], "http://prometheus:9090");
    let dashboards = yaml("deploy/grafana/provisioning/dashboards/fnhost.yml")?;
    let shown = dashboards["providers"][0]["options"]["path"].as_str().context("a path")?;
    let mounts = services["grafana"]["volumes"].to_string();
    assert!(mounts.contains(&format!("./deploy/grafana/dashboards:{shown}:ro")), "{mounts} misses {shown}");
    let dashboard = read("deploy/grafana/dashboards/fnhost.json")?;
    let uid = source["uid"].as_str().context("a uid")?;
    let asked: Value = serde_json::from_str(&dashboard).context("the dashboard")?;
    for panel in asked["panels"].as_array().into_iter().flatten().filter(|p| p["type"] != "row") {
        assert_eq!(panel["datasource"]["uid"], uid, "{}", panel["title"]);
    }
    Ok(())
}
