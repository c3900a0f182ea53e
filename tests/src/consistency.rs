//! What must be true once everything is settled, whatever was killed meanwhile: no effect is lost and none is doubled.

use crate::database::Database;
use crate::kafka::{self, Cluster};
use crate::system::Fnhost;
use crate::wait::{Look, until};
use anyhow::Context as _;
use sqlx::{PgConnection, Row as _};
use std::collections::BTreeMap;
use std::time::Duration;

/// Time in which what was ordered is settled after the last fault: take-overs, parked records and all.
pub const SETTLE_DEADLINE: Duration = Duration::from_secs(90);
/// Violations of one rule that are shown.
const SHOWN_MAX: i64 = 5;

/// What each violated rule is, and the statement that finds its violations: one text for each.
///
/// Every function keeps its own record of an order; the rules hold these against each other. Orders are the truth:
/// each was acknowledged to a customer.
const RULES: [(&str, &str); 16] = [
    (
        "every order is final",
        "SELECT id || ' is PENDING' FROM orders.orders WHERE status = 'PENDING'",
    ),
    (
        "every order has one reservation, at the order's version and of the state that its status asks for",
        "SELECT o.id || ' is ' || o.status || ' v' || o.version || ', its reservation ' || coalesce(r.state || ' v' || r.version, 'missing')
           FROM orders.orders o LEFT JOIN inventory.reservation r ON r.order_id = o.id
          WHERE r.state IS NULL OR r.version <> o.version OR (o.status = 'CONFIRMED') <> (r.state = 'COMMITTED')
             OR r.state = 'RESERVED' OR (o.status = 'REJECTED') > (r.state IN ('REJECTED', 'RELEASED'))",
    ),
    (
        "every order has one payment, at the order's version and of the state that its status asks for",
        "SELECT o.id || ' is ' || o.status || ' v' || o.version || ', its payment ' || coalesce(p.state || ' v' || p.version, 'missing')
           FROM orders.orders o LEFT JOIN payment.payment p ON p.order_id = o.id
          WHERE p.state IS NULL OR p.version <> o.version OR p.state = 'AUTHORIZED'
             OR (o.status = 'CONFIRMED') <> (p.state = 'CAPTURED' OR p.state = 'REFUNDED' AND o.status <> 'CANCELLED')
             OR (p.state = 'REFUNDED' AND o.status NOT IN ('CANCELLED', 'CONFIRMED'))",
    ),
    (
        "reservations and payments belong to orders",
        "SELECT order_id || ' is no order' FROM (SELECT order_id FROM inventory.reservation UNION
                SELECT order_id FROM payment.payment UNION SELECT order_id FROM notify.notification UNION
                SELECT order_id FROM orders.timeline) AS known
          WHERE NOT EXISTS (SELECT FROM orders.orders o WHERE o.id = known.order_id)",
    ),
    (
        "the payment is of the order's total and of its customer, and its id is its own",
        "SELECT o.id || ' costs ' || o.total || ', its payment is of ' || coalesce(p.amount::text, 'nothing')
           FROM orders.orders o JOIN payment.payment p ON p.order_id = o.id
          WHERE p.amount <> o.total OR p.currency <> o.currency OR p.user_id <> o.user_id
         UNION ALL
         SELECT payment_id || ' pays for ' || count(*) || ' orders' FROM payment.payment GROUP BY payment_id HAVING count(*) > 1",
    ),
    (
        "what went back is what was asked for, all of it where the order was cancelled, and order heard of it",
        "SELECT o.id || ': ' || o.refunded || ' were asked for, ' || p.refunded || ' went back, and order heard of ' || coalesce(t.heard, 0)
           FROM orders.orders o JOIN payment.payment p ON p.order_id = o.id
           LEFT JOIN LATERAL (SELECT max(split_part(event, '#', 2)::bigint) AS heard FROM orders.timeline
                               WHERE order_id = o.id AND event LIKE 'payment.refunded#%') t ON true
          WHERE o.refunded <> (SELECT coalesce(sum(amount), 0) FROM orders.refund r WHERE r.order_id = o.id)
             OR p.refunded <> CASE WHEN p.state = 'REFUNDED' THEN p.amount ELSE o.refunded END OR p.refunded <> coalesce(t.heard, 0)",
    ),
    (
        "a reservation that held stock held what was ordered",
        "SELECT o.id || ' ordered ' || o.items || ', and held ' || coalesce(l.held::text, 'nothing')
           FROM orders.orders o JOIN inventory.reservation r ON r.order_id = o.id AND r.state IN ('COMMITTED', 'RESERVED')
           LEFT JOIN LATERAL (SELECT jsonb_object_agg(sku, quantity) AS held FROM inventory.reservation_line WHERE order_id = o.id) l ON true
          WHERE l.held IS DISTINCT FROM
                (SELECT jsonb_object_agg(i->>'sku', (i->>'quantity')::bigint) FROM jsonb_array_elements(o.items) AS i)",
    ),
    (
        "the stock is what it was, less what confirmed orders took",
        "SELECT p.sku || ' had ' || b.on_hand || ', has ' || p.on_hand || ', and ' || coalesce(t.taken, 0) || ' were taken'
           FROM inventory.product p JOIN public.stock_before b USING (sku)
           LEFT JOIN (SELECT sku, sum(quantity) AS taken FROM inventory.reservation_line JOIN inventory.reservation USING (order_id)
                       WHERE state = 'COMMITTED' GROUP BY sku) AS t USING (sku)
          WHERE p.on_hand <> b.on_hand - coalesce(t.taken, 0)",
    ),
    (
        "nothing stays reserved",
        "SELECT sku || ' has ' || reserved || ' reserved' FROM inventory.product WHERE reserved <> 0",
    ),
    (
        "the order's version counts its changes of status and its refunds",
        "SELECT o.id || ' v' || o.version || ' has ' || count(t.status) || ' statuses in its timeline'
           FROM orders.orders o LEFT JOIN orders.timeline t ON t.order_id = o.id
          GROUP BY o.id HAVING count(t.status) + count(*) FILTER (WHERE t.event LIKE 'order.refunded#%') <> o.version",
    ),
    (
        "a timeline begins with the order's creation, and its last status is the order's",
        "SELECT o.id || ' is ' || o.status || ', its timeline ends ' || coalesce(l.status, 'nowhere')
           FROM orders.orders o LEFT JOIN LATERAL
                (SELECT status FROM orders.timeline WHERE order_id = o.id AND status IS NOT NULL ORDER BY at DESC, place DESC LIMIT 1) l ON true
          WHERE l.status IS DISTINCT FROM o.status
             OR NOT EXISTS (SELECT FROM orders.timeline t WHERE t.order_id = o.id AND t.event = 'order.created' AND t.status = 'PENDING')",
    ),
    (
        "what stock and money became stands in the timeline, and nothing else",
        "WITH wanted AS (
             SELECT order_id, unnest(CASE state
                 WHEN 'COMMITTED' THEN ARRAY['inventory.reserved', 'inventory.committed'] WHEN 'REJECTED' THEN ARRAY['inventory.rejected']
                 ELSE ARRAY[]::text[] END) AS event FROM inventory.reservation
             UNION ALL
             SELECT order_id, unnest(CASE WHEN amount IS NULL THEN ARRAY[]::text[] ELSE CASE state
                 WHEN 'CAPTURED' THEN ARRAY['payment.authorized', 'payment.captured']
                      || CASE WHEN refunded > 0 THEN ARRAY['payment.refunded'] ELSE ARRAY[]::text[] END
                 WHEN 'VOIDED' THEN ARRAY['payment.authorized', 'payment.voided']
                 WHEN 'REFUNDED' THEN ARRAY['payment.authorized', 'payment.captured', 'payment.refunded'] ELSE ARRAY['payment.declined'] END END)
               FROM payment.payment)
         SELECT coalesce(w.order_id, t.order_id) || ': ' || coalesce(w.event || ' is not in the timeline', t.event || ' is in the timeline for no reason')
           FROM wanted w FULL JOIN (SELECT DISTINCT order_id, split_part(event, '#', 1) AS event FROM orders.timeline WHERE event LIKE 'payment.%' OR event IN ('inventory.committed', 'inventory.rejected')) t
                ON t.order_id = w.order_id AND t.event = w.event
          WHERE (w.event IS NULL OR t.event IS NULL)
            AND NOT (t.event IS NULL AND w.event = 'inventory.reserved'
                     AND EXISTS (SELECT FROM orders.timeline r WHERE r.order_id = w.order_id AND r.event = w.event))
            AND NOT (w.event IS NULL AND t.event = 'inventory.committed'
                     AND EXISTS (SELECT FROM orders.timeline r WHERE r.order_id = t.order_id AND r.event = 'inventory.released'))",
    ),
    (
        "each final status was notified once, and each refund",
        "WITH due AS (
             SELECT order_id, status, 1 AS times FROM orders.timeline WHERE status <> 'PENDING'
             UNION ALL SELECT order_id, 'REFUNDED', count(*) FROM orders.timeline WHERE event LIKE 'payment.refunded%' GROUP BY order_id),
         sent AS (SELECT order_id, status, count(*) AS times FROM notify.notification GROUP BY order_id, status)
         SELECT coalesce(d.order_id, s.order_id) || ': ' || coalesce(d.status, s.status) || ' was notified ' || coalesce(s.times, 0)
                || ' times, and was due ' || coalesce(d.times, 0) || ' times'
           FROM due d FULL JOIN sent s ON s.order_id = d.order_id AND s.status = d.status
          WHERE d.times IS DISTINCT FROM s.times",
    ),
    (
        "an idempotency key stands for one order",
        "SELECT idempotency_key || ' stands for ' || count(*) || ' orders' FROM orders.orders
          WHERE idempotency_key IS NOT NULL GROUP BY user_id, idempotency_key HAVING count(*) > 1",
    ),
    (
        "no record died",
        "SELECT topic || '/' || partition || '@' || \"offset\" || ': ' || reason FROM fnhost.dead",
    ),
    (
        "no record waits, and no message is unsent",
        "SELECT topic || '/' || partition || '@' || \"offset\" || ' is parked: ' || reason FROM fnhost.parked
         UNION ALL SELECT topic || '/' || partition || ': ' || first_seq || ' to ' || last_seq || ' are unsent' FROM fnhost.outbox
         UNION ALL SELECT 'event ' || id || ' is unsent' FROM orders.outgoing_event
         UNION ALL SELECT 'mail ' || id || ' is unsent' FROM auth.outgoing_event",
    ),
];

