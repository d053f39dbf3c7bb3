//! SIGHUP: files that were read at the start are read again, all or nothing.
//!
//! Each part first prepares its change: it reads and checks, and touches nothing. Only when all
//! have succeeded are the changes made, and each is logged. This runs on a thread of its own, one
//! time after the other: a file may be a device, or far away, and must not keep the process from
//! its drain.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use tracing::{error, info, warn};

/// A part of the server that has files.
pub(super) trait Reload: Send + Sync {
    /// Reads the files anew, and changes nothing.
    ///
    /// # Errors
    /// The reason why they can't be used, without secrets.
    fn prepare(&self) -> Result<Prepared, String>;
}

/// A change that can't fail any more.
pub(super) struct Prepared {
    /// Accepted values that should not stay so.
    pub(super) warnings: Vec<String>,
    /// Makes the change. Returns what is new, in words; nothing if all is as before.
    pub(super) commit: Box<dyn FnOnce() -> Vec<String>>,
}

/// All such parts.
#[derive(Clone)]
pub(super) struct Reloads {
    parts: Arc<[Box<dyn Reload>]>,
    is_running: Arc<AtomicBool>,
}

/// Clears the flag when it is dropped.
struct Running(Arc<AtomicBool>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

impl Reloads {
    pub(super) fn new(parts: Vec<Box<dyn Reload>>) -> Self {
        Self { parts: parts.into(), is_running: Arc::default() }
    }

    /// Begins to read everything again, because of `cause`.
    pub(super) fn start(&self, cause: &'static str) {
        if self.is_running.swap(true, Ordering::AcqRel) {
            warn!("{cause}: files are being read already, and not once more");
            return;
        }
        let run = self.clone().armed(cause);
        if let Err(error) = Self::spawn(run) {
            error!(%error, "{cause}: nothing is read again: the system refuses a thread");
        }
    }

    /// Whether files are being read at this moment.
    pub(super) fn is_running(&self) -> bool {
        self.is_running.load(Ordering::Acquire)
    }

    /// One run, while which `is_running` is set: until it is over, however that comes about.
    fn armed(self, cause: &'static str) -> impl FnOnce() + Send + 'static {
        let running = Running(self.is_running.clone());
        move || {
            let _running = running;
            self.run(cause);
        }
    }

    fn spawn(run: impl FnOnce() + Send + 'static) -> io::Result<()> {
        thread::Builder::new().name("reload".to_owned()).spawn(run).map(drop)
    }

    fn run(&self, cause: &str) {
        let prepared: Vec<_> = self.parts.iter().map(|part| part.prepare()).collect();
        let refused: Vec<_> = prepared.iter().filter_map(|part| part.as_ref().err()).collect();
        if !refused.is_empty() {
            for reason in refused {
                error!("{cause}: {reason}");
            }
            error!("{cause}: everything stays as it is");
            return;
        }
        let mut changes = Vec::new();
        for Prepared { warnings, commit } in prepared.into_iter().flatten() {
            warnings.iter().for_each(|warning| warn!("{warning}"));
            changes.extend(commit());
        }
        for change in &changes {
            info!("{cause}: {change}");
        }
        if changes.is_empty() {
            info!("{cause}: files are read again, and nothing is new");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    struct Part {
        is_good: bool,
        log: Arc<Mutex<Vec<&'static str>>>,
    }

    impl Reload for Part {
        fn prepare(&self) -> Result<Prepared, String> {
            self.log.lock().unwrap().push("prepared");
            let log = self.log.clone();
            let commit = Box::new(move || {
                log.lock().unwrap().push("committed");
                vec!["new".to_owned()]
            });
            match self.is_good {
                true => Ok(Prepared { warnings: Vec::new(), commit }),
                false => Err("bad".to_owned()),
            }
        }
    }

    fn run(parts: &[bool]) -> Vec<&'static str> {
        let log: Arc<Mutex<Vec<_>>> = Arc::default();
        let part = |is_good: &bool| -> Box<dyn Reload> {
            Box::new(Part { is_good: *is_good, log: log.clone() })
        };
        Reloads::new(parts.iter().map(part).collect()).run("test");
        log.lock().unwrap().clone()
    }

    #[test]
    fn changes_are_made_together() {
        assert_eq!(run(&[true, true]), ["prepared", "prepared", "committed", "committed"]);
    }

    struct Panicking;

    impl Reload for Panicking {
        fn prepare(&self) -> Result<Prepared, String> {
            panic!("as a part must not")
        }
    }

    /// A run that ends badly, or never begins, does not keep the next one from its files.
    #[test]
    fn a_panic_leaves_nothing_running() {
        for begins in [true, false] {
            let reloads = Reloads::new(vec![Box::new(Panicking)]);
            reloads.is_running.store(true, Ordering::Release);
            let run = reloads.clone().armed("test");
            assert!(reloads.is_running.load(Ordering::Acquire));
            if begins {
                thread::spawn(run).join().unwrap_err();
            } else {
                drop(run);
            }
            assert!(!reloads.is_running.load(Ordering::Acquire), "begins: {begins}");
        }
    }

    /// One part that can't be used keeps all the others as they are.
    #[test]
    fn a_bad_part_changes_nothing() {
        for parts in [[true, false], [false, true], [false, false]] {
            assert_eq!(run(&parts), ["prepared", "prepared"], "{parts:?}");
        }
        assert_eq!(run(&[]).len(), 0);
    }
}
