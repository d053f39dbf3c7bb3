//! Clients of another process go on here.
//!
//! First all of them are restored, and no socket is touched: the other process may still go on
//! with them. Then, once they are this one's, they begin, in slices.

use std::{net::TcpStream, time::Duration};

use crate::{
    broker::{IdempotencyKey, Principal},
    clock::Millis,
    conn::{
        client_state::ClientState,
        command_queue::{ClientCommand, ClientMessage, CommandQueue, HiddenToken},
        entry::Entry,
        keepalive::Keepalive,
        logged_client::{Channels, LoggedClient},
        positions::SubscribeRequest,
        record::{
            BadClientRecord, ClientRecord, CloseRecord, CommandRecord, CommandsRecord,
            CredentialRecord, HoleRecord, LoggedRecord, PublishRecord, ReplayRecord, StepRecord,
            SubscribeRecord, TokenRecord,
        },
        restored::{Restored, RestoredTable},
        socket::Socket,
        table::{ConnectionTable, entry},
        write::replay::{Replay, Step},
    },
    drain::Guard,
    hub::{Hole, Key},
    record,
    ws::decoder::Decoder,
};

impl ConnectionTable {
    /// A client of another process is here, and waits for [`ConnectionTable::begin_restored`].
    /// `record` is what [`TableRecording::next_clients`](super::TableRecording::next_clients) gave
    /// there, `stream` does not block, and `table` is the table that the client was in.
    ///
    /// # Errors
    /// When the record contradicts itself: then there is no client.
    pub fn restore(
        &mut self,
        record: &[u8],
        stream: TcpStream,
        guard: Guard,
        table: &RestoredTable,
        now: Millis,
    ) -> Result<(), BadClientRecord> {
        self.now = self.now.max(now);
        let record: ClientRecord = record::from_bytes(record)?;
        let decoder = match &record.decoder {
            Some(decoder) => Decoder::restore(decoder).ok_or(BadClientRecord::Input)?,
            None => Decoder::default(),
        };
        if let Some(CredentialRecord::Token(TokenRecord { rights, .. })) = record.credential
            && table.rights.get(rights as usize).is_none()
        {
            return Err(BadClientRecord::Rights);
        }
        let encoding = record.encoding;
        let output = &record.output;
        let key = self.hub.restore(Socket::Pending, encoding, output, &table.output)?;
        self.encoder.join(encoding);
        let index = key.index();
        if self.entries.len() <= index {
            self.entries.resize_with(index + 1, || None);
        }
        let mut client = Entry::new(key, record.endpoint, encoding, self.now);
        let connected_s = (self.now.0 / 1000).saturating_sub(record.connected_ago_s);
        client.connected_s = u32::try_from(connected_s).unwrap_or(u32::MAX);
        let heard = Millis(self.now.0.saturating_sub(record.heard_ago_ms));
        client.keepalive = Keepalive::restore(heard, record.is_pinged);
        client.publisher = record.publisher;
        client.paused = record.is_paused;
        client.decoder = decoder;
        client.guard = Some(guard);
        if let Some(ago) = record.message_begun_ago_ms {
            client.set_message_begun(Some(Millis(self.now.0.saturating_sub(ago))));
        }
        client.set_state(state(record.close, self.now));
        self.entries[index] = Some(client);
        self.live += 1;
        self.metrics.connections.set(self.live);
        let is_returning = record.is_returning || record.is_interrupted;
        self.restore_aside(key, record, table);
        self.restored.push(Restored { key, stream, is_returning });
        Ok(())
    }

    /// The parts that only some clients have.
    fn restore_aside(&mut self, key: Key, record: ClientRecord, table: &RestoredTable) {
        let ClientRecord { credential, commands, replay, rate, .. } = record;
        match credential {
            None => {}
            Some(CredentialRecord::Api) => self.rights.restore_api(key),
            Some(CredentialRecord::Token(TokenRecord { rights, deadlines })) => {
                let rights = table.rights[rights as usize].clone();
                self.rights.restore_token(key, rights, deadlines, self.now);
            }
        }
        if let Some(commands) = commands {
            let publisher = self.principal(key).unwrap_or(Principal::Anonymous);
            let (queue, cost) = restored_commands(commands, publisher, self.now);
            self.input.charge(cost);
            if let Some(entry) = entry(&mut self.entries, key) {
                entry.set_queue(queue);
            }
        }
        if let Some(replay) = replay {
            self.replays.insert(key, restored_replay(replay));
            self.account_replay(key);
        }
        if let Some(rate) = rate {
            self.rates.restore(key, rate, self.now);
        }
        if let Some(counted) = record.counted
            && let Some(guard) = self.token_guesses.limits().restore(counted)
        {
            self.address_guards.insert(key, guard);
        }
        if let Some(address) = record.guesses_as {
            self.token_guesses.begin(key, address);
        }
        if let Some(LoggedRecord { address, forwarded, since_ago_ms }) = record.logged {
            let since = Millis(self.now.0.saturating_sub(since_ago_ms));
            let channels = Channels { count: 0, named: String::new() };
            let peer = None;
            let seen =
                LoggedClient { peer, address, forwarded, since, channels, close_frame: None };
            self.logged.insert(key, seen);
        }
        self.account(key);
    }

