//! Clients' commands on their way to the broker: of each client one at a time, in their order.
//!
//! While one is on its way the client is not read; what the last read brought waits here, so the
//! queue is bounded by one short read and one message, and charged to the budget. Publications
//! outlive their client for a while: if a client sends three and hangs up, all three are published.
//! Each is judged by the right that the client has when its turn comes: a token may stand before
//! it. After a bad token the next command waits, and nothing but the queue is held for it. Nothing
//! is published here.

use crate::{
    broker::PublisherClass,
    clock::Millis,
    conn::{
        client_state::ClientState,
        command_queue::{ClientCommand, CommandQueue, Orphan},
        table::{ConnectionTable, Request, entry},
        v1::events::ServerEvent,
    },
    hub::Key,
    limits::{ORPHANED_COMMANDS_DEADLINE, TOKEN_REFUSED_PAUSE},
    ws::close::CloseReason,
};

impl ConnectionTable {
    /// Runs a client's command at once, or behind the one that is on its way.
    pub(super) fn take_command(&mut self, key: Key, command: ClientCommand) {
        let Some(client) = entry(&mut self.entries, key) else { return };
        if let Some(halted) = &mut self.halted
            && client.queue().is_none()
        {
            halted.insert(key);
            client.open_queue();
            client.paused = true;
        }
        let Some(queue) = client.queue_mut() else {
            let Some(command) = self.run_locally(key, command) else { return };
            let Some(client) = entry(&mut self.entries, key) else { return };
            client.open_queue();
            if let Some(queue) = client.queue_mut() {
                queue.begin(&command);
            }
            client.paused = true;
            self.request_command(key, command);
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

    /// The waiting commands of a client, which may be gone.
    fn queue_mut(&mut self, key: Key) -> Option<&mut CommandQueue> {
        match entry(&mut self.entries, key) {
            Some(entry) => entry.queue_mut(),
            None => self.orphans.get_mut(&key).map(|orphan| &mut orphan.queue),
        }
    }

    /// Whether a client has shown a token that is not judged yet.
    pub(super) fn is_renewing(&mut self, key: Key) -> bool {
        self.queue_mut(key).is_some_and(|queue| queue.has_token())
    }

    /// The commands that wait are not run.
    pub(super) fn discard_queue(&mut self, key: Key) {
        if let Some(cost) = self.queue_mut(key).map(CommandQueue::clear) {
            self.input.release(cost);
        }
    }

    /// A client is being closed: of what waits its publications are still run, and at once.
    pub(super) fn keep_publications(&mut self, key: Key) {
        if let Some(cost) = self.queue_mut(key).map(CommandQueue::keep_publications) {
            self.input.release(cost);
        }
        self.end_pause(key);
    }

    /// A client has left these commands behind.
    pub(super) fn orphan(
        &mut self,
        key: Key,
        mut queue: CommandQueue,
        publisher: Option<PublisherClass>,
    ) {
        self.input.release(queue.keep_publications());
        if queue.is_empty() {
            return self.rights.remove(key);
        }
        let until = self.now + ORPHANED_COMMANDS_DEADLINE;
        self.orphans.insert(key, Orphan { queue, publisher, until });
        self.end_pause(key);
        // Nobody records it, so it comes to its end here.
        if self.halted.as_mut().is_some_and(|halted| halted.remove(&key))
            && let Some(command) = self.take_next(key)
        {
            self.request_command(key, command);
        }
    }

    /// A client has shown a bad token: its next command waits. One that goes, or is gone, shows no
    /// other one.
    pub(super) fn pause_commands(&mut self, key: Key) {
        let until = self.now + TOKEN_REFUSED_PAUSE;
        let is_open =
            entry(&mut self.entries, key).is_some_and(|entry| entry.state() == ClientState::Open);
        let Some(queue) = self.queue_mut(key) else { return };
        if is_open {
            queue.pause_until = Some(until);
            self.schedule(key, until);
        } else {
            let cost = queue.discard_tokens();
            self.input.release(cost);
        }
    }

    /// When the pause of a client's commands is over; none: it is, and they go on.
    pub(super) fn on_pause_due(&mut self, key: Key) -> Option<Millis> {
        let until = self.queue_mut(key)?.pause_until?;
        if until > self.now {
            return Some(until);
        }
        self.end_pause(key);
        None
    }

    fn end_pause(&mut self, key: Key) {
        let pause = self.queue_mut(key).and_then(|queue| queue.pause_until.take());
        if pause.is_some()
            && let Some(command) = self.take_next(key)
        {
            self.request_command(key, command);
        }
    }

    /// Has the shard run a client's command, and those that wait behind it. The client is still
    /// counted: the last one leaves no moment in which the drain's barrier is open.
    pub(super) fn request_command(&mut self, key: Key, command: ClientCommand) {
        let guard = self.control.barrier.request();
        self.requests.push(Request::Command(key, command, guard));
    }

    /// A client's command has been run; its next one. The client itself may be gone.
    pub fn next_command(&mut self, key: Key) -> Option<ClientCommand> {
        let command = self.take_next(key);
        self.handle_hub_events();
        command
    }

    pub(super) fn take_next(&mut self, key: Key) -> Option<ClientCommand> {
        if let Some(halted) = &mut self.halted
            && entry(&mut self.entries, key).is_some()
        {
            halted.insert(key);
            return None;
        }
        if self.orphans.get(&key).is_some_and(|orphan| orphan.until <= self.now) {
            let count = self.queue_mut(key).map_or(0, |queue| queue.len());
            self.metrics.client_messages_dropped.add(count as u64);
            self.discard_queue(key);
        }
        let command = loop {
            let queue = self.queue_mut(key);
            if queue.as_ref().is_some_and(|queue| queue.pause_until.is_some()) {
                return None;
            }
            let Some((command, cost)) = queue.and_then(CommandQueue::pop) else { break None };
            self.input.release(cost);
            if let Some(command) = self.run_locally(key, command) {
                break Some(command);
            }
        };
        if let Some((command, queue)) = command.as_ref().zip(self.queue_mut(key)) {
            queue.begin(command);
        }
        if command.is_none() {
            if self.orphans.remove(&key).is_some() {
                self.rights.remove(key);
            }
            if let Some(entry) = entry(&mut self.entries, key) {
                entry.take_queue();
            }
            self.resume(key);
        }
        command
    }
}
