//! fnhost as Spin's plugin `trigger-kafka`, by the protocol of Spin's triggers: the questions that `spin up` asks, the
//! locked application in the environment, exit codes, and the signals of its end.

use anyhow::Context as _;
use serde_json::{Value, json};
use std::path::Path;
use std::process::Command;
use tests::kafka::{Record, produce};
use tests::outcome::Outcome;
use tests::system::{Fnhost, READY_DEADLINE, Setup, program};
use tests::wait::{Look, until};

/// The word count, with its trigger where Spin's plugins are addressed.
fn manifest(_: String) -> String {
    let folder = folder();
    let text = std::fs::read_to_string(folder.join("spin.toml")).expect("the example's manifest");
    let migrations = format!("database = {{ migrations = \"{}/migrations\" }}", folder.display());
    let kafka = "kafka = [{ topics = [\"sentences\"] }]";
    assert!(
        text.contains("database = {}") && text.contains(kafka),
        "the example's manifest is written as it was"
    );
    let text = text.replace("database = {}", &migrations).replace(kafka, "");
    format!(
        "{text}\n[[trigger.kafka]]\nid = \"word-count\"\ncomponent = \"word-count\"\ntopics = [\"sentences\"]\n"
    )
}

fn folder() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/word-count").canonicalize().expect("the example")
}

/// What Spin makes of that manifest and a component of HTTP beside it.
fn lock(manifest: &Path) -> Value {
    let component = folder().join("../../target/functions/word-count.wasm");
    json!({
        "spin_lock_version": 0,
        "metadata": {"name": "word-count", "version": "0.1.0", "origin": format!("file://{}", manifest.display()),
                     "triggers": [{"type": "http"}, {"type": "kafka"}]},
        "variables": {"database_host": {"default": "127.0.0.1:5432"}, "database_url": {"secret": true}},
        "triggers": [
            {"id": "http-trigger-page", "trigger_type": "http", "trigger_config": {"component": "page", "route": "/"}},
            {"id": "word-count", "trigger_type": "kafka",
             "trigger_config": {"component": "word-count", "group": "word-count", "topics": ["sentences"]}},
        ],
        "components": [
            {"id": "page", "source": {"content_type": "application/wasm", "source": "file:///nowhere/page.wasm"}},
            {"id": "word-count",
             "metadata": {"allowed_outbound_hosts": ["postgres://{{ database_host }}"]},
             "source": {"content_type": "application/wasm", "source": format!("file://{}", component.display())},
             "config": {"database_url": "{{ database_url }}"}},
        ],
    })
}

#[tokio::test]
async fn spin_up_runs_the_kafka_triggers_and_ends_them() -> Outcome {
    let setup = Setup { manifest: Some(manifest), under_spin: true, ..Setup::default() };
    let mut fnhost = Fnhost::new(setup)?;
    std::fs::write(fnhost.lock_path(), lock(&fnhost.manifest_path()).to_string())
        .map_err(anyhow::Error::from)?;
    fnhost.restart().await?;
    let kafka = fnhost.kafka()?;
    let sentence = Record { value: Some(b"The dog, the fox".to_vec()), ..Record::default() };
    produce(&kafka, "sentences", 1, &sentence).await?;
    let database = fnhost.database().await?;
    until("the words", READY_DEADLINE, async || {
        let counted = database.count("SELECT coalesce(sum(count), 0)::int8 FROM word_count.word").await?;
        Ok(Look::from_bool(counted == 4, format!("{counted} of 4")))
    })
    .await?;
    database.pool.close().await;
    let status = fnhost.interrupt_through_spin().await?;
    assert!(status.success(), "{status}");
    let log = fnhost.log();
    assert!(log.contains("draining") && !log.contains("stopped without draining"), "{log}");
    Ok(())
}

/// The program under the plugin's name, run to its end.
fn run(name: &str, arguments: &[&str], locked_url: Option<&str>) -> anyhow::Result<std::process::Output> {
    let folder = std::env::temp_dir().join(format!("fnhost-plugin-{name}-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let plugin = folder.join("trigger-kafka");
    std::os::unix::fs::symlink(program()?, &plugin)?;
    let mut command = Command::new(&plugin);
    command.args(arguments).current_dir(&folder).env_remove("SPIN_LOCKED_URL");
    command.envs(locked_url.map(|url| ("SPIN_LOCKED_URL", url)));
    let output = command.output().context("run the plugin");
    std::fs::remove_dir_all(&folder)?;
    output
}

#[test]
fn the_questions_of_spin_are_answered_on_stderr_alone() -> Outcome {
    let output = run("metadata", &["--launch-metadata-only"], None)?;
    assert!(output.status.success() && output.stdout.is_empty(), "{output:?}");
    let told: Value = serde_json::from_slice(&output.stderr).map_err(anyhow::Error::from)?;
    let flags = told["all_flags"].as_array().context("a list")?;
    assert!(flags.contains(&json!({"long": "--kafka"})), "{told}");
    Ok(())
}

#[test]
fn what_is_wrong_is_said_and_ends_the_others() -> Outcome {
    for (name, arguments, url, code, part) in [
        ("alone", &[][..], None, 1, "`spin up` starts"),
        ("remote", &[], Some("https://example.com/spin.lock"), 1, "is not a file URL"),
        ("gone", &[], Some("file:///nowhere/spin.lock"), 1, "cannot read /nowhere/spin.lock"),
        ("flag", &["--listen", "127.0.0.1:1"], None, 2, "--listen"),
    ] {
        let output = run(name, arguments, url)?;
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{name}: {told}");
        assert!(told.contains(part), "{name}: {told}");
    }
    Ok(())
}
