//! Clients' commands on their way to the broker: of each client one at a time, in their order.
//!
//! While one is on its way the client is not read; what the last read brought waits here, so the
//! queue is bounded by one read and one message, and charged to the budget. It outlives its
//! client: if a client sends three commands and hangs up, all three are run. Each is judged by the
//! right that the client has when its turn comes: a token may stand before it. Nothing is published
//! here.

use crate::{
    conn::{
        command_queue::ClientCommand,
        entry::Entry,
        table::{ConnectionTable, Request, entry},
        v1::events::ServerEvent,
    },
    hub::Key,
    ws::close::CloseReason,
};

impl ConnectionTable {
    /// Runs a client's command at once, or behind the one that is on its way.
    pub(super) fn take_command(&mut self, key: Key, command: ClientCommand) {
        let Some(client) = entry(&mut self.entries, key) else { return };
        let Some(queue) = client.queue_mut() else {
            let Some(command) = self.run_locally(key, command) else { return };
            let Some(client) = entry(&mut self.entries, key) else { return };
            client.open_queue();
            client.paused = true;
            self.requests.push(Request::Command(key, command));
            return;
        };
        self.input.charge(queue.push(command));
        if self.input.is_tight() && !self.hub.relieve() {
            self.discard_queue(key);
            self.close(key, CloseReason::Policy);
        }
    }

    /// Runs a command that needs no broker; gives back any other.
    fn run_locally(&mut self, key: Key, command: ClientCommand) -> Option<ClientCommand> {
        match command {
            ClientCommand::Publish(_) | ClientCommand::Subscribe(_) => {
                return self.permitted(key, command);
            }
            ClientCommand::Token(_) => return Some(command),
            ClientCommand::Unsubscribe(channel) => self.unsubscribe(key, &channel, None),
            ClientCommand::Ping => self.send_event(key, &ServerEvent::Pong),
        }
        None
    }

    pub(super) fn discard_queue(&mut self, key: Key) {
        if let Some(queue) = entry(&mut self.entries, key).and_then(Entry::queue_mut) {
            self.input.release(queue.clear());
        }
    }

    /// A client's command has been run; its next one. The client itself may be gone.
    pub fn next_command(&mut self, key: Key) -> Option<ClientCommand> {
        let command = loop {
            let queue = match entry(&mut self.entries, key) {
                Some(entry) => entry.queue_mut(),
                None => self.orphans.get_mut(&key).map(|orphan| &mut orphan.queue),
            };
            let Some((command, cost)) = queue.and_then(|queue| queue.pop()) else { break None };
            self.input.release(cost);
            if let Some(command) = self.run_locally(key, command) {
                break Some(command);
            }
        };
        if command.is_none() {
            if self.orphans.remove(&key).is_some() {
                self.rights.remove(key);
            }
            if let Some(entry) = entry(&mut self.entries, key) {
                entry.take_queue();
            }
            self.resume(key);
        }
        self.handle_hub_events();
        command
    }
}
