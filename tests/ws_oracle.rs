//! The decoder against a second opinion and against itself.
//!
//! Random streams of frames, most of them sound, are read whole, cut at random places, byte by
//! byte, and by tungstenite in the server's role. All must tell the same events and the same
//! reason to close. Memory is watched at every step. proptest prints the smallest failing stream
//! and keeps its seed beside this file.

use std::{
    borrow::Cow,
    io::{self, Cursor, Read, Write},
};

use proptest::{
    prelude::*,
    sample::{Index, select},
    test_runner::FileFailurePersistence,
};
use tokio_tungstenite::tungstenite::{
    Error, Message, WebSocket,
    error::ProtocolError,
    protocol::{CloseFrame as OracleClose, Role, WebSocketConfig},
};
use wsbcast::ws::{
    Kind,
    close::CloseReason,
    decoder::{CloseFrame, Decoder, Event, FrameRules},
};

/// A decoder's own memory besides payload: states, and the first capacity of a `Vec`.
const STATE_BYTES_MAX: usize = 512;

/// The events of a stream, then the reason to close if there was one.
type Verdict = (Vec<Event<'static>>, Option<CloseReason>);

// --- Streams ----------------------------------------------------------------------------------

/// A frame as it is put on the wire, its length in the fewest bytes.
#[derive(Clone, Debug)]
struct Frame {
    first: u8,
    key: Option<[u8; 4]>,
    payload: Vec<u8>,
}

impl Frame {
    fn write(&self, bytes: &mut Vec<u8>) {
        let masked = if self.key.is_some() { 0x80 } else { 0 };
        bytes.push(self.first);
        match self.payload.len() {
            len @ 0..=125 => bytes.push(masked | len as u8),
            len @ 126..=0xFFFF => {
                bytes.push(masked | 126);
                bytes.extend((len as u16).to_be_bytes());
            }
            len => {
                bytes.push(masked | 127);
                bytes.extend((len as u64).to_be_bytes());
            }
        }
        let key = self.key.unwrap_or_default();
        bytes.extend(self.key.iter().flatten());
        bytes.extend(self.payload.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key));
    }
}

fn masked(first: u8, payload: Vec<u8>) -> impl Strategy<Value = Frame> {
    any::<[u8; 4]>().prop_map(move |key| Frame { first, key: Some(key), payload: payload.clone() })
}

/// Text: short, or around the borders of the length's encodings.
fn sound_text() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        6 => "\\PC{0,40}".prop_map(String::into_bytes),
        1 => (120..135_usize).prop_map(|len| vec![b'x'; len]),
        1 => (65_530..65_540_usize).prop_map(|len| vec![b'y'; len]),
    ]
}

fn noise(len_max: usize) -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 0..=len_max)
}

/// A message in one to five frames, with or without a control frame before each.
fn message(opcode: u8, payload: Vec<u8>) -> impl Strategy<Value = Vec<Frame>> {
    let cuts = prop::collection::vec(any::<Index>(), 0..5);
    let controls = prop::collection::vec(prop::option::weighted(0.3, ping_or_pong()), 5);
    (cuts, controls, any::<[u8; 4]>()).prop_map(move |(cuts, controls, key)| {
        let pieces = pieces(&payload, &cuts);
        let last = pieces.len() - 1;
        let mut frames = Vec::new();
        for (index, piece) in pieces.into_iter().enumerate() {
            frames.extend(controls.get(index).cloned().flatten());
            let fin = if index == last { 0x80 } else { 0 };
            let opcode = if index == 0 { opcode } else { 0 };
            frames.push(Frame { first: fin | opcode, key: Some(key), payload: piece.to_vec() });
        }
        frames
    })
}

fn ping_or_pong() -> impl Strategy<Value = Frame> {
    (select(vec![0x89, 0x8A]), noise(125)).prop_flat_map(|(first, payload)| masked(first, payload))
}

fn close_frame() -> impl Strategy<Value = Frame> {
    let code = prop_oneof![
        3 => prop_oneof![1000..=1003_u16, 1007..=1013_u16, 3000..=4999_u16],
        1 => any::<u16>(),
    ];
    (code, "\\PC{0,20}", 0..4_u8).prop_flat_map(|(code, text, shape)| {
        let mut payload = code.to_be_bytes().to_vec();
        match shape {
            0 => payload.clear(),
            1 => payload.truncate(1),
            _ => payload.extend(text.bytes()),
        }
        masked(0x88, payload)
    })
}

/// A frame with anything in it: usually broken, or sound and in the wrong place.
fn any_frame() -> impl Strategy<Value = Frame> {
    (any::<u8>(), prop::option::weighted(0.9, any::<[u8; 4]>()), noise(140))
        .prop_map(|(first, key, payload)| Frame { first, key, payload })
}

