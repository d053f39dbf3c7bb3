//! Clients are recorded, so that another process can go on with them, and let go of if it does.
//!
//! Before that the table is halted: no further command of a client's begins. Nothing else changes
//! by recording, so that this process can go on after all.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    io,
    net::TcpStream,
    sync::Arc,
};

use crate::{
    clock::Millis,
    conn::{
        client_state::ClientState,
        command_queue::{ClientCommand, CommandQueue},
        entry::Entry,
        record::{
            ClientRecord, CloseRecord, CommandRecord, CommandsRecord, CredentialRecord, HoleRecord,
            LoggedRecord, PublishRecord, ReplayRecord, Secret, StepRecord, SubscribeRecord,
            TableRecord, TokenRecord,
        },
        socket::Socket,
        table::ConnectionTable,
        write::replay::Step,
    },
    hub::{Hole, HubRecord, HubRecording, Key, LongPayloads},
    limits::HANDOVER_CHUNK_ITEMS_MAX,
    record,
    token::Rights,
};

impl ConnectionTable {
    /// No further command of a client's begins. Those that are under way come to their end, and so
    /// does what departed clients have left behind.
    pub fn halt(&mut self) {
        self.halted.get_or_insert_default();
    }

    /// Commands begin again.
    pub fn go_on(&mut self) {
        for key in self.halted.take().unwrap_or_default() {
            if let Some(command) = self.next_command(key) {
                self.request_command(key, command);
            }
        }
    }

    /// How many clients have a command under way, or are joining a channel, while the table is
    /// halted.
    #[must_use]
    pub fn under_way(&self) -> usize {
        let is_under_way = |entry: &&Entry, index| self.is_under_way(entry, entry.key(index));
        let entries = self.entries.iter().enumerate();
        let present = entries.filter_map(|(index, entry)| Some((index, entry.as_ref()?)));
        let clients = present.filter(|(index, entry)| is_under_way(entry, *index)).count();
        clients + self.orphans.len()
    }

    fn is_under_way(&self, entry: &Entry, key: Key) -> bool {
        let is_halted = self.halted.as_ref().is_some_and(|all| all.contains(&key));
        let has_command =
            entry.queue().is_some_and(|queue| queue.pause_until.is_none()) && !is_halted;
        has_command || self.replays.get(&key).is_some_and(|replay| replay.joining)
    }

    /// Begins to record the clients that can be handed on: those that are connected, and do not
    /// speak TLS. `payloads` are those that other shards of the process have recorded.
    pub fn record(&mut self, now: Millis, payloads: Arc<LongPayloads>) -> TableRecording {
        self.now = self.now.max(now);
        self.close_disconnected(&mut || true);
        self.hub.begin_partings();
        self.handle_hub_events();
        let is_plain = |key: &Key| matches!(self.hub.outlet(*key), Some(Socket::Live(_)));
        let keys: Vec<Key> = self.hub.keys().filter(is_plain).collect();
        let mut rights = RightsRecorded::default();
        for &key in &keys {
            if let Some((Some(held), _)) = self.rights.record(key, self.now) {
                rights.add(held);
            }
        }
        let returning = self.returning.iter().flat_map(|paced| &paced.keys[paced.closed..]);
        TableRecording {
            hub: self.hub.record(&keys, payloads),
            rights,
            returning: returning.copied().collect(),
            keys: keys.into(),
        }
    }

    fn record_client(&self, key: Key, recording: &TableRecording) -> Option<ClientRecord> {
        let output = self.hub.record_client(key, &recording.hub)?;
        let entry = self.entries.get(key.index())?.as_ref().filter(|entry| entry.is_of(key))?;
        let is_interrupted = self.is_under_way(entry, key);
        let commands = entry.queue().and_then(|queue| match is_interrupted {
            false => Some(commands_record(queue.waiting(), queue, self.now)),
            // It goes, as soon as what it has published behind the interrupted command was run.
            true => Some(commands_record(queue.publications(), queue, self.now))
                .filter(|commands| !commands.waiting.is_empty()),
        });
        let (heard, is_pinged) = entry.keepalive.record();
        let credential = self.rights.record(key, self.now).map(|(held, deadlines)| match held {
            None => CredentialRecord::Api,
            Some(held) => {
                let rights = recording.rights.numbers[&Arc::as_ptr(held)];
                CredentialRecord::Token(TokenRecord { rights, deadlines })
            }
        });
        let logged = self.logged.get(&key).map(|seen| LoggedRecord {
            address: seen.address,
            forwarded: seen.forwarded.clone(),
            since_ago_ms: ago_ms(self.now, seen.since),
        });
        Some(ClientRecord {
            endpoint: entry.endpoint,
            encoding: entry.encoding,
            output,
            connected_ago_s: (self.now.0 / 1000).saturating_sub(entry.connected_s.into()),
            heard_ago_ms: ago_ms(self.now, heard),
            is_pinged,
            is_paused: entry.paused,
            publisher: entry.publisher,
            credential,
            decoder: entry.decoder.record(),
            message_begun_ago_ms: entry.message_begun().map(|begun| ago_ms(self.now, begun)),
            commands,
            close: close_record(entry.state(), self.now),
            replay: self.record_replay(key),
            rate: self.rates.record(key, self.now),
            counted: self.address_guards.get(&key).map(|guard| guard.counted()),
            guesses_as: self.token_guesses.address(key),
            is_returning: recording.returning.contains(&key),
            is_interrupted,
            logged,
        })
    }

