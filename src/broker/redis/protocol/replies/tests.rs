//! The readings of the scripts' answers, and answers that are none of theirs.

use super::*;
use crate::{limits::OFFSET_MAX, position::for_each_number};

fn text(text: &str) -> Value {
    Value::from(text)
}

fn entry(id: &str, fields: &[&str]) -> Value {
    Value::Array(vec![text(id), Value::Array(fields.iter().map(|field| text(field)).collect())])
}

fn answer(epoch: &str, entries: Vec<Value>) -> Value {
    let stream_position = [text(epoch), text("2"), text("20"), text("d:7:70,c:1:2 no b:1")];
    let rest = [Value::Integer(1_000), Value::Array(entries)];
    Value::Array(stream_position.into_iter().chain(rest).collect())
}

#[test]
fn a_stream_is_read_into_the_order_it_was_written_in() {
    let newest_first = vec![
        entry("2-20", &["k", "b", "d", "two", "p", "10"]),
        entry("1-10", &["k", "t", "d", "one", "p", "0"]),
    ];
    let read = read(answer("e", newest_first)).unwrap().unwrap();
    assert_eq!(
        (read.stream_position.position.to_string(), read.stream_position.nonce),
        ("e:2".into(), 20)
    );
    let ended = |at: &str, nonce| Ended { position: at.parse().unwrap(), nonce };
    let ended = [vec![ended("d:7", 70), ended("c:1", 2)], vec![], vec![]];
    assert_eq!((read.lives_ms, read.stream_position.ended), (1_000, ended.to_vec()));
    let places = read
        .messages
        .iter()
        .map(|one| (one.position.offset, one.kept.nonce, one.previous, one.kept.data.clone()));
    let expected = [(1, 10, 0, Bytes::from("one")), (2, 20, 10, Bytes::from("two"))];
    assert_eq!(places.collect::<Vec<_>>(), expected);
}

#[test]
fn outcomes_of_a_message_are_told_apart() {
    let read = |parts: &[&str]| {
        publish_reply(Value::Array(parts.iter().map(|&part| text(part)).collect()))
    };
    let position: Position = "e:7".parse().unwrap();
    let new = |bytes, has_ended| PublishReply::New { position: position.clone(), bytes, has_ended };
    assert_eq!(read(&["e", "7", "9"]).unwrap(), new(9, false));
    assert_eq!(read(&["e", "7", "ended"]).unwrap(), new(0, true));
    assert_eq!(read(&["e", "7", "known"]).unwrap(), PublishReply::Known(position));
    assert_eq!(read(&["keys"]).unwrap(), PublishReply::KeysFull);
    assert_eq!(read(&["channels"]).unwrap(), PublishReply::ChannelsFull);
    assert!(read(&["other"]).is_err() && read(&["e", "7"]).is_err());
    assert!(read(&["e", "7", "other"]).is_err());
}

#[test]
fn entries_that_none_of_us_wrote_are_left_out() {
    let bad = vec![
        entry("2", &["k", "t", "d", "x", "p", "0"]),
        entry("0-1", &["k", "t", "d", "x", "p", "0"]),
        entry("2-1", &["k", "x", "d", "x", "p", "0"]),
        entry("2-1", &["d", "x", "k", "t", "p", "0"]),
        entry("2-1", &["k", "t", "d", "x", "p", "zero"]),
        entry("2-1", &["k", "t", "d"]),
        text("2-1"),
    ];
    assert!(read(answer("e", bad)).unwrap().unwrap().messages.is_empty());
}

#[test]
fn a_strangers_numbers_are_bounded() {
    for_each_number(|number, offset| {
        let read = position(Value::Array(vec![text("e"), text(number)])).ok();
        let read = read.map(|position| position.offset);
        assert!(read.is_none_or(|read| Some(read) == offset), "{number}");
        let sent = [text("sent"), Value::Integer(1), text("e"), text(number)];
        let claimed = claim(Value::Array(sent.to_vec())).ok();
        let Claim::Sent(claimed) = claimed.map_or(Claim::Taken, |(claim, _)| claim) else {
            assert_eq!(read, None, "{number}");
            return;
        };
        assert_eq!(Some(claimed.offset), read, "{number}");
        let nonce =
            stream_position(Value::Array([text("e"), text("1"), text(number), text("")].to_vec()));
        assert_eq!(nonce.ok().map(|stream_position| stream_position.nonce), read, "{number}");
        for (id, previous) in [(format!("{number}-1"), "0"), (format!("1-{number}"), number)] {
            let one = entry(&id, &["k", "t", "d", "x", "p", previous]);
            let read = super::read(answer("e", vec![one])).unwrap().unwrap();
            for one in read.messages {
                let numbers = [one.position.offset, one.kept.nonce, one.previous];
                assert!(numbers.iter().all(|number| *number <= OFFSET_MAX), "{number}");
            }
        }
    });
}

#[test]
fn only_valid_epochs_are_read() {
    let read = |written: &str| {
        let EmptyEpochs { current, before } = empty_epochs(text(written)).ok()?;
        Some((current.to_string(), before.map(|empty_epoch| empty_epoch.to_string())))
    };
    let empty_epoch = |name: &str| name.to_owned();
    assert_eq!(read("empty-a"), Some((empty_epoch("empty-a"), None)));
    assert_eq!(
        read("empty-b empty-a"),
        Some((empty_epoch("empty-b"), Some(empty_epoch("empty-a"))))
    );
    assert_eq!(read("b empty-a \u{e4}"), Some((empty_epoch("empty-a"), None)));
    assert_eq!(read(""), None);
}

#[test]
fn anything_but_a_scripts_answer_is_an_error() {
    assert!(read(Value::Null).unwrap().is_none());
    assert!(read(answer("no epoch", Vec::new())).is_err());
    assert!(read(Value::Array(vec![text("e"), text("2")])).is_err());
    let short = Value::Array(["e", "2", "20", "", "1000"].map(text).to_vec());
    assert!(stream_position_and_history(short).is_err());
    assert!(stream_position(Value::Array(vec![text("e"), text("2")])).is_err());
    assert!(lease(Value::Array(vec![Value::Integer(0), Value::Integer(-1)])).is_err());
    assert!(position(text("e")).is_err());
    assert!(position(Value::Array(vec![text("empty-e"), text("1")])).is_err());
    let none = |value| publish_reply(value).unwrap_err().details().to_owned();
    let expected = "expected an array of epoch and offset, got";
    assert_eq!(none(text("OK")), format!("{expected} the text \"OK\""));
    assert_eq!(none(Value::Null), format!("{expected} nil"));
    assert_eq!(none(Value::Integer(5)), format!("{expected} the number 5"));
    assert_eq!(none(Value::Array(vec![])), format!("{expected} an array with nothing in it"));
    assert!(claim(Value::Array(vec![text("sent"), Value::Integer(1), text("e")])).is_err());
}
