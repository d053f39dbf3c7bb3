//! Properties of what a client sends: its frames, its headers, its compressed messages.

use flate2::{Decompress, FlushDecompress, Status};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Version};

use super::{
    Kind,
    close::CloseReason,
    decoder::{Decoder, Event, FrameRules},
    deflate::{INFLATE_END, Inflater, compressed_len_max},
    extension, handshake,
};

/// The longest Close text: a control frame without its code.
const CLOSE_TEXT_BYTES_MAX: usize = 123;

/// The headers that the handshake looks at.
const HEADERS: [&str; 8] = [
    "connection",
    "upgrade",
    "sec-websocket-version",
    "sec-websocket-key",
    "sec-websocket-protocol",
    "sec-websocket-extensions",
    "host",
    "content-length",
];

/// The events that came of some bytes, and the reason to end the connection.
type Verdict = (Vec<Event<'static>>, Option<CloseReason>);

/// Any bytes give the same events however they are cut, within the bounds of the rules; and a
/// message that was read is read again from a frame that holds it.
pub(crate) fn frames(input: &[u8]) {
    let Some((&[flags, cut], bytes)) = input.split_first_chunk() else { return };
    let rules = FrameRules {
        message_bytes_max: if flags & 1 == 0 { 70_000 } else { 40 },
        keep_payload: flags & 2 == 0,
        compression: flags & 4 != 0,
    };
    let whole = read([bytes], &rules);
    let (first, second) = bytes.split_at(usize::from(cut).min(bytes.len()));
    assert_eq!(read([first, second], &rules), whole, "cut in two");
    let step = usize::from(flags >> 4) + 1;
    assert_eq!(read(bytes.chunks(step), &rules), whole, "in pieces of {step}");
    for event in &whole.0 {
        check(event, &rules);
    }
}

/// Feeds a decoder one piece after another.
fn read<'a>(pieces: impl IntoIterator<Item = &'a [u8]>, rules: &FrameRules) -> Verdict {
    let (mut decoder, mut events, mut arrived) = (Decoder::default(), Vec::new(), 0);
    for piece in pieces {
        let (mut piece, mut start) = (piece.to_vec(), 0);
        loop {
            match decoder.next(&mut piece[start..], rules) {
                Ok((used, Some(event))) => {
                    start += used;
                    events.push(event.into_owned());
                }
                Ok((used, None)) => {
                    assert_eq!(start + used, piece.len(), "input was left over");
                    break;
                }
                Err(reason) => {
                    assert!(decoder.is_idle(), "memory is held after a failure");
                    return (events, Some(reason));
                }
            }
        }
        arrived += piece.len();
        let held_max = 2 * arrived.min(compressed_len_max(rules.message_bytes_max)) + 1_024;
        assert!(decoder.held_bytes() <= held_max, "{} bytes held", decoder.held_bytes());
    }
    (events, None)
}

fn check(event: &Event<'_>, rules: &FrameRules) {
    let (first, payload) = match event {
        Event::Message { kind, compressed, len, data } => {
            assert!(!compressed || rules.compression, "compressed without an agreement");
            let longest = rules.message_bytes_max;
            let longest = if *compressed { compressed_len_max(longest) } else { longest };
            assert!(*len <= longest, "a message of {len}");
            assert_eq!(data.len(), if rules.keep_payload { *len } else { 0 });
            let is_text = *kind == Kind::Text && !compressed;
            assert!(!is_text || std::str::from_utf8(data).is_ok(), "a text that is none");
            if !rules.keep_payload {
                return;
            }
            let opcode = if *kind == Kind::Text { 0x81 } else { 0x82 };
            (opcode | u8::from(*compressed) << 6, data.as_ref())
        }
        Event::Ping(data) => (0x89, data.as_ref()),
        Event::Pong(data) => (0x8A, data.as_ref()),
        Event::Close(frame) => {
            assert!(frame.text.len() <= CLOSE_TEXT_BYTES_MAX);
            assert!(frame.code.is_some() || frame.text.is_empty());
            return;
        }
    };
    assert!(first & 8 == 0 || payload.len() <= 125, "a control frame of {}", payload.len());
    assert_eq!(read([&*masked(first, payload)], rules), (vec![event.clone().into_owned()], None));
}

/// A client's frame.
fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    const KEY: [u8; 4] = [7, 0, 0xFF, 0x80];
    let mut frame = vec![first];
    match u16::try_from(payload.len()) {
        Ok(len @ 0..=125) => frame.push(0x80 | len.to_le_bytes()[0]),
        Ok(len) => {
            frame.push(0x80 | 126);
            frame.extend(len.to_be_bytes());
        }
        Err(_) => {
            frame.push(0x80 | 127);
            frame.extend((payload.len() as u64).to_be_bytes());
        }
    }
    frame.extend(KEY);
    frame.extend(payload.iter().zip(KEY.iter().cycle()).map(|(byte, key)| byte ^ key));
    frame
}

