//! What no function's role may do in the database, whatever its statement looks like: functions of the server that reach beyond
//! rows are revoked from PUBLIC.

use super::session::Bounded;
use super::{Error, batch};

/// Names of the server's functions, as patterns of LIKE. `pg_advisory_unlock` and its like stay: they end what a session has, and
/// the reset between two calls needs one of them.
const BEYOND_ROWS: [&str; 10] = [
    // A session without limits outlives its call; with other settings it commits what is not durable.
    r"set\_config",
    // What is waited for holds a connection.
    r"pg\_sleep%",
    // Locks that everybody in the database can name, and so take from everybody.
    r"pg\_advisory\_lock%",
    r"pg\_advisory\_xact\_lock%",
    r"pg\_try\_advisory\_%",
    // Large objects belong to no schema.
    r"lo\_%",
    r"loread",
    r"lowrite",
    // The host's channels; and commits wait for each other while notifications are pending.
    r"pg\_notify",
    // Records of the write-ahead log that no transaction takes back.
    r"pg\_logical\_emit\_message",
];

/// Revokes them in the database at hand, and the right to create tables in the schema `public`. Says what a superuser has to
/// revoke where the owner cannot: the server's functions belong to its first superuser.
///
/// # Errors
/// The database did not answer.
pub(super) async fn raise(connection: &mut Bounded) -> Result<(), Error> {
    let open = open_to_everybody(connection).await?;
    if !open.is_empty() {
        batch(connection, revoke(&open)).await?;
    }
    let public: bool = sqlx::query_scalar(
        "SELECT COALESCE((SELECT has_schema_privilege('public', n.oid, 'CREATE')
                            FROM pg_namespace n WHERE n.nspname = 'public'), false)",
    )
    .fetch_one(&mut *connection)
    .await?;
    if public {
        batch(connection, "REVOKE CREATE ON SCHEMA public FROM PUBLIC".into()).await?;
    }
    let open = open_to_everybody(connection).await?;
    if !open.is_empty() {
        tracing::warn!(
            sql = revoke(&open),
            "functions may call what reaches beyond their rows, since the database's owner is no superuser and cannot \
             revoke it: have a superuser run this in the database"
        );
    }
    Ok(())
}

fn revoke(functions: &[String]) -> String {
    format!("REVOKE EXECUTE ON FUNCTION {} FROM PUBLIC", functions.join(", "))
}

async fn open_to_everybody(connection: &mut Bounded) -> Result<Vec<String>, Error> {
    let sql = "SELECT p.oid::regprocedure::text FROM pg_proc p
                WHERE p.pronamespace = 'pg_catalog'::regnamespace AND p.proname LIKE ANY ($1)
                  AND has_function_privilege('public', p.oid, 'EXECUTE')
                ORDER BY 1";
    Ok(sqlx::query_scalar(sql).bind(&BEYOND_ROWS[..]).fetch_all(connection).await?)
}
