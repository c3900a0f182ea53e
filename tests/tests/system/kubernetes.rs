//! The Helm chart: what it renders for each values file is what Kubernetes takes, and keeps to the rules of `docs/kubernetes.md`.
//! `./dev setup --tests` brings Helm and the schemas.

use anyhow::Context as _;
use fnhost_metrics::names::ALL;
use serde::Deserialize as _;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use tests::outcome::Outcome;
use tests::prometheus::Prometheus;
use tests::promql::named;

/// The values files.
const VALUES: [&str; 3] = ["laptop", "servers", "large"];
/// Versions of Kubernetes: the oldest that the chart takes, and one that is current.
const VERSIONS: [&str; 2] = ["1.30", "1.36"];
/// An image's digest, which has no default.
const DIGEST: &str = "sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef";
/// Labels that Prometheus's operator adds to every series.
const ADDED_LABELS: [&str; 2] = ["namespace", "service"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn yaml(path: &str) -> anyhow::Result<Value> {
    let text = std::fs::read_to_string(root().join(path)).with_context(|| format!("read {path}"))?;
    serde_yaml_ng::from_str(&text).with_context(|| format!("{path} is no YAML"))
}

/// Helm and the schemas, where they were installed.
struct Tools(PathBuf);

impl Tools {
    fn find() -> Option<Self> {
        let folder = root().join("target/kubernetes");
        // Written last.
        let complete = folder.join("complete").is_file();
        if !complete {
            println!("SKIPPED: there is no Helm in target/kubernetes; ./dev setup --tests installs it");
        }
        complete.then_some(Self(folder))
    }

    fn helm(&self, command: &[&str], values: &str, settings: &[&str]) -> anyhow::Result<Output> {
        let mut helm = Command::new(self.0.join("bin/helm"));
        helm.args(command).arg(root().join("deploy/k8s/fnhost")).arg("-f");
        helm.arg(root().join(format!("deploy/k8s/{values}.yaml"))).args(["--namespace", "shop"]);
        for setting in settings {
            helm.args(["--set", setting]);
        }
        helm.stdin(Stdio::null()).output().context("run helm")
    }

    /// What Helm would install, as text.
    fn text(&self, values: &str, version: &str, settings: &[&str]) -> anyhow::Result<String> {
        let digest = format!("image.digest={DIGEST}");
        let settings: Vec<&str> = std::iter::once(digest.as_str()).chain(settings.iter().copied()).collect();
        let output = self.helm(&["template", "shop", "--kube-version", version], values, &settings)?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        anyhow::ensure!(output.status.success(), "{values}: {said}");
        Ok(String::from_utf8(output.stdout)?)
    }

    /// The objects of a values file.
    fn objects(&self, values: &str) -> anyhow::Result<Objects> {
        let text = self.text(values, VERSIONS[1], &[])?;
        // A key that stands twice is an error here.
        let read = serde_yaml_ng::Deserializer::from_str(&text).map(Value::deserialize);
        Ok(Objects(read.filter(|read| !matches!(read, Ok(Value::Null))).collect::<Result<_, _>>()?))
    }
}

/// What a values file renders.
struct Objects(Vec<Value>);

impl Objects {
    fn all(&self, kind: &str) -> Vec<&Value> {
        self.0.iter().filter(|object| object["kind"] == kind).collect()
    }

    fn one(&self, kind: &str, name: &str) -> &Value {
        let mut named = self.all(kind).into_iter().filter(|object| object["metadata"]["name"] == name);
        named.next().unwrap_or_else(|| panic!("there is no {kind} {name}"))
    }

    /// Templates of pods, each with the name of what makes them.
    fn pods(&self) -> Vec<(String, &Value)> {
        let templates = self.0.iter().filter(|object| object["spec"]["template"].is_object());
        templates
            .map(|object| (object["metadata"]["name"].to_string(), &object["spec"]["template"]))
            .collect()
    }
}

fn list<'v>(value: &'v Value, name: &str) -> &'v Vec<Value> {
    value[name].as_array().unwrap_or_else(|| panic!("{name} is no list: {value}"))
}

