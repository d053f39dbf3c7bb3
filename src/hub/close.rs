//! How a client's connection is ended by this side: in order, with a Close frame last.
//!
//! A close waits for the frame that has begun, or for everything published so far. Clients of a
//! channel that has lost messages are closed by passes, some at a time. When and why a client is
//! closed is up to the caller.

use super::{
    Event, Hub, Log, Outlet,
    clients::{Key, LogPlace, WritingState},
    outbox::PendingClose,
    parting::{Finish, Parting},
    subscriber_list::LogReader,
};
use crate::limits::PARTING_PER_PASS;

impl Log {
    /// How far a subscriber is to be written.
    pub(super) fn due(&self, subscriber: &LogReader) -> u64 {
        match &self.parting {
            Some(parting) if subscriber.parting => parting.head.max(subscriber.cursor),
            _ => self.bytes.head(),
        }
    }
}

impl<O: Outlet> Hub<O> {
    /// Sends the Close frame `frame` after everything that `finish` includes, and nothing after it.
    /// For a client that is closing already, [`Finish::Frame`] hurries a [`Finish::Log`], which
    /// then ends with the frame it was first given; otherwise nothing happens.
    pub fn close(&mut self, key: Key, frame: &[u8], finish: Finish) {
        let Some(index) = self.clients.find(key) else { return };
        match self.clients.get(index).state {
            WritingState::Open => {
                self.begin_close(index, frame, finish);
                self.flush_now(index);
            }
            WritingState::LogsThenClose if finish == Finish::Frame => self.hurry(key),
            WritingState::LogsThenClose | WritingState::Close | WritingState::Over => {}
        }
    }

    /// Turns a close that waits for the logs into one that waits for the begun frame only.
    pub fn hurry(&mut self, key: Key) {
        let Some(index) = self.clients.find(key) else { return };
        if self.clients.get(index).state == WritingState::LogsThenClose {
            self.hurry_client(index);
            self.flush_now(index);
        }
    }

    /// Closes every client that is subscribed to `channel` in an encoding that cannot tell gaps,
    /// after the messages that are in its logs now. The passes that follow begin the closes and
    /// report each ([`Event::Parting`]). The channel is abandoned when the last of these clients is
    /// gone.
    pub fn close_channel(&mut self, channel: &str, frame: &[u8]) {
        let logs = self.chain(self.log_of(channel)).filter(|(_, log)| !log.encoding.tells_gaps());
        let logs: Vec<u32> = logs.map(|(number, _)| number).collect();
        for number in logs {
            let log = &mut self.logs[number as usize];
            if log.parting.is_some() {
                // Few clients: those that have subscribed since the last loss.
                let here = log.subscriber_list.iter().filter(|entry| !entry.parting);
                let here: Vec<u32> = here.map(|entry| entry.client).collect();
                here.into_iter().for_each(|index| self.part(index, frame));
            } else {
                log.parting = Some(Parting { head: log.bytes.head(), frame: frame.into() });
                log.subscriber_list.begin_parting();
                self.partings.push_back((number, log.serial));
            }
        }
    }

    /// Begins the closes of [`Hub::close_channel`]. False if `goes_on`, which is asked after each
    /// client, said no.
    pub(super) fn close_parting(&mut self, goes_on: &mut dyn FnMut() -> bool) -> bool {
        let mut left = PARTING_PER_PASS;
        while let Some(&(number, serial)) = self.partings.front() {
            let log = self.logs.get(number as usize).filter(|log| log.serial == serial);
            let frame = log.and_then(|log| Some(log.parting.as_ref()?.frame.clone()));
            let mut place = log.map_or(0, |log| log.subscriber_list.len());
            while place > 0 {
                place -= 1;
                let entry = *self.logs[number as usize].subscriber_list.get(place);
                if !entry.parting {
                    continue;
                }
                self.part(entry.client, frame.as_deref().unwrap_or_default());
                self.logs[number as usize].subscriber_list.get_mut(place).parting = false;
                left -= 1;
                if left == 0 || !goes_on() {
                    return left == 0;
                }
            }
            self.partings.pop_front();
            if self.is_log(number, serial) {
                self.logs[number as usize].parting = None;
            }
        }
        true
    }

    /// Begins the close of a client that is due to part from `log`, before it is written any
    /// further.
    pub(super) fn part_now(&mut self, index: u32, log: u32) {
        let Some(parting) = &self.logs[log as usize].parting else { return };
        let places = &self.clients.get(index).places;
        let position = places.position(log).expect("it was found in this log");
        let place = places.as_slice()[position];
        if self.logs[log as usize].subscriber_list.get(place.index as usize).parting {
            let frame = parting.frame.clone();
            self.part(index, &frame);
        }
    }

    /// Closes an open client after everything that is due to it in its logs.
    fn part(&mut self, index: u32, frame: &[u8]) {
        if self.clients.get(index).state == WritingState::Open {
            self.begin_close(index, frame, Finish::Log);
            self.flush_patiently(index);
            self.events.push(Event::Parting(self.clients.key(index)));
        }
    }

    /// Sets the close up without writing.
    pub(super) fn begin_close(&mut self, index: u32, frame: &[u8], finish: Finish) {
        match finish {
            Finish::Frame => {
                self.keep_only_begun(index);
                self.clients.get_mut(index).state = WritingState::Close;
                self.edit_outbox(index, |outbox| outbox.push(&[frame]));
                self.begin_to_leave(index);
            }
            Finish::Log => {
                let places = self.clients.get(index).places.as_slice();
                let due = |place: &LogPlace| {
                    let log = &self.logs[place.log as usize];
                    log.due(log.subscriber_list.get(place.index as usize))
                };
                let heads = places.iter().map(due).collect();
                self.clients.get_mut(index).state = WritingState::LogsThenClose;
                let ending = PendingClose { frame: frame.into(), heads };
                self.edit_outbox(index, |outbox| outbox.ending = Some(ending));
            }
        }
        self.set_busy(index, true);
    }

    pub(super) fn hurry_client(&mut self, index: u32) {
        self.keep_only_begun(index);
        self.move_ending(index);
    }

    /// The logs are finished: the Close frame that waited for them is next.
    pub(super) fn move_ending(&mut self, index: u32) {
        self.clients.get_mut(index).state = WritingState::Close;
        self.edit_outbox(index, |outbox| {
            if let Some(ending) = outbox.ending.take() {
                outbox.push(&[&ending.frame]);
            }
        });
        self.begin_to_leave(index);
    }

    pub(super) fn begin_to_leave(&mut self, index: u32) {
        if let Some(outbox) = &mut self.clients.get_mut(index).outbox {
            outbox.begin_to_leave(&mut self.shares);
        }
    }

    /// Unsubscribes the client from all logs except the one whose frame it must finish.
    fn keep_only_begun(&mut self, index: u32) {
        self.drop_behind(index, None);
        let client = self.clients.get(index);
        let begun = client.begun().map(|position| client.places.as_slice()[position].log);
        for position in (0..client.places.as_slice().len()).rev() {
            let log = self.clients.get(index).places.as_slice()[position].log;
            if Some(log) != begun {
                self.unsubscribe(index, position);
            }
        }
    }
}
