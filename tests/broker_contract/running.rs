//! How the tests run, and the time that they have.
//!
//! Redis has a second to answer, and a connection to be silent: on a machine that is busy with
//! other things it passes without anything being wrong. Here time passes as far as the test gets to
//! run, so that deadlines part what is broken from what is slow.

use std::{
    sync::{
        Arc,
        mpsc::{RecvTimeoutError, sync_channel},
    },
    time::Duration,
};

use testkit::clock;
use tokio::{runtime::LocalRuntime, sync::Notify, time::Instant};
use wsbcast::clock::Clock;

/// The steps in which the time of a test goes on: as fine as timers are.
const STEP: Duration = Duration::from_millis(1);
/// The longest of them: if the test's thread did not run for longer, that time did not pass.
const STEP_MAX: Duration = Duration::from_millis(4);

/// Runs a test on a runtime like a shard's, on a clock that goes on only while the machine lets the
/// test go on: by the machine's clock, but by [`STEP_MAX`] at most for each time that this thread
/// has seen it. So all of [`limits`](wsbcast::limits) holds as it stands on a machine that has
/// time; on one that has none, since other programs have it all, everything gets as much more as it
/// is slower.
///
/// Not for tests of several threads, whose clocks would not agree, nor for those whose other side
/// measures time itself ([`run_in_real_time`]).
pub(crate) fn run(test: impl Future<Output = ()>) {
    let runtime = runtime(true);
    // Dropped before the runtime, which waits for the thread that has it.
    let (running, ended) = sync_channel::<()>(0);
    runtime.block_on(async {
        let goes_on = Arc::new(Notify::new());
        let waker = goes_on.clone();
        // While a thread of the runtime is at work, its paused clock does not go on by itself.
        let waking = tokio::task::spawn_blocking(move || {
            while ended.recv_timeout(STEP) == Err(RecvTimeoutError::Timeout) {
                waker.notify_one();
            }
        });
        tokio::task::spawn_local(async move {
            let mut seen = clock::instant();
            loop {
                goes_on.notified().await;
                let passed = clock::instant() - seen;
                seen += passed;
                tokio::time::advance(passed.min(STEP_MAX)).await;
            }
        });
        test.await;
        drop(running);
        waking.await.unwrap();
    });
}

/// Runs a test on a runtime like a shard's, and by the machine's clock.
pub(crate) fn run_in_real_time(test: impl Future<Output = ()>) {
    runtime(false).block_on(test);
}

fn runtime(paused: bool) -> LocalRuntime {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().start_paused(paused).build_local(Default::default()).unwrap()
}

/// The time now, by the clock that the test's processes go by.
pub(crate) fn now() -> Instant {
    Clock::start().instant()
}

/// A test's time is that in which the machine lets it go on: no more than passes, and nearly
/// nothing while its thread does not run.
#[test]
fn a_stalled_test_has_all_the_time() {
    run(async {
        let (begun, began) = (clock::instant(), now());
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert!(now() - began >= Duration::from_millis(500), "what was waited for has passed");
        assert!(clock::instant() - begun >= Duration::from_millis(500), "it goes no faster");
        let began = now();
        clock::pause(Duration::from_secs(1));
        tokio::time::sleep(STEP).await;
        assert!(now() - began < Duration::from_millis(100), "{:?}", now() - began);
    });
}
