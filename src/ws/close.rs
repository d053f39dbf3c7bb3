//! The reasons for which a connection ends, in one table.
//!
//! Code, fixed word (the metric's `reason`), text on the wire and advice on reconnecting are
//! defined here and nowhere else; no other place writes a close code.

use serde::{Deserialize, Serialize};

/// Why a client's connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CloseReason {
    /// The client closed; its own code is echoed (RFC 6455 §5.5.1).
    Client,
    /// The process ends now: second signal or hard limit.
    GoingAway,
    /// RFC 6455 was broken.
    Protocol,
    /// A kind of data that is not supported here.
    Unsupported,
    /// A text message or close reason that is no UTF-8.
    BadUtf8,
    /// A message of the subprotocol that is not JSON.
    NotJson,
    /// A message of the subprotocol that is JSON, but no object with a `type`.
    Malformed,
    /// A message longer than `--max-message-size`.
    TooBig,
    /// An unfinished message was held too long, or the memory for unfinished messages ran out.
    Policy,
    /// The client said more than `--commands-per-client` allows.
    RateLimited,
    /// A bug in the server.
    Internal,
    /// Paced close at the end of a drain; the text carries the retry hint.
    Restart,
    /// The client fell further behind than the backlog allows.
    SlowConsumer,
    /// This client had the most channels of all, and others' channels needed the room.
    TooManyChannels,
    /// The messages that the client asked for are not kept any more.
    HistoryGone,
    /// A message of the channel was lost between the broker and this process.
    Gap,
    /// The client's token has expired, and was not renewed.
    TokenExpired,
    /// No sign of life within the ping timeout.
    PingTimeout,
    /// An operator has closed it, for good.
    Disconnected,
    /// The connection broke, or the client left, without a Close frame.
    Lost,
}

impl CloseReason {
    /// All reasons, in the order of the variants: `ALL[reason as usize] == reason`.
    pub const ALL: [Self; 20] = [
        Self::Client,
        Self::GoingAway,
        Self::Protocol,
        Self::Unsupported,
        Self::BadUtf8,
        Self::NotJson,
        Self::Malformed,
        Self::TooBig,
        Self::Policy,
        Self::RateLimited,
        Self::Internal,
        Self::Restart,
        Self::SlowConsumer,
        Self::TooManyChannels,
        Self::HistoryGone,
        Self::Gap,
        Self::TokenExpired,
        Self::PingTimeout,
        Self::Disconnected,
        Self::Lost,
    ];
    /// The code on the wire. `None` where the server sends no code of its own: the client's code is
    /// echoed, and a lost connection gets none.
    #[must_use]
    pub const fn code(self) -> Option<u16> {
        self.row().code
    }

    /// The fixed word: the metric's `reason`, the log's field.
    #[must_use]
    pub const fn word(self) -> &'static str {
        self.row().word
    }

    /// The text that follows the code in the Close frame.
    #[must_use]
    pub const fn text(self) -> &'static str {
        self.row().text
    }

    /// Whether the client should connect again.
    #[must_use]
    pub const fn reconnect(self) -> bool {
        self.row().reconnect
    }

    /// The table.
    const fn row(self) -> ReasonRow {
        match self {
            Self::Client => row(None, "client", "", false),
            Self::GoingAway => row(Some(1001), "going_away", "server is going away", true),
            // Some libraries report a 1012, which they lack, as 1002.
            Self::Protocol => row(Some(1002), "protocol", "protocol error", true),
            Self::Unsupported => row(Some(1003), "unsupported", "data not supported", false),
            Self::BadUtf8 => row(Some(1007), "bad_utf8", "text is not UTF-8", false),
            Self::NotJson => row(Some(1007), "not_json", "text is not JSON", false),
            Self::Malformed => row(Some(1008), "malformed", "no object with a type", false),
            Self::TooBig => row(Some(1009), "too_big", "message too big", false),
            Self::Policy => row(Some(1008), "policy", "unfinished message not kept", false),
            Self::RateLimited => row(Some(1008), "rate_limited", "rate limited", true),
            Self::Internal => row(Some(1011), "internal", "internal error", true),
            Self::Restart => row(Some(1012), "restart", "service restart", true),
            Self::SlowConsumer => row(Some(1013), "slow_consumer", "reading too slowly", true),
            Self::TooManyChannels => {
                row(Some(1013), "too_many_channels", "too many channels", true)
            }
            Self::HistoryGone => row(Some(1013), "history_gone", "history gone", true),
            Self::Gap => row(Some(1013), "gap", "messages were lost", true),
            Self::TokenExpired => row(Some(4401), "token_expired", "token expired", true),
            Self::PingTimeout => row(Some(4408), "ping_timeout", "no sign of life", true),
            Self::Disconnected => row(Some(4403), "disconnected", "disconnected", false),
            Self::Lost => row(None, "lost", "", true),
        }
    }
}

