//! Every bound that no option sets, in one place: its unit, the effect of passing it, its counter.
//!
//! Options (`config`) set the bounds that operators choose; these set the rest, so that no queue,
//! buffer, loop or wait is unbounded. Relations between them are checked at compile time.

mod addresses;
mod admission;
mod announcements;
mod batches;
mod broker_parts;
mod encodings;
mod expiry;
mod handover;
mod log;
mod places;
mod proxies;
mod publishing;
mod redis;
mod redis_refusals;
mod service_manager;
mod shutdown;
mod tls;
mod tokens;

use std::time::Duration;

pub use addresses::*;
pub use admission::*;
pub use announcements::*;
pub use batches::*;
pub use broker_parts::*;
pub use encodings::*;
pub use expiry::*;
pub use handover::*;
pub use log::*;
pub use places::*;
pub use proxies::*;
pub use publishing::*;
pub use redis::*;
pub use redis_refusals::*;
pub use service_manager::*;
pub use shutdown::*;
pub use tls::*;
pub use tokens::*;

/// Longest epoch of a position; a longer text is no epoch.
pub const EPOCH_BYTES_MAX: usize = 32;
/// The largest offset: the largest integer that a JavaScript number, and a number of Redis' Lua,
/// holds exactly. A larger one is invalid wherever it comes from, so anything computed from an
/// offset fits into 64 bits.
pub const OFFSET_MAX: u64 = (1 << 53) - 1;
/// Longest channel name; past it the request is answered 400.
pub const CHANNEL_NAME_BYTES_MAX: usize = 128;

// --- HTTP -----------------------------------------------------------------------------------

/// Request line and headers together; past it 431 from hyper. A thousand channels fit into a
/// target. hyper's buffer begins with 8 KiB and grows only for requests that need more.
pub const HTTP_HEAD_BYTES_MAX: usize = 64 * 1024;
/// Longest origin of a page: a scheme, the longest name of the DNS, a port; a longer one is none.
pub const ORIGIN_BYTES_MAX: usize = 300;
/// Origins in a list of them; more are refused at the start.
pub const ORIGINS_MAX: usize = 1000;
/// Header fields of one request; past it 431 from hyper.
pub const HTTP_HEADERS_MAX: usize = 64;
/// From accept, or from a request's first byte, to the end of its headers; then closed.
pub const HTTP_HEAD_DEADLINE: Duration = Duration::from_secs(10);
/// From the end of the headers to the end of the body; then 408 and closed.
pub const HTTP_BODY_DEADLINE: Duration = Duration::from_secs(30);
/// The body of a request that takes none; past it 413.
pub const ADMIN_BODY_BYTES_MAX: usize = 64 * 1024;
/// One request's work, its body included; then the connection is dropped. A backstop: the parts
/// have tighter bounds.
pub const HTTP_REQUEST_DEADLINE: Duration = Duration::from_secs(120);
/// For the peer to take an answer; then the connection is dropped.
pub const HTTP_ANSWER_DEADLINE: Duration = Duration::from_secs(30);
/// One publication, whatever the broker does; then 504.
pub const PUBLISH_ANSWER_DEADLINE: Duration = Duration::from_millis(1150);
/// A body's single piece up to this is copied: a view would keep hyper's whole buffer alive.
pub const BODY_COPY_BYTES_MAX: usize = 1024;
/// Each step of `wsbcast health`: connecting, and the whole answer; then unhealthy.
pub const HEALTH_CHECK_DEADLINE: Duration = Duration::from_secs(3);
/// Rest of a refused body that is read and discarded so that the publisher sees the answer.
pub const LINGER_BYTES_MAX: usize = 4 * 1024 * 1024;
/// One read of it.
pub const LINGER_READ_BYTES: usize = 16 * 1024;
/// How long such a rest is read.
pub const LINGER_DEADLINE: Duration = Duration::from_secs(2);
/// Channels of one client; past it a handshake is answered 400, a subscription with the error
/// `too_many_channels`.
pub const CHANNELS_PER_CLIENT_MAX: usize = 1000;
/// Channels that every client may have, however many logs a shard keeps for other clients: their
/// cost counts as part of the connection.
pub const CHANNELS_FREE: usize = 16;
/// Logs of one shard: channels times the encodings in use. Past it the client with the most logs is
/// closed (1013 `too_many_channels`) if it has more than twice as many as a newcomer wants; else a
/// handshake is answered 503, a subscription with the error `too_many_channels`. A client with
/// [`CHANNELS_FREE`] or fewer channels is admitted even past it.
pub const CHANNELS_PER_SHARD_MAX: usize = 100_000;
/// The cost of each further channel of a client to the budget: an entry in the client and one in
/// the channel's log. All of them may take a quarter of the shard's part; past it the same as
/// above.
pub const SUBSCRIPTION_COST_BYTES: usize = 32;
/// Clients that are considered, and may have to be closed, for one newcomer; then it is refused.
pub const HOARDERS_PER_NEWCOMER_MAX: usize = 32;
/// Longest `Wsbcast-Position` header; past it the header is left out. Clients bound what they
/// read of an answer, some at 16 KiB.
pub const POSITION_HEADER_BYTES_MAX: usize = 8 * 1024;
/// The `Retry-After` while draining, seconds.
pub const RETRY_AFTER_DRAINING_SECS: u32 = 5;
/// The `Retry-After` when full, seconds.
pub const RETRY_AFTER_FULL_SECS: u32 = 1;
/// Connections that a shard accepts, and begins to serve, before its other tasks have had their
/// turn; further ones wait. A quarter of a millisecond's work.
pub const NEWCOMERS_PER_TURN: usize = 16;
/// Connections by which a shard may be above the mean before it passes new ones on. Fewer are
/// not worth a wake-up: a pass takes a microsecond per client.
pub const PLACEMENT_SLACK_MIN: usize = 8;
/// Between two looks at whether shards hold too much. Longer than a burst takes to settle.
pub const PLACEMENT_INTERVAL: Duration = Duration::from_secs(1);