/// A variable of the host's container.
fn variable<'v>(container: &'v Value, name: &str) -> &'v Value {
    let found = list(container, "env").iter().find(|variable| variable["name"] == name);
    found.unwrap_or_else(|| panic!("there is no {name}"))
}

#[test]
fn the_chart_is_sound_and_its_objects_fit_their_schemas() -> Outcome {
    let Some(tools) = Tools::find() else { return Ok(()) };
    for values in VALUES {
        let digest = format!("image.digest={DIGEST}");
        let lint = tools.helm(&["lint", "--strict", "--kube-version", VERSIONS[1]], values, &[&digest])?;
        assert!(lint.status.success(), "{values}: {}", String::from_utf8_lossy(&lint.stdout));
        for version in VERSIONS {
            let file = std::env::temp_dir().join(format!("fnhost-{}-{values}.yaml", std::process::id()));
            std::fs::write(&file, tools.text(values, version, &[])?).map_err(anyhow::Error::from)?;
            let mut check = Command::new(tools.0.join("bin/python"));
            check.arg(root().join("tests/kubernetes/check.py")).arg(version).arg(tools.0.join("crds"));
            let output = check.arg(&file).stdin(Stdio::null()).output().map_err(anyhow::Error::from)?;
            std::fs::remove_file(&file).map_err(anyhow::Error::from)?;
            let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
            assert!(output.status.success(), "{values} on {version}: {said}");
        }
    }
    Ok(())
}

#[test]
fn what_is_missing_or_wrong_is_refused() -> Outcome {
    let Some(tools) = Tools::find() else { return Ok(()) };
    for (values, setting, expected) in [
        ("servers", "image.digest=", "image.digest is required"),
        ("servers", "image.digest=latest", "digest"),
        ("servers", "kafka.brokers=", "kafka.brokers is required"),
        ("servers", "database.url.secret=", "database.url.secret is required"),
        ("servers", "replica=3", "replica"),
        ("servers", "settleSeconds=6", "settleSeconds"),
        ("servers", "autoscaling.minReplicas=4", "a group of 3 partitions has no work for more hosts"),
        ("laptop", "variables.Upper=x", "Upper"),
        ("servers", "admin.networks={everywhere}", "networks"),
    ] {
        let refused = tools.text(values, VERSIONS[1], &[setting]).expect_err(setting).to_string();
        assert!(refused.contains(expected), "{setting}: {refused}");
    }
    let old = tools.text("servers", "1.29", &[]).expect_err("preStop.sleep is not there").to_string();
    assert!(old.contains("kubeVersion"), "{old}");
    Ok(())
}

