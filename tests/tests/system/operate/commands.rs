//! Commands as programs use them: JSON on stdout, exit codes that tell what happened, and a doctor that names the cure.

use super::shared;
use serde_json::Value;
use std::net::TcpListener;
use std::process::{Output, Stdio};
use tests::outcome::Outcome;
use tests::system::program;

/// Runs a command with these variables; without a manifest, so that nothing is compiled.
async fn fnhost(arguments: &[&str], variables: &[(&str, &str)]) -> anyhow::Result<Output> {
    let mut command = tokio::process::Command::new(program()?);
    command.args(arguments).env("FNHOST_MANIFEST", "/nowhere/spin.toml").stdin(Stdio::null());
    for name in ["FNHOST_LISTEN", "FNHOST_ADMIN", "FNHOST_KAFKA", "FNHOST_DATABASE", "FNHOST_LOG_FORMAT"] {
        command.env_remove(name);
    }
    Ok(command.envs(variables.iter().copied()).output().await?)
}

/// What a broken set-up is, the check that finds it, and a part of the cure.
type Fault<'a> = (&'a [&'a str], &'a [(&'a str, &'a str)], &'a str, &'a str);

#[tokio::test]
async fn the_doctor_names_the_cure_of_what_is_broken() -> Outcome {
    let taken = TcpListener::bind("127.0.0.1:0")?;
    let address = taken.local_addr()?.to_string();
    let faults: [Fault<'_>; 6] = [
        (&[], &[("JAVA_HOME", ""), ("PATH", "/nowhere")], "kafka", "JAVA_HOME"),
        (&[], &[("FNHOST_KAFKA_JARS", "/nowhere")], "kafka", "FNHOST_KAFKA_JARS"),
        (&[], &[("FNHOST_POSTGRES_BIN", "/nowhere")], "postgres", "FNHOST_POSTGRES_BIN"),
        (&["--listen", &address], &[], "http address", "--listen"),
        (&["--admin", &address], &[], "admin address", "--admin"),
        (&[], &[], "manifest", "/nowhere/spin.toml"),
    ];
    for (arguments, variables, check, cure) in faults {
        let output = fnhost(&[&["doctor", "--output", "json"], arguments].concat(), variables).await?;
        assert_eq!(output.status.code(), Some(3), "{check}: {output:?}");
        let findings: Vec<Value> = serde_json::from_slice(&output.stdout)?;
        let found = findings.iter().find(|finding| finding["check"] == check);
        let found = found.unwrap_or_else(|| panic!("{check}: {findings:?}"));
        assert_eq!(found["status"], "failed", "{found}");
        let said = format!("{} {}", found["found"], found["cure"]);
        assert!(said.contains(cure), "{check}: {cure:?} is not in {said}");
    }
    let human = fnhost(&["doctor", "--listen", &address], &[]).await?;
    let said = String::from_utf8(human.stdout)?;
    assert!(said.contains("FAILED") && said.contains("cure: choose another address with --listen"), "{said}");
    Ok(())
}

#[tokio::test]
async fn exit_codes_tell_what_happened() -> Outcome {
    for (arguments, code) in [
        (&["--version"][..], 0),
        (&["completions", "bash"], 0),
        (&["up"], 1),
        (&["ps", "--admin", "127.0.0.1:1"], 1),
        (&["frobnicate"], 2),
        (&["up", "--trace-ratio", "2"], 2),
        (&["doctor"], 3),
    ] {
        let output = fnhost(arguments, &[]).await?;
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {output:?}");
        assert_eq!(output.stderr.is_empty(), code == 0, "{arguments:?} says why on stderr: {output:?}");
    }
    Ok(())
}

#[tokio::test]
async fn what_is_asked_of_a_running_system_comes_as_json() -> Outcome {
    let fnhost = shared().await?;
    let hosts: Value = serde_json::from_str(&fnhost.run(&["ps", "--output", "json"]).await?)?;
    assert_eq!(
        (&hosts["deployment"], &hosts["hosts"][0]["state"]),
        (&"orders".into(), &"up".into()),
        "{hosts}"
    );
    let versions: Value =
        serde_json::from_str(&fnhost.run(&["versions", "order", "--output", "json"]).await?)?;
    assert_eq!(versions[0]["digest"].as_str().map(str::len), Some(64), "{versions}");
    Ok(())
}

#[tokio::test]
async fn the_doctor_finds_a_database_that_forgets() -> Outcome {
    let shared = shared().await?;
    let url = shared.database_url()?;
    let healthy = fnhost(&["doctor", "--output", "json", "--database", &url], &[]).await?;
    let forgetful = format!("{url}?options=-csynchronous_commit%3Doff");
    let sick = fnhost(&["doctor", "--output", "json", "--database", &forgetful], &[]).await?;
    for (output, status) in [(healthy, "ok"), (sick, "failed")] {
        let findings: Vec<Value> = serde_json::from_slice(&output.stdout)?;
        let found = findings.iter().find(|finding| finding["check"] == "postgres");
        let found = found.unwrap_or_else(|| panic!("no postgres: {findings:?}"));
        assert_eq!(found["status"], status, "{found}");
        assert_eq!(found.to_string().contains("synchronous_commit"), status == "failed", "{found}");
    }
    Ok(())
}
