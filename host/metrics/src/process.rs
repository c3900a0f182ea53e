//! What the kernel knows of this process.

use super::family::Read;
use super::names::{self, Name};
use prometheus::proto::MetricFamily;
use rustix::process::{Resource, getrlimit};

/// What could be read; a number that cannot be read is left out.
pub fn families() -> Vec<MetricFamily> {
    let mut families = Vec::new();
    let mut show = |name: &'static Name, value: Option<f64>| {
        families.extend(value.map(|value| Read::one(name, value)));
    };
    let stat = Stat::read();
    show(&names::PROCESS_CPU, stat.as_ref().map(|s| s.cpu_seconds));
    show(&names::PROCESS_THREADS, stat.as_ref().map(|s| s.threads));
    show(&names::PROCESS_START, stat.as_ref().and_then(|s| Some(boot_time()? + s.start_seconds)));
    show(&names::PROCESS_MEMORY, stat.as_ref().map(|s| s.resident_bytes));
    // The folder itself is open while it is counted.
    let open = std::fs::read_dir("/proc/self/fd").ok().map(|folder| folder.count().saturating_sub(1) as f64);
    show(&names::PROCESS_FDS, open);
    show(&names::PROCESS_FDS_MAX, getrlimit(Resource::Nofile).current.map(|limit| limit as f64));
    families
}

/// `/proc/self/stat`, as in proc_pid_stat(5).
struct Stat {
    cpu_seconds: f64,
    threads: f64,
    start_seconds: f64,
    resident_bytes: f64,
}

impl Stat {
    fn read() -> Option<Self> {
        let text = std::fs::read_to_string("/proc/self/stat").ok()?;
        // The second field is the program's name in brackets and may hold anything.
        let fields: Vec<&str> = text.rsplit_once(')')?.1.split_ascii_whitespace().collect();
        // Counted as the manual does, where the first field after the name is the third.
        let field = |number: usize| fields.get(number - 3)?.parse::<f64>().ok();
        let ticks_per_second = rustix::param::clock_ticks_per_second() as f64;
        Some(Self {
            cpu_seconds: (field(14)? + field(15)?) / ticks_per_second,
            threads: field(20)?,
            start_seconds: field(22)? / ticks_per_second,
            resident_bytes: field(24)? * rustix::param::page_size() as f64,
        })
    }
}

/// When the machine was started, seconds since 1970.
fn boot_time() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/stat").ok()?;
    text.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_is_described() {
        let families = families();
        let value = |name: &Name| {
            let family = families.iter().find(|f| f.name() == name.name).expect(name.name);
            let metric = &family.get_metric()[0];
            metric.get_gauge().get_value() + metric.get_counter().get_value()
        };
        assert!(value(&names::PROCESS_MEMORY) > 1e6);
        assert!(value(&names::PROCESS_THREADS) >= 1.0);
        let (open, most) = (value(&names::PROCESS_FDS), value(&names::PROCESS_FDS_MAX));
        assert!(open >= 3.0 && open < most, "{open} of {most}");
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
        let age = now - value(&names::PROCESS_START);
        assert!((-1.0..86_400.0).contains(&age), "started {age} s ago");
        assert!(value(&names::PROCESS_CPU) >= 0.0);
    }
}
