//! The calls of the Postman collection in their order, as Postman would make them.

use anyhow::Context as _;
use http::{Method, StatusCode};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use tests::client::{Answer, Client, request};
use tests::customer::{FINAL_DEADLINE, Status};
use tests::wait::{Look, until};

/// What an answer of a call is kept for: the operation, and the variables that its script sets.
const SCRIPTS: [(&str, &[&str]); 3] = [
    ("login", &["access_token", "refresh_token"]),
    ("refresh", &["access_token", "refresh_token"]),
    ("createOrder", &["order_id"]),
];
/// The calls that a customer may not make.
const FORBIDDEN: [&str; 4] = ["setStock", "forecasts", "setReorder", "forecast"];
/// The one whose answer has no end.
const ENDLESS: &str = "orderEvents";

/// Makes every call once; what was answered, for `check.py`.
///
/// # Errors
/// A call was refused that should not be.
pub async fn answers(client: &Client) -> anyhow::Result<Value> {
    let openapi = super::document(client, "/openapi.json").await?;
    let collection = super::document(client, "/postman.json").await?;
    let mut variables: BTreeMap<String, String> = BTreeMap::new();
    for variable in collection["variable"].as_array().context("no variables")? {
        let text = |field: &str| variable[field].as_str().unwrap_or_default().to_owned();
        variables.insert(text("key"), text("value"));
    }
    variables.insert("base_url".to_owned(), String::new());
    let mut answers = Vec::new();
    for item in collection["item"].as_array().into_iter().flatten().flat_map(items) {
        let operation = operation(&openapi, item)?;
        if operation == ENDLESS {
            continue;
        }
        if operation == "refundOrder" {
            wait_confirmed(client, &variables).await?;
        }
        let answer = call(client, &item["request"], &variables).await?;
        let expected = if FORBIDDEN.contains(&operation) {
            answer.status == StatusCode::FORBIDDEN
        } else {
            answer.status.is_success()
        };
        anyhow::ensure!(expected, "{operation}: {answer}");
        let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        for name in SCRIPTS.iter().filter(|(of, _)| *of == operation).flat_map(|(_, names)| *names) {
            let script = item["event"][0]["script"]["exec"].to_string();
            anyhow::ensure!(script.contains(name), "the script of {operation} does not keep {name}");
            let value = body[name].as_str().with_context(|| format!("{operation} gives no {name}"))?;
            variables.insert((*name).to_owned(), value.to_owned());
        }
        answers.push(json!({
            "operation": operation,
            "status": answer.status.as_u16(),
            "content_type": answer.header("content-type"),
            "body": body,
        }));
    }
    Ok(answers.into())
}

fn items(folder: &Value) -> impl Iterator<Item = &Value> {
    folder["item"].as_array().into_iter().flatten()
}

/// The operation that a call stands for, by its summary.
fn operation<'a>(openapi: &'a Value, item: &Value) -> anyhow::Result<&'a str> {
    let operations =
        openapi["paths"].as_object().into_iter().flatten().flat_map(|(_, item)| item.as_object());
    let mut operations = operations.flatten().map(|(_, operation)| operation);
    let found = operations.find(|operation| operation["summary"] == item["name"]);
    found
        .and_then(|operation| operation["operationId"].as_str())
        .with_context(|| format!("no operation: {item}"))
}

fn fill(text: &str, variables: &BTreeMap<String, String>) -> String {
    let filled =
        |text: String, (name, value): (&String, &String)| text.replace(&format!("{{{{{name}}}}}"), value);
    variables.iter().fold(text.to_owned(), filled)
}

async fn call(client: &Client, call: &Value, variables: &BTreeMap<String, String>) -> anyhow::Result<Answer> {
    let method: Method = call["method"].as_str().unwrap_or_default().parse()?;
    let path = fill(call["url"]["raw"].as_str().context("no address")?, variables);
    let token = call.get("auth").is_none().then(|| variables["access_token"].as_str());
    let body =
        call["body"]["raw"].as_str().map(|text| serde_json::from_str(&fill(text, variables))).transpose()?;
    client.send(request(method, &path, token, body.as_ref())?).await
}

/// Waits until the order that was made is confirmed.
async fn wait_confirmed(client: &Client, variables: &BTreeMap<String, String>) -> anyhow::Result<()> {
    until("the order of the journey", FINAL_DEADLINE, async || {
        let path = format!("/orders/{}", variables["order_id"]);
        let answer =
            client.send(request(Method::GET, &path, Some(&variables["access_token"]), None)?).await?;
        let order: Value = answer.json(StatusCode::OK)?;
        let status: Status = serde_json::from_value(order["status"].clone())?;
        Ok(Look::from_bool(status == Status::Confirmed, order.to_string()))
    })
    .await
}
