//! Closes that are spread over time, so that the clients come back evenly: all of them at the end
//! of a drain, and those that an operator sends elsewhere.
//!
//! Each paced close is a list and a window ([`PacedClose`]); every tick closes the clients that are
//! due by then, in slices.

use std::time::Duration;

use crate::{
    clock::Millis,
    conn::{
        paced_close::PacedClose,
        table::{ConnectionTable, entry},
        write::control_messages::CloseMessage,
    },
    drain::{PaceShare, Phase},
    hub::{Finish, Key},
    limits::{
        CLOSE_ANSWER_DEADLINE, CLOSE_WRITE_DEADLINE, DISCONNECT_PAUSE, DISCONNECT_WINDOW_MAX,
        RESTART_RETRY_MAX, SSE_RETRY,
    },
};

impl ConnectionTable {
    /// Begins to close all clients with 1012, evenly over `window`; each is told to come back after
    /// a random time up to `retry_max`, event streams not before the process has ended if there is
    /// no other one for them. `share`: which shard of how many this is.
    pub fn begin_paced_close(
        &mut self,
        now: Millis,
        window: Duration,
        retry_max: Duration,
        share: PaceShare,
    ) {
        let mut keys = self.keys();
        fastrand::shuffle(&mut keys);
        self.paced = Some(PacedClose { keys, closed: 0, started: now, window, retry_max, share });
        // The others follow with the next tick, in slices.
        let mut is_first = true;
        self.pace(now, &mut || std::mem::take(&mut is_first));
    }

    /// The closing of all clients is called off: those that have not been told stay.
    pub fn end_paced_close(&mut self) {
        self.paced = None;
    }

    /// A handshake from before the closing window has only now become a client.
    pub(super) fn pace_too(&mut self, key: Key) {
        if let Some(paced) = &mut self.paced {
            paced.keys.push(key);
        }
    }

    /// Begins to close `keys` with 1012, evenly over a window that grows with their number. Those
    /// for which this was begun before, and that are still there, join them.
    pub(super) fn begin_paced_return(&mut self, now: Millis, mut keys: Vec<Key>) {
        if let Some(before) = self.returning.take() {
            keys.extend(&before.keys[before.closed..]);
        }
        keys.sort_unstable();
        keys.dedup();
        fastrand::shuffle(&mut keys);
        let pauses = DISCONNECT_PAUSE.saturating_mul(u32::try_from(keys.len()).unwrap_or(u32::MAX));
        let window = pauses.min(DISCONNECT_WINDOW_MAX);
        let (retry_max, share) = (window.min(RESTART_RETRY_MAX), PaceShare { index: 0, of: 1 });
        let paced = PacedClose { keys, closed: 0, started: now, window, retry_max, share };
        self.returning = Some(paced);
    }

    /// Closes the clients that are due; false when stopped before the last.
    pub(super) fn pace(&mut self, now: Millis, keep_going: &mut dyn FnMut() -> bool) -> bool {
        let mut is_done = true;
        if let Some(mut paced) = self.paced.take() {
            is_done &= self.close_due(&mut paced, now, keep_going);
            self.paced = Some(paced);
        }
        if let Some(mut paced) = self.returning.take() {
            is_done &= self.close_due(&mut paced, now, keep_going);
            self.returning = Some(paced).filter(|paced| paced.closed < paced.keys.len());
        }
        self.handle_hub_events();
        is_done
    }

    fn close_due(
        &mut self,
        paced: &mut PacedClose,
        now: Millis,
        keep_going: &mut dyn FnMut() -> bool,
    ) -> bool {
        let elapsed = now - paced.started;
        let due = crate::drain::paced(paced.keys.len(), elapsed, paced.window, paced.share);
        let stream_retry_min = self.end_of_refusals(now);
        while paced.closed < due && keep_going() {
            let key = paced.keys[paced.closed];
            paced.closed += 1;
            let Some(client) = entry(&mut self.entries, key) else { continue };
            let is_stream = !client.encoding.has_frames();
            let retry_min = if is_stream { stream_retry_min } else { Duration::ZERO };
            let retry = retry_min + paced.retry_max.mul_f64(fastrand::f64());
            let retry_ms = u64::try_from(retry.as_millis()).unwrap_or(u64::MAX);
            self.close_with(key, CloseMessage::Restart { retry_ms }, Finish::Log);
        }
        paced.closed >= due
    }

    /// The time after which no returning client finds this process still draining: browsers give an
    /// event stream up for good when they come back to a refusal.
    fn end_of_refusals(&self, now: Millis) -> Duration {
        if self.control.others_serve() || self.control.phase() == Phase::Serving {
            return Duration::ZERO;
        }
        let Some(drain) = self.control.drain() else { return Duration::ZERO };
        // An operator's limit may be far behind the closing; the last client that is closed has
        // these times to take its Close and to answer.
        let last_leaves = drain.closing_until() + CLOSE_WRITE_DEADLINE * 2 + CLOSE_ANSWER_DEADLINE;
        // The process itself may take a little longer than the drain's limit.
        drain.deadline.min(last_leaves) - now + SSE_RETRY
    }
}
