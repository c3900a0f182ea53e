//! A host with partitions is ready when it owns them; one without any when others have them all, and not before.

use super::world::{Host, PATIENCE, World};

fn partitions(host: &Host) -> usize {
    host.registry.triggers().iter().map(|trigger| trigger.partitions().len()).sum()
}

/// Waits until a host has so many partitions.
async fn until_partitions(host: &Host, count: usize) {
    let mut changes = host.registry.triggers()[0].changes();
    let come = async {
        while partitions(host) != count {
            changes.changed().await.expect("its registry lives");
        }
    };
    assert!(tokio::time::timeout(PATIENCE, come).await.is_ok(), "{:?}", host.registry.not_ready());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_gets_no_partition_is_ready_once_the_others_have_all() {
    let world = World::new(&["only"]).await;
    let first = world.host("one", 3).await;
    first.ready().await;
    assert_eq!(partitions(&first), 1);
    let second = world.host("two", 3).await;
    second.ready().await;
    assert_eq!((partitions(&first), partitions(&second)), (1, 0), "one partition, two members");

    first.stop().await;
    until_partitions(&second, 1).await;
    second.ready().await;
    world.send(0, &[("a", "write")]).await;
    world.until_position(0, 1).await;
    assert_eq!(world.effects(0).await, [0]);
    second.stop().await;
}
