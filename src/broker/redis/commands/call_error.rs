//! Why a command brought no answer that counts, and whether it may have had an effect.

use fred::error::Error;

/// Why a command brought no answer that counts.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    /// It was not written to Redis.
    #[error("there was no connection to send it on")]
    NotSent,
    /// Redis refused it: it had no effect.
    #[error("Redis refused it: {}", .0.details())]
    Refused(Error),
    /// Redis does not know the script: it had no effect.
    #[error("Redis does not know the script")]
    NoScript,
    /// The keys are on another server of the cluster, or on their way: it had no effect.
    #[error("another server of the cluster has the keys: {}", .0.details())]
    Elsewhere(Error),
    /// It was written, and its outcome is unknown.
    #[error("there was no answer: {}", .0.details())]
    InDoubt(Error),
    /// Its outcome is unknown, too: the script gives no such answer.
    #[error("the answer is none that the script gives: {}", .0.details())]
    Unexpected(Error),
}

#[cfg(test)]
mod tests {
    use fred::error::ErrorKind;

    use super::*;

    /// Operators read these in the log: no type names, nothing quoted.
    #[test]
    fn each_reason_reads_as_words() {
        let error = || Error::new(ErrorKind::IO, "the connection has ended");
        let all = [
            CallError::NotSent,
            CallError::Refused(error()),
            CallError::NoScript,
            CallError::Elsewhere(error()),
            CallError::InDoubt(error()),
            CallError::Unexpected(error()),
        ];
        for error in all {
            let text = error.to_string();
            assert!(!text.contains(['{', '(', '"']) && !text.contains("Error"), "{text}");
        }
    }
}