/// A stream of whole frames.
fn stream() -> impl Strategy<Value = Vec<u8>> {
    let part = prop_oneof![
        8 => sound_text().prop_flat_map(|text| message(0x1, text)),
        4 => noise(300).prop_flat_map(|bytes| message(0x2, bytes)),
        2 => ping_or_pong().prop_map(|frame| vec![frame]),
        1 => noise(12).prop_flat_map(|bytes| message(0x1, bytes)),
        1 => close_frame().prop_map(|frame| vec![frame]),
        1 => any_frame().prop_map(|frame| vec![frame]),
    ];
    prop::collection::vec(part, 0..8).prop_map(|parts| {
        let mut bytes = Vec::new();
        for mut frame in parts.into_iter().flatten() {
            // The oracle does not know 1014, which the registry has.
            if frame.first == 0x88 && frame.payload.starts_with(&1014_u16.to_be_bytes()) {
                frame.payload[1] ^= 1;
            }
            frame.write(&mut bytes);
        }
        bytes
    })
}

/// Cuts `bytes` at each of `cuts`.
fn pieces<'a>(bytes: &'a [u8], cuts: &[Index]) -> Vec<&'a [u8]> {
    let mut at: Vec<_> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
    at.extend([0, bytes.len()]);
    at.sort_unstable();
    at.windows(2).map(|ends| &bytes[ends[0]..ends[1]]).collect()
}

// --- The two readers --------------------------------------------------------------------------

/// Reads `pieces` one after the other, up to a Close frame or a failure, and asserts all along
/// what the decoder promises about memory and about the bytes it used.
fn decode<'a>(pieces: impl IntoIterator<Item = &'a [u8]>, rules: &FrameRules) -> Verdict {
    let mut decoder = Decoder::default();
    let (mut events, mut arrived_bytes) = (Vec::new(), 0);
    for piece in pieces {
        arrived_bytes += piece.len();
        let held_max = (2 * arrived_bytes).min(rules.message_bytes_max) + STATE_BYTES_MAX;
        let mut input = piece.to_vec();
        let mut rest = input.as_mut_slice();
        while !rest.is_empty() {
            let available = rest.len();
            let (used, event) = match decoder.next(rest, rules) {
                Ok((used, event)) => (used, event.map(Event::into_owned)),
                Err(reason) => {
                    assert_eq!(decoder.held_bytes(), 0);
                    return (events, Some(reason));
                }
            };
            assert!(used > 0 && (event.is_some() || used == available));
            assert!(decoder.held_bytes() <= held_max);
            assert_eq!(decoder.is_idle(), decoder.held_bytes() == 0);
            rest = &mut rest[used..];
            let closes = matches!(event, Some(Event::Close(_)));
            events.extend(event);
            if closes {
                return (events, None);
            }
        }
    }
    (events, None)
}

/// Bytes to read; what is written is thrown away.
struct OneWay(Cursor<Vec<u8>>);