// --- Clients --------------------------------------------------------------------------------

/// One read from a client; the buffer is the shard's, not the client's.
pub const READ_BUFFER_BYTES: usize = 64 * 1024;
/// Bytes read from one client before other tasks get their turn.
pub const READ_TURN_BYTES_MAX: usize = 256 * 1024;
/// One read from a client whose messages are published, are commands, or are inflated, but for the
/// rest of a frame that was begun. A byte inflates to at most 1,032, so one read yields at most
/// 4 MiB of messages, and one that was begun before; and at most 700 messages to publish, or 200
/// commands, which wait in the client's queue.
pub const COMMANDS_READ_BYTES: usize = 4 * 1024;
/// A shard's buffers for compressing and inflating keep this size; for a message they may grow past
/// it.
pub const CODEC_KEPT_BYTES_MAX: usize = 64 * 1024;
/// First piece of a buffer to inflate into; it doubles up to the longest message.
pub const INFLATE_BYTES_MIN: usize = 1024;
/// A client's message must end this soon after its beginning; then closed 1008.
pub const INBOUND_MESSAGE_DEADLINE: Duration = Duration::from_secs(60);
/// The budget's charge for a client's message that waits to be published, besides its payload.
pub const QUEUED_COMMAND_COST_BYTES: usize = 128;
/// From the end of a client to the publication of the last message that it has left in its queue;
/// the others are dropped (`wsbcast_client_messages_dropped_total`).
pub const ORPHANED_COMMANDS_DEADLINE: Duration = Duration::from_secs(10);
/// Echo output a client may leave unread before the server stops reading from it.
pub const ECHO_UNSENT_BYTES_MAX: usize = 256 * 1024;
/// From our Close frame in the kernel to the peer's answer; then the descriptor is dropped.
pub const CLOSE_ANSWER_DEADLINE: Duration = Duration::from_secs(2);
/// For the Close frame (and the log before it, in a drain) to be taken; then reset.
pub const CLOSE_WRITE_DEADLINE: Duration = Duration::from_secs(2);
/// An event stream's `retry`: the client's pause before it connects again.
pub const SSE_RETRY: Duration = Duration::from_secs(2);
/// A random addition to it, so that clients that lost a server together come back apart.
pub const SSE_RETRY_SPREAD: Duration = Duration::from_secs(1);
/// Unsent bytes the kernel holds per client (TCP_NOTSENT_LOWAT) before it says "would block".
pub const KERNEL_UNSENT_BYTES_MAX: u32 = 128 * 1024;

