//! Bounds of a hand-over between two processes, and of the records in it.
//!
//! Part of [`limits`](super): past one of them the hand-over ends, and the old process goes on.

use std::time::Duration;

/// A single record; past it nothing of it is read. It bounds what a peer can make us read in one
/// piece; what is large is written as many records.
pub const RECORD_BYTES_MAX: usize = 256 * 1024 * 1024;
/// Lists and maps in each other in a record, also in what is skipped.
pub const RECORD_DEPTH_MAX: usize = 32;

/// Clients, or other descriptors, that one message hands over. Linux allows 253 in one.
pub const HANDOVER_BATCH_MAX: usize = 250;
/// Descriptors of one message: a batch, and the sheet with what is said of it.
pub const LINK_DESCRIPTORS_MAX: usize = HANDOVER_BATCH_MAX + 1;
/// One message. It goes in one piece, so it has to fit into a socket's buffer, which is 208 KiB
/// unless the system's operator has made it smaller.
pub const LINK_MESSAGE_BYTES_MAX: usize = 64 * 1024;
/// Content that a message carries in itself; more goes into a sheet that is sent with it.
pub const HANDOVER_INLINE_BYTES_MAX: usize = 60 * 1024;
/// One sheet: far more than a process keeps.
pub const SHEET_BYTES_MAX: u64 = 64 * 1024 * 1024 * 1024;
/// One read or write of a sheet.
pub const SHEET_CHUNK_BYTES: usize = 256 * 1024;
/// A reason that one process tells the other, and that may get into a log; the rest is cut off.
pub const HANDOVER_REASON_BYTES_MAX: usize = 500;
/// Connections that wait for the control socket to accept them; further ones fail.
pub const CONTROL_QUEUE_MAX: i32 = 16;

/// Orders that wait for a shard: those of one hand-over.
pub const ORDERS_WAITING_MAX: usize = 8;

/// For whoever connects to say what for.
pub const HANDOVER_GREETING_DEADLINE: Duration = Duration::from_secs(2);
/// For a message to be taken by the other process' socket, before the pause.
pub const HANDOVER_SEND_DEADLINE: Duration = Duration::from_secs(2);
/// For a last word, which nothing depends on.
pub const HANDOVER_FAREWELL_DEADLINE: Duration = Duration::from_millis(100);
/// For the old process to say what it has to hand over.
pub const HANDOVER_MANIFEST_DEADLINE: Duration = Duration::from_secs(5);
/// For the new process to build its server.
pub const HANDOVER_BUILD_DEADLINE: Duration = Duration::from_secs(30);
/// For a piece of what is large to be made, and again for it to be taken.
pub const HANDOVER_AHEAD_DEADLINE: Duration = Duration::from_secs(30);
/// For the new process to reach what it needs.
pub const HANDOVER_READY_DEADLINE: Duration = Duration::from_secs(30);
/// For the new process to subscribe to all channels before it is ready.
pub const HANDOVER_SUBSCRIBED_DEADLINE: Duration = Duration::from_secs(25);
/// The pause: from the moment at which the old process begins to stop to COMMIT.
pub const HANDOVER_PAUSE_MAX: Duration = Duration::from_secs(2);
/// For the old process to stop, which lets the requests in progress end: they have a second.
pub const HANDOVER_STOP_DEADLINE: Duration = Duration::from_millis(1200);
/// For what is under way for clients, and requests in progress, to come to an end in the pause.
pub const HANDOVER_QUIET_DEADLINE: Duration = Duration::from_millis(1000);
/// Rounds of the broker's state before the pause, however much is published meanwhile.
pub const HANDOVER_ROUNDS_MAX: usize = 5;
/// A round of at most so many bytes is short enough for the next one to be in the pause.
pub const HANDOVER_CALM_BYTES: usize = 1024 * 1024;
/// For a part of the state to be made, to be sent, and to be taken, each.
pub const HANDOVER_PART_DEADLINE: Duration = Duration::from_millis(800);
/// For the new process to check what it has.
pub const HANDOVER_PREPARED_DEADLINE: Duration = Duration::from_millis(800);

