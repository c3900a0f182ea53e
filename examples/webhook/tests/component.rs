//! The built component with a real Postgres. That the relay then sends the rows is a matter of the host's own tests.

use fnhost_test_function::Function;
use serde_json::json;

#[tokio::test]
async fn a_hook_is_taken_once_and_what_is_none_is_refused() {
    let function = Function::start_in("examples/webhook", "webhook", |_| {}).await;
    let post = |id: &'static str| function.post("/hooks/shop").header("webhook-id", id);
    let hook = json!({"paid": 12.5});
    for (id, repeated) in [("1", false), ("1", true), ("2", false)] {
        let answer = post(id).json(hook.clone()).await;
        assert_eq!((answer.status, &answer.body), (202, &json!({"accepted": true, "repeated": repeated})));
    }
    assert_eq!(post("").json(hook.clone()).await.status, 422);
    assert_eq!(function.get("/hooks/shop").send().await.status, 405);
    assert_eq!(function.post("/hooks/").json(hook).await.status, 404);
    let sent = function
        .rows("SELECT topic, convert_from(key, 'UTF8') AS key, convert_from(value, 'UTF8') AS value, headers FROM outgoing_event ORDER BY id")
        .await;
    let row = |id: &str| {
        let headers = json!({"content-type": "application/json", "webhook-id": id});
        json!({"topic": "hooks", "key": "shop", "value": "{\"paid\":12.5}", "headers": headers})
    };
    assert_eq!(sent, [row("1"), row("2")]);
}
