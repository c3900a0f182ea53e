//! What `fnhost doctor` checks of a given database.

use super::Finding;
use crate::cli::setup::{ROLE_CONNECTIONS_MAX, budget};
use fnhost_db::Error;
use fnhost_db::fitness::{self, Budget, Fitness, History, RESERVED_FOR_OTHERS, VERSION_MIN};
use fnhost_db::schema::HOST_SCHEMA;
use fnhost_manifest::Manifest;
use fnhost_types::causes::chain;
use sqlx::postgres::PgConnectOptions;
use std::path::Path;
use std::str::FromStr as _;

/// Seconds between the clocks of two machines beyond which times of records, tokens and log lines do not fit.
const CLOCK_DIFFERENCE_MAX_S: f64 = 2.0;

/// Looks at the database of a URL; `manifest` says which functions will use it, and where it cannot be read, one is assumed.
pub(super) async fn check(url: &str, manifest: &Path) -> Vec<Finding> {
    const CHECK: &str = "postgres";
    let Ok(options) = PgConnectOptions::from_str(url) else {
        let cure = "write postgres://user:password@host:port/name".to_owned();
        return vec![Finding::failed(CHECK, "--database is not a database URL", cure)];
    };
    let place = Place {
        address: format!("{}:{}", options.get_host(), options.get_port()),
        role: options.get_username().to_owned(),
        database: options.get_database().unwrap_or(options.get_username()).to_owned(),
    };
    let manifest = Manifest::load(manifest).ok();
    let one = Budget { relays: 0, schedules: 0, functions: ROLE_CONNECTIONS_MAX };
    let budget = manifest.as_ref().map_or(one, budget);
    let databases = manifest.iter().flat_map(|manifest| manifest.components.values());
    let databases: Vec<_> = databases.filter_map(|component| component.database.as_ref()).collect();
    let folders = databases.iter().filter_map(|database| Some((database, database.migrations.as_deref()?)));
    let schemas: Vec<(&str, &Path)> =
        folders.map(|(database, folder)| (database.schema.as_str(), folder)).collect();
    match fitness::look(options, &schemas).await {
        Ok((fitness, histories)) => {
            let mut findings = judge(&fitness, &place, &budget);
            findings.push(migrations(&histories));
            findings
        }
        // These say what to do.
        Err(error @ (Error::Unfit(_) | Error::Migrate { .. })) => {
            vec![Finding::failed(CHECK, format!("{}: {}", place.address, chain(&error)), None)]
        }
        Err(error) => {
            let cure = "check --database (FNHOST_DATABASE), and that the server runs and accepts connections from here";
            vec![Finding::failed(CHECK, format!("{}: {}", place.address, chain(&error)), cure.to_owned())]
        }
    }
}

/// Where the database is, and who asks.
struct Place {
    address: String,
    role: String,
    database: String,
}

/// What follows from what was found, for a host that needs so many connections.
fn judge(fitness: &Fitness, place: &Place, budget: &Budget) -> Vec<Finding> {
    let version = format!("Postgres {} at {}", fitness.version, place.address);
    let postgres = if fitness.version < VERSION_MIN {
        Finding::failed("postgres", version, format!("upgrade it: {VERSION_MIN} is the oldest that works"))
    } else if !fitness.full_page_writes {
        let found =
            format!("{version} runs with full_page_writes = off: a machine crash can leave torn pages");
        let cure = "ALTER SYSTEM SET full_page_writes = on; SELECT pg_reload_conf(); unless its file system writes whole pages";
        Finding::warning("postgres", found, cure.to_owned())
    } else {
        Finding::ok("postgres", format!("{version} keeps what it commits"))
    };
    vec![postgres, privileges(fitness, place), connections(fitness, budget), clock(fitness)]
}

fn privileges(fitness: &Fitness, place: &Place) -> Finding {
    let Place { role, database, .. } = place;
    let missing = [
        (fitness.creates_roles, "roles", format!("ALTER ROLE \"{role}\" CREATEROLE")),
        (
            fitness.creates_schemas,
            "schemas",
            format!("GRANT CREATE ON DATABASE \"{database}\" TO \"{role}\""),
        ),
    ];
    let missing = missing.into_iter().filter(|(may, ..)| !may);
    let (what, cures): (Vec<_>, Vec<_>) = missing.map(|(_, what, cure)| (what, cure)).unzip();
    if cures.is_empty() {
        return Finding::ok("privileges", format!("{role} may create roles and schemas"));
    }
    let found = format!("{role} may not create {}", what.join(" and "));
    Finding::failed("privileges", found, format!("as a superuser: {}", cures.join("; ")))
}

