//! Forecasts in the running system: of live orders, of two years of history, and across a host that is killed.

use http::{Method, StatusCode};
use serde_json::Value;
use std::path::Path;
use std::process::Command;
use tests::customer::{Customer, NewOrder, Status};
use tests::outcome::Outcome;
use tests::system::{Fnhost, READY_DEADLINE, Setup};
use tests::wait::{Look, until};

/// Products of the history.
const PRODUCTS: i64 = 9;
/// Products that are forecast across a kill: several ticks' worth.
const MANY: i64 = 2_000;

async fn get(admin: &Customer, path: &str) -> anyhow::Result<Value> {
    admin.ask(Method::GET, path, None).await?.json(StatusCode::OK)
}

/// Waits until a count of the database is so many, and answers it.
async fn wait_count(fnhost: &Fnhost, sql: &'static str, at_least: i64) -> anyhow::Result<i64> {
    let db = fnhost.database().await?;
    until(sql, READY_DEADLINE, async || {
        let count = db.count(sql).await?;
        Ok(Look::from_option((count >= at_least).then_some(count), format!("{count} of {at_least}")))
    })
    .await
}

/// What `./dev demo --history` runs.
fn load_history(fnhost: &Fnhost) -> anyhow::Result<String> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../demo/history.sql");
    let mut psql = Command::new("psql");
    psql.args(["-X", "-q", "-t", "-A", "-v", "ON_ERROR_STOP=1", "-f"]).arg(script);
    let output = psql.args(["-d", &fnhost.database_url()?]).output()?;
    anyhow::ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}

#[tokio::test]
async fn two_years_of_orders_are_forecast_and_live_orders_count() -> Outcome {
    let fnhost = Fnhost::start(Setup::default()).await?;
    let db = fnhost.database().await?;
    let ada = Customer::register(&fnhost.client()?).await?;
    assert_eq!(ada.ask(Method::GET, "/forecast", None).await?.status, StatusCode::FORBIDDEN);

    let said = load_history(&fnhost)?;
    assert!(said.contains(" orders from "), "{said}");
    assert_eq!(load_history(&fnhost)?.trim(), "the history is there already");
    wait_count(&fnhost, "SELECT count(*) FROM forecast.forecast", PRODUCTS).await?;
    let admin = db.make_admin(&ada).await?;
    let all = get(&admin, "/forecast").await?;
    let forecasts = all["forecasts"].as_array().cloned().unwrap_or_default();
    assert_eq!(forecasts.len() as i64, PRODUCTS, "{all}");
    for made in &forecasts {
        // Of what is rarely wanted the squared error decides.
        let decided = made["forecast"]["error"].as_f64() <= made["forecast"]["naive_error"].as_f64();
        assert!(decided || made["sku"] == "SCALE", "{made}");
    }
    // It had none for ten days, five months ago.
    let mug = get(&admin, "/forecast/MUG-BLUE").await?;
    let short = mug["history"].as_array().into_iter().flatten().filter(|day| day["short"] == true);
    assert!(short.count() > 0 && mug["days"].as_array().map(Vec::len) == Some(28), "{mug}");

    // A live order adds to today's demand, and tells the stock; one that is cancelled does not stay.
    let today = "SELECT coalesce(sum(units), 0)::bigint FROM forecast.demand WHERE day = (now() AT TIME ZONE 'UTC')::date";
    let before = db.count(today).await?;
    let order = admin.order_to_end(&NewOrder::of(&[("KETTLE", 3)])).await?;
    assert_eq!(order.status, Status::Confirmed);
    wait_count(&fnhost, today, before + 3).await?;
    wait_count(
        &fnhost,
        "SELECT count(*) FROM forecast.stock WHERE sku = 'KETTLE' AND as_of > 0 AND on_hand = 4997",
        1,
    )
    .await?;
    admin.wait_payment(order.order_id, "CAPTURED").await?;
    admin.cancel(order.order_id).await?;
    until("the cancelled units to go", READY_DEADLINE, async || {
        let count = db.count(today).await?;
        Ok(Look::from_option((count == before).then_some(()), format!("{count}, not {before}")))
    })
    .await?;
    Ok(())
}

/// What a tick forecast is committed with it: the next one goes on with the rest.
#[tokio::test]
async fn a_host_that_is_killed_in_the_middle_goes_on_with_the_rest() -> Outcome {
    let mut fnhost = Fnhost::start(Setup::default()).await?;
    let db = fnhost.database().await?;
    let fill = format!(
        "INSERT INTO forecast.demand (sku, day, units)
         SELECT 'P-' || n, (now() AT TIME ZONE 'UTC')::date - back, (n + back) % 7
         FROM generate_series(1, {MANY}) AS n, generate_series(1, 120) AS back;
         INSERT INTO forecast.series (sku) SELECT 'P-' || n FROM generate_series(1, {MANY}) AS n"
    );
    sqlx::raw_sql(sqlx::AssertSqlSafe(fill)).execute(&db.pool).await.map_err(anyhow::Error::from)?;
    let made = "SELECT count(*) FROM forecast.forecast";
    let first = wait_count(&fnhost, made, 1).await?;
    assert!(first < MANY, "all of them were made before the host could be killed");
    fnhost.kill()?;
    fnhost.restart().await?;
    assert_eq!(wait_count(&fnhost, made, MANY).await?, MANY);
    // Each was looked at, and none twice: its time is that of its only tick.
    let twice =
        "SELECT count(*) FROM forecast.forecast JOIN forecast.series USING (sku) WHERE forecast_on <> begins";
    assert_eq!(fnhost.database().await?.count(twice).await?, 0);
    Ok(())
}