/// Waits until nothing is under way any more: every record is handled, nothing is parked or unsent.
///
/// # Errors
/// Something is still under way after [`SETTLE_DEADLINE`].
pub async fn wait_settled(fnhost: &Fnhost, db: &Database) -> anyhow::Result<()> {
    let cluster = fnhost.kafka()?;
    until("everything to be settled", SETTLE_DEADLINE, async || {
        let waiting = db
            .count(
                "SELECT (SELECT count(*) FROM fnhost.parked) + (SELECT count(*) FROM fnhost.outbox)
                      + (SELECT count(*) FROM orders.outgoing_event) + (SELECT count(*) FROM auth.outgoing_event)",
            )
            .await?;
        let lag = lag(&cluster, db).await?;
        Ok(Look::from_bool(
            waiting == 0 && lag == 0,
            format!("{waiting} rows wait, {lag} records are unread"),
        ))
    })
    .await
}

/// Records that the triggers have not handled. The positions are read first: what comes after only adds.
pub(crate) async fn lag(cluster: &Cluster, db: &Database) -> anyhow::Result<i64> {
    let rows = sqlx::query("SELECT topic, partition, position FROM fnhost.partition WHERE topic <> ''")
        .fetch_all(&db.pool)
        .await?;
    let cluster = cluster.clone();
    let ends = tokio::task::spawn_blocking(move || -> anyhow::Result<i64> {
        let mut lag = 0;
        let mut ends = BTreeMap::new();
        for row in &rows {
            let (topic, partition, position): (String, i32, i64) =
                (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
            if !ends.contains_key(&topic) {
                ends.insert(topic.clone(), kafka::ends(&cluster, &topic)?);
            }
            let end = ends.get(&topic).and_then(|ends| ends.get(usize::try_from(partition).ok()?));
            lag += end.copied().unwrap_or_default() - position;
        }
        Ok(lag)
    });
    ends.await?
}

/// The rules, as they are named in a report.
pub fn rules() -> impl Iterator<Item = &'static str> {
    RULES.iter().map(|(rule, _)| *rule)
}

