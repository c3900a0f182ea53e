//! A host with partitions is ready when it owns them; one without any when others have them all, and not before.

use crate::world::World;

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_gets_no_partition_is_ready_once_the_others_have_all() {
    let world = World::new(&["only"]).await;
    let first = world.host("one", 3).await;
    first.ready().await;
    assert_eq!(first.partitions(), 1);
    let second = world.host("two", 3).await;
    second.ready().await;
    assert_eq!((first.partitions(), second.partitions()), (1, 0), "one partition, two members");

    first.stop().await;
    // Not ready with none any more: nobody else has it. So what is awaited is the take-over.
    while second.partitions() == 0 {
        second.changed().await;
    }
    second.ready().await;
    world.send(0, &[("a", "write")]).await;
    world.until_position(0, 1).await;
    assert_eq!(world.effects(0).await, [0]);
    second.stop().await;
}