/// The text of a close that says when to come back, chosen by the server so that all the clients it
/// closes come back evenly.
#[must_use]
pub fn retry_text(reason: CloseReason, retry_ms: u64) -> String {
    format!("{}; retry in {retry_ms} ms", reason.text())
}

/// Whether a peer may put `code` into a Close frame (RFC 6455 §7.4 and the registry it opened): the
/// registered codes, except those that only describe the absence of a code, and the two ranges for
/// libraries and applications.
#[must_use]
pub const fn is_valid_from_peer(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

struct ReasonRow {
    code: Option<u16>,
    word: &'static str,
    text: &'static str,
    reconnect: bool,
}

const fn row(
    code: Option<u16>,
    word: &'static str,
    text: &'static str,
    reconnect: bool,
) -> ReasonRow {
    ReasonRow { code, word, text, reconnect }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_reason_has_the_promised_code_word_and_advice() {
        let promised = [
            (CloseReason::Client, None, "client", false),
            (CloseReason::GoingAway, Some(1001), "going_away", true),
            (CloseReason::Protocol, Some(1002), "protocol", true),
            (CloseReason::Unsupported, Some(1003), "unsupported", false),
            (CloseReason::BadUtf8, Some(1007), "bad_utf8", false),
            (CloseReason::NotJson, Some(1007), "not_json", false),
            (CloseReason::Malformed, Some(1008), "malformed", false),
            (CloseReason::TooBig, Some(1009), "too_big", false),
            (CloseReason::Policy, Some(1008), "policy", false),
            (CloseReason::RateLimited, Some(1008), "rate_limited", true),
            (CloseReason::Internal, Some(1011), "internal", true),
            (CloseReason::Restart, Some(1012), "restart", true),
            (CloseReason::SlowConsumer, Some(1013), "slow_consumer", true),
            (CloseReason::HistoryGone, Some(1013), "history_gone", true),
            (CloseReason::Gap, Some(1013), "gap", true),
            (CloseReason::TooManyChannels, Some(1013), "too_many_channels", true),
            (CloseReason::TokenExpired, Some(4401), "token_expired", true),
            (CloseReason::PingTimeout, Some(4408), "ping_timeout", true),
            (CloseReason::Disconnected, Some(4403), "disconnected", false),
            (CloseReason::Lost, None, "lost", true),
        ];
        assert_eq!(promised.len(), CloseReason::ALL.len());
        for (reason, code, word, reconnect) in promised {
            assert_eq!(reason.code(), code, "{reason:?}");
            assert_eq!(reason.word(), word, "{reason:?}");
            assert_eq!(reason.reconnect(), reconnect, "{reason:?}");
        }
    }

    /// All is in the order of the variants and no word stands twice.
    #[test]
    fn the_table_of_all_is_in_order() {
        let words: HashSet<_> = CloseReason::ALL.iter().map(|reason| reason.word()).collect();
        assert_eq!(words.len(), CloseReason::ALL.len());
        for (index, reason) in CloseReason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, index);
        }
    }

    /// Every text fits a close frame and every code may be sent.
    #[test]
    fn every_text_fits_a_close_frame() {
        for reason in CloseReason::ALL {
            assert!(reason.text().len() <= 123, "{reason:?}");
            assert_eq!(reason.text().is_empty(), reason.code().is_none(), "{reason:?}");
            assert!(reason.code().is_none_or(is_valid_from_peer), "{reason:?}");
        }
        for reason in CloseReason::ALL {
            assert!(retry_text(reason, u64::MAX).len() <= 123);
        }
    }

    #[test]
    fn a_restart_says_when_to_come_back() {
        let text = retry_text(CloseReason::Restart, 1234);
        assert_eq!(text, "service restart; retry in 1234 ms");
    }

    /// Peers may send registered and private codes and no others.
    #[test]
    fn peers_may_send_registered_and_private_codes() {
        let allowed = (0..=u16::MAX).filter(|&code| is_valid_from_peer(code));
        let expected = (1000..=1003).chain(1007..=1014).chain(3000..=4999);
        assert!(allowed.eq(expected));
    }
}
