//! Everything a client is sent besides its messages, in its connection's encoding: the opening,
//! heartbeats, and the last message before a close.
//!
//! All control frames of the table are made here, each from the encoding of the client it is for:
//! a WebSocket frame inside an event stream would tear it. When something is sent, and what comes
//! after it, is not decided here.

use std::time::Duration;

use crate::{
    conn::{v1::events::ServerEvent, write::encodings},
    hub::Encoding,
    limits::{SSE_RETRY, SSE_RETRY_SPREAD},
    ws::{
        Kind,
        close::{self, CloseReason},
        frame::{self, ControlFrame, ControlKind},
    },
};

/// Bytes for one client.
#[derive(Debug)]
pub(in crate::conn) enum ControlMessage {
    /// The client's encoding has no such message.
    Nothing,
    /// A control frame.
    Frame(ControlFrame),
    /// Always the same text.
    Fixed(&'static [u8]),
    /// A message's frame, or text of an event stream.
    Bytes(Vec<u8>),
}

impl AsRef<[u8]> for ControlMessage {
    fn as_ref(&self) -> &[u8] {
        match self {
            Self::Nothing => &[],
            Self::Frame(frame) => frame.as_ref(),
            Self::Fixed(bytes) => bytes,
            Self::Bytes(bytes) => bytes,
        }
    }
}

/// The last message to a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::conn) enum CloseMessage {
    /// A reason of ours.
    For(CloseReason),
    /// The answer to the client's own Close with this code.
    Answer(Option<u16>),
    /// The end of a drain: it is to come back after this.
    Restart { retry_ms: u64 },
    /// The client has said too much: it is to come back after this.
    RateLimited { retry_ms: u64 },
}

impl CloseMessage {
    pub(in crate::conn) fn reason(self) -> CloseReason {
        match self {
            Self::For(reason) => reason,
            Self::Answer(_) => CloseReason::Client,
            Self::Restart { .. } => CloseReason::Restart,
            Self::RateLimited { .. } => CloseReason::RateLimited,
        }
    }

    /// The message in `encoding`. An event stream just ends, except in a drain.
    pub(in crate::conn) fn encoded(self, encoding: Encoding) -> ControlMessage {
        if !encoding.has_frames() {
            return match self {
                Self::Restart { retry_ms } => ControlMessage::Bytes(encodings::sse_drain(retry_ms)),
                Self::For(_) | Self::Answer(_) | Self::RateLimited { .. } => {
                    ControlMessage::Nothing
                }
            };
        }
        if let Self::Restart { retry_ms } = self
            && encoding.is_v1()
        {
            let text = ServerEvent::Drain { reconnect_after_ms: retry_ms }.to_json();
            let header = frame::data_header(Kind::Text, text.len());
            let close = Self::Restart { retry_ms }.close_frame();
            return ControlMessage::Bytes([header.as_ref(), &text, close.as_ref()].concat());
        }
        ControlMessage::Frame(self.close_frame())
    }

    fn close_frame(self) -> ControlFrame {
        match (self, self.reason().code()) {
            (Self::Restart { retry_ms } | Self::RateLimited { retry_ms }, Some(code)) => {
                frame::close(code, &close::retry_text(self.reason(), retry_ms))
            }
            (Self::For(reason), Some(code)) => frame::close(code, reason.text()),
            (Self::Answer(Some(code)), _) => frame::close(code, ""),
            (Self::Answer(None), _) | (_, None) => frame::close_empty(),
        }
    }
}

/// The opening, before everything else.
pub(in crate::conn) fn opening(encoding: Encoding, greeting: Option<&str>) -> ControlMessage {
    match (encoding, greeting) {
        (Encoding::Plain | Encoding::Deflate(_), Some(greeting)) => {
            let header = frame::data_header(Kind::Text, greeting.len());
            ControlMessage::Bytes([header.as_ref(), greeting.as_bytes()].concat())
        }
        (Encoding::Sse, greeting) => {
            ControlMessage::Bytes(encodings::sse_opening(retry_ms(), greeting))
        }
        (Encoding::Plain | Encoding::Deflate(_) | Encoding::V1 | Encoding::V1Deflate(_), _) => {
            ControlMessage::Nothing
        }
    }
}

/// The sign of life for an idle client: with frames, one that it answers.
pub(in crate::conn) fn sign_of_life(encoding: Encoding) -> ControlMessage {
    if encoding.has_frames() {
        ControlMessage::Frame(frame::control(ControlKind::Ping, b""))
    } else {
        ControlMessage::Fixed(encodings::SSE_HEARTBEAT)
    }
}

/// The answer to a Ping, which only a client with frames can send.
pub(in crate::conn) fn pong(payload: &[u8]) -> ControlFrame {
    frame::control(ControlKind::Pong, payload)
}

fn retry_ms() -> u64 {
    let spread = Duration::mul_f64(SSE_RETRY_SPREAD, fastrand::f64());
    u64::try_from((SSE_RETRY + spread).as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const REASONS: [CloseMessage; 3] = [
        CloseMessage::For(CloseReason::SlowConsumer),
        CloseMessage::Answer(Some(1000)),
        CloseMessage::Restart { retry_ms: 7 },
    ];

    /// A client that knows frames gets a close frame, and an event stream never does.
    #[test]
    fn only_clients_with_frames_get_a_close_frame() {
        for encoding in [Encoding::Plain, Encoding::V1] {
            for close_message in REASONS {
                let encoded = close_message.encoded(encoding);
                let close = close_message.close_frame();
                assert!(encoded.as_ref().ends_with(close.as_ref()), "{close_message:?}");
                assert_eq!(close.as_ref()[0], 0x88, "{close_message:?}");
            }
            assert_eq!(sign_of_life(encoding).as_ref(), [0x89, 0]);
        }
        let all = CloseReason::ALL.map(CloseMessage::For).into_iter().chain(REASONS);
        let texts = all.map(|close_message| close_message.encoded(Encoding::Sse)).chain([
            sign_of_life(Encoding::Sse),
            opening(Encoding::Sse, None),
            opening(Encoding::Sse, Some("hi")),
        ]);
        for text in texts {
            let text = str::from_utf8(text.as_ref()).unwrap();
            assert!(text.is_empty() || text.ends_with("\n\n"), "{text:?}");
            assert!(text.bytes().all(|byte| byte == b'\n' || !byte.is_ascii_control()));
        }
    }
}
