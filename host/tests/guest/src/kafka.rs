//! The Kafka handler: the value of a message names the behaviour. `done` is done, and `write` is done, writes a row and
//! emits a message, `unlucky` does the same unless the variable `mood` is `bad`, and then panics; the first message with another value decides for the whole batch.

wit_bindgen::generate!({
    path: "../../../wit/kafka",
    world: "kafka-function",
    generate_all,
});

use exports::fnhost::kafka::handler::{Batch, Error, Guest, Reply};
use fnhost::kafka::types::{Emit, Header, Message, Outcome};
use spin_sdk::pg::Connection;

use crate::misbehave;

struct Handler;

impl Guest for Handler {
    async fn handle(batch: Batch) -> Result<Reply, Error> {
        let behaviours: Vec<String> = batch.messages.iter().map(behaviour).collect();
        if behaviours.iter().any(|name| name == "unlucky") && bad_mood().await {
            panic!("in a bad mood");
        }
        let odd = behaviours.iter().position(|name| !matches!(name.as_str(), "done" | "write" | "unlucky"));
        let odd = odd.unwrap_or_default();
        let behaviour = behaviours.get(odd).map_or("done", String::as_str);
        misbehave(behaviour);
        let mut outcomes: Vec<Outcome> = batch.messages.iter().map(|_| Outcome::Done).collect();
        let mut emits = write(&batch, &behaviours).await?;
        let failed = |reason: String| Error { reason, message: u32::try_from(odd).ok() };
        if let Some(statement) = behaviour.strip_prefix("sql ") {
            execute(statement).await.map_err(failed)?;
        }
        if let Some(statement) = behaviour.strip_prefix("sql-swallow ") {
            // A function that believes itself done.
            let _ = execute(statement).await;
        }
        match behaviour {
            "error" => return Err(failed("asked to fail".to_owned())),
            "short-reply" => outcomes.clear(),
            "retry" => outcomes[odd] = Outcome::Retry("later".to_owned()),
            "retry-all" => outcomes.fill_with(|| Outcome::Retry("later".to_owned())),
            "retry-once" => {
                for (message, outcome) in batch.messages.iter().zip(&mut outcomes) {
                    if message.attempt == 1 {
                        *outcome = Outcome::Retry("a little later".to_owned());
                    }
                }
            }
            "reject" => outcomes[odd] = Outcome::Reject("never".to_owned()),
            "emit" => emits.push(emit(&batch, odd, "out", batch.messages[odd].headers.clone())),
            "emit-elsewhere" => emits.push(emit(&batch, odd, "elsewhere", Vec::new())),
            "emit-forged" => {
                let forged = Header { name: "fnhost-seq".to_owned(), value: b"1".to_vec() };
                emits.push(emit(&batch, odd, &out(&batch), vec![forged]));
            }
            "emit-without-cause" => emits.push(emit(&batch, batch.messages.len(), &out(&batch), Vec::new())),
            "emit-retried" => {
                outcomes[odd] = Outcome::Retry("later".to_owned());
                emits.push(emit(&batch, odd, &out(&batch), Vec::new()));
            }
            "print" => {
                println!("to stdout");
                eprintln!("to stderr");
            }
            "sleep" => spin_sdk::time::sleep(std::time::Duration::from_secs(60)).await,
            _ => {}
        }
        Ok(Reply { outcomes, emits })
    }
}

export!(Handler);

fn behaviour(message: &Message) -> String {
    String::from_utf8_lossy(message.value.as_deref().unwrap_or_default()).into_owned()
}

async fn bad_mood() -> bool {
    spin_sdk::variables::get("mood").await.is_ok_and(|mood| mood == "bad")
}

/// A row and a message for each record that asks for them.
async fn write(batch: &Batch, behaviours: &[String]) -> Result<Vec<Emit>, Error> {
    let mut emits = Vec::new();
    for (at, message) in batch
        .messages
        .iter()
        .enumerate()
        .filter(|(at, _)| matches!(behaviours[*at].as_str(), "write" | "unlucky"))
    {
        let statement =
            format!("INSERT INTO effect (topic, record) VALUES ('{}', {})", batch.topic, message.offset);
        execute(&statement).await.map_err(|reason| Error { reason, message: None })?;
        emits.push(emit(batch, at, &out(batch), Vec::new()));
    }
    Ok(emits)
}

/// The topic that the tests' triggers may emit to.
fn out(batch: &Batch) -> String {
    format!("{}.out", batch.topic)
}

fn emit(batch: &Batch, cause: usize, topic: &str, headers: Vec<Header>) -> Emit {
    Emit {
        cause: u32::try_from(cause).unwrap_or(u32::MAX),
        topic: topic.to_owned(),
        key: batch.messages.get(cause).and_then(|message| message.key.clone()),
        value: Some(b"emitted".to_vec()),
        headers,
    }
}

async fn execute(statement: &str) -> Result<(), String> {
    let url = spin_sdk::variables::get("database_url").await.map_err(|error| error.to_string())?;
    let connection = Connection::open(url).await.map_err(|error| error.to_string())?;
    connection.execute(statement, Vec::new()).await.map(drop).map_err(|error| error.to_string())
}
