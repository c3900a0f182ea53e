//! The built component with a real Postgres, and what the README shows of it.

use fnhost_test_function::{Function, Sent, told};
use serde_json::{Value, json};

const ADA: &str = "00000000-0000-0000-0000-00000000000a";
const BOB: &str = "00000000-0000-0000-0000-00000000000b";

fn order(user_id: &str, status: Value) -> Sent {
    Sent::plain("order", &json!({"order_id": "7", "user_id": user_id, "status": status}).to_string())
}

#[tokio::test]
async fn confirmed_orders_are_counted_over_batches_and_partitions() {
    let function = Function::start_in("examples/loyalty", "loyalty", |_| {}).await;
    let first =
        [order(ADA, "CONFIRMED".into()), order(BOB, "REJECTED".into()), order(ADA, "CONFIRMED".into())];
    let second =
        [order(BOB, "CONFIRMED".into()), order(ADA, Value::Null), order("nobody", "CONFIRMED".into())];
    let third = [order(ADA, "CONFIRMED".into())];
    let ((first, _), (second, emits)) =
        tokio::join!(function.deliver_plain(&first), function.deliver_plain(&second));
    assert_eq!(told(&first), "done done done");
    let told_second = told(&second);
    assert!(told_second.starts_with("done done reject(the value is not the JSON"), "{told_second}");
    assert!(emits.is_empty());
    function.deliver_plain(&third).await;
    let rows = function.rows("SELECT user_id, orders FROM loyalty ORDER BY user_id").await;
    assert_eq!(
        rows,
        [(ADA, 3), (BOB, 1)].map(|(user_id, orders)| json!({"user_id": user_id, "orders": orders}))
    );
}

#[test]
fn the_readme_shows_these_very_files_and_they_are_short() {
    let readme = include_str!("../../../README.md");
    for (language, text, lines_max) in
        [("rust", include_str!("../src/lib.rs"), 60), ("toml", include_str!("../spin.toml"), 20)]
    {
        assert!(
            readme.contains(&format!("```{language}\n{text}```\n")),
            "README.md shows another {language}"
        );
        let lines = text.lines().filter(|line| !line.trim().is_empty()).count();
        assert!(lines <= lines_max, "{lines} lines of {language}");
    }
}