#[test]
fn every_pod_keeps_to_the_rules() -> Outcome {
    let Some(tools) = Tools::find() else { return Ok(()) };
    for values in VALUES {
        let objects = tools.objects(values)?;
        let pods = objects.pods();
        assert!(pods.len() >= 2, "{values}: {} kinds of pods", pods.len());
        for (name, template) in pods {
            let (pod, place) = (&template["spec"], format!("{values}, {name}"));
            assert_eq!(pod["automountServiceAccountToken"], false, "{place}");
            assert_eq!(pod["enableServiceLinks"], false, "{place}");
            let security = &pod["securityContext"];
            assert_eq!(security["runAsNonRoot"], true, "{place}");
            assert!(security["runAsUser"].as_u64() > Some(0), "{place}");
            assert_eq!(security["seccompProfile"]["type"], "RuntimeDefault", "{place}");
            for name in ["hostNetwork", "hostPID", "hostIPC", "initContainers"] {
                assert!(pod[name].is_null(), "{place}: {name}");
            }
            let volumes = pod["volumes"].as_array().into_iter().flatten();
            for volume in volumes.filter(|volume| volume["emptyDir"].is_null()) {
                assert!(volume["secret"].is_object(), "{place}: {volume}");
            }
            for container in list(pod, "containers") {
                let security = json!({
                    "allowPrivilegeEscalation": false,
                    "privileged": false,
                    "readOnlyRootFilesystem": true,
                    "capabilities": { "drop": ["ALL"] },
                });
                assert_eq!(container["securityContext"], security, "{place}");
                let (requests, limits) =
                    (&container["resources"]["requests"], &container["resources"]["limits"]);
                for amount in [&requests["cpu"], &requests["memory"], &limits["memory"]] {
                    assert!(amount.is_string(), "{place}: {}", container["resources"]);
                }
                let image = container["image"].as_str().context("an image")?;
                let pinned = image.ends_with(&format!("/fnhost@{DIGEST}"))
                    || image.starts_with("apache/kafka:4.")
                    || image.starts_with("postgres:17.");
                assert!(pinned, "{place}: {image}");
                for variable in container["env"].as_array().into_iter().flatten() {
                    let name = variable["name"].as_str().context("a name")?;
                    let secret = ["PASSWORD", "SECRET", "DATABASE", "PRIVATE_KEY", "ADMIN_TOKEN"]
                        .iter()
                        .any(|s| name.ends_with(s));
                    assert!(!secret || variable["valueFrom"]["secretKeyRef"].is_object(), "{place}: {name}");
                }
            }
        }
        assert!(objects.all("Secret").is_empty(), "{values}: secrets are named, not made");
    }
    Ok(())
}

#[test]
fn hosts_are_replaced_without_a_gap_and_asked_as_they_allow() -> Outcome {
    let Some(tools) = Tools::find() else { return Ok(()) };
    for values in VALUES {
        let objects = tools.objects(values)?;
        let deployment = objects.one("Deployment", "shop-fnhost");
        let (spec, pod) = (&deployment["spec"], &deployment["spec"]["template"]["spec"]);
        assert_eq!(spec["strategy"], json!({ "rollingUpdate": { "maxSurge": 1, "maxUnavailable": 0 } }));
        // Longer than Kafka's session, after which the partitions of a host that left are the others'.
        assert!(spec["minReadySeconds"].as_u64() > Some(6), "{values}");
        let host = &list(pod, "containers")[0];
        let drain: u64 = variable(host, "FNHOST_DRAIN_TIMEOUT")["value"].as_str().context("text")?.parse()?;
        let wait = host["lifecycle"]["preStop"]["sleep"]["seconds"].as_u64().context("a pause")?;
        let grace = pod["terminationGracePeriodSeconds"].as_u64().context("a time")?;
        assert!(wait > 0 && grace >= wait + drain + 10, "{values}: {grace} s for {wait} s and {drain} s");
        for (probe, path) in
            [("startupProbe", "/healthz"), ("livenessProbe", "/healthz"), ("readinessProbe", "/readyz")]
        {
            let get = json!({
                "path": path,
                "port": "admin",
                "httpHeaders": [{ "name": "Host", "value": "localhost" }],
            });
            assert_eq!(host[probe]["httpGet"], get, "{values}: {probe}");
        }
        assert_eq!(variable(host, "POD_IP")["valueFrom"]["fieldRef"]["fieldPath"], "status.podIP");
        assert_eq!(variable(host, "FNHOST_ADMIN_HOSTS")["value"], "$(POD_IP)");

        let labels = &spec["template"]["metadata"]["labels"];
        let selected = |selector: &Value| {
            let selector = selector.as_object().expect("a selector");
            !selector.is_empty() && selector.iter().all(|(name, value)| labels[name] == *value)
        };
        let policy = objects.one("NetworkPolicy", "shop-fnhost");
        let selectors = [
            &spec["selector"]["matchLabels"],
            &objects.one("Service", "shop-fnhost")["spec"]["selector"],
            &objects.one("Service", "shop-fnhost-admin")["spec"]["selector"],
            &objects.one("PodDisruptionBudget", "shop-fnhost")["spec"]["selector"]["matchLabels"],
            &policy["spec"]["podSelector"]["matchLabels"],
        ];
        assert!(selectors.into_iter().all(selected), "{values}: a selector misses the hosts");
        let [http, admin] = &list(&policy["spec"], "ingress")[..] else { panic!("{policy}") };
        assert_eq!(
            (&http["ports"], &admin["ports"]),
            (&json!([{ "port": "http" }]), &json!([{ "port": "admin" }]))
        );
        let peers = list(admin, "from");
        assert_eq!(peers[0], json!({ "podSelector": {} }), "{values}: its own namespace");
        let narrow = |peer: &Value| peer["podSelector"]["matchLabels"].is_object();
        assert!(peers[1..].iter().all(narrow), "{values}: whole namespaces reach the admin address");
    }
    Ok(())
}

