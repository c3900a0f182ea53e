//! The functions' login roles: the secret behind their passwords, and how each is set at every start.

use super::schema::with_host_schema;
use super::session::Bounded;
use super::{Error, OwnerPool, batch, fitness, ident, literal};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

/// The fewest connections of all hosts together that a role may have: those of two hosts, so that one can take another's place.
const ROLE_CONNECTIONS_MIN: i64 = 28;
/// What part of the server's connections one role may have: a function that holds all it can leaves the rest to the others.
const ROLE_CONNECTIONS_SHARE: i64 = 2;

/// Password of a function's role, derived so that every host of a deployment knows it: HMAC-SHA-256 (RFC 2104) of the role's
/// name under the deployment's secret, in hex.
pub fn role_password(secret: &str, role: &str) -> String {
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret.as_bytes()) else {
        unreachable!("HMAC takes a key of any length")
    };
    mac.update(b"fnhost role ");
    mac.update(role.as_bytes());
    mac.finalize().into_bytes().iter().map(|b| format!("{b:02x}")).collect()
}

/// The secret behind the roles' passwords.
#[derive(Clone, Copy, Debug)]
pub struct Passwords<'a> {
    /// The deployment's secret.
    pub secret: &'a str,
    /// Whether the roles may get passwords of another secret than the one they have.
    pub rotate: bool,
}

/// The secret that the database keeps for a deployment that gives none; made here where there is none yet. `former` is what
/// roles that are older than kept secrets were made with: they stay with it until `rotate`.
///
/// # Errors
/// The roles were made with a secret that somebody gave, or the database did not answer.
pub async fn kept_secret(pool: &OwnerPool, former: Option<&str>, rotate: bool) -> Result<String, Error> {
    with_host_schema(pool, async {
        let stored: Option<(String, Option<String>)> =
            sqlx::query_as("SELECT digest, secret FROM fnhost.role_secret").fetch_optional(pool.pool()).await?;
        match stored {
            Some((_, Some(secret))) => return Ok(secret),
            Some((digest, None)) if !rotate => {
                let former = former.filter(|former| role_password(former, "") == digest);
                let former = former.ok_or_else(another_secret)?;
                tracing::warn!(
                    "the passwords of the functions' roles are derived from the database owner's: `fnhost migrate` gives \
                     them others, of a random secret"
                );
                return Ok(former.to_owned());
            }
            _ => {}
        }
        // Made by the server, whose generator is a strong one: 244 random bits.
        let secret: String =
            sqlx::query_scalar("SELECT replace(gen_random_uuid()::text || gen_random_uuid()::text, '-', '')")
                .fetch_one(pool.pool())
                .await?;
        sqlx::query(
            "INSERT INTO fnhost.role_secret (digest, secret) VALUES ($1, $2)
             ON CONFLICT (one) DO UPDATE SET digest = EXCLUDED.digest, secret = EXCLUDED.secret",
        )
        .bind(role_password(&secret, ""))
        .bind(&secret)
        .execute(pool.pool())
        .await?;
        Ok(secret)
    })
    .await
}

/// The secret that the database keeps, for commands that change nothing.
///
/// # Errors
/// The database did not answer, or no host has prepared it.
pub async fn read_secret(pool: &OwnerPool) -> Result<Option<String>, Error> {
    let stored: Option<Option<String>> =
        sqlx::query_scalar("SELECT secret FROM fnhost.role_secret").fetch_optional(pool.pool()).await?;
    Ok(stored.flatten())
}

/// A host with another secret would change the passwords under the hosts that run: only `fnhost migrate` may.
pub(super) async fn check_secret(pool: &OwnerPool, passwords: &Passwords<'_>) -> Result<(), Error> {
    let digest = role_password(passwords.secret, "");
    let stored: String = sqlx::query_scalar(
        "INSERT INTO fnhost.role_secret AS s (digest) VALUES ($1)
         ON CONFLICT (one) DO UPDATE
            SET digest = CASE WHEN $2 THEN EXCLUDED.digest ELSE s.digest END,
                secret = CASE WHEN $2 AND s.digest <> EXCLUDED.digest THEN NULL ELSE s.secret END
         RETURNING digest",
    )
    .bind(&digest)
    .bind(passwords.rotate)
    .fetch_one(pool.pool())
    .await?;
    if stored == digest { Ok(()) } else { Err(another_secret()) }
}

fn another_secret() -> Error {
    Error::Unfit(
        "the functions' roles were made with another secret: pass the same --role-secret (FNHOST_ROLE_SECRET) as the other \
         hosts, or change it for all of them with `fnhost migrate`"
            .into(),
    )
}

/// Makes a function's role where missing, and sets it as it has to be. What a session of the role has set for itself
/// (`ALTER ROLE CURRENT_USER SET ...`) is gone with that: it would be in force for every later session.
pub(super) async fn prepare_role(
    pool: &OwnerPool,
    connection: &mut Bounded,
    role: &str,
    password: &str,
    schema: &str,
) -> Result<(), Error> {
    let exists: bool = sqlx::query_scalar("SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1)")
        .bind(role)
        .fetch_one(&mut *connection)
        .await?;
    let (owner, database): (String, String) =
        sqlx::query_as("SELECT current_user::text, current_database()::text")
            .fetch_one(&mut *connection)
            .await?;
    let limit = (fitness::connections_max(pool).await? / ROLE_CONNECTIONS_SHARE).max(ROLE_CONNECTIONS_MIN);
    let (role, owner, database) = (ident(role), ident(&owner), ident(&database));
    let (password, schema) = (literal(password), ident(schema));
    let make = if exists { String::new() } else { format!("CREATE ROLE {role} NOINHERIT;") };
    let sql = format!(
        "{make}
         ALTER ROLE {role} LOGIN NOCREATEDB NOCREATEROLE CONNECTION LIMIT {limit} PASSWORD {password};
         ALTER ROLE {role} RESET ALL;
         ALTER ROLE {role} IN DATABASE {database} RESET ALL;
         ALTER ROLE {role} SET search_path = {schema};
         GRANT {role} TO {owner};"
    );
    Ok(batch(connection, sql).await?)
}
