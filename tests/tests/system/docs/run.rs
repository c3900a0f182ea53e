//! The commands that a newcomer copies, run as they stand against a running system.

use super::checkout::{blocks, root};
use anyhow::Context as _;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;
use tests::outcome::Outcome;
use tests::system::{Fnhost, READY_DEADLINE, Setup, program};
use tests::wait::{Look, until};

/// Variables and functions that one block leaves for the next.
const VARIABLES: &str = "API TOKEN ORDER JSON AUTH GATEWAY PGHOST PGPORT PGUSER PGPASSWORD";
const FUNCTIONS: &str = "sign_in buy state told";
/// Longest run of a block.
const BLOCK_DEADLINE: Duration = Duration::from_secs(180);
/// `curl` that says where it fails, and does not wait for ever.
const CURL: &str = "curl() { command curl --max-time 30 --show-error \"$@\"; }";

/// A running system, and a terminal in which blocks are run one after the other.
struct Terminal {
    fnhost: Fnhost,
    state: PathBuf,
}

impl Terminal {
    async fn open() -> anyhow::Result<Self> {
        let fnhost = Fnhost::start(Setup::default()).await?;
        let state = fnhost.data_dir().join("terminal.sh");
        std::fs::write(&state, "")?;
        Ok(Self { fnhost, state })
    }

    /// Runs a script; answers what it printed.
    async fn run(&self, script: &str) -> anyhow::Result<String> {
        let data = self.fnhost.data_dir();
        let script = script
            .replace("http://127.0.0.1:3000", &format!("http://{}", self.fnhost.client()?.address()))
            .replace("http://127.0.0.1:3001", &format!("http://{}", self.fnhost.admin()?.address()))
            .replace("target/release/fnhost", &program()?.to_string_lossy())
            .replace("./dev ", &format!("{} ", program()?.with_file_name("xtask").display()))
            .replace(".fnhost/", &format!("{}/", data.display()));
        let state = self.state.display();
        let script = format!(
            "set -e; . '{state}'; {CURL}\n{script}\n\
             for v in {VARIABLES}; do [[ ! -v $v ]] || declare -p $v; done >'{state}'\n\
             for f in {FUNCTIONS}; do ! declare -F $f >/dev/null || declare -f $f; done >>'{state}'"
        );
        let mut bash = tokio::process::Command::new("bash");
        bash.args(["-c", &script]).current_dir(root()).stdin(Stdio::null());
        for name in ["FNHOST_DATABASE", "FNHOST_KAFKA", "FNHOST_KAFKA_CONFIG"] {
            bash.env_remove(name);
        }
        bash.env("FNHOST_DATA_DIR", &data).env("FNHOST_MANIFEST", self.fnhost.manifest_path());
        bash.env("FNHOST_ADMIN", self.fnhost.admin()?.address());
        let output = bash.output().await?;
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        anyhow::ensure!(output.status.success(), "{script}\nprinted:\n{out}{err}");
        Ok(format!("{out}{err}"))
    }

    /// Runs the block of a document that contains `part`, which has to print `expected`.
    async fn block(&self, document: &str, part: &str, expected: &[&str]) -> anyhow::Result<()> {
        self.told(document, &text_of("sh", document, part)?, expected).await
    }

    /// Runs a block of a document, which has to end in time and to print `expected`.
    async fn told(&self, document: &str, block: &str, expected: &[&str]) -> anyhow::Result<()> {
        let printed = tokio::time::timeout(BLOCK_DEADLINE, self.run(block)).await;
        let printed = printed.with_context(|| format!("a block of {document} does not end:\n{block}"))?;
        let printed = printed.with_context(|| format!("a block of {document}"))?;
        for expected in expected {
            anyhow::ensure!(printed.contains(expected), "{document}: {expected:?} is not in\n{printed}");
        }
        Ok(())
    }
}

/// The text of the one block of a document that contains `part`.
fn text_of(language: &str, document: &str, part: &str) -> anyhow::Result<String> {
    let mut found = blocks(language).into_iter().filter(|b| b.document == document && b.text.contains(part));
    let text = found.next().with_context(|| format!("{document} has no block with {part}"))?.text;
    anyhow::ensure!(found.next().is_none(), "{document} has two blocks with {part}");
    Ok(text)
}

#[tokio::test]
async fn commands_of_the_documents_do_what_they_say() -> Outcome {
    let terminal = Terminal::open().await?;
    let payment_gateway = "docs/payment-gateway.md";
    terminal.block("README.md", "auth/register", &["ada@example.com", "\"status\":\"PENDING\""]).await?;
    let order = text_of("sh", "README.md", "/timeline")?;
    until("the first order", READY_DEADLINE, async || {
        let printed = terminal.run(&order).await?;
        let done = printed.contains("\"status\":\"CONFIRMED\"") && printed.contains("inventory.committed");
        Ok(Look::from_bool(done, printed))
    })
    .await?;
    terminal
        .block("README.md", "fnhost explain", &["order.created", "inventory handled", "payment handled"])
        .await?;
    terminal.run("JSON='content-type: application/json'; AUTH=\"authorization: Bearer $TOKEN\"").await?;
    terminal.block("docs/orders.md", "broken-mug", &["\"status\":\"CONFIRMED\""]).await?;
    terminal.block("docs/orders.md", "basket-17", &["bob@example.com", "KETTLE", "next_cursor"]).await?;
    terminal
        .block(
            "docs/edge.md",
            "me/1",
            &["401 Unauthorized", "x-request-id: me/1", "fnhost_http_refused_total"],
        )
        .await?;
    terminal.block("docs/metrics.md", "fnhost_partition_lag", &["fnhost_partition_lag_records"]).await?;
    terminal.block("docs/operations.md", "curl -s -H @-", &["\"state\":\"owned\""]).await?;
    terminal.block("docs/outbound.md", "circuits_open", &["fnhost_outbound_circuits_open"]).await?;
    terminal.block("docs/api.md", "openapi.json", &["\"components\""]).await?;
    terminal.block(payment_gateway, "/admin/payments", &["captured"]).await?;
    let dead_letters = text_of("sql", "docs/operations.md", "fnhost.dead")?;
    sqlx::raw_sql(sqlx::AssertSqlSafe(dead_letters)).execute(&terminal.fnhost.database().await?.pool).await?;
    Ok(())
}

/// Block by block, and none of them left out.
#[tokio::test]
async fn the_tour_goes_as_it_is_told() -> Outcome {
    const TOUR: &str = "docs/tour.md";
    let terminal = Terminal::open().await?;
    let told = blocks("sh").into_iter().filter(|block| block.document == TOUR);
    let expected: [&[&str]; 8] = [
        &[" orders from "],
        &["ada@example.com", "CONFIRMED"],
        &["order.created", "inventory handled", "payment handled"],
        &["CONFIRMED", "rolled back"],
        &["CONFIRMED", "notify"],
        &["short"],
        &["1 records are before their trigger again"],
        &["PENDING", "CONFIRMED"],
    ];
    let last: &[&str] = &["ada@example.com is an admin now", "\"forecasts\"", "KETTLE"];
    let mut expected = expected.into_iter().chain([last]);
    for block in told {
        let expected =
            expected.next().with_context(|| format!("{TOUR} has a block more:\n{}", block.text))?;
        terminal.told(TOUR, &block.text, expected).await?;
    }
    assert_eq!(expected.next(), None, "{TOUR} has lost a block");
    Ok(())
}
