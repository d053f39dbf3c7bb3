//! The kernel's books on processes: CPU, memory, threads; and what machine this is.
//!
//! Everything comes from /proc. CPU time is the scheduler's own count in nanoseconds per thread
//! (`schedstat`); user and system are told apart by `stat`, in ticks of 10 ms. A figure that the
//! system does not give is 0 or an empty text, never a failure of the run.

use std::{collections::BTreeMap, fs, process::Command};

use serde::{Deserialize, Serialize};

const TICKS_PER_SECOND: f64 = 100.0;

/// CPU time of some processes up to one moment.
#[derive(Clone, Debug, Default)]
pub struct CpuSample {
    /// Nanoseconds by thread: (id, name).
    threads: BTreeMap<u32, (String, u64)>,
    user_seconds: f64,
    system_seconds: f64,
}

impl CpuSample {
    /// Reads all threads of `pids`.
    pub fn take(pids: &[u32]) -> Self {
        let mut sample = Self::default();
        for pid in pids {
            let (user, system) = user_and_system_seconds(*pid);
            sample.user_seconds += user;
            sample.system_seconds += system;
            let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
            for task in tasks {
                let path = task.path();
                let id = task.file_name().to_str().and_then(|name| name.parse().ok());
                let time = fs::read_to_string(path.join("schedstat")).ok();
                let time = time.and_then(|text| text.split(' ').next()?.parse().ok());
                if let (Some(id), Some(time)) = (id, time) {
                    let name = fs::read_to_string(path.join("comm")).unwrap_or_default();
                    sample.threads.insert(id, (name.trim().to_owned(), time));
                }
            }
        }
        sample
    }

    /// The usage between `earlier` and this sample, `seconds` apart.
    pub fn since(&self, earlier: &Self, seconds: f64) -> CpuUse {
        let mut threads: Vec<ThreadUse> = self
            .threads
            .iter()
            .map(|(id, (name, time))| {
                let before = earlier.threads.get(id).map_or(0, |(_, time)| *time);
                let used_seconds = time.saturating_sub(before) as f64 / 1e9;
                ThreadUse { name: name.clone(), cpu_seconds: used_seconds }
            })
            .filter(|thread| thread.cpu_seconds > 0.0)
            .collect();
        threads.sort_by(|a, b| b.cpu_seconds.total_cmp(&a.cpu_seconds));
        let by_threads: f64 = threads.iter().map(|thread| thread.cpu_seconds).sum();
        let user_seconds = self.user_seconds - earlier.user_seconds;
        let system_seconds = self.system_seconds - earlier.system_seconds;
        // Threads that ended in between took their count with them; the process's keeps it.
        let lost_threads = earlier.threads.keys().any(|id| !self.threads.contains_key(id));
        let cpu_seconds = if lost_threads || by_threads == 0.0 {
            by_threads.max(user_seconds + system_seconds)
        } else {
            by_threads
        };
        let busiest = threads.first().map_or(0.0, |thread| thread.cpu_seconds);
        CpuUse {
            cpu_seconds,
            user_seconds,
            system_seconds,
            share_of_one_core: cpu_seconds / seconds,
            busiest_thread_share: busiest / seconds,
            threads,
        }
    }
}

/// Nanoseconds of CPU that all threads of `pids` have used: cheap enough to ask often. Threads
/// that ended are not in it.
pub fn cpu_ns(pids: &[u32]) -> u64 {
    let tasks = pids.iter().filter_map(|pid| fs::read_dir(format!("/proc/{pid}/task")).ok());
    tasks
        .flatten()
        .flatten()
        .filter_map(|task| fs::read_to_string(task.path().join("schedstat")).ok())
        .filter_map(|text| text.split(' ').next()?.parse::<u64>().ok())
        .sum()
}

/// CPU used in a window of time.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct CpuUse {
    /// By the threads' own counts.
    pub cpu_seconds: f64,
    /// Of it in programs.
    pub user_seconds: f64,
    /// Of it in the kernel.
    pub system_seconds: f64,
    /// 1.0 = one core all the time; more with several threads.
    pub share_of_one_core: f64,
    /// The same share, of the busiest thread.
    pub busiest_thread_share: f64,
    /// Busiest first.
    pub threads: Vec<ThreadUse>,
}

