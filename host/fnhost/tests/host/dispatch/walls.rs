//! SQL that reaches for what is not the function's own: refused by Postgres or by the host, with a reason, and nothing
//! beside the function's own record suffers.

use super::world::World;

/// Statements, and what the dead letter says about them.
const FORBIDDEN: [(&str, &str); 23] = [
    ("SELECT * FROM other.secret", "permission denied for schema other"),
    ("INSERT INTO other.secret VALUES (1)", "permission denied for schema other"),
    ("SELECT * FROM fnhost.partition", "permission denied for table partition"),
    ("UPDATE fnhost.partition SET position = 0", "permission denied for table partition"),
    ("DELETE FROM fnhost.outbox", "permission denied for table outbox"),
    ("SELECT fnhost.refuse_store(1, 't', 0)", "permission denied for function refuse_store"),
    (
        "SELECT fnhost.store(1, 'forged', 0, gen_random_uuid(), 1, 0, 0, 0, 9, 0, 0, NULL, '{}', '{}', NULL)",
        "does not own",
    ),
    (
        "SELECT fnhost.store(p.trigger, '', 0, NULL, 1, 0, 0, 0, 9, 0, 0, NULL, '{}', '{}', NULL) FROM fnhost.partition p",
        "permission denied for table partition",
    ),
    (
        "SELECT fnhost.park(1, 'forged', 0, gen_random_uuid(), '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{0}')",
        "does not own",
    ),
    (
        "SELECT fnhost.park_charged(1, 'forged', 0, gen_random_uuid(), '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{0}', 1)",
        "does not own",
    ),
    ("UPDATE fnhost.running SET current = 1", "permission denied for table running"),
    (
        "SELECT fnhost.bury(1, 'forged', 0, gen_random_uuid(), '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '')",
        "does not own",
    ),
    ("SELECT fnhost.pause(1, 'forged', 0, gen_random_uuid(), 'forged')", "does not own"),
    ("SELECT set_config('role', 'postgres', false)", "permission denied for function set_config"),
    ("SELECT pg_advisory_lock(1)", "permission denied for function pg_advisory_lock"),
    ("SELECT rolpassword FROM pg_authid", "permission denied for table pg_authid"),
    ("SELECT pg_read_file('/etc/passwd')", "permission denied for function pg_read_file"),
    (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'postgres'",
        "must be a superuser",
    ),
    ("SET ROLE postgres", "SELECT, INSERT, UPDATE, DELETE, MERGE, WITH or VALUES"),
    ("COMMIT", "SELECT, INSERT, UPDATE, DELETE, MERGE, WITH or VALUES"),
    ("CREATE TABLE own.mine (id int)", "SELECT, INSERT, UPDATE, DELETE, MERGE, WITH or VALUES"),
    ("COPY own.effect TO PROGRAM 'id'", "SELECT, INSERT, UPDATE, DELETE, MERGE, WITH or VALUES"),
    ("SELECT 1; SELECT 2", "multiple commands"),
];

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_the_functions_own_is_out_of_its_reach() {
    let topics: Vec<String> = (0..FORBIDDEN.len()).map(|index| format!("wall-{index}")).collect();
    let world = World::new(&topics.iter().map(String::as_str).collect::<Vec<_>>()).await;
    world.run("CREATE SCHEMA other; CREATE TABLE other.secret (id int)").await;
    for (index, (statement, _)) in FORBIDDEN.iter().enumerate() {
        let behaviour = format!("sql {statement}");
        world.send(index, &[("a", "write"), ("bad", &behaviour), ("b", "write")]).await;
    }
    let host = world.host("one", 1).await;
    for (index, (statement, reason)) in FORBIDDEN.iter().enumerate() {
        world.until_position(index, 3).await;
        let dead = world.dead(index).await;
        assert_eq!(dead.len(), 1, "{statement}: {dead:?}");
        assert!(dead[0].2.contains(reason), "{statement}: {}", dead[0].2);
        assert_eq!((dead[0].0, world.effects(index).await), (1, vec![0, 2]), "{statement}");
    }
    assert!(world.value::<bool>("SELECT NOT EXISTS (SELECT FROM other.secret)").await);
    host.stop().await;
}

/// The worker calls the store in the function's session, so what the function leaves in it must not change what the
/// store does or how safely it is committed.
#[tokio::test(flavor = "multi_thread")]
async fn settings_of_the_function_do_not_reach_the_store() {
    let world = World::new(&["settings"]).await;
    // As where the database's owner is no superuser and cannot revoke it.
    world.run("GRANT EXECUTE ON FUNCTION pg_catalog.set_config(text, text, boolean) TO PUBLIC").await;
    let settings = [
        "sql SELECT set_config('search_path', 'pg_temp, own', false)",
        "sql SELECT 1 AS position INTO TEMP TABLE partition",
        "sql SELECT set_config('transaction_read_only', 'on', true)",
        "sql SELECT set_config('default_transaction_isolation', 'serializable', false)",
        "sql SELECT set_config('lock_timeout', '1ms', false)",
    ];
    for setting in settings {
        world.send(0, &[("a", "write"), ("bad", setting), ("b", "write")]).await;
    }
    let host = world.host("one", 1).await;
    world.until_position(0, 3 * settings.len() as i64).await;
    let good: Vec<i64> = (0..3 * settings.len() as i64).filter(|offset| offset % 3 != 1).collect();
    assert_eq!(world.effects(0).await, good);
    host.stop().await;
}

/// A record that ends its session each time it is handled blames nobody at first, and is found out in the end.
#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_kills_its_session_is_found_out() {
    let world = World::new(&["killer"]).await;
    let killer = "sql SELECT pg_terminate_backend(pg_backend_pid())";
    world.send(0, &[("a", "write"), ("b", killer), ("c", "write")]).await;
    let host = world.host("one", 2).await;
    world.until_position(0, 3).await;
    let dead = world.dead(0).await;
    assert_eq!((dead.len(), dead[0].0), (1, 1), "{dead:?}");
    assert!(dead[0].2.contains("died 5 times while handling this record"), "{dead:?}");
    assert_eq!(world.effects(0).await, [0, 2]);
    host.stop().await;
}
