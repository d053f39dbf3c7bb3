//! After a reconnection: did anything get lost while we were away?
//!
//! The next message's offset would tell, but it may be long in coming. So the positions that
//! Redis holds are read, and compared with what has arrived once a heartbeat that was sent after
//! the reading is back: by then everything up to those positions must have come the same way.
//! Not in a Redis cluster, whose nodes promise no such order; there the next message tells.

use std::{cell::RefCell, rc::Rc};

use tokio::sync::Notify;

use super::link::Link;
use crate::{
    channel::ChannelName,
    clock::{self, Millis},
};

/// What Redis had of a channel.
pub(super) type Held = (ChannelName, String, u64);

/// One audit at a time, between the task that reads and the subscriber that compares.
#[derive(Debug, Default)]
pub(super) struct Audit {
    state: RefCell<State>,
    started: Notify,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Idle,
    Wanted(Vec<ChannelName>),
    Read(Millis, Vec<Held>),
}

impl Audit {
    /// Everything is subscribed again: look at `channels`.
    pub(super) fn start(&self, channels: Vec<ChannelName>) {
        if !channels.is_empty() {
            *self.state.borrow_mut() = State::Wanted(channels);
            self.started.notify_one();
        }
    }

    /// The connection has ended; the next one has its own audit.
    pub(super) fn cancel(&self) {
        *self.state.borrow_mut() = State::Idle;
    }

    /// What must have arrived by the time a heartbeat that was sent at `sent` has returned.
    pub(super) fn due(&self, sent: Millis) -> Vec<Held> {
        let mut state = self.state.borrow_mut();
        match &*state {
            State::Read(read, _) if sent > *read => {}
            _ => return Vec::new(),
        }
        match std::mem::take(&mut *state) {
            State::Read(_, held) => held,
            _ => Vec::new(),
        }
    }

    /// Reads what is asked for; never returns.
    pub(super) async fn run(&self, link: Rc<Link>) {
        if link.process().config.server.is_clustered() {
            return std::future::pending().await;
        }
        loop {
            self.started.notified().await;
            let state = std::mem::take(&mut *self.state.borrow_mut());
            let State::Wanted(channels) = state else { continue };
            let mut held = Vec::with_capacity(channels.len());
            for channel in channels {
                let key = link.process().names.meta(&channel);
                if let Some((epoch, offset)) = link.lanes[0].read_meta(key).await {
                    held.push((channel, epoch, offset));
                }
            }
            let mut state = self.state.borrow_mut();
            // Unless another one began meanwhile.
            if matches!(*state, State::Idle) && link.is_subscribed() {
                *state = State::Read(clock::now(), held);
            }
        }
    }
}