/// Answers that a client of `wsbcast.v1` may leave unread before the server stops reading from it.
pub const ANSWERS_UNSENT_BYTES_MAX: usize = 16 * 1024;
/// Characters of an error's hint; what it quotes beyond is left out.
pub const HINT_CHARS_MAX: usize = 600;
/// Bytes of an unusable channel name or id that an error quotes.
pub const TOLD_BACK_BYTES_MAX: usize = 256;
/// A message of the history up to this is copied for each client; a longer one is shared.
pub const REPLAY_COPY_BYTES_MAX: usize = 8 * 1024;
/// Up to this, the rest of a begun frame that a cut log no longer keeps is copied for each client;
/// a longer rest is shared.
pub const CARRY_COPY_BYTES_MAX: usize = 1024;
/// The cost of a share besides its bytes.
pub const SHARE_COST_BYTES: usize = 256;
/// Ticks without progress of a waiting outbox after which its client is given up first.
pub const OUTBOX_STALE_TICKS: u32 = 20;

// --- Logs and passes ------------------------------------------------------------------------

/// A log's first chunk.
pub const CHUNK_BYTES_MIN: usize = 512;
/// A log's largest chunk; also the amount that trimming frees at a time.
pub const CHUNK_BYTES_MAX: usize = 64 * 1024;
/// Largest chunk that a log keeps when all clients have read everything.
pub const CHUNK_KEPT_BYTES_MAX: usize = 4 * 1024;
/// Clients that a pass visits between two looks at whether its time is up.
pub const PASS_CLIENTS_PER_LOOK: u32 = 64;
/// Bytes that a pass writes between two such looks, plus those of one more client.
pub const PASS_BYTES_PER_LOOK: u64 = 1024 * 1024;
/// Clients behind their logs' new tails that are dealt with per pass, or given up for memory's
/// sake; the logs, or the memory, wait for the others. A client with many channels counts for
/// several.
pub const LAGGARDS_PER_PASS: u32 = 128;
/// Clients whose close begins per pass after messages were lost that all of them were due.
pub const PARTING_PER_PASS: u32 = 1024;
/// Clients with the most unread bytes that one look at all clients finds.
pub const HOLDERS_PICKED_MAX: usize = 256;
/// Entries of logs that are looked at, outside a pass, for chunks that can be freed.
pub const TRIM_LOOKS_MAX: usize = 16 * 1024;
/// Slices of one vectored write.
pub const WRITE_SLICES_MAX: usize = 32;
/// The time after which reading from and writing to ready clients yields to the runtime.
pub const EVENTS_SLICE: Duration = Duration::from_millis(1);
/// The time after which a pass over the clients yields to the runtime.
pub const PASS_SLICE: Duration = Duration::from_millis(10);
/// Publications taken from the mailbox, in bytes, before the next pass.
pub const APPEND_TURN_BYTES_MAX: usize = 1024 * 1024;
/// A shard's mailbox, in bytes; full: publish answers 503 `shard_stalled`.
pub const MAILBOX_BYTES_MAX: usize = 32 * 1024 * 1024;
/// A shard's mailbox, in messages; full: the same.
pub const MAILBOX_MESSAGES_MAX: usize = 65_536;

// --- Broker ---------------------------------------------------------------------------------