/// For the new process to wait for the manifest.
pub const HANDOVER_MANIFEST_WAIT: Duration = Duration::from_secs(10);
/// For the new process to wait for a piece of what is large.
pub const HANDOVER_PIECE_WAIT: Duration = Duration::from_secs(35);
/// For the new process to wait until the old one has stopped.
pub const HANDOVER_PAUSING_WAIT: Duration = Duration::from_secs(4);
/// For the new process to get all of the state.
pub const HANDOVER_STATE_WAIT: Duration = Duration::from_secs(3);
/// For the new process to wait for COMMIT. It waits longer than the old one pauses, so that the old
/// one decides.
pub const HANDOVER_COMMIT_WAIT: Duration = Duration::from_secs(3);
/// Publications on their way to a replaced process that still has clients; past it that one closes
/// them.
pub const FOLLOWED_BYTES_MAX: usize = 64 * 1024 * 1024;
/// For a replaced process to take a message about publications.
pub const FOLLOWED_SEND_DEADLINE: Duration = Duration::from_secs(10);
/// For the last clients of a replaced process, if the new one is lost sight of.
pub const UNFOLLOWED_CLOSE_OVER: Duration = Duration::from_secs(2);
/// For a replaced process to wait for publications at a time.
pub const FOLLOWING_LOOK_INTERVAL: Duration = Duration::from_secs(3600);
/// Between two words to an asker; then nobody knows how it goes. Longer than
/// any step.
pub const HANDOVER_SILENCE_MAX: Duration = Duration::from_secs(90);

/// Visitors of the control socket that say what they want, or are sent away, at the same time;
/// further ones wait to be accepted.
pub const HANDOVER_VISITORS_MAX: usize = 8;
/// Descriptors for the control socket, its visitors, a batch of duplicates, and a hand-over's own.
pub const HANDOVER_DESCRIPTORS: u64 = (HANDOVER_VISITORS_MAX + HANDOVER_BATCH_MAX) as u64 + 8;
/// For a new process that was started to connect: it reads its options and files before.
pub const SUCCESSOR_START_DEADLINE: Duration = Duration::from_secs(30);
/// For a new process to end by itself after a hand-over has failed; then it is killed.
pub const SUCCESSOR_END_GRACE: Duration = Duration::from_secs(2);
/// For the end of a new process to be known when it has closed the connection.
pub const SUCCESSOR_LAST_WORD: Duration = Duration::from_millis(200);
/// Between two looks whether it has ended.
pub const SUCCESSOR_LOOK_INTERVAL: Duration = Duration::from_millis(50);

const _: () = {
    assert!(SUCCESSOR_START_DEADLINE.as_millis() < HANDOVER_SILENCE_MAX.as_millis());
    assert!(LINK_DESCRIPTORS_MAX <= 253);
    assert!(HANDOVER_INLINE_BYTES_MAX + 2048 <= LINK_MESSAGE_BYTES_MAX);
    assert!(HANDOVER_REASON_BYTES_MAX < LINK_MESSAGE_BYTES_MAX);
    assert!(HANDOVER_QUIET_DEADLINE.as_millis() < HANDOVER_STOP_DEADLINE.as_millis());
    assert!(HANDOVER_SUBSCRIBED_DEADLINE.as_millis() < HANDOVER_READY_DEADLINE.as_millis());
    assert!(HANDOVER_STOP_DEADLINE.as_millis() < HANDOVER_PAUSE_MAX.as_millis());
    assert!(HANDOVER_PAUSE_MAX.as_millis() < HANDOVER_STATE_WAIT.as_millis());
    assert!(HANDOVER_PAUSE_MAX.as_millis() < HANDOVER_COMMIT_WAIT.as_millis());
    assert!(HANDOVER_STOP_DEADLINE.as_millis() < HANDOVER_PAUSING_WAIT.as_millis());
    assert!(HANDOVER_AHEAD_DEADLINE.as_millis() < HANDOVER_PIECE_WAIT.as_millis());
    assert!(
        HANDOVER_GREETING_DEADLINE.as_millis() + HANDOVER_MANIFEST_DEADLINE.as_millis()
            < HANDOVER_MANIFEST_WAIT.as_millis()
    );
    assert!(
        HANDOVER_BUILD_DEADLINE.as_millis() + HANDOVER_AHEAD_DEADLINE.as_millis()
            < HANDOVER_SILENCE_MAX.as_millis()
    );
};
