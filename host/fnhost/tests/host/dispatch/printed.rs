//! What a function prints while its batch is not committed yet.

use super::log::printed;
use super::world::World;

/// The session ends between the reply and COMMIT, so the function is called again and prints again; the log says it once.
#[tokio::test(flavor = "multi_thread")]
async fn a_line_of_a_batch_that_was_rolled_back_is_marked_and_the_committed_one_stands_once() {
    let world = World::new(&["printed"]).await;
    world.send(0, &[("a", "write")]).await;
    let host = world.host("one", 3).await;
    world.until_position(0, 1).await;
    world.until("SELECT NOT EXISTS (SELECT FROM fnhost.outbox)").await;
    // Its statements run, its reply comes, and its store waits for the row.
    let mut held = world.database.begin().await.expect("a transaction");
    sqlx::raw_sql("SELECT FROM fnhost.partition FOR UPDATE").execute(&mut *held).await.expect("locked");
    world.send(0, &[("a", "print")]).await;
    let waiting = "SELECT count(*) = 1 FROM pg_stat_activity \
                   WHERE wait_event_type = 'Lock' AND datname = current_database()";
    world.until(waiting).await;
    assert_eq!(printed("to stdout"), Vec::<String>::new(), "nothing is committed");
    let ended = "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity \
                 WHERE wait_event_type = 'Lock' AND datname = current_database()";
    world.run(ended).await;
    held.rollback().await.expect("released");
    world.until_position(0, 2).await;
    // Stops after what it has in hand, the line of the committed batch included.
    host.stop().await;

    for text in ["to stdout", "to stderr"] {
        let lines = printed(text);
        let [rolled_back, committed] = &lines[..] else { panic!("{lines:?}") };
        assert!(rolled_back.contains("DEBUG") && rolled_back.contains("rolled_back=true"), "{rolled_back}");
        assert!(!committed.contains("rolled_back") && !committed.contains("DEBUG"), "{committed}");
    }
    assert!(printed("to std")[2].contains("to stdout"), "in their order: {:?}", printed("to std"));
}
