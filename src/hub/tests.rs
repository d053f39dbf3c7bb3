//! The hub's promises, one test each; `sim` tries everything at once.

mod closing;
mod delivery;
mod long;
mod many;
mod memory;
mod model;
mod moving;
mod pieces;
mod pipe;
mod short;
mod sim;
mod unread;

use std::sync::Arc;

use super::{Budget, Event, Hub, HubSettings, SlowPolicy};
use crate::channel::ChannelName;

const SLOW_FRAME: &[u8] = &[0x88, 6, 3, 245, b's', b'l', b'o', b'w'];

fn settings(backlog_bytes: usize, slow: SlowPolicy) -> HubSettings {
    HubSettings { backlog_bytes, slow, slow_close_frame: SLOW_FRAME.into() }
}

/// A hub with plenty of everything.
fn roomy_hub<O: super::Outlet>() -> Hub<O> {
    Hub::new(settings(1 << 30, SlowPolicy::Close), Arc::new(Budget::new(1 << 30)))
}

fn name(text: &str) -> ChannelName {
    ChannelName::new(text).unwrap()
}

fn pass<O: super::Outlet>(hub: &mut Hub<O>) -> super::Pass {
    let pass = hub.pass(&mut || true);
    hub.check();
    pass
}

fn events<O: super::Outlet>(hub: &mut Hub<O>) -> Vec<Event> {
    let mut events = Vec::new();
    hub.take_events(&mut events);
    events
}
