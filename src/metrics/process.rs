//! The usual `process_*` metrics: the operating system's figures for this process.
//!
//! Linux alone: read from `/proc/self` when asked. Where a line is missing the metric is left out,
//! never invented.

use std::fs;

use super::family::{Family, MetricKind, Sample, Total, Value};

/// All figures that are known.
pub(super) fn families() -> Vec<Family> {
    read().into_iter().filter_map(Fact::family).collect()
}

struct Fact {
    name: &'static str,
    kind: MetricKind,
    help: &'static str,
    value: Option<Value>,
}

impl Fact {
    fn family(self) -> Option<Family> {
        let Self { name, kind, help, value } = self;
        let sample = Sample { shard: None, labels: Vec::new(), value: value? };
        Some(Family { name: name.into(), help, kind, total: Total::Sum, samples: vec![sample] })
    }
}

/// The unit of CPU times and start times in `/proc`: `USER_HZ`, 100 on every Linux.
const TICKS_PER_SECOND: f64 = 100.0;

fn read() -> Vec<Fact> {
    let text = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let (stat, status) = (text("/proc/self/stat"), text("/proc/self/status"));
    let (limits, boot) = (text("/proc/self/limits"), text("/proc/stat"));
    let gauge = |name, help, value| Fact { name, kind: MetricKind::Gauge, help, value };
    vec![
        Fact {
            name: "process_cpu_seconds_total",
            kind: MetricKind::Counter,
            help: "User and system CPU time.",
            value: cpu_seconds(&stat).map(Value::Real),
        },
        gauge(
            "process_resident_memory_bytes",
            "Resident memory.",
            kibibytes(&status, "VmRSS:").map(Value::Whole),
        ),
        gauge(
            "process_virtual_memory_bytes",
            "Virtual memory.",
            kibibytes(&status, "VmSize:").map(Value::Whole),
        ),
        gauge("process_open_fds", "Open descriptors.", open_descriptors().map(Value::Whole)),
        gauge(
            "process_max_fds",
            "Soft limit of open descriptors.",
            descriptor_limit(&limits).map(Value::Whole),
        ),
        gauge(
            "process_threads",
            "Threads.",
            line(&status, "Threads:").and_then(|rest| rest.parse().ok()).map(Value::Whole),
        ),
        gauge(
            "process_start_time_seconds",
            "Start time, seconds since the Unix epoch.",
            start_seconds(&stat, &boot).map(Value::Real),
        ),
    ]
}

/// Field `number` (as proc(5) counts, from 3 on) of `/proc/self/stat`. The second field is the
/// program's name in brackets and may hold anything, brackets and spaces included.
fn stat_field(stat: &str, number: usize) -> Option<f64> {
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(number - 3)?.parse().ok()
}

fn cpu_seconds(stat: &str) -> Option<f64> {
    Some((stat_field(stat, 14)? + stat_field(stat, 15)?) / TICKS_PER_SECOND)
}

fn start_seconds(stat: &str, boot: &str) -> Option<f64> {
    let boot_seconds: f64 = line(boot, "btime ")?.parse().ok()?;
    Some(boot_seconds + stat_field(stat, 22)? / TICKS_PER_SECOND)
}

fn kibibytes(status: &str, key: &str) -> Option<u64> {
    let count: u64 = line(status, key)?.strip_suffix("kB")?.trim().parse().ok()?;
    count.checked_mul(1024)
}

fn open_descriptors() -> Option<u64> {
    // The directory's own descriptor is open while it is read.
    let count = fs::read_dir("/proc/self/fd").ok()?.count().saturating_sub(1);
    u64::try_from(count).ok()
}

fn descriptor_limit(limits: &str) -> Option<u64> {
    line(limits, "Max open files")?.split_whitespace().next()?.parse().ok()
}

/// The rest of the line that starts with `key`.
fn line<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(key)).map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fields_are_found_behind_any_program_name() {
        let rest = (3..=52).map(|field| (field * 10).to_string()).collect::<Vec<_>>().join(" ");
        let stat = format!("1 (a ) b (c) {rest}");
        assert_eq!(cpu_seconds(&stat), Some((140.0 + 150.0) / 100.0));
        assert_eq!(start_seconds(&stat, "cpu 1 2\nbtime 1000\n"), Some(1002.2));
        assert_eq!(kibibytes("VmSize:\t 10 kB\nVmRSS:\t     5 kB\n", "VmRSS:"), Some(5120));
        let limits = "Max open files            1024                 20000                files\n";
        assert_eq!(descriptor_limit(limits), Some(1024));
        assert_eq!(cpu_seconds(""), None);
    }

    #[test]
    fn this_process_has_all_of_them_with_sane_values() {
        let families = families();
        let value = |name: &str| {
            let family = families.iter().find(|family| family.name == name).unwrap();
            match family.samples[0].value {
                Value::Whole(value) => value as f64,
                Value::Real(value) => value,
                Value::Histogram(_) => panic!("{name} is no histogram"),
            }
        };
        assert_eq!(families.len(), 7);
        assert!(value("process_resident_memory_bytes") > 1e5);
        assert!(value("process_virtual_memory_bytes") >= value("process_resident_memory_bytes"));
        assert!(value("process_open_fds") >= 3.0);
        assert!(value("process_max_fds") >= value("process_open_fds"));
        assert!(value("process_threads") >= 1.0);
        let now = crate::clock::Clock::start().unix_time().as_secs_f64();
        let age = now - value("process_start_time_seconds");
        assert!((-2.0..86_400.0).contains(&age), "{age}");
    }
}
