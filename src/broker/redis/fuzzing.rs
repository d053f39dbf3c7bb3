//! Properties of what Redis sends: frames, answers with what it has stored, and publications.

use bytes::Bytes;
use fred::{prelude::Server, types::Value};
use redis_protocol::resp3::types::BytesFrame;

use super::{
    discovery::slot_map::SlotMap,
    net::{fuzzing as net, pipeline::value_of},
    protocol::{
        envelope::{self, Envelope},
        replies::{self, Claim, Ended, PublishReply, Read, StreamPosition},
    },
};
use crate::{
    limits::{OFFSET_MAX, RETIRED_EPOCHS_MAX},
    position::{Position, is_empty_epoch, is_epoch},
    ws::Kind,
};

/// Any bytes give the same frames however they are cut, within their bounds.
pub(crate) fn frames(input: &[u8]) {
    net::frames(input);
}

/// Any answer is read as a value within the bounds, or refused; and a stream that was read is
/// read again from an answer that says the same. A text is a publication only if it is whole.
pub(crate) fn answers(input: &[u8]) {
    let asked = Server::from(("10.0.0.1", 6379));
    for frame in net::read([input]).0 {
        if let Some(map) = SlotMap::read(&frame, &asked) {
            assert!(map.owner(u16::MAX).is_none(), "there is no such slot");
        }
        arrived(&frame);
        let Ok(value) = value_of(frame) else { continue };
        answer(value);
    }
}

/// A message that may have arrived on a channel: the last part of a push, or any text.
fn arrived(frame: &BytesFrame) {
    match frame {
        BytesFrame::Push { data, .. } | BytesFrame::Array { data, .. } => {
            data.last().into_iter().for_each(arrived);
        }
        BytesFrame::BlobString { data, .. } => {
            let Some(message) = envelope::decode(data) else { return };
            let Envelope { kind, epoch, offset, nonce, previous, data } = &message;
            assert!(is_epoch(epoch) && !is_empty_epoch(epoch), "{epoch:?}");
            assert!((1..=OFFSET_MAX).contains(offset) && (1..=OFFSET_MAX).contains(nonce));
            assert!(*previous <= OFFSET_MAX, "{previous}");
            assert!(*kind == Kind::Binary || str::from_utf8(data).is_ok());
            let letter = envelope::letter(*kind);
            let header = format!("2 {letter} {epoch} {offset} {nonce} {previous}\n");
            let written = Bytes::from([header.as_bytes(), data].concat());
            assert_eq!(envelope::decode(&written).as_ref(), Some(&message));
        }
        _ => {}
    }
}

/// An answer may be to any of the scripts.
fn answer(value: Value) {
    let (value, note) = replies::note(value);
    drop(note);
    if let Ok(position) = replies::position(value.clone()) {
        check_position(&position);
    }
    match replies::publish_reply(value.clone()) {
        Ok(PublishReply::New { position, .. } | PublishReply::Known(position)) => {
            check_position(&position);
        }
        Ok(PublishReply::KeysFull | PublishReply::ChannelsFull) | Err(_) => {}
    }
    if let Ok((Claim::Sent(position), _)) = replies::claim(value.clone()) {
        check_position(&position);
    }
    if let Ok(epochs) = replies::empty_epochs(value.clone()) {
        let both = [Some(epochs.current), epochs.before];
        assert!(both.iter().flatten().all(|epoch| is_epoch(epoch) && is_empty_epoch(epoch)));
    }
    let _ = replies::lease(value.clone());
    if let Ok(position) = replies::stream_position(value.clone()) {
        check_stream_position(&position);
    }
    if let Ok(Some((position, read))) = replies::stream_position_and_history(value.clone()) {
        check_stream_position(&position);
        read.iter().for_each(check_read);
    }
    if let Ok(Some(read)) = replies::read(value) {
        check_read(&read);
    }
}

fn check_position(position: &Position) {
    assert!(is_epoch(&position.epoch) && !is_empty_epoch(&position.epoch), "{position}");
    assert!(position.offset <= OFFSET_MAX, "{position}");
}

fn check_stream_position(stream_position: &StreamPosition) {
    let StreamPosition { position, nonce, ended } = stream_position;
    check_position(position);
    assert!(*nonce <= OFFSET_MAX, "{nonce}");
    assert!(ended.len() <= RETIRED_EPOCHS_MAX, "{} times", ended.len());
    for Ended { position, nonce } in ended.iter().flatten() {
        assert!(position.offset <= OFFSET_MAX && *nonce <= OFFSET_MAX);
    }
}

fn check_read(read: &Read) {
    check_stream_position(&read.stream_position);
    for message in &read.messages {
        assert!(message.position.offset > 0, "{message:?}");
        assert!(message.position.is_comparable(&read.stream_position.position));
        check_position(&message.position);
        assert!(message.kept.nonce <= OFFSET_MAX && message.previous <= OFFSET_MAX);
        assert!(message.kept.kind == Kind::Binary || str::from_utf8(&message.kept.data).is_ok());
    }
    let again = replies::read(written(read)).expect("it is an answer").expect("it is a stream");
    assert_eq!(format!("{again:?}"), format!("{read:?}"));
}

/// The answer that gives this stream.
fn written(read: &Read) -> Value {
    let StreamPosition { position, nonce, ended } = &read.stream_position;
    let end = |ended: &Ended| format!("{}:{}", ended.position, ended.nonce);
    let at_once = |ends: &Vec<Ended>| ends.iter().map(end).collect::<Vec<_>>().join(",");
    let ended = ended.iter().map(at_once).collect::<Vec<_>>().join(" ");
    let entries = read.messages.iter().rev().map(|message| {
        let id = format!("{}-{}", message.position.offset, message.kept.nonce);
        let (letter, previous) = (envelope::letter(message.kept.kind), message.previous);
        let data = Value::Bytes(message.kept.data.clone());
        let fields = ["k".into(), letter.into(), "d".into(), data, "p".into()];
        let fields = fields.into_iter().chain([previous.to_string().into()]);
        Value::Array(vec![id.into(), Value::Array(fields.collect())])
    });
    let entries = Value::Array(entries.collect());
    let epoch = position.epoch.to_string();
    let offset = position.offset.to_string();
    let lives = Value::Integer(read.lives_ms);
    let parts = [epoch.into(), offset.into(), nonce.to_string().into(), ended.into()];
    Value::Array(parts.into_iter().chain([lives, entries]).collect())
}
