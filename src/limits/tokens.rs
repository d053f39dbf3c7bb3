//! Bounds of tokens: their size and claims, the keys, and what is remembered of both.
//!
//! Part of [`limits`](super): everything in a token was written by its bearer until its signature
//! is verified, and an issuer's answer is a stranger's, too.

use std::time::Duration;

/// Longest token; a longer one is refused unread.
pub const TOKEN_BYTES_MAX: usize = 8 * 1024;
/// Patterns of one list of the claim `wsbcast`; a longer list makes the token a bad one.
pub const TOKEN_PATTERNS_MAX: usize = 1000;
/// Tokens that a handshake may offer as subprotocols; further ones are not looked at: each costs a
/// verification, and a head has room for hundreds.
pub const TOKENS_OFFERED_MAX: usize = 2;
/// After a bad token over an open connection, before the client's next command is run: a connection
/// has so few of them verified. It ends with the client, of which no further token is verified.
pub const TOKEN_REFUSED_PAUSE: Duration = Duration::from_secs(1);
/// Longest `sub` and `jti`; a longer one makes the token a bad one.
pub const TOKEN_TEXT_BYTES_MAX: usize = 256;
/// How far `nbf` may be ahead of this machine's clock.
pub const TOKEN_NBF_LEEWAY: Duration = Duration::from_secs(30);
/// Characters of a token's claim that a hint quotes; the rest is left out.
pub const TOKEN_QUOTE_CHARS_MAX: usize = 64;
/// Keys that are tried for one token; the signature is wrong if it is that of a further one.
pub const TOKEN_KEYS_TRIED_MAX: usize = 16;
/// Characters of a claim that `wsbcast token check` shows; the rest is left out.
pub const TOKEN_CLAIM_SHOWN_CHARS_MAX: usize = 400;
/// Secrets and public keys of the options together; more are refused at the start.
pub const TOKEN_KEYS_MAX: usize = 16;
/// Shortest RSA modulus: a shorter one is no longer safe (RFC 7518 §3.3).
pub const TOKEN_RSA_BITS_MIN: usize = 2048;
/// Longest RSA modulus: a longer one takes too long to verify with.
pub const TOKEN_RSA_BITS_MAX: usize = 8192;
/// How long an issuer's last good set serves while there is no newer one, unless an option says it.
pub const TOKEN_JWKS_MAX_AGE: Duration = Duration::from_secs(24 * 60 * 60);
/// Keys of an issuer's set; a set with more is refused, and the last good one goes on.
pub const TOKEN_JWKS_KEYS_MAX: usize = 100;
/// The document of such a set; past it the same.
pub const TOKEN_JWKS_BYTES_MAX: usize = 256 * 1024;
/// To fetch the document, redirections and all; then the attempt has failed.
pub const TOKEN_JWKS_DEADLINE: Duration = Duration::from_secs(10);
/// The head of that answer; past it the same.
pub const TOKEN_JWKS_HEAD_BYTES_MAX: usize = 16 * 1024;
/// Redirections on the way to it; past it the same.
pub const TOKEN_JWKS_REDIRECTIONS_MAX: u32 = 3;
/// For a token whose key is unknown to wait until the set has been fetched again; then it is judged
/// by the set that there is.
pub const TOKEN_JWKS_WAIT: Duration = Duration::from_secs(2);
/// HTTP requests of one shard that wait so at the same time, and those of the admin listener;
/// tokens of further ones are judged at once: 503 `keys_unavailable`. At most a quarter of the
/// places of HTTP connections, so that others have the rest.
pub const TOKEN_JWKS_WAITING_MAX: usize = 32;
/// From one fetch's end to the next begin, at least, on demand and after a failure.
pub const TOKEN_JWKS_PAUSE: Duration = Duration::from_secs(10);
/// Between two regular fetches, if the issuer does not say how long its set is fresh.
pub const TOKEN_JWKS_INTERVAL: Duration = Duration::from_secs(10 * 60);
/// The same at least, whatever the issuer says.
pub const TOKEN_JWKS_INTERVAL_MIN: Duration = Duration::from_secs(60);
/// The same at most: a key that an issuer withdraws is in use for so long.
pub const TOKEN_JWKS_INTERVAL_MAX: Duration = Duration::from_secs(60 * 60);
/// Verified tokens that are remembered; past it those that were not shown for longest are verified
/// again when they are.
pub const TOKEN_CACHE_ENTRIES_MAX: usize = 32_768;
/// The memory that their rights take; past it the same.
pub const TOKEN_CACHE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Bad tokens that are remembered, apart from the good ones, so that they displace none; past it
/// the same.
pub const TOKEN_FAILURES_MAX: usize = 1024;
/// How long a bad token is remembered: the reason may be this machine's clock.
pub const TOKEN_FAILURE_TTL: Duration = Duration::from_secs(10);

const _: () = assert!(TOKEN_JWKS_PAUSE.as_millis() <= TOKEN_JWKS_INTERVAL_MIN.as_millis());
const _: () = assert!(TOKEN_JWKS_INTERVAL_MIN.as_millis() <= TOKEN_JWKS_INTERVAL_MAX.as_millis());
const _: () = assert!(TOKEN_TEXT_BYTES_MAX < TOKEN_BYTES_MAX);
