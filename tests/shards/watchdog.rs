//! The service manager's watchdog, which is to restart a process with a shard that hangs.

use std::time::Duration;

use wsbcast::{
    server::{Exit, Parts},
    service_manager::Notifier,
};

use crate::{block, start_of, support::service_manager::Manager};

const LIMIT: Duration = Duration::from_millis(500);

/// One wedged shard of several is enough for the watchdog to be left hungry; it is fed again when
/// the shard is back.
#[test]
fn a_wedged_shard_leaves_the_watchdog_hungry() {
    for (shards, wedged) in [(1, 0), (3, 1)] {
        let manager = Manager::new();
        let service_manager = Notifier::at(manager.path().as_os_str(), Some(LIMIT)).unwrap();
        let parts = Parts { service_manager, ..Parts::default() };
        let server = start_of(shards, &[], parts).unwrap();
        let fed = manager.wait_for(&["WATCHDOG=1"]);
        manager.wait_for_after(fed + 1, &["WATCHDOG=1"]);

        let blocker = block(&server, wedged);
        manager.wait_for(&["STATUS=serving 0 clients", &format!("shard {wedged} is silent")]);
        // Long enough for systemd to act, several times.
        assert_eq!(manager.count_during(4 * LIMIT, "WATCHDOG=1"), 0);
        let hungry = manager.heard().len();
        drop(blocker);
        manager.wait_for_after(hungry, &["WATCHDOG=1"]);
        assert_eq!(server.terminate(), Exit::Drained);
    }
}
