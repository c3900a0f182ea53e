//! CPU time and memory of processes, from `/proc`.

use anyhow::Context as _;
use std::fs;
use std::path::Path;

/// Ticks of `/proc/PID/stat` a second: fixed at 100 for all of Linux's user space interfaces.
const TICKS_PER_S: f64 = 100.0;

/// Who is measured, by process id.
#[derive(Clone, Copy, Debug)]
pub struct Pids {
    /// What runs the functions.
    pub host: u32,
    /// Postgres's first process; its children count too.
    pub postgres: u32,
    /// Kafka, where it runs.
    pub kafka: Option<u32>,
}

/// CPU seconds used so far, user and system.
#[derive(Clone, Copy, Debug)]
pub struct Cpu {
    /// What runs the functions.
    pub host: f64,
    /// Postgres, with every session it has had.
    pub postgres: f64,
    /// Kafka.
    pub kafka: f64,
    /// This process, which makes the load.
    pub load_generator: f64,
}

impl Cpu {
    /// What has been used until now.
    ///
    /// # Errors
    /// One of the processes is gone.
    pub fn read(pids: Pids) -> anyhow::Result<Self> {
        Ok(Self {
            host: own_seconds(pids.host)?,
            postgres: family_seconds(pids.postgres)?,
            kafka: pids.kafka.map_or(Ok(0.0), own_seconds)?,
            load_generator: own_seconds(std::process::id())?,
        })
    }

    /// What was used since `before`.
    pub fn since(self, before: Self) -> Self {
        Self {
            host: self.host - before.host,
            postgres: self.postgres - before.postgres,
            kafka: self.kafka - before.kafka,
            load_generator: self.load_generator - before.load_generator,
        }
    }
}

/// The fields of `/proc/PID/stat` after the name, which may itself contain spaces.
fn stat(pid: u32) -> anyhow::Result<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat"))
        .with_context(|| format!("process {pid} is not running any more"))?;
    let (_, rest) = text.rsplit_once(')').context("/proc/PID/stat has no name")?;
    Ok(rest.split_whitespace().map(str::to_owned).collect())
}

fn ticks(fields: &[String], indices: std::ops::Range<usize>) -> f64 {
    fields.get(indices).unwrap_or_default().iter().filter_map(|field| field.parse::<f64>().ok()).sum()
}

/// User and system time of a process's threads, those that ended too.
fn own_seconds(pid: u32) -> anyhow::Result<f64> {
    Ok(ticks(&stat(pid)?, 11..13) / TICKS_PER_S)
}

/// As [`own_seconds`], with the children that run and those that have ended.
fn family_seconds(pid: u32) -> anyhow::Result<f64> {
    let mut sum = ticks(&stat(pid)?, 11..15);
    for child in children(pid)? {
        // One that ends meanwhile is counted with its parent from then on.
        sum += stat(child).map_or(0.0, |fields| ticks(&fields, 11..13));
    }
    Ok(sum / TICKS_PER_S)
}

/// The processes that this one started and that run.
///
/// # Errors
/// `/proc` cannot be read.
pub fn children(pid: u32) -> anyhow::Result<Vec<u32>> {
    let is_child = |child: &u32| {
        stat(*child).is_ok_and(|fields| fields.get(1).is_some_and(|parent| *parent == pid.to_string()))
    };
    let all = fs::read_dir("/proc")?.flatten();
    Ok(all.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter(is_child).collect())
}

/// Resident memory of a process, in MB of 1,000,000 bytes.
///
/// # Errors
/// The process is gone.
pub fn resident_mb(pid: u32) -> anyhow::Result<f64> {
    Ok(memory_mb(pid, ["VmRSS:"])?[0])
}

/// Lines of a process's `status`, in MB of 1,000,000 bytes.
///
/// # Errors
/// The process is gone.
pub fn memory_mb<const N: usize>(pid: u32, names: [&str; N]) -> anyhow::Result<[f64; N]> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let mut found = [0.0; N];
    for (mb, name) in found.iter_mut().zip(names) {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let kib: f64 =
            line.with_context(|| format!("no {name}"))?.trim().trim_end_matches("kB").trim().parse()?;
        *mb = kib * 1024.0 / 1e6;
    }
    Ok(found)
}

/// The process ids of private servers, Postgres and Kafka, from their data directory.
///
/// # Errors
/// Postgres does not run.
pub fn server_pids(data_dir: &Path) -> anyhow::Result<(u32, Option<u32>)> {
    let read = |path: &str| -> anyhow::Result<u32> {
        let path = data_dir.join(path);
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(text.lines().next().unwrap_or_default().trim().parse()?)
    };
    // The file of one that does not run here may have been copied with the directory.
    let kafka = read("run/kafka.pid").ok().filter(|pid| stat(*pid).is_ok());
    Ok((read("postgres/data/postmaster.pid")?, kafka))
}
