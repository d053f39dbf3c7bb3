//! Clients and their tokens: how those whose tokens expire are spread over time.
//!
//! Part of [`limits`](super): the moments are drawn, so that those whose tokens expire together
//! neither renew them nor come back together.

use std::{ops::RangeInclusive, time::Duration};

/// When a client is told that its token expires, in shares of the time that the token had left when
/// it was verified.
pub const TOKEN_REMINDER_SHARES: RangeInclusive<f64> = 0.75..=0.9;
/// How long a client may stay after its token has expired, as a share of the same.
pub const TOKEN_GRACE_SHARE: f64 = 0.1;
/// The same at most.
pub const TOKEN_GRACE_MAX: Duration = Duration::from_secs(10);
/// The `Retry-After` while there are no keys to check tokens with, seconds.
pub const RETRY_AFTER_KEYS_SECS: u32 = 5;
/// Patterns of `--public-channels`; more are refused at the start.
pub const PUBLIC_CHANNELS_MAX: usize = 1000;
/// Longest name of an unknown parameter that is repeated in an answer or in the log.
pub const PARAMETER_SHOWN_CHARS_MAX: usize = 24;
/// Unknown parameters of a handshake that are compared with the known ones, so that a misspelt one
/// is refused; further ones are ignored unlooked.
pub const PARAMETERS_COMPARED_MAX: usize = 32;
