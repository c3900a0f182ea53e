//! One scrape: what was counted, and what stands in memory at the moment. It asks nobody and waits for nobody.

use crate::health::{CheckState, Health};
use fnhost_db::OwnerPool;
use fnhost_db::session::{RolePool, Usage};
use fnhost_dispatch::status::Counts;
use fnhost_engine::Engine;
use fnhost_metrics::family::{self, Read};
use fnhost_metrics::names::{self, Name};
use fnhost_metrics::process;
use fnhost_types::clock::now_ms;
use prometheus::TextEncoder;
use prometheus::proto::MetricFamily;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// Content type of a scrape's answer.
pub const CONTENT_TYPE: &str = prometheus::TEXT_FORMAT;
/// The states that a partition can be in.
const STATES: [&str; 6] = ["taking-over", "owned", "paused", "backing-off", "blocked", "stopped"];

/// What a scrape reads.
#[derive(Clone)]
pub struct Scrape {
    /// The host's health, its triggers and the outbox among it.
    pub health: Health,
    /// What runs the calls.
    pub engine: Engine,
    /// Connections of each component with a database.
    pub roles: Arc<BTreeMap<String, RolePool>>,
    /// Connections of the host.
    pub owner: OwnerPool,
}

impl Scrape {
    /// The metrics as Prometheus reads them.
    ///
    /// # Errors
    /// A metric could not be written as text, which is a mistake in this module.
    pub fn text(&self) -> Result<String, prometheus::Error> {
        let began = Instant::now();
        fnhost_metrics::show_rare();
        let mut families = family::counted();
        families.extend(self.partitions());
        families.extend(self.pools());
        families.extend(self.outbox());
        families.extend(process::families());
        families.extend(self.schedules());
        families.extend(self.host());
        families.retain(|family| !family.get_metric().is_empty());
        families.sort_by(|a, b| a.name().cmp(b.name()));
        let text = TextEncoder::new().encode_to_string(&families);
        self.health.scrape_took(Some(began.elapsed()));
        text
    }

    fn partitions(&self) -> Vec<MetricFamily> {
        type Counter = fn(&Counts) -> &AtomicU64;
        let counters: [(&'static Name, Counter); 6] = [
            (&names::RECORDS, |c| &c.records),
            (&names::BATCHES, |c| &c.batches),
            (&names::DUPLICATES, |c| &c.duplicates),
            (&names::UNWANTED, |c| &c.unwanted),
            (&names::FAILED_ATTEMPTS, |c| &c.failed_attempts),
            (&names::DEAD_LETTERS, |c| &c.dead),
        ];
        let mut counted = counters.map(|(name, _)| Read::new(name));
        let [mut position, mut log_end, mut lag, mut age, mut parked, mut state] = [
            &names::POSITION,
            &names::LOG_END,
            &names::LAG,
            &names::OLDEST_AGE,
            &names::PARKED,
            &names::STATE,
        ]
        .map(Read::new);
        let now = now_ms();
        for trigger in self.health.registry().triggers() {
            for (tp, counts) in trigger.counts() {
                let number = tp.partition.to_string();
                for (read, (_, counter)) in counted.iter_mut().zip(counters) {
                    let value = counter(&counts).load(Ordering::Relaxed);
                    read.add(&[&trigger.id, &tp.topic, &number], value as f64);
                }
            }
            for partition in trigger.partitions() {
                let number = partition.tp.partition.to_string();
                let labels = [trigger.id.as_str(), partition.tp.topic.as_str(), number.as_str()];
                let at = partition.position.load(Ordering::Relaxed);
                if at >= 0 {
                    position.add(&labels, at as f64);
                }
                partition
                    .backlog
                    .known_log_end()
                    .into_iter()
                    .for_each(|end| log_end.add(&labels, end as f64));
                partition.backlog.lag(at).into_iter().for_each(|records| lag.add(&labels, records as f64));
                age.add(&labels, partition.backlog.oldest_age_ms(at, now) as f64 / 1e3);
                parked.add(&labels, partition.parked.load(Ordering::Relaxed) as f64);
                let present = partition.state();
                for name in STATES {
                    let is = f64::from(u8::from(present.name() == name));
                    state.add(&[labels[0], labels[1], labels[2], name], is);
                }
            }
        }
        counted.into_iter().chain([position, log_end, lag, age, parked, state]).map(Read::family).collect()
    }

    fn pools(&self) -> Vec<MetricFamily> {
        type Number = fn(&Usage) -> usize;
        let numbers: [(&'static Name, Number); 4] = [
            (&names::CONNECTIONS_LIMIT, |u| u.limit),
            (&names::CONNECTIONS_USED, |u| u.used),
            (&names::CONNECTIONS_IDLE, |u| u.idle),
            (&names::CONNECTIONS_WAITING, |u| u.waiting),
        ];
        let mut pools: Vec<(&str, Usage)> =
            self.roles.iter().map(|(id, pool)| (id.as_str(), pool.usage())).collect();
        // A component's id has no colon.
        pools.push(("host:owner", self.owner.usage()));
        let mut families: Vec<MetricFamily> = numbers
            .into_iter()
            .map(|(name, number)| {
                let mut read = Read::new(name);
                pools.iter().for_each(|(pool, usage)| read.add(&[pool], number(usage) as f64));
                read.family()
            })
            .collect();
        let (limit, free) = (self.engine.max_calls(), self.engine.free_places());
        families.push(Read::one(&names::INSTANCES_LIMIT, limit as f64));
        families.push(Read::one(&names::INSTANCES_USED, limit.saturating_sub(free) as f64));
        families
    }

    fn schedules(&self) -> [MetricFamily; 4] {
        let [mut runs, mut failures, mut interval, mut since] = [
            &names::SCHEDULE_RUNS,
            &names::SCHEDULE_FAILURES,
            &names::SCHEDULE_INTERVAL,
            &names::SCHEDULE_SINCE_DONE,
        ]
        .map(Read::new);
        let now = now_ms();
        for schedule in self.health.registry().schedules() {
            let labels = [schedule.id.as_str()];
            runs.add(&labels, schedule.runs.load(Ordering::Relaxed) as f64);
            failures.add(&labels, schedule.failures.load(Ordering::Relaxed) as f64);
            interval.add(&labels, schedule.every.as_secs_f64());
            schedule.since_done(now).into_iter().for_each(|seconds| since.add(&labels, seconds));
        }
        [runs, failures, interval, since].map(Read::family)
    }

    fn outbox(&self) -> [MetricFamily; 2] {
        let (mut rows, mut age) = (Read::new(&names::OUTBOX_ROWS), Read::new(&names::OUTBOX_AGE));
        for view in self.health.outbox() {
            rows.add(&[&view.trigger], view.rows as f64);
            age.add(&[&view.trigger], view.oldest_age_s);
        }
        [rows.family(), age.family()]
    }

    fn host(&self) -> [MetricFamily; 3] {
        let mut checks = Read::new(&names::CHECK);
        for check in self.health.readiness().checks {
            checks.add(&[check.check], f64::from(u8::from(check.state == CheckState::Ok)));
        }
        let mut build = Read::new(&names::BUILD);
        build.add(&[env!("CARGO_PKG_VERSION")], 1.0);
        [checks.family(), build.family(), Read::one(&names::SCRAPE, self.health.scrape_took(None))]
    }
}
