//! A partition that somebody changes from outside while its owner has nothing to do.

use std::time::Duration;

use super::world::World;

/// Nothing arrives that would make the owner store, and it never looks by itself: it has to hear of the change.
#[tokio::test(flavor = "multi_thread")]
async fn an_idle_owner_notices_that_its_position_was_moved() {
    let world = World::new(&["moved"]).await;
    world.send(0, &[("a", "write"), ("b", "write"), ("c", "write")]).await;
    let host = world.host("one", 3).await;
    world.until_position(0, 3).await;
    assert_eq!(world.emitted(0, 3).await, [1, 2, 3]);
    // Idle: what was acknowledged is cleared, and nothing is left to store.
    world.until("SELECT NOT EXISTS (SELECT FROM fnhost.outbox)").await;

    world.move_position(0, 1).await;
    world.until("SELECT count(*) = 5 FROM own.effect").await;
    world.until_position(0, 3).await;
    assert_eq!(world.effects(0).await, [0, 1, 1, 2, 2], "what the operator asked for, and nothing else");
    host.stop().await;
}

/// The announcement is a convenience; without it the change is found by looking.
#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_is_not_announced_is_found_by_looking() {
    let mut world = World::new(&["unannounced"]).await;
    world.poll = Duration::from_millis(100);
    world.send(0, &[("a", "write")]).await;
    let host = world.host("one", 3).await;
    world.until_position(0, 1).await;
    world.run("DROP TRIGGER announce_change ON fnhost.partition").await;
    world.move_position(0, 0).await;
    world.until("SELECT count(*) = 2 FROM own.effect").await;
    host.stop().await;
}
