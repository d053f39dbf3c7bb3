//! Bounds of TLS: what a connection may hold beside its session, and how much one record carries.
//!
//! Part of [`limits`](super): kept by `tls/` and `conn/socket/`.

use std::time::Duration;

/// Plaintext of one record that is sent. The rest of a record that the socket did not take stays
/// with the client, so this bounds what a slow one holds; longer records save few system calls.
pub const TLS_WRITE_BYTES_MAX: usize = 8 * 1024;
/// The bytes of a record beside its content, with a message of TLS 1.3 that announces new keys.
pub const TLS_WRITE_EXTRA_BYTES: usize = 512;
/// A record that is not there as a whole yet: the longest that RFC 8446 §5.2 and RFC 5246 §6.2.3
/// allow; past it the connection ends.
pub const TLS_RECORD_BYTES_MAX: usize = 5 + 16 * 1024 + 2048;
/// Unfinished messages of a handshake, 2 KiB with the longest keys that browsers offer; past it the
/// connection ends.
pub const TLS_HANDSHAKE_BYTES_MAX: usize = 8 * 1024;
/// One read of records, however little plaintext is asked for: a first message fits mostly.
pub const TLS_READ_BYTES_MIN: usize = 1024;
/// A thread's buffer for records: one that is unfinished and what is read behind it, or content
/// that is gathered and the record made of it.
pub const TLS_SCRATCH_BYTES: usize = 48 * 1024;
/// One read of plaintext while HTTP is spoken.
pub const TLS_HTTP_READ_BYTES: usize = 16 * 1024;
/// Connections by TLS that a shard begins to serve before its other tasks have had their turn: a
/// handshake takes a tenth of a millisecond and more. Further ones wait.
pub const TLS_HANDSHAKES_PER_TURN: usize = 2;
/// Records that are made with one key of TLS 1.2, whose keys never change: past it the client is
/// sent away (1012) at its next ping. The library allows AES-GCM twice as many: far more than are
/// made between two pings.
pub const TLS12_RECORDS_MAX: u32 = 1 << 23;
/// Pairs of certificate and key; past it the options are refused.
pub const TLS_PAIRS_MAX: usize = 64;
/// Between two looks at the files of certificates.
pub const CERTIFICATE_LOOK_INTERVAL: Duration = Duration::from_secs(5);
/// A file with a certificate's chain or a key; past it, it is none.
pub const TLS_FILE_BYTES_MAX: u64 = 1024 * 1024;

const _: () = assert!(2 * TLS_RECORD_BYTES_MAX < TLS_SCRATCH_BYTES);
const _: () = assert!(2 * TLS_WRITE_BYTES_MAX + TLS_WRITE_EXTRA_BYTES < TLS_SCRATCH_BYTES);
