//! Why a command brought no answer that counts, and whether it may have had an effect.

use fred::error::Error;

/// Why a command brought no answer that counts.
#[derive(Debug)]
pub(crate) enum CallError {
    /// It was not written to Redis.
    NotSent,
    /// Redis refused it: it had no effect.
    Refused(Error),
    /// Redis does not know the script: it had no effect.
    NoScript,
    /// The keys are on another server of the cluster, or on their way: it had no effect.
    Elsewhere(Error),
    /// It was written, and what became of it is unknown.
    InDoubt(Error),
    /// Likewise: it is not an answer that the script gives.
    Unexpected(Error),
}