#[test]
fn the_database_is_prepared_before_hosts_are_replaced() -> Outcome {
    let Some(tools) = Tools::find() else { return Ok(()) };
    for values in ["servers", "large"] {
        let objects = tools.objects(values)?;
        let job = objects.one("Job", "shop-fnhost-migrate");
        assert_eq!(job["metadata"]["annotations"]["helm.sh/hook"], "pre-install,pre-upgrade");
        let of = |object: &Value| list(&object["spec"]["template"]["spec"], "containers")[0].clone();
        let (migrate, host) = (of(job), of(objects.one("Deployment", "shop-fnhost")));
        assert_eq!((&migrate["args"], &host["args"]), (&json!(["migrate"]), &json!(["up"])));
        assert_eq!(migrate["image"], host["image"]);
        for variable in list(&migrate, "env") {
            assert!(list(&host, "env").contains(variable), "{values}: the host has another {variable}");
        }
    }
    assert!(tools.objects("laptop")?.all("Job").is_empty(), "its database comes after the Job");
    Ok(())
}

#[test]
fn prometheus_gets_the_alerts_of_the_checkout() -> Outcome {
    let Some(tools) = Tools::find() else { return Ok(()) };
    let alerts = yaml("deploy/prometheus/alerts.yml")?;
    for values in ["servers", "large"] {
        let objects = tools.objects(values)?;
        assert_eq!(objects.one("PrometheusRule", "shop-fnhost")["spec"], alerts, "{values}");
        let monitor = objects.one("ServiceMonitor", "shop-fnhost");
        let service = objects.one("Service", "shop-fnhost-admin");
        let labels = &service["metadata"]["labels"];
        let selector = monitor["spec"]["selector"]["matchLabels"].as_object().context("a selector")?;
        assert!(selector.iter().all(|(name, value)| labels[name] == *value), "{values}");
        // The alerts say job="fnhost".
        assert_eq!(labels[monitor["spec"]["jobLabel"].as_str().context("a label")?], "fnhost");
        assert_eq!(monitor["spec"]["endpoints"][0]["port"], service["spec"]["ports"][0]["name"]);
    }
    Ok(())
}

#[test]
fn there_are_never_more_hosts_than_partitions() -> Outcome {
    let Some(tools) = Tools::find() else { return Ok(()) };
    let known: BTreeSet<&str> = ALL.iter().map(|name| name.name).collect();
    for (values, partitions) in [("servers", declared_partitions()?), ("large", 12)] {
        let objects = tools.objects(values)?;
        assert!(objects.one("Deployment", "shop-fnhost")["spec"]["replicas"].is_null(), "KEDA decides");
        let spec = &objects.one("ScaledObject", "shop-fnhost")["spec"];
        assert_eq!(spec["scaleTargetRef"]["name"], "shop-fnhost");
        assert_eq!(spec["maxReplicaCount"], partitions, "{values}");
        assert!(spec["minReplicaCount"].as_u64() > Some(1), "{values}: one host more than none");
        let triggers = list(spec, "triggers");
        assert_eq!(triggers.len(), 2);
        for trigger in triggers {
            let query = named(trigger["metadata"]["query"].as_str().context("a query")?);
            assert!(!query.metrics.is_empty());
            for (metric, labels) in query.metrics {
                assert!(known.contains(metric.as_str()), "{values}: there is no {metric}");
                assert!(labels.iter().all(|label| ADDED_LABELS.contains(&label.as_str())), "{labels:?}");
            }
        }
    }
    Ok(())
}