    /// The restored clients are this process's: they are written to and read from. False when
    /// stopped before the last.
    pub fn begin_restored(&mut self, now: Millis, keep_going: &mut dyn FnMut() -> bool) -> bool {
        self.now = self.now.max(now);
        self.hub.end_restoring();
        let mut returning = Vec::new();
        while !self.restored.is_empty() && keep_going() {
            let Some(Restored { key, stream, is_returning }) = self.restored.pop() else { break };
            self.begin_one(key, stream);
            if is_returning {
                returning.push(key);
            }
        }
        if self.restored.is_empty() {
            self.restored = Vec::new();
        }
        if !returning.is_empty() {
            self.begin_paced_return(self.now, returning);
        }
        self.handle_hub_events();
        self.restored.is_empty()
    }

    fn begin_one(&mut self, key: Key, stream: TcpStream) {
        if let Some(seen) = self.logged.get_mut(&key) {
            seen.peer = stream.peer_addr().ok();
        }
        match self.registry.adopt(stream, None, key, self.hub.shared_mut()) {
            Ok(socket) => {
                if let Some(outlet) = self.hub.outlet_mut(key) {
                    *outlet = socket;
                }
            }
            Err(_) => return self.on_broken(key),
        }
        self.schedule(key, self.now);
        self.hub.writable(key);
        self.go_on_with_replay(key);
        let has_commands = entry(&mut self.entries, key)
            .and_then(|entry| Some(entry.queue()?.pause_until.is_none()));
        match has_commands {
            Some(true) => {
                if let Some(command) = self.take_next(key) {
                    self.request_command(key, command);
                }
            }
            Some(false) => {}
            None => self.resume(key),
        }
    }
}

fn state(close: Option<CloseRecord>, now: Millis) -> ClientState {
    let Some(CloseRecord { reason, left_ms, is_sent, hurried, peer_closed }) = close else {
        return ClientState::Open;
    };
    let until = now + Duration::from_millis(left_ms);
    if is_sent {
        ClientState::Closed { reason, until }
    } else {
        ClientState::Closing { reason, until, hurried, peer_closed }
    }
}

fn restored_replay(record: ReplayRecord) -> Replay {
    let ReplayRecord { steps, holes } = record;
    let step = |StepRecord { channel, after, to }| Step { channel, after, to };
    let hole = |HoleRecord { channel, missed }| Hole { channel, missed };
    Replay {
        steps: steps.into_iter().map(step).collect(),
        holes: holes.into_iter().map(hole).collect(),
        ..Replay::default()
    }
}

/// The commands, which wait again at `now`, and their cost.
fn restored_commands(
    record: CommandsRecord,
    publisher: Principal,
    now: Millis,
) -> (CommandQueue, usize) {
    let mut queue = CommandQueue::default();
    let costs = record.waiting.into_iter().map(|command| {
        queue.push(match command {
            CommandRecord::Publish(PublishRecord { channel, kind, data, id }) => {
                let id = id.and_then(|id| IdempotencyKey::new(&id).ok());
                ClientCommand::Publish(ClientMessage { publisher, channel, kind, data, id })
            }
            CommandRecord::Subscribe(SubscribeRecord { channel, since }) => {
                ClientCommand::Subscribe(SubscribeRequest { channel, since })
            }
            CommandRecord::Unsubscribe(channel) => ClientCommand::Unsubscribe(channel),
            CommandRecord::Token(token) => ClientCommand::Token(HiddenToken(token.0)),
            CommandRecord::Ping => ClientCommand::Ping,
        })
    });
    let cost = costs.sum();
    queue.pause_until = record.pause_ms.map(|left_ms| now + Duration::from_millis(left_ms));
    (queue, cost)
}