fn connections(fitness: &Fitness, budget: &Budget) -> Finding {
    const CHECK: &str = "connections";
    let needed = i64::try_from(budget.total()).unwrap_or(i64::MAX);
    let Fitness { connections_max: max, connections_used: used, .. } = fitness;
    let found = format!("a host opens up to {needed}; the server allows {max}, and {used} are in use");
    let cure = format!(
        "set max_connections to {} or more and restart the server",
        needed + used.max(&RESERVED_FOR_OTHERS)
    );
    if *max < needed {
        Finding::failed(CHECK, found, cure)
    } else if max - used < needed {
        Finding::warning(CHECK, found, format!("if those do not belong to this host: {cure}"))
    } else {
        Finding::ok(CHECK, found)
    }
}

fn clock(fitness: &Fitness) -> Finding {
    let ahead = fitness.clock_ahead_s;
    if ahead.abs() <= CLOCK_DIFFERENCE_MAX_S {
        return Finding::ok("clock", format!("within {CLOCK_DIFFERENCE_MAX_S} s of the server's"));
    }
    let way = if ahead > 0.0 { "ahead of" } else { "behind" };
    let found = format!("the server's clock is {:.1} s {way} this machine's", ahead.abs());
    Finding::warning(
        "clock",
        found,
        "synchronise both, for example with `timedatectl set-ntp true`".to_owned(),
    )
}

fn migrations(histories: &[History]) -> Finding {
    let list = |versions: &[i64]| versions.iter().map(i64::to_string).collect::<Vec<_>>().join(", ");
    let (mut faults, mut cures) = (Vec::new(), Vec::new());
    for History { schema, changed, unknown, .. } in histories {
        if !changed.is_empty() {
            faults.push(format!("{schema}: {} was changed after it ran", list(changed)));
            cures.push("restore the old text, and put the change into a new migration");
        }
        if !unknown.is_empty() {
            faults.push(format!("{schema}: {} ran here but is unknown", list(unknown)));
            let own = "a newer fnhost prepared this database; run that version or a newer one";
            let functions = "restore the file, or use the application's newer version";
            cures.push(if schema == HOST_SCHEMA { own } else { functions });
        }
    }
    if !faults.is_empty() {
        cures.dedup();
        return Finding::failed("migrations", faults.join("; "), cures.join("; "));
    }
    let sum = |count: fn(&History) -> usize| histories.iter().map(count).sum::<usize>();
    let found = match (sum(|history| history.run), sum(|history| history.waiting)) {
        (run, 0) => format!("all {run} have run"),
        (run, waiting) => format!("{run} have run; `fnhost up` or `fnhost migrate` will run {waiting} more"),
    };
    Finding::ok("migrations", found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::Status;

    #[test]
    fn what_cannot_be_provoked_has_its_cure_too() {
        let healthy = Fitness {
            version: 15,
            creates_roles: true,
            creates_schemas: true,
            connections_max: 97,
            connections_used: 1,
            full_page_writes: true,
            clock_ahead_s: 0.1,
        };
        let place =
            Place { address: "db:5432".to_owned(), role: "owner".to_owned(), database: "orders".to_owned() };
        let is_ok = |finding: &Finding| finding.status == Status::Ok && finding.cure.is_none();
        let budget = Budget { relays: 1, schedules: 1, functions: 5 * 14 };
        assert!(judge(&healthy, &place, &budget).iter().all(is_ok));
        for (sick, check, status, cure) in [
            (Fitness { version: 13, ..healthy.clone() }, "postgres", Status::Failed, "upgrade it: 14"),
            (Fitness { connections_max: 82, ..healthy.clone() }, "connections", Status::Failed, "93 or more"),
            (Fitness { connections_used: 40, ..healthy.clone() }, "connections", Status::Warning, "123 or"),
            (Fitness { clock_ahead_s: -9.0, ..healthy.clone() }, "clock", Status::Warning, "synchronise"),
            (Fitness { clock_ahead_s: 2.5, ..healthy.clone() }, "clock", Status::Warning, "synchronise"),
        ] {
            let findings = judge(&sick, &place, &budget);
            let [found] = &findings.iter().filter(|finding| !is_ok(finding)).collect::<Vec<_>>()[..] else {
                panic!("{check}: {findings:?}")
            };
            assert_eq!((found.check, found.status), (check, status), "{found:?}");
            assert!(found.cure.as_ref().is_some_and(|said| said.contains(cure)), "{found:?}");
        }
    }
}