impl CpuUse {
    /// CPU seconds of threads whose name starts with `prefix`.
    pub fn of_threads(&self, prefix: &str) -> f64 {
        let named = self.threads.iter().filter(|thread| thread.name.starts_with(prefix));
        named.map(|thread| thread.cpu_seconds).sum()
    }
}

/// One thread's part.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ThreadUse {
    /// As the thread calls itself.
    pub name: String,
    /// CPU time.
    pub cpu_seconds: f64,
}

/// Memory of some processes at one moment.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Memory {
    /// Resident.
    pub rss_bytes: u64,
    /// Of it behind no file.
    pub anonymous_bytes: u64,
}

impl Memory {
    /// Resident memory of `pids`, from `smaps_rollup` (exact), else from `status`.
    pub fn take(pids: &[u32]) -> Self {
        let mut sum = Self::default();
        for pid in pids {
            let (rss_bytes, anonymous_bytes) =
                match fs::read_to_string(format!("/proc/{pid}/smaps_rollup")) {
                    Ok(text) => (kib_line(&text, "Rss:"), kib_line(&text, "Anonymous:")),
                    Err(_) => {
                        let text = status(*pid);
                        (kib_line(&text, "VmRSS:"), kib_line(&text, "RssAnon:"))
                    }
                };
            sum.rss_bytes += rss_bytes;
            sum.anonymous_bytes += anonymous_bytes;
        }
        sum
    }

    /// Each page divided by the number of processes that share it: what `pids` take together.
    pub fn proportional_bytes(pids: &[u32]) -> u64 {
        let of = |pid: &u32| fs::read_to_string(format!("/proc/{pid}/smaps_rollup"));
        pids.iter().map(|pid| kib_line(&of(pid).unwrap_or_default(), "Pss:")).sum()
    }

    /// Resident memory only: cheap enough to ask ten times a second.
    pub fn rss_bytes(pids: &[u32]) -> u64 {
        pids.iter().map(|pid| kib_line(&status(*pid), "VmRSS:")).sum()
    }
}

/// The kernel's memory for sockets, of the whole machine: both ends, and everybody else's.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct KernelMemory {
    /// Bytes in TCP buffers.
    pub tcp_buffer_bytes: u64,
    /// Slab: sockets, files, epoll entries and whatever else the kernel keeps.
    pub slab_bytes: u64,
}

impl KernelMemory {
    /// Reads it now.
    pub fn take() -> Self {
        const PAGE_BYTES: u64 = 4096;
        let sockstat = fs::read_to_string("/proc/net/sockstat").unwrap_or_default();
        let pages: u64 = sockstat
            .lines()
            .find_map(|line| line.strip_prefix("TCP:")?.split(" mem ").nth(1)?.trim().parse().ok())
            .unwrap_or(0);
        let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        Self { tcp_buffer_bytes: PAGE_BYTES * pages, slab_bytes: kib_line(&meminfo, "Slab:") }
    }
}

/// The sources of the figures.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Machine {
    /// Its name.
    pub host: String,
    /// The processor's model.
    pub cpu: String,
    /// How many processors the kernel counts.
    pub cores: usize,
    /// All of it.
    pub memory_bytes: u64,
    /// Its release.
    pub kernel: String,
}

impl Machine {
    /// This machine.
    pub fn describe() -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let cpuinfo = read("/proc/cpuinfo");
        let cpu = cpuinfo
            .lines()
            .find_map(|line| line.strip_prefix("model name")?.split(": ").nth(1))
            .unwrap_or_default();
        Self {
            host: read("/proc/sys/kernel/hostname").trim().to_owned(),
            cpu: cpu.to_owned(),
            cores: cpuinfo.lines().filter(|line| line.starts_with("processor")).count(),
            memory_bytes: kib_line(&read("/proc/meminfo"), "MemTotal:"),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
        }
    }
}

