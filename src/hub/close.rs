//! How a client's connection ends from this side: in order, with a Close frame, nothing after it.

use super::{
    Hub, Outlet,
    clients::{Key, State},
    outbox::Ending,
};

/// What still goes out before a Close frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// The begun frame and what was queued for this client alone.
    Frame,
    /// All that was published on its channels up to now, too.
    Log,
}

impl<O: Outlet> Hub<O> {
    /// Sends the Close frame `frame` once what `finish` says is out, and nothing after it. For a
    /// client that is closing already: [`Finish::Frame`] hurries a [`Finish::Log`], which then
    /// ends with the frame it was given first; otherwise nothing happens.
    pub fn close(&mut self, key: Key, frame: &[u8], finish: Finish) {
        let Some(index) = self.clients.find(key) else { return };
        match self.clients.get(index).state {
            State::Open => {
                self.begin_close(index, frame, finish);
                self.flush_now(index);
            }
            State::LogsThenClose if finish == Finish::Frame => self.hurry(key),
            State::LogsThenClose | State::Close | State::Over => {}
        }
    }

    /// Turns a close that waits for the logs into one that waits for the begun frame only.
    pub fn hurry(&mut self, key: Key) {
        let Some(index) = self.clients.find(key) else { return };
        if self.clients.get(index).state == State::LogsThenClose {
            self.hurry_client(index);
            self.flush_now(index);
        }
    }

    /// Closes everyone who hears `channel` in an encoding that cannot tell gaps, after what they
    /// have in their logs now; the passes that follow write it. Returns those for whom this is new;
    /// their channel is abandoned when the last of them has got it.
    pub fn close_channel(&mut self, channel: &str, frame: &[u8]) -> Vec<Key> {
        let logs = self.chain(self.log_of(channel)).map(|(_, log)| log);
        let rosters = logs.filter(|log| !log.encoding.tells_gaps()).map(|log| &log.roster);
        let clients: Vec<u32> = rosters.flat_map(|r| r.iter()).map(|entry| entry.client).collect();
        let mut closed = Vec::with_capacity(clients.len());
        for index in clients {
            if self.clients.get(index).state == State::Open {
                closed.push(self.clients.key(index));
                self.begin_close(index, frame, Finish::Log);
                self.flush_patiently(index);
            }
        }
        self.relieve_if_over();
        closed
    }

    /// Sets the close up without writing.
    pub(super) fn begin_close(&mut self, index: u32, frame: &[u8], finish: Finish) {
        match finish {
            Finish::Frame => {
                self.keep_only_begun(index);
                self.clients.get_mut(index).state = State::Close;
                self.edit_outbox(index, |outbox| outbox.push(&[frame]));
            }
            Finish::Log => {
                let places = self.clients.get(index).places.as_slice();
                let head = |log: u32| self.logs[log as usize].bytes.head();
                let heads = places.iter().map(|place| head(place.log)).collect();
                self.clients.get_mut(index).state = State::LogsThenClose;
                let ending = Ending { frame: frame.into(), heads };
                self.edit_outbox(index, |outbox| outbox.ending = Some(ending));
            }
        }
        self.set_busy(index, true);
    }

    pub(super) fn hurry_client(&mut self, index: u32) {
        self.keep_only_begun(index);
        self.move_ending(index);
    }

    /// The logs are done with: the Close frame that waited for them is next.
    pub(super) fn move_ending(&mut self, index: u32) {
        self.clients.get_mut(index).state = State::Close;
        self.edit_outbox(index, |outbox| {
            if let Some(ending) = outbox.ending.take() {
                outbox.push(&[&ending.frame]);
            }
        });
    }

    /// Unsubscribes the client from all logs but the one whose frame it must finish.
    fn keep_only_begun(&mut self, index: u32) {
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
