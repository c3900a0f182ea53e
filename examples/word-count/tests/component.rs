//! The built component with a real Postgres.

use fnhost_test_function::{Function, Sent, told};
use serde_json::json;

#[tokio::test]
async fn words_are_counted_over_batches_and_partitions() {
    let function = Function::start_in("examples/word-count", "word-count", |_| {}).await;
    let first = [Sent::plain("a", "The dog, the FOX."), Sent::plain("b", "A fox — übrigens")];
    let second = [Sent::plain("a", "dog"), Sent { value: None, ..Sent::plain("c", "") }];
    let ((first, _), (second, emits)) =
        tokio::join!(function.deliver_plain(&first), function.deliver_plain(&second));
    assert_eq!(told(&first), "done done");
    assert_eq!(told(&second), "done reject(a tombstone has no text)");
    assert!(emits.is_empty());
    let rows = function.rows("SELECT word, count FROM word ORDER BY count DESC, word").await;
    let expected = [("dog", 2), ("fox", 2), ("the", 2), ("a", 1), ("übrigens", 1)];
    assert_eq!(rows, expected.map(|(word, count)| json!({"word": word, "count": count})));
}