/// Now, as text; empty where the system has no `date`.
pub fn date_utc() -> String {
    said_by("date", &["-u", "+%Y-%m-%d %H:%M UTC"])
}

/// The output of a program; an empty text if it is missing or fails: the record has a gap then.
pub fn said_by(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let output = output.ok().filter(|output| output.status.success());
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    text.unwrap_or_default()
}

/// A process and all that it, or they, started; itself first.
pub fn family(pid: u32) -> Vec<u32> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let parents: Vec<(u32, u32)> = processes
        .filter_map(|entry| {
            let id = entry.file_name().to_str()?.parse().ok()?;
            let text = status(id);
            let parent = text.lines().find_map(|line| line.strip_prefix("PPid:"))?;
            Some((id, parent.trim().parse().ok()?))
        })
        .collect();
    let mut family = vec![pid];
    let mut at = 0;
    while let Some(parent) = family.get(at).copied() {
        let children = parents.iter().filter(|(id, of)| *of == parent && !family.contains(id));
        let children: Vec<u32> = children.map(|(id, _)| *id).collect();
        family.extend(children);
        at += 1;
    }
    family
}

/// How many cores a process may use (a list like `0,2-3`).
pub fn cores_allowed(pid: u32) -> usize {
    let text = status(pid);
    let list = text.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    list.map_or(1, |list| cores_in(list.trim())).max(1)
}

fn cores_in(list: &str) -> usize {
    let cores = |range: &str| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
        Some((last + 1).saturating_sub(first))
    };
    list.split(',').filter_map(cores).sum()
}

/// (user, system); fields 14 and 15 of `stat`, counted behind the name in parentheses.
fn user_and_system_seconds(pid: u32) -> (f64, f64) {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let mut fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11);
    let mut seconds = || {
        let ticks = fields.next().and_then(|field| field.parse::<f64>().ok());
        ticks.unwrap_or(0.0) / TICKS_PER_SECOND
    };
    (seconds(), seconds())
}

fn status(pid: u32) -> String {
    fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default()
}

/// The bytes of a line like `VmRSS:   1616 kB`.
fn kib_line(text: &str, label: &str) -> u64 {
    let kib = text
        .lines()
        .find_map(|line| line.strip_prefix(label)?.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_memory_threads_and_time() {
        let own = [std::process::id()];
        let before = CpuSample::take(&own);
        // The kernel books a running thread's time at its next tick: work until it has.
        let used = (0..100_000)
            .map(|_| {
                let spin = (0..10_000_u64).fold(0, |sum, i| std::hint::black_box(sum ^ i));
                std::hint::black_box(spin);
                CpuSample::take(&own).since(&before, 1.0)
            })
            .find(|used| used.cpu_seconds > 0.0)
            .expect("work takes time");
        assert!(used.busiest_thread_share <= used.cpu_seconds + f64::EPSILON);
        assert!(Memory::take(&own).rss_bytes > 100_000);
        assert!(Memory::rss_bytes(&own) > 100_000);
        assert!(KernelMemory::take().slab_bytes > 0);
    }

    #[test]
    fn a_family_is_a_process_and_its_descendants() {
        let script = "cat | cat; true";
        let mut child = Command::new("sh")
            .args(["-c", script])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let id = child.id();
        // The shell takes a moment to start both.
        let family = (0..2_000).map(|_| family(id)).find(|family| family.len() == 3);
        assert_eq!(family.expect("a shell and two cats")[0], id);
        drop(child.stdin.take());
        assert!(child.wait().unwrap().success());
    }

    #[test]
    fn lines_of_proc_are_kibibytes() {
        assert_eq!(kib_line("Name:\tx\nVmRSS:\t    1616 kB\n", "VmRSS:"), 1616 * 1024);
        assert_eq!(kib_line("", "VmRSS:"), 0);
        assert_eq!((cores_in("0"), cores_in("0,2-3"), cores_in("")), (1, 3, 0));
    }
}
