//! A panic on a shard's thread is never silent, even where the runtime catches it.
//!
//! The hook is the one place that sees every panic: it logs it and tells the control thread,
//! which closes everyone else and ends the process. Threads that are no shard's are left alone.

use std::{cell::RefCell, panic, sync::Once};

use tokio::sync::mpsc;
use tracing::error;

/// A shard that can no longer be trusted.
#[derive(Debug)]
pub(super) struct Death {
    pub(super) shard: usize,
    pub(super) cause: String,
}

thread_local! {
    static WATCHER: RefCell<Option<(usize, mpsc::Sender<Death>)>> = const { RefCell::new(None) };
}

/// From now on a panic of the calling thread is reported to `deaths` as that of `shard`.
pub(super) fn watch_this_thread(shard: usize, deaths: mpsc::Sender<Death>) {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        let inherited = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            // try_with: a panic in a thread's last moments has no thread-local state any more.
            let known = WATCHER
                .try_with(|watcher| watcher.try_borrow().ok().and_then(|watcher| watcher.clone()));
            match known {
                Ok(Some((shard, deaths))) => tell(shard, &deaths, info),
                _ => inherited(info),
            }
        }));
    });
    WATCHER.with(|watcher| *watcher.borrow_mut() = Some((shard, deaths)));
}

fn tell(shard: usize, deaths: &mpsc::Sender<Death>, info: &panic::PanicHookInfo<'_>) {
    let cause = info.to_string();
    error!(shard, %cause, "a shard panicked");
    // A full channel means that the control thread knows already.
    let _ = deaths.try_send(Death { shard, cause });
}
