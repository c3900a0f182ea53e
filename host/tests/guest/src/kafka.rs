//! The Kafka handler: the value of the first message names the behaviour.

wit_bindgen::generate!({
    path: "../../../wit/kafka",
    world: "kafka-function",
    generate_all,
});

use exports::fnhost::kafka::handler::{Batch, Error, Guest, Reply};
use fnhost::kafka::types::{Emit, Outcome};

use crate::misbehave;

struct Handler;

impl Guest for Handler {
    async fn handle(batch: Batch) -> Result<Reply, Error> {
        let first = batch.messages[0].value.clone().unwrap_or_default();
        let behaviour = String::from_utf8_lossy(&first).into_owned();
        misbehave(&behaviour);
        let done: Vec<Outcome> = batch.messages.iter().map(|_| Outcome::Done).collect();
        let reply = |outcomes, emits| Ok(Reply { outcomes, emits });
        match behaviour.as_str() {
            "error" => Err(Error {
                reason: "asked to fail".to_owned(),
                message: Some(0),
            }),
            "short-reply" => reply(Vec::new(), Vec::new()),
            "retry" => reply(
                done.iter().map(|_| Outcome::Retry("later".to_owned())).collect(),
                Vec::new(),
            ),
            "reject" => reply(
                done.iter().map(|_| Outcome::Reject("never".to_owned())).collect(),
                Vec::new(),
            ),
            "emit" => {
                let emits = vec![Emit {
                    cause: 0,
                    topic: "out".to_owned(),
                    key: batch.messages[0].key.clone(),
                    value: Some(b"emitted".to_vec()),
                    headers: batch.messages[0].headers.clone(),
                }];
                reply(done, emits)
            }
            "print" => {
                println!("to stdout");
                eprintln!("to stderr");
                reply(done, Vec::new())
            }
            "sleep" => {
                spin_sdk::time::sleep(std::time::Duration::from_secs(60)).await;
                reply(done, Vec::new())
            }
            _ => reply(done, Vec::new()),
        }
    }
}

export!(Handler);