/// For Redis to answer a publish; then 504 `unconfirmed`.
pub const PUBLISH_CONFIRM_DEADLINE: Duration = Duration::from_secs(1);
/// Between two heartbeats of a shard through Redis.
pub const HEARTBEAT_INTERVAL: Duration = Duration::from_millis(250);
/// Without a heartbeat's return for this long the link counts as lost.
pub const HEARTBEAT_SILENCE_MAX: Duration = Duration::from_secs(1);
/// For a handshake to wait for its channels' subscription in Redis.
pub const SUBSCRIBE_DEADLINE: Duration = Duration::from_secs(1);
/// For a shard to wait for another shard's query to Redis, or read from it, that both need; then
/// it asks itself, since the other may be at a standstill.
pub const SHARED_ANSWER_WAIT: Duration = Duration::from_millis(300);
/// Channels whose offsets the embedded sequencer remembers; past it one channel of the publisher
/// with the most is forgotten (`wsbcast_history_evicted_channels_total`), and starts anew under
/// another epoch.
pub const SEQUENCER_CHANNELS_MAX: usize = 65_536;
/// Publishes of one handle on their way to Redis; past it 503 `shard_stalled`.
pub const PUBLISHES_IN_FLIGHT_MAX: usize = 16_384;
/// Their payloads, in bytes; past it the same (a single larger message still passes).
pub const PUBLISH_BYTES_IN_FLIGHT_MAX: usize = 32 * 1024 * 1024;
/// To connect to Redis and log in; then the attempt is given up and repeated.
pub const REDIS_CONNECT_DEADLINE: Duration = Duration::from_secs(2);
/// The same including loading the scripts: some 40 KB, over a line that may be thin.
pub const REDIS_READY_DEADLINE: Duration = Duration::from_secs(4);
/// Between two attempts to connect; up to half of it more, at random.
pub const REDIS_RECONNECT_DELAY: Duration = Duration::from_millis(100);
/// A connection on which nothing is answered for this long is given up. Long, because a paused
/// Redis still executes the commands it has received when it resumes.
pub const REDIS_SILENCE_MAX: Duration = Duration::from_secs(10);
/// Publishes wait this long after Redis is back, so that other processes are subscribed again.
pub const REDIS_SETTLE: Duration = Duration::from_millis(200);
/// Redis forgets the offset of a channel without publications for this long.
pub const REDIS_META_TTL: Duration = Duration::from_secs(24 * 60 * 60);
/// The same for a channel without any publication, whose position an older version has stored.
pub const REDIS_POSITION_TTL: Duration = Duration::from_secs(60 * 60);
/// Unanswered SUBSCRIBE and UNSUBSCRIBE commands of a shard; past it further ones wait.
pub const SUBSCRIBES_IN_FLIGHT_MAX: usize = 1024;
/// A SUBSCRIBE that Redis refused is repeated after this.
pub const SUBSCRIBE_RETRY: Duration = Duration::from_secs(1);
/// Earlier epochs of a channel that are remembered, so that late messages of them, and a Redis that
/// goes back to one, are recognised; past it the oldest is forgotten, and would be taken for a new
/// one.
pub const RETIRED_EPOCHS_MAX: usize = 8;
/// Positions that a subscriber asks for at a time after it has subscribed; the others follow.
pub const POSITIONS_IN_FLIGHT_MAX: usize = 256;
/// For a subscriber to get the messages it has missed from Redis; then they are reported as a gap.
pub const REPAIR_DEADLINE: Duration = Duration::from_secs(1);
/// The raw channel's bridge: another process may take over after this much silence.
pub const BRIDGE_LEASE: Duration = Duration::from_secs(2);
/// How long before Redis would give the lease to another process its holder stops.
pub const BRIDGE_LEASE_MARGIN: Duration = Duration::from_millis(200);
/// Between two renewals of the lease, and between two attempts to get it.
pub const BRIDGE_RENEW_INTERVAL: Duration = Duration::from_millis(500);
/// Raw messages that wait for Redis' answer; further ones wait here until as many do as may be in
/// flight for other publishers, and then in the subscriber's connection.
pub const BRIDGE_IN_FLIGHT_MAX: usize = 1024;
/// Raw messages that wait for the next holder while one leaves; past it the oldest are dropped and
/// counted.
pub const BRIDGE_WAITING_MAX: usize = 4096;
/// Their payloads, in bytes; past it the same.
pub const BRIDGE_WAITING_BYTES_MAX: usize = 32 * 1024 * 1024;
/// One read from a subscriber's connection.
pub const SUBSCRIBER_READ_BYTES: usize = 64 * 1024;
/// For the broker's connections to end politely when the process stops; then they are dropped.
pub const BROKER_CLOSE_DEADLINE: Duration = Duration::from_millis(150);
/// How long a thread that ends waits for these connections: the kernel closes them in any case, but
/// handing the raw channel over takes three answers from Redis.
pub const BROKER_EXIT_WAIT: Duration = Duration::from_millis(100);
/// Between two reports of a process to Redis that it accepts clients, and, while it drains, between
/// two looks whether another one does.
pub const PRESENCE_INTERVAL: Duration = Duration::from_secs(1);
/// How long such a report is valid.
pub const PRESENCE_TTL: Duration = Duration::from_secs(3);
/// Kinds of periodic message (channel and interval) remembered; past it the oldest is forgotten.
pub const SLOT_KINDS_MAX: usize = 16;

