//! Memory of both processes during an upgrade: looked at again and again by a thread of its own.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread::{Builder, JoinHandle},
    time::Duration,
};

use anyhow::{Context as _, Result};
use serde::Serialize;
use testkit::{
    clock,
    machine::{self, Memory},
};

/// Between two looks: a look takes a millisecond or two of the kernel's time.
const LOOK_INTERVAL: Duration = Duration::from_millis(40);

/// The most that was seen, in MiB.
#[derive(Clone, Copy, Debug, Default, PartialEq, PartialOrd, Serialize)]
pub(crate) struct Peak {
    /// Resident, of the old process, at the beginning.
    pub(crate) before: f64,
    /// Resident, of the old process.
    pub(crate) old: f64,
    /// Resident, of the new process.
    pub(crate) new: f64,
    /// Of both, each page that they share counted once.
    pub(crate) both: f64,
}

/// The watch over an upgrade.
#[derive(Debug)]
pub(crate) struct Watch {
    is_over: Arc<AtomicBool>,
    thread: JoinHandle<Peak>,
}

impl Watch {
    /// Begins with the process `old`; others of the same program are new.
    pub(crate) fn start(old: u32, binary: PathBuf) -> Result<Self> {
        let is_over = Arc::new(AtomicBool::new(false));
        let theirs = Arc::clone(&is_over);
        let thread = Builder::new()
            .name("memory".to_owned())
            .spawn(move || watch(old, &binary, &theirs))
            .context("a thread")?;
        Ok(Self { is_over, thread })
    }

    pub(crate) fn end(self) -> Peak {
        self.is_over.store(true, Relaxed);
        self.thread.join().expect("looking does not panic")
    }
}

fn watch(old: u32, binary: &std::path::Path, is_over: &AtomicBool) -> Peak {
    let mut peak = Peak { before: mib(Memory::rss_bytes(&[old])), ..Peak::default() };
    while !is_over.load(Relaxed) {
        let all = servers(binary);
        let new: Vec<u32> = all.iter().copied().filter(|pid| *pid != old).collect();
        peak.old = peak.old.max(mib(Memory::rss_bytes(&[old])));
        peak.new = peak.new.max(mib(Memory::rss_bytes(&new)));
        peak.both = peak.both.max(mib(Memory::proportional_bytes(&all)));
        clock::pause(LOOK_INTERVAL);
    }
    peak
}

/// The processes of this program's family that run `binary`.
pub(crate) fn servers(binary: &std::path::Path) -> Vec<u32> {
    let is_one =
        |pid: &u32| std::fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe == binary);
    machine::family(std::process::id()).into_iter().filter(is_one).collect()
}

fn mib(bytes: u64) -> f64 {
    (bytes as f64 / 104_857.6).round() / 10.0
}