    fn record_replay(&self, key: Key) -> Option<ReplayRecord> {
        let replay = self.replays.get(&key)?;
        let steps = replay.steps.iter();
        let holes = replay.holes.iter().cloned();
        Some(ReplayRecord {
            steps: steps.map(step_record).collect(),
            holes: holes.map(|Hole { channel, missed }| HoleRecord { channel, missed }).collect(),
        })
    }

    /// Another descriptor of a client's socket, for the other process.
    ///
    /// # Errors
    /// When the client has left, or the system has no descriptor left.
    pub fn duplicate(&self, key: Key) -> io::Result<TcpStream> {
        self.hub.outlet(key).ok_or(io::ErrorKind::NotFound)?.duplicate()
    }

    /// A client is another process's from now on: this one's descriptor is dropped, and nothing is
    /// said or counted.
    pub fn let_go(&mut self, key: Key) {
        let Some(slot) = self.entries.get_mut(key.index()) else { return };
        let Some(mut entry) = slot.take_if(|entry| entry.is_of(key)) else { return };
        if let Some(mut queue) = entry.take_queue() {
            self.input.release(queue.clear());
        }
        self.rights.remove(key);
        self.logged.remove(&key);
        self.forget(key, entry);
    }
}

/// Clients of a table on their way to another process, in pieces. Nothing of the table may change
/// before the last one.
#[derive(Debug)]
pub struct TableRecording {
    hub: HubRecording,
    rights: RightsRecorded,
    returning: HashSet<Key>,
    /// Those that are left.
    keys: VecDeque<Key>,
}

impl TableRecording {
    /// The next chunk of what the clients share, for
    /// [`TablesTaking`](crate::conn::TablesTaking): all of them have to be there before the first
    /// client. None at the end. A chunk has about
    /// [`HANDOVER_CHUNK_BYTES_MAX`](crate::limits::HANDOVER_CHUNK_BYTES_MAX).
    pub fn next_chunk(&mut self, table: &ConnectionTable) -> Option<Vec<u8>> {
        let count = self.rights.left.len().min(HANDOVER_CHUNK_ITEMS_MAX);
        let rights: Vec<Rights> =
            self.rights.left.drain(..count).map(|it| Rights::clone(&it)).collect();
        let hub = if rights.is_empty() { self.hub.next(&table.hub)? } else { HubRecord::default() };
        Some(record::to_bytes(&TableRecord { hub, rights }))
    }

    /// The records of the next clients, at most so many; none at the end.
    pub fn next_clients(&mut self, table: &ConnectionTable, most: usize) -> Vec<(Key, Vec<u8>)> {
        let mut clients = Vec::new();
        while clients.len() < most
            && let Some(key) = self.keys.pop_front()
        {
            let client = table.record_client(key, self);
            clients.extend(client.map(|client| (key, record::to_bytes(&client))));
        }
        clients
    }
}

/// The rights to which clients refer, each once.
#[derive(Debug, Default)]
struct RightsRecorded {
    numbers: HashMap<*const Rights, u32>,
    /// Those that are not written yet.
    left: VecDeque<Arc<Rights>>,
}

impl RightsRecorded {
    fn add(&mut self, rights: &Arc<Rights>) {
        let next = u32::try_from(self.numbers.len()).expect("fewer than clients");
        let number = *self.numbers.entry(Arc::as_ptr(rights)).or_insert(next);
        if number == next {
            self.left.push_back(rights.clone());
        }
    }
}

fn commands_record<'a>(
    waiting: impl Iterator<Item = &'a ClientCommand>,
    queue: &CommandQueue,
    now: Millis,
) -> CommandsRecord {
    let waiting = waiting.map(|command| match command {
        ClientCommand::Publish(message) => CommandRecord::Publish(PublishRecord {
            channel: message.channel.clone(),
            kind: message.kind,
            data: message.data.clone(),
            id: message.id.as_ref().map(|id| id.as_str().to_owned()),
        }),
        ClientCommand::Subscribe(wanted) => CommandRecord::Subscribe(SubscribeRecord {
            channel: wanted.channel.clone(),
            since: wanted.since.clone(),
        }),
        ClientCommand::Unsubscribe(channel) => CommandRecord::Unsubscribe(channel.clone()),
        ClientCommand::Token(token) => CommandRecord::Token(Secret(token.expose().into())),
        ClientCommand::Ping => CommandRecord::Ping,
    });
    let pause_ms = queue.pause_until.map(|until| ago_ms(until, now));
    CommandsRecord { waiting: waiting.collect(), pause_ms }
}

fn step_record(step: &Step) -> StepRecord {
    StepRecord { channel: step.channel.clone(), after: step.after.clone(), to: step.to }
}

fn close_record(state: ClientState, now: Millis) -> Option<CloseRecord> {
    match state {
        ClientState::Open => None,
        ClientState::Closing { reason, until, hurried, peer_closed } => Some(CloseRecord {
            reason,
            left_ms: ago_ms(until, now),
            is_sent: false,
            hurried,
            peer_closed,
        }),
        ClientState::Closed { reason, until } => Some(CloseRecord {
            reason,
            left_ms: ago_ms(until, now),
            is_sent: true,
            hurried: false,
            peer_closed: false,
        }),
    }
}

fn ago_ms(now: Millis, before: Millis) -> u64 {
    now.0.saturating_sub(before.0)
}
