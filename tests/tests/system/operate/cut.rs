//! The server's end of a connection dies in the middle of a request's statement.

use anyhow::Context as _;
use http::StatusCode;
use rustix::process::{Pid, Signal, kill_process};
use tests::customer::{Customer, NewOrder};
use tests::outcome::Outcome;
use tests::system::{Fnhost, READY_DEADLINE, Setup};
use tests::wait::{Look, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_cut_in_a_statement_is_a_503_and_the_same_request_succeeds_later() -> Outcome {
    const KEY: &str = "cut-in-the-middle";
    let fnhost = Fnhost::start(Setup::default()).await?;
    let ada = Customer::register(&fnhost.client()?).await?;
    let db = fnhost.database().await?;
    let order = NewOrder::of(&[("COFFEE-1KG", 1)]);
    let mut held = db.pool.begin().await.map_err(anyhow::Error::from)?;
    let lock = sqlx::raw_sql("LOCK TABLE orders.orders IN ACCESS EXCLUSIVE MODE").execute(&mut *held).await;
    lock.map_err(anyhow::Error::from)?;
    let cut = async {
        let pid = until("the statement of the request", READY_DEADLINE, async || {
            let waiting =
                "SELECT pid FROM pg_stat_activity WHERE usename = 'fn_order' AND wait_event_type = 'Lock'";
            Ok(Look::from_option(
                sqlx::query_scalar::<_, i32>(waiting).fetch_optional(&db.pool).await?,
                "none waits",
            ))
        })
        .await?;
        // Not told to end: the client gets no word of it. The server starts its sessions anew, so that the lock goes as well.
        kill_process(Pid::from_raw(pid).context("a process")?, Signal::KILL)?;
        anyhow::Ok(())
    };
    let (answer, ()) = tokio::try_join!(ada.try_order(&order, Some(KEY)), cut)?;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "{answer}");
    assert_eq!(answer.header("retry-after"), "1", "{answer}");
    let again = until("the same request to succeed", READY_DEADLINE, async || {
        let answer = ada.try_order(&order, Some(KEY)).await?;
        anyhow::ensure!(
            [StatusCode::SERVICE_UNAVAILABLE, StatusCode::ACCEPTED].contains(&answer.status),
            "only a failure that passes: {answer}"
        );
        Ok(Look::from_option(Some(answer).filter(|a| a.status == StatusCode::ACCEPTED), "503"))
    })
    .await?;
    assert_eq!(again.status, StatusCode::ACCEPTED);
    let db = fnhost.database().await?;
    assert_eq!(db.count("SELECT count(*) FROM orders.orders").await?, 1, "one order for one key");
    Ok(())
}
