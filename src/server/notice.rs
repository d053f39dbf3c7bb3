//! The periodic notice: one per slot for the whole cluster, as long as any process lives.
//!
//! Every process tries at each slot's start; the broker's atomic claim decides which one wins. Runs
//! on the control thread with a broker handle of its own, also while the process drains.

use std::{
    rc::Rc,
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

use humantime::format_rfc3339_millis;
use tokio::time::sleep;
use tracing::debug;

use crate::{
    broker::{Broker, PeriodicSlot},
    channel::ChannelName,
    clock::Clock,
    metrics::{PublishFailure, ShardMetrics, Source},
};

/// Sends `text` and the time once per `interval`, forever.
pub(super) async fn run(
    clock: Clock,
    broker: Rc<dyn Broker>,
    metrics: Arc<ShardMetrics>,
    interval: Duration,
    text: String,
) {
    let interval_ms = u64::try_from(interval.as_millis()).unwrap_or(u64::MAX).max(1);
    let mut next_slot_in_ms = until_next_slot(clock.unix_time(), interval_ms);
    let channel = ChannelName::default_channel();
    let text_at = Rc::new(move |unix_time| payload(&text, unix_time).into());
    let slot = PeriodicSlot { channel, interval_ms, text_at };
    loop {
        sleep(Duration::from_millis(next_slot_in_ms)).await;
        let outcome = broker.publish_once(slot.clone()).await;
        match outcome.published {
            Ok(Some(receipt)) => {
                metrics.published.add(Source::Periodic, receipt.scope(), 1);
                debug!(?receipt, "periodic notification sent");
            }
            Ok(None) => debug!("periodic notification sent by another process"),
            Err(failure) => {
                metrics.publish_failures.add(PublishFailure::from(&failure) as usize, 1);
                debug!(%failure, "periodic notification not sent");
            }
        }
        // Never in a tight loop, whatever a broker says.
        next_slot_in_ms = outcome.next_slot_in_ms.max(1);
    }
}

fn until_next_slot(unix_time: Duration, interval_ms: u64) -> u64 {
    let now_ms = u64::try_from(unix_time.as_millis()).unwrap_or(u64::MAX);
    interval_ms - now_ms % interval_ms
}

/// `TEXT 2026-11-23T07:00:00.001Z`: RFC 3339, UTC.
fn payload(text: &str, unix_time: Duration) -> String {
    format!("{text} {}", format_rfc3339_millis(UNIX_EPOCH + unix_time))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_payload_is_the_text_and_an_rfc_3339_time() {
        let payload =
            payload("Periodic Test Notification", Duration::from_millis(1_700_000_000_999));
        assert_eq!(payload, "Periodic Test Notification 2023-11-14T22:13:20.999Z");
    }

    #[test]
    fn slots_begin_at_multiples_of_the_interval() {
        assert_eq!(until_next_slot(Duration::from_millis(10_000), 10_000), 10_000);
        assert_eq!(until_next_slot(Duration::from_millis(19_999), 10_000), 1);
    }
}
