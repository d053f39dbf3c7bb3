//! All that a client is still to get, part by part, as it is recorded.

use super::{
    Hub, Outlet,
    clients::{Client, Key},
    outbox::Waiting,
};
use crate::channel::ChannelName;

/// Where bytes of several clients are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Origin {
    /// In the log of this number.
    Log(u32),
    /// In the share of this number.
    Share(u32),
}

/// A part of what a client is to get.
#[derive(Clone, Copy, Debug)]
pub(super) enum Due<'a> {
    /// The rest of a log's frame.
    Carried(&'a [u8]),
    /// Bytes of the client's own.
    Own(&'a [u8]),
    /// Bytes of several clients; those of a channel wait until the client's logs do not.
    Shared(SharedDue, Option<&'a ChannelName>),
}

/// Bytes of several clients.
#[derive(Clone, Copy, Debug)]
pub(super) struct SharedDue {
    pub(super) origin: Origin,
    pub(super) from: u64,
    pub(super) to: u64,
    /// So many of the client's own bytes before them are the header of their frame.
    pub(super) head: usize,
    pub(super) of_log: bool,
}

impl<O: Outlet> Hub<O> {
    /// All that a client is to get, in its order.
    pub(super) fn due<'a>(&'a self, key: Key, client: &'a Client<O>) -> Vec<Due<'a>> {
        let mut all = Vec::new();
        let begun = client.begun().map(|position| self.begun_frame(client, position));
        all.extend(begun.map(|begun| Due::Shared(begun, None)));
        let waiting = client.outbox.iter().flat_map(|outbox| outbox.waiting());
        all.extend(waiting.map(|waiting| match waiting {
            Waiting::OfLog(bytes) => Due::Carried(bytes),
            Waiting::Own(bytes) => Due::Own(bytes),
            Waiting::Shared { share, from, to, head, of_log } => {
                Due::Shared(of_share(share, from, to, head, of_log), None)
            }
        }));
        for behind in self.behind.get(&key).into_iter().flatten() {
            let due = of_share(behind.share, behind.from, behind.to, 0, true);
            all.push(Due::Shared(due, Some(&behind.channel)));
        }
        if client.state != super::clients::WritingState::Close {
            self.due_of_logs(client, begun, &mut all);
        }
        all
    }

    /// The rest of the frame that a client has begun.
    fn begun_frame(&self, client: &Client<O>, position: usize) -> SharedDue {
        let place = client.places.as_slice()[position];
        let log = &self.logs[place.log as usize];
        let from = log.subscriber_list.get(place.index as usize).cursor;
        of_log(place.log, from, log.bytes.boundary_from(from))
    }

    /// The bytes of its logs that a client has not got.
    fn due_of_logs<'a>(
        &'a self,
        client: &Client<O>,
        begun: Option<SharedDue>,
        all: &mut Vec<Due<'a>>,
    ) {
        let ending = client.outbox.as_ref().and_then(|outbox| outbox.ending.as_ref());
        for (position, place) in client.places.as_slice().iter().enumerate() {
            let log = &self.logs[place.log as usize];
            let reader = log.subscriber_list.get(place.index as usize);
            let begun = begun.filter(|_| client.begun() == Some(position));
            let from = begun.map_or(reader.cursor, |begun| begun.to);
            let to = ending.map_or_else(|| log.due(reader), |ending| ending.heads[position]);
            if from < to {
                let channel = client.held.then_some(&log.name);
                all.push(Due::Shared(of_log(place.log, from, to), channel));
            }
        }
    }
}

fn of_log(log: u32, from: u64, to: u64) -> SharedDue {
    SharedDue { origin: Origin::Log(log), from, to, head: 0, of_log: true }
}

fn of_share(share: u32, from: usize, to: usize, head: usize, of_log: bool) -> SharedDue {
    SharedDue { origin: Origin::Share(share), from: from as u64, to: to as u64, head, of_log }
}