impl Read for OneWay {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Write for OneWay {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        Ok(buffer.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Reads `bytes` with tungstenite up to a Close frame, a failure or the end.
fn ask_the_oracle(bytes: &[u8], message_bytes_max: usize) -> Verdict {
    let config = WebSocketConfig::default()
        .max_message_size(Some(message_bytes_max))
        .max_frame_size(Some(message_bytes_max));
    let input = OneWay(Cursor::new(bytes.to_vec()));
    let mut socket = WebSocket::from_raw_socket(input, Role::Server, Some(config));
    let data = |kind, data: Vec<u8>| Event::Message {
        kind,
        compressed: false,
        len: data.len(),
        data: data.into(),
    };
    let mut events = Vec::new();
    loop {
        events.push(match socket.read() {
            Ok(Message::Text(text)) => data(Kind::Text, text.as_bytes().to_vec()),
            Ok(Message::Binary(bytes)) => data(Kind::Binary, bytes.to_vec()),
            Ok(Message::Ping(bytes)) => Event::Ping(bytes.to_vec().into()),
            Ok(Message::Pong(bytes)) => Event::Pong(bytes.to_vec().into()),
            Ok(Message::Close(frame)) => return closed(events, frame),
            Ok(Message::Frame(frame)) => panic!("a raw frame was read: {frame:?}"),
            Err(Error::Protocol(ProtocolError::ResetWithoutClosingHandshake)) => {
                return (events, None);
            }
            Err(Error::Protocol(_)) => return (events, Some(CloseReason::Protocol)),
            Err(Error::Utf8(_)) => return (events, Some(CloseReason::BadUtf8)),
            Err(Error::Capacity(_)) => return (events, Some(CloseReason::TooBig)),
            Err(error) => panic!("the oracle failed: {error}"),
        });
    }
}

/// The oracle tells a code that may not be sent as a Close frame with this text.
fn closed(mut events: Vec<Event<'static>>, frame: Option<OracleClose>) -> Verdict {
    let (code, text) = match frame {
        Some(frame) if frame.reason.as_str() == "Protocol violation" => {
            return (events, Some(CloseReason::Protocol));
        }
        Some(frame) => (Some(frame.code.into()), frame.reason.to_string()),
        None => (None, String::new()),
    };
    events.push(Event::Close(CloseFrame { code, text }));
    (events, None)
}

// --- What must hold ---------------------------------------------------------------------------

fn config() -> ProptestConfig {
    let kept = FileFailurePersistence::WithSource("regressions");
    ProptestConfig { failure_persistence: Some(Box::new(kept)), ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn whole_cut_and_the_oracle_agree_on_every_stream(
        bytes in stream(),
        cuts in prop::collection::vec(any::<Index>(), 0..12),
        message_bytes_max in select(vec![200, 70_000]),
    ) {
        let rules = FrameRules { message_bytes_max, keep_payload: true, compression: false };
        let whole = decode([bytes.as_slice()], &rules);
        prop_assert_eq!(&whole, &decode(pieces(&bytes, &cuts), &rules));

        let oracle = ask_the_oracle(&bytes, message_bytes_max);
        prop_assert_eq!(&whole.0, &oracle.0);
        // One frame may break several rules: the decoder judges byte by byte, the oracle asks
        // for the length first and for a close code last.
        let both_right = whole.1 == Some(CloseReason::Protocol)
            && matches!(oracle.1, Some(CloseReason::TooBig | CloseReason::BadUtf8));
        prop_assert!(whole.1 == oracle.1 || both_right, "{:?}, oracle {:?}", whole.1, oracle.1);
    }

    /// A broken stream fails at one and the same byte, however it is cut.
    #[test]
    fn a_broken_stream_fails_at_one_byte(
        mut bytes in stream(),
        flips in prop::collection::vec((any::<Index>(), any::<u8>()), 0..3),
        cuts in prop::collection::vec(any::<Index>(), 0..12),
        message_bytes_max in select(vec![200, 70_000]),
        keep_payload in any::<bool>(),
    ) {
        for (at, bits) in flips {
            if !bytes.is_empty() {
                let at = at.index(bytes.len());
                bytes[at] ^= bits;
            }
        }
        let rules = FrameRules { message_bytes_max, keep_payload, compression: false };
        let bytewise = decode(bytes.chunks(1), &rules);
        prop_assert_eq!(&decode([bytes.as_slice()], &rules), &bytewise);
        prop_assert_eq!(&decode(pieces(&bytes, &cuts), &rules), &bytewise);

        if bytewise.1.is_some() {
            // The shortest beginning that fails: one byte less is without fault in one piece too.
            let passes = |end: usize| decode(bytes[..end].chunks(1), &rules).1.is_none();
            let (mut passing, mut failing) = (0, bytes.len());
            while failing - passing > 1 {
                let middle = passing.midpoint(failing);
                if passes(middle) { passing = middle } else { failing = middle }
            }
            prop_assert_eq!(decode([&bytes[..failing]], &rules).1, bytewise.1);
            prop_assert_eq!(decode([&bytes[..passing]], &rules).1, None);
        }
    }

    /// Garbage never panics and reads the same however it is cut.
    #[test]
    fn garbage_never_panics(
        mut bytes in noise(400),
        masked in any::<bool>(),
        cuts in prop::collection::vec(any::<Index>(), 0..12),
        message_bytes_max in select(vec![0, 50, usize::MAX]),
        keep_payload in any::<bool>(),
        compression in any::<bool>(),
    ) {
        if let (true, [first, second, ..]) = (masked, bytes.as_mut_slice()) {
            *first &= if compression { 0xCF } else { 0x8F };
            *second |= 0x80;
        }
        let rules = FrameRules { message_bytes_max, keep_payload, compression };
        let whole = decode([bytes.as_slice()], &rules);
        prop_assert_eq!(&whole, &decode(pieces(&bytes, &cuts), &rules));
        prop_assert_eq!(&whole, &decode(bytes.chunks(1), &rules));
    }

    #[test]
    fn discarded_messages_are_judged_like_kept_ones(bytes in stream()) {
        let read = |keep_payload| {
            let rules = FrameRules { message_bytes_max: 70_000, keep_payload, compression: false };
            decode([bytes.as_slice()], &rules)
        };
        let (mut kept, unwanted) = (read(true), read(false));
        for event in &mut kept.0 {
            if let Event::Message { data, .. } = event {
                *data = Cow::Borrowed(&[]);
            }
        }
        prop_assert_eq!(kept, unwanted);
    }
}
