//! Several clients of a shard may need to know the same of a channel: one asks for all of them.

use std::{cell::RefCell, collections::HashMap};

use tokio::sync::watch;

use crate::channel::ChannelName;

/// The channels about which a query is on its way; each tells when it is answered.
#[derive(Debug, Default)]
pub(super) struct Lookups(RefCell<HashMap<ChannelName, watch::Receiver<()>>>);

/// How a client comes to know of a channel.
pub(super) enum Lookup<'a> {
    /// It asks: the others wait until [`NewLookup::answered`], or this is dropped.
    New(NewLookup<'a>),
    /// Another client has asked: resolves with its answer, or with an error if there will be none.
    Pending(watch::Receiver<()>),
}

/// A query about a channel on its way.
pub(super) struct NewLookup<'a> {
    lookups: &'a Lookups,
    channel: &'a ChannelName,
    answer: watch::Sender<()>,
}

impl NewLookup<'_> {
    /// The answer is the channel's state as known now.
    pub(super) fn answered(self) {
        self.answer.send_replace(());
    }
}

impl Drop for NewLookup<'_> {
    fn drop(&mut self) {
        self.lookups.0.borrow_mut().remove(self.channel);
    }
}

impl Lookups {
    /// The lookup of `channel`: that on its way, or a new one.
    pub(super) fn of<'a>(&'a self, channel: &'a ChannelName) -> Lookup<'a> {
        let mut lookups = self.0.borrow_mut();
        if let Some(answer) = lookups.get(channel) {
            return Lookup::Pending(answer.clone());
        }
        let (answer, pending) = watch::channel(());
        lookups.insert(channel.clone(), pending);
        Lookup::New(NewLookup { lookups: self, channel, answer })
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.0.borrow().is_empty()
    }
}