/// Asks Prometheus itself: a partition that moves counts once, one whose records are all parked and another release not at all.
#[test]
fn the_queries_count_what_more_hosts_would_help() -> Outcome {
    let (Some(tools), Some(prometheus)) = (Tools::find(), Prometheus::installed()) else {
        println!("SKIPPED: no promtool on PATH, or no Helm; ./dev setup --tests installs them");
        return Ok(());
    };
    let objects = tools.objects("servers")?;
    let triggers = list(&objects.one("ScaledObject", "shop-fnhost")["spec"], "triggers");
    let rules = triggers.iter().map(|trigger| {
        json!({ "record": format!("asked_{}", trigger["name"].as_str().unwrap_or_default()), "expr": trigger["metadata"]["query"] })
    });
    let rules = json!({ "groups": [{ "name": "scaling", "rules": rules.collect::<Vec<_>>() }] });
    let series = |service: &str, instance: &str, partition: u8, lag: u32, age: u32| {
        let labels = format!(
            "namespace=\"shop\", service=\"{service}\", instance=\"{instance}\", trigger=\"order\", topic=\"events\", \
             partition=\"{partition}\""
        );
        [("lag_records", lag), ("oldest_record_age_seconds", age)].map(|(name, value)| {
            json!({ "series": format!("fnhost_partition_{name}{{{labels}}}"), "values": format!("{value}x1") })
        })
    };
    let ours = "shop-fnhost-admin";
    let moving_and_parked = [
        series(ours, "a", 0, 500, 5),
        series(ours, "b", 0, 500, 5),
        series(ours, "b", 1, 700, 20),
        series(ours, "b", 2, 0, 600),
        series("other-fnhost-admin", "c", 0, 9_999, 999),
    ];
    let answers = |name: &str, value: Option<u32>| {
        let samples: Vec<Value> =
            value.iter().map(|value| json!({ "labels": format!("asked_{name}"), "value": value })).collect();
        json!({ "expr": format!("asked_{name}"), "eval_time": "1m", "exp_samples": samples })
    };
    let file = std::env::temp_dir().join(format!("fnhost-scaling-{}.yaml", std::process::id()));
    let rules_file = file.with_extension("rules.yaml");
    let tests = json!({
        "rule_files": [rules_file],
        "evaluation_interval": "1m",
        "tests": [
            { "interval": "1m", "input_series": moving_and_parked.as_flattened(),
              "promql_expr_test": [answers("lag", Some(1_200)), answers("age", Some(20))] },
            // Nobody was scraped: KEDA takes no answer for a failure.
            { "interval": "1m", "input_series": [],
              "promql_expr_test": [answers("lag", None), answers("age", Some(0))] },
        ],
    });
    std::fs::write(&rules_file, rules.to_string()).map_err(anyhow::Error::from)?;
    std::fs::write(&file, tests.to_string()).map_err(anyhow::Error::from)?;
    let checked = prometheus.check(&["test", "rules"], &file);
    for file in [&file, &rules_file] {
        std::fs::remove_file(file).map_err(anyhow::Error::from)?;
    }
    Ok(checked?)
}

/// Partitions of the manifest's topics, which all have the same number.
fn declared_partitions() -> anyhow::Result<u64> {
    let text = std::fs::read_to_string(root().join("spin.toml"))?;
    let counts = text
        .split("partitions = ")
        .skip(1)
        .map(|rest| rest.chars().take_while(char::is_ascii_digit).collect::<String>().parse::<u64>());
    let counts: BTreeSet<u64> = counts.collect::<Result<_, _>>()?;
    anyhow::ensure!(counts.len() == 1, "topics of {counts:?} partitions");
    counts.into_iter().next().context("no topics")
}
