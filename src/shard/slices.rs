//! Long work on all clients, in slices between which other tasks have their turn.

use std::rc::Rc;

use tokio::task::yield_now;

use super::core::Core;
use crate::{conn::ConnectionTable, limits::EVENTS_SLICE};

/// Calls `act` until it is done, and lets other tasks have their turn between two calls.
pub(super) async fn in_slices(
    core: &Rc<Core>,
    mut act: impl FnMut(&mut ConnectionTable, &mut dyn FnMut() -> bool) -> bool,
) {
    loop {
        let slice_end = core.clock.instant() + EVENTS_SLICE;
        if core.with(|clients| act(clients, &mut || core.clock.instant() < slice_end)) {
            return;
        }
        yield_now().await;
    }
}
