//! `./dev admin EMAIL` and `./dev mail EMAIL`: what no call of the order system does, by psql.

use crate::files::read;
use crate::process::{executable, find};
use anyhow::Context as _;
use percent_encoding::percent_decode_str;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Knows the address as `:'email'`, which psql quotes.
const STATEMENT: &str =
    "UPDATE auth.account SET role = 'admin' WHERE lower(email) = lower(:'email') RETURNING email;\n";

/// As above. The link is a line of its own, so that terminals open it.
const NEWEST_MAIL: &str = "SELECT concat_ws(E'\\n\\n', subject, text, link) FROM notify.mail WHERE email = lower(:'email') \
                           ORDER BY id DESC LIMIT 1;\n";

/// Which database.
#[derive(Debug, Clone, Copy)]
pub enum Database<'a> {
    /// At this URL, as a role that may write `auth.account` and read `notify.mail`.
    At(&'a str),
    /// The private one of a data directory, on which an fnhost runs.
    Private(&'a Path),
}

/// Gives a registered user the role `admin`; the next login carries it.
///
/// # Errors
/// No database runs there, it refuses, or nobody is registered with this address.
pub fn admin(email: &str, database: Database<'_>) -> anyhow::Result<()> {
    let changed = ask(STATEMENT, email, database)?;
    anyhow::ensure!(
        !changed.trim().is_empty(),
        "nobody is registered as {email}: register first with POST /auth/register"
    );
    println!("{} is an admin now; the next login carries the role.", changed.trim());
    Ok(())
}

/// Prints the newest mail to an address that notify stored.
///
/// # Errors
/// No database runs there, it refuses, or there is no such mail.
pub fn mail(email: &str, database: Database<'_>) -> anyhow::Result<()> {
    let mail = ask(NEWEST_MAIL, email, database)?;
    anyhow::ensure!(!mail.trim().is_empty(), "no mail to {email} yet");
    println!("{}", mail.trim_end());
    Ok(())
}

/// What a statement about an address answers.
fn ask(statement: &str, email: &str, database: Database<'_>) -> anyhow::Result<String> {
    let mut command = Command::new(psql().context("psql is missing: run `./dev setup`")?);
    command.args(["-X", "-q", "-t", "-A", "-v", "ON_ERROR_STOP=1", "-v"]).arg(format!("email={email}"));
    connect(&mut command, database)?;
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().context("cannot run psql")?;
    let mut stdin = child.stdin.take().context("psql has no input")?;
    // Where it has ended before it read, its exit code says so.
    let _ = stdin.write_all(statement.as_bytes());
    drop(stdin);
    let output = child.wait_with_output()?;
    anyhow::ensure!(
        output.status.success(),
        "the database did not do it: is the system running (`./dev up`)?"
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs a script of the checkout as the owner of the database, and prints what it says.
///
/// # Errors
/// No database runs there, or it refuses.
pub fn script(file: &Path, database: Database<'_>) -> anyhow::Result<()> {
    let mut command = Command::new(psql().context("psql is missing: run `./dev setup`")?);
    command.args(["-X", "-q", "-t", "-A", "-v", "ON_ERROR_STOP=1", "-f"]).arg(file);
    connect(&mut command, database)?;
    let status = command.status().context("cannot run psql")?;
    anyhow::ensure!(status.success(), "the database did not do it: is the system running (`./dev up`)?");
    Ok(())
}

/// Tells psql where the database is. Passwords go by the environment, since everybody on the machine can see arguments.
fn connect(command: &mut Command, database: Database<'_>) -> anyhow::Result<()> {
    match database {
        Database::At(url) => {
            let (url, password) = without_password(url);
            command.args(["-d", &url]);
            if let Some(password) = password {
                command.env("PGPASSWORD", password);
            }
        }
        Database::Private(directory) => {
            let none = || {
                format!(
                    "no database in {}: start one with `./dev up`, or give --database URL",
                    directory.display()
                )
            };
            let port = read(&directory.join("run/postgres.port")).with_context(none)?;
            let password = read(&directory.join("secrets/postgres"))?;
            command.envs([
                ("PGHOST", "127.0.0.1"),
                ("PGPORT", port.trim()),
                ("PGUSER", "fnhost"),
                ("PGDATABASE", "fnhost"),
                ("PGPASSWORD", password.trim()),
            ]);
        }
    }
    Ok(())
}

/// A URL of libpq without its password, and that password, decoded. What is not such a URL is for psql to refuse.
fn without_password(url: &str) -> (String, Option<String>) {
    let Some((scheme, rest)) = url.split_once("://") else { return (url.to_owned(), None) };
    let (address, query) = rest.split_once('?').unwrap_or((rest, ""));
    // Of several hosts all belong to one user, which ends at the last sign before the database's name.
    let (authority, database) = address.split_once('/').map_or((address, None), |(a, b)| (a, Some(b)));
    let (user, hosts) = authority.rsplit_once('@').map_or((None, authority), |(a, b)| (Some(a), b));
    let (user, mut password) = match user.and_then(|user| user.split_once(':')) {
        Some((name, password)) => (Some(name), Some(password)),
        None => (user, None),
    };
    let mut parameters = Vec::new();
    for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
        match parameter.strip_prefix("password=") {
            // libpq takes this one.
            Some(value) => password = Some(value),
            None => parameters.push(parameter),
        }
    }
    let mut open = format!("{scheme}://");
    open.extend(user.into_iter().flat_map(|user| [user, "@"]).chain([hosts]));
    open.extend(database.into_iter().flat_map(|database| ["/", database]));
    if !parameters.is_empty() {
        open.extend(["?", &parameters.join("&")]);
    }
    (open, password.map(|password| percent_decode_str(password).decode_utf8_lossy().into_owned()))
}

/// psql of `PATH`, or else beside the newest Postgres: distributions do not always put it into `PATH`.
fn psql() -> Option<PathBuf> {
    let given =
        std::env::var_os("FNHOST_POSTGRES_BIN").filter(|folder| !folder.is_empty()).map(PathBuf::from);
    let folders = given.map_or_else(|| newest_first(Path::new("/usr/lib/postgresql")), |folder| vec![folder]);
    find("psql")
        .or_else(|| folders.into_iter().map(|folder| folder.join("psql")).find(|file| executable(file)))
}

/// The folders of programs below `versions`, which has one folder for each major version.
fn newest_first(versions: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(versions).into_iter().flatten().flatten();
    let mut found: Vec<(u32, PathBuf)> = entries
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin"))))
        .collect();
    found.sort();
    found.into_iter().rev().map(|(_, folder)| folder).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::Scratch;
    use std::ffi::OsStr;

    #[test]
    fn no_password_is_an_argument() {
        for (url, expected, password) in [
            ("postgres://owner:secret@db:5432/orders", "postgres://owner@db:5432/orders", Some("secret")),
            (
                "postgresql://o:a%40b%3a%2F@db/x?sslmode=require",
                "postgresql://o@db/x?sslmode=require",
                Some("a@b:/"),
            ),
            ("postgres://o:p%zz%4@a:1,b:2/x", "postgres://o@a:1,b:2/x", Some("p%zz%4")),
            ("postgres://o:a@b@db?user=x@y:z", "postgres://o@db?user=x@y:z", Some("a@b")),
            (
                "postgres://o:a@db/x?password=b%20c&sslmode=disable",
                "postgres://o@db/x?sslmode=disable",
                Some("b c"),
            ),
            ("postgres:///x?host=/run&password=a", "postgres:///x?host=/run", Some("a")),
            ("postgres://owner@db/orders", "postgres://owner@db/orders", None),
            ("postgres://db:5432/orders", "postgres://db:5432/orders", None),
            ("orders", "orders", None),
        ] {
            let (found, secret) = without_password(url);
            assert_eq!((found.as_str(), secret.as_deref()), (expected, password), "{url}");
        }
    }

    #[test]
    fn a_private_database_is_found_by_its_directory() {
        let scratch = Scratch::new();
        let mut command = Command::new("psql");
        let missing =
            connect(&mut command, Database::Private(scratch.path())).expect_err("nothing runs there");
        assert!(missing.to_string().contains("start one with `./dev up`"), "{missing}");
        for (file, text) in [("run/postgres.port", "15432\n"), ("secrets/postgres", "secret\n")] {
            let file = scratch.path().join(file);
            std::fs::create_dir_all(file.parent().expect("a folder")).expect("a folder");
            std::fs::write(file, text).expect("a file");
        }
        connect(&mut command, Database::Private(scratch.path())).expect("it is there");
        let set = |name: &str| {
            let mut all = command.get_envs();
            all.find(|(found, _)| *found == name).and_then(|(_, value)| value).and_then(OsStr::to_str)
        };
        assert_eq!([set("PGPORT"), set("PGPASSWORD")], [Some("15432"), Some("secret")]);
        assert_eq!(command.get_args().count(), 0, "nothing is an argument");
    }

    #[test]
    fn the_newest_postgres_comes_first() {
        let scratch = Scratch::new();
        for version in ["9", "16", "15", "common"] {
            std::fs::create_dir(scratch.path().join(version)).expect("a folder");
        }
        let expected = ["16/bin", "15/bin", "9/bin"].map(|folder| scratch.path().join(folder));
        assert_eq!(newest_first(scratch.path()), expected);
    }
}
