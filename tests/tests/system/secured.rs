//! Orders over a Kafka that asks for TLS and a login, by the properties of `--kafka-config`; and what is said where they do not fit.

use tests::customer::{Customer, NewOrder, Status};
use tests::outcome::Outcome;
use tests::secured::{PASSWORD, SecuredKafka, USER};
use tests::system::{Fnhost, Setup};

/// Writes a file of properties and answers how an fnhost is run with it.
fn setup(broker: &SecuredKafka, address: &str, name: &str, properties: &str) -> anyhow::Result<Setup> {
    let path = broker.file(name);
    std::fs::write(&path, properties)?;
    let arguments =
        ["--kafka".to_owned(), address.to_owned(), "--kafka-config".to_owned(), path.display().to_string()];
    Ok(Setup { arguments: arguments.into(), ..Setup::default() })
}

/// An order goes through consumers, producer and admin client, and no log has the password.
async fn order_goes_through(what: &str, mut fnhost: Fnhost) -> anyhow::Result<Fnhost> {
    fnhost.restart().await?;
    let ada = Customer::register(&fnhost.client()?).await?;
    let order = ada.order_to_end(&NewOrder::of(&[("TEA-250G", 1)])).await?;
    assert_eq!(order.status, Status::Confirmed, "{what}");
    assert!(fnhost.interrupt().await?.success(), "{what}");
    assert!(!fnhost.log().contains(PASSWORD), "{what}: the log has the password");
    Ok(fnhost)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn orders_go_through_a_kafka_behind_tls_and_logins() -> Outcome {
    let broker = SecuredKafka::start().await?;
    let (ca, certificate, key) =
        (broker.file("ca.pem"), broker.file("client.pem"), broker.file("client.key"));
    let (ca, certificate, key) = (ca.display(), certificate.display(), key.display());

    // The password by the environment, all else by the file.
    let scram = format!(
        "security.protocol=SASL_SSL\nssl.ca.location={ca}\nsasl.mechanism=SCRAM-SHA-512\nsasl.username={USER}\n"
    );
    let mut with_scram = setup(&broker, &broker.sasl_ssl, "scram", &scram)?;
    with_scram.environment = vec![("FNHOST_KAFKA_CONFIG_SASL_PASSWORD".to_owned(), PASSWORD.to_owned())];
    let first = order_goes_through("TLS and SCRAM", Fnhost::new(with_scram)?).await?;

    let plain = format!(
        "security.protocol=SASL_PLAINTEXT\nsasl.mechanism=PLAIN\nsasl.username={USER}\nsasl.password={PASSWORD}\n"
    );
    let certificates = format!(
        "security.protocol=SSL\nssl.ca.location={ca}\nssl.certificate.location={certificate}\nssl.key.location={key}\n"
    );
    for (what, address, properties) in
        [("PLAIN", &broker.sasl_plaintext, plain), ("certificates", &broker.ssl, certificates)]
    {
        let setup = Setup { data_dir: Some(first.data_dir()), ..setup(&broker, address, what, &properties)? };
        order_goes_through(what, Fnhost::new(setup)?).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_does_not_fit_is_said_without_the_secret() -> Outcome {
    let broker = SecuredKafka::start().await?;
    let ca = broker.file("ca.pem");
    let login = format!("sasl.mechanism=SCRAM-SHA-512\nsasl.username={USER}\nsasl.password=");
    let cases = [
        (
            "a wrong password",
            format!(
                "security.protocol=SASL_SSL\nssl.ca.location={}\n{login}wrong-{PASSWORD}\n",
                ca.display()
            ),
            ["SASL authentication error", "--kafka-config"],
        ),
        (
            "an authority that is not known",
            format!("security.protocol=SASL_SSL\n{login}{PASSWORD}\n"),
            ["certificate verify failed", "ssl.ca.location"],
        ),
        (
            "no properties",
            "client.id=orders\n".to_owned(),
            ["Disconnected", "for TLS and logins the properties (--kafka-config"],
        ),
        (
            "a property that would break the guarantees",
            format!("enable.auto.commit={PASSWORD}\n"),
            ["enable.auto.commit cannot be set", "positions are kept in Postgres"],
        ),
    ];
    let refusals = cases.iter().map(async |(what, properties, expected)| {
        let mut fnhost = Fnhost::new(setup(&broker, &broker.sasl_ssl, what, properties)?)?;
        fnhost.spawn()?;
        let status = fnhost.wait_end().await?;
        let log = fnhost.log();
        assert_eq!(status.code(), Some(1), "{what}: {log}");
        let message = log.split_once("fnhost: ").map(|(_, message)| message).unwrap_or_default();
        for part in expected {
            assert!(message.contains(part), "{what}: {part:?} is not in the message:\n{log}");
        }
        assert!(!log.contains(PASSWORD), "{what}: {log}");
        anyhow::Ok(())
    });
    futures::future::try_join_all(refusals).await?;
    Ok(())
}