// --- History --------------------------------------------------------------------------------

/// Channels whose history a process keeps from Redis; past it one is forgotten
/// (`wsbcast_history_evicted_channels_total`), and read from Redis again when needed.
pub const HISTORY_CHANNELS_MAX: usize = 65_536;
/// The cost of a kept message besides its payload.
pub const HISTORY_MESSAGE_COST_BYTES: usize = 128;
/// Messages that a script in Redis reads from a stream at a time: it needs memory for all of them,
/// however few fit into the history's bytes.
pub const HISTORY_READ_CHUNK: usize = 250;
/// A payload up to this is copied when it is kept: a view would keep the whole buffer into which it
/// was read. A larger one fills most of its buffer anyway.
pub const HISTORY_COPY_BYTES_MAX: usize = 64 * 1024;
/// Payload that a resuming client is given at a time, at least one message; the next piece follows
/// when it has taken that. So its waiting bytes are bounded, however much it missed.
pub const REPLAY_PIECE_BYTES: usize = 16 * 1024;
/// For a shard to reach the position that a resuming client has reached elsewhere; then the client
/// is refused, unless the broker itself knows no such position. Also for a broker that is out of
/// reach to report a channel's position; then the client is told that it may have missed messages.
pub const RESUME_WAIT: Duration = Duration::from_secs(1);
/// Between two attempts to learn it.
pub const RESUME_RETRY: Duration = Duration::from_millis(100);

// --- Life of the process --------------------------------------------------------------------

/// After a shard's silence of this length other threads accept for it. Four beats: a loop with its
/// longest slices and a storm of newcomers is late by tens of milliseconds, and with one more beat
/// until the silence is seen, no connection waits for half a second.
pub const SHARD_STALL_ACCEPT: Duration = Duration::from_millis(200);
/// A shard silent for this long turns readiness red.
pub const SHARD_STALL_READY: Duration = Duration::from_secs(2);
/// A shard silent for this long turns liveness red.
pub const SHARD_STALL_LIVE: Duration = Duration::from_secs(30);
/// Between two beats of a shard's loop.
pub const SHARD_BEAT_INTERVAL: Duration = Duration::from_millis(50);
/// Pause of accepting when descriptors have run out.
pub const ACCEPT_BACKOFF: Duration = Duration::from_millis(50);

const _: () = assert!(PUBLISH_CONFIRM_DEADLINE.as_millis() < PUBLISH_ANSWER_DEADLINE.as_millis());
const _: () = assert!(SHARD_BEAT_INTERVAL.as_millis() * 4 <= SHARD_STALL_ACCEPT.as_millis());
const _: () = assert!(HTTP_HEAD_BYTES_MAX >= 8192); // hyper's own minimum
const _: () = assert!(CHUNK_BYTES_MIN <= CHUNK_KEPT_BYTES_MAX);
const _: () = assert!(CHUNK_KEPT_BYTES_MAX <= CHUNK_BYTES_MAX);
const _: () = assert!(APPEND_TURN_BYTES_MAX <= MAILBOX_BYTES_MAX);
const _: () = assert!(HEARTBEAT_INTERVAL.as_millis() < HEARTBEAT_SILENCE_MAX.as_millis());
const _: () = assert!(2 * PRESENCE_INTERVAL.as_millis() < PRESENCE_TTL.as_millis());
const _: () = assert!(READ_BUFFER_BYTES <= READ_TURN_BYTES_MAX);
const _: () = assert!(HEARTBEAT_SILENCE_MAX.as_millis() < REDIS_SILENCE_MAX.as_millis());
const _: () = assert!(
    REDIRECTION_PAUSE.as_millis() * (REDIRECTIONS_MAX as u128)
        < PUBLISH_CONFIRM_DEADLINE.as_millis()
);
const _: () = assert!(
    BRIDGE_LEASE_MARGIN.as_millis() + 2 * BRIDGE_RENEW_INTERVAL.as_millis()
        < BRIDGE_LEASE.as_millis()
);
const _: () = assert!(
    TAKEOVER_WAIT.as_millis() + REDIS_SETTLE.as_millis() < PUBLISH_CONFIRM_DEADLINE.as_millis()
);
const _: () = assert!(REDIS_SETTLE.as_millis() < PUBLISH_CONFIRM_DEADLINE.as_millis());