/// A request that is accepted has what the RFC asks for, and an agreement was offered. A line of
/// the input is a header: a byte for its name, then its value.
pub(crate) fn handshake(input: &[u8]) {
    let mut headers = HeaderMap::new();
    for line in input.split(|&byte| byte == b'\n').take(100) {
        let Some((&name, value)) = line.split_first() else { continue };
        let name = HEADERS[usize::from(name) % HEADERS.len()];
        if let Ok(value) = HeaderValue::from_bytes(value) {
            headers.append(HeaderName::from_static(name), value);
        }
    }
    let says = |name: &str, word: &str| {
        let values = headers.get_all(name).iter();
        values.map(HeaderValue::as_bytes).any(|value| {
            let lower = value.to_ascii_lowercase();
            lower.windows(word.len()).any(|part| part == word.as_bytes())
        })
    };
    if let Ok(accept) = handshake::check(&Method::GET, Version::HTTP_11, &headers) {
        assert_eq!(accept.accept_key.len(), 28, "the base64 of 20 bytes");
        assert!(says("upgrade", "websocket") && says("connection", "upgrade"));
        for name in ["sec-websocket-version", "sec-websocket-key", "host"] {
            assert_eq!(headers.get_all(name).iter().count(), 1, "{name}");
        }
        assert!(handshake::check(&Method::POST, Version::HTTP_11, &headers).is_err());
        assert!(handshake::check(&Method::GET, Version::HTTP_10, &headers).is_err());
    }
    let chosen = handshake::chosen_protocol(&headers, &[handshake::V1, handshake::PLAIN]);
    assert!(chosen.is_none_or(|name| says("sec-websocket-protocol", name)));
    let has_token = handshake::offered_tokens(&headers).next().is_some();
    assert!(!has_token || says("sec-websocket-protocol", "wsbcast.token."));
    if let Some(agreement) = extension::negotiate(&headers) {
        assert!(says("sec-websocket-extensions", "permessage-deflate"));
        let answer = agreement.answer();
        let answer = answer.to_str().expect("it is text");
        assert!(answer.starts_with("permessage-deflate; server_no_context_takeover; "));
        let is_named = answer.contains("server_max_window_bits");
        assert!(!is_named || says("sec-websocket-extensions", "server_max_window_bits"));
    }
}

/// A message is inflated to what a simpler reader makes of it, and never beyond the bound; what the
/// memory for it holds, and how much of that there is, changes nothing.
pub(crate) fn inflate(input: &[u8]) {
    let Some((&[flags, bound], data)) = input.split_first_chunk() else { return };
    let kind = if flags & 1 == 0 { Kind::Binary } else { Kind::Text };
    let bytes_max = usize::from(bound) * 64;
    let expected = inflated_by_byte(data, bytes_max).and_then(|inflated| {
        let is_fine = kind == Kind::Binary || std::str::from_utf8(&inflated).is_ok();
        if is_fine { Ok(inflated) } else { Err(CloseReason::BadUtf8) }
    });
    let expected = expected.as_deref().map_err(|&reason| reason);
    // The second one fills the window, too.
    for earlier_len in [usize::from(flags >> 1) * 64, 40_000] {
        let mut inflater = Inflater::default();
        assert_eq!(inflater.message(kind, data, bytes_max), expected, "the first message");
        let mut inflater = Inflater::default();
        let earlier = inflater.message(Kind::Binary, &stored(b'?', earlier_len), earlier_len);
        assert_eq!(earlier.map(<[u8]>::len), Ok(earlier_len));
        assert_eq!(inflater.message(kind, data, bytes_max), expected, "after {earlier_len} bytes");
        assert_eq!(inflater.message(kind, data, bytes_max), expected, "after itself");
        let Ok(inflated) = expected else { continue };
        assert_eq!(inflater.message(kind, data, inflated.len()), expected, "the bound is exact");
        if let Some(shorter) = inflated.len().checked_sub(1) {
            assert_eq!(inflater.message(kind, data, shorter), Err(CloseReason::TooBig));
        }
    }
}

/// Inflates a message from one byte at a time to one at a time, so that nothing depends on the
/// library's copying within an output or on what the output held.
fn inflated_by_byte(data: &[u8], bytes_max: usize) -> Result<Vec<u8>, CloseReason> {
    let (mut state, mut out, mut has_ended) = (Decompress::new(false), Vec::new(), data.is_empty());
    for (position, byte) in data.iter().chain(&INFLATE_END).enumerate() {
        if has_ended && position == data.len() {
            return Ok(out);
        }
        if has_ended {
            state = Decompress::new(false);
        }
        let mut rest = std::slice::from_ref(byte);
        loop {
            let (used_before, made_before) = (state.total_in(), state.total_out());
            let mut piece = [b'!'];
            let status = state.decompress(rest, &mut piece, FlushDecompress::Sync);
            let has_made = state.total_out() > made_before;
            out.extend(piece.iter().filter(|_| has_made));
            if out.len() > bytes_max {
                return Err(CloseReason::TooBig);
            }
            has_ended = status.map_err(|_| CloseReason::Protocol)? == Status::StreamEnd;
            if state.total_in() > used_before {
                rest = &[];
            }
            if has_ended || !has_made {
                break;
            }
        }
        assert!(rest.is_empty(), "a byte is left over");
    }
    if has_ended { Ok(out) } else { Err(CloseReason::Protocol) }
}

/// A message of equal bytes, fewer than 64 KiB, that is not compressed.
fn stored(byte: u8, len: usize) -> Vec<u8> {
    let short = u16::try_from(len).expect("it is short");
    let (len_bytes, inverted) = (short.to_le_bytes(), (!short).to_le_bytes());
    let mut data = [&[0][..], &len_bytes, &inverted].concat();
    data.resize(data.len() + len, byte);
    data.push(0);
    data
}