/// Holds what every function keeps against what the others keep: each violated rule, with how often it is and its first violations.
///
/// # Errors
/// A rule cannot be checked.
pub async fn violations(connection: &mut PgConnection) -> anyhow::Result<BTreeMap<&'static str, String>> {
    let mut violated = BTreeMap::new();
    for (rule, violations) in RULES {
        let sql = format!("SELECT v, count(*) OVER () FROM ({violations}) AS found (v) LIMIT {SHOWN_MAX}");
        let rows = sqlx::query(sqlx::AssertSqlSafe(sql)).fetch_all(&mut *connection).await;
        let mut report = String::new();
        for row in rows.with_context(|| format!("the rule {rule:?} cannot be checked"))? {
            let (text, count): (Option<String>, i64) = (row.get(0), row.get(1));
            if report.is_empty() {
                report = format!("violated {count} times: {rule}\n");
            }
            report += &format!("    {}\n", text.unwrap_or_default());
        }
        if !report.is_empty() {
            violated.insert(rule, report);
        }
    }
    Ok(violated)
}

/// Holds what every function keeps against what the others keep.
///
/// # Panics
/// A rule is violated; all violated rules are named, each with its first violations.
pub async fn assert_consistent(db: &Database) {
    let mut connection = db.pool.acquire().await.expect("the database answers");
    let violated = violations(&mut connection).await.unwrap_or_else(|error| panic!("{error:#}"));
    let report: String = violated.into_values().collect();
    assert!(report.is_empty(), "the system is not consistent:\n{report}");
}
