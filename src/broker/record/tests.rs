//! Records of other versions: one that was kept, and one with more in it than this version knows.

use super::*;
use crate::{
    broker::{
        HistorySettings,
        embedded::SequencerTaking,
        redis::{LocalState, LocalTaking},
    },
    clock::Millis,
    record::{self, recordings},
};

/// A part with all that a version has ever written.
fn part() -> BrokerPart {
    let channel = |text: &str| ChannelName::new(text).unwrap();
    let at = |text: &str| text.parse::<Position>().unwrap();
    let message = |text: &'static str, is_binary| MessageRecord { data: text.into(), is_binary };
    let kept = ChannelRecord {
        channel: channel("news"),
        publisher: PublisherClass::Token,
        id: 7,
        used: 12,
        age_ms: 1_500,
        after: at("0123456789abcdef-1:40"),
        messages: vec![message("hello", false), message("\u{1}\u{2}", true)],
    };
    let quiet = ChannelRecord {
        channel: channel("quiet"),
        publisher: PublisherClass::Api,
        id: 3,
        used: 3,
        age_ms: 300_000,
        after: at("0123456789abcdef:9"),
        messages: Vec::new(),
    };
    let answer = |publisher, key: &str| AnswerRecord {
        publisher,
        channel: channel("news"),
        key: IdempotencyKey::new(key).unwrap(),
        left_ms: 200_000,
        position: Some(at("0123456789abcdef-1:42")),
        is_in_doubt: false,
    };
    BrokerPart {
        at_ms: 250,
        channels: vec![kept, quiet],
        answers: vec![
            answer(Principal::Api, "k1"),
            answer(Principal::of_subject(Some("ann")), "k2"),
            answer(Principal::Anonymous, "k3"),
        ],
        floors: vec![(7, 41), (3, 9)],
        sequencer: Some(SequencerRecord {
            process_epoch: "0123456789abcdef".into(),
            uses: 12,
            evicted_messages: 4,
            evicted_channels: 2,
            slots: vec![SlotRecord { channel: channel("news"), interval_ms: 10_000, number: 77 }],
        }),
        ..BrokerPart::default()
    }
}

/// A part of a process with Redis, likewise.
fn local_part() -> BrokerPart {
    let channel = ChannelName::new("news").unwrap();
    let answer = |key: &str, is_in_doubt| AnswerRecord {
        publisher: Principal::Api,
        channel: channel.clone(),
        key: IdempotencyKey::new(key).unwrap(),
        left_ms: 100_000,
        position: None,
        is_in_doubt,
    };
    let taken = || BTreeMap::from([(PublisherClass::Token, 1_000), (PublisherClass::Api, 5)]);
    let window = || vec![WindowRecord { left_ms: 20_000, taken: taken() }];
    BrokerPart {
        at_ms: 7,
        answers: vec![answer("k1", false), answer("k2", true)],
        streams: vec![StreamRecord { channel: channel.clone(), bytes: taken(), left_ms: 9_000 }],
        local: Some(LocalRecord {
            slots: vec![SlotRecord { channel: channel.clone(), interval_ms: 10_000, number: 77 }],
            keys: window(),
            begun: window(),
            begun_in_a_day: window(),
            clock_ahead_ms: -250,
        }),
        ..BrokerPart::default()
    }
}

/// A part with the channels of such a process.
fn channels_part() -> BrokerPart {
    let channel = ChannelName::new("news").unwrap();
    let tracker = TrackerRecord::default();
    BrokerPart {
        at_ms: 3,
        wanted: vec![ChannelShards { channel: channel.clone(), shards: vec![0, 2] }],
        hearing: Some(HearingRecord { is_reached: true, shards: 3 }),
        places: vec![PlaceRecord { channel, tracker, is_unsure: true }],
        ..BrokerPart::default()
    }
}

#[test]
fn a_recording_of_a_process_with_redis_is_read() {
    recordings::check("broker/redis", &local_part());
    recordings::check("broker/channels", &channels_part());
}

/// The state that an earlier version has handed over is taken over.
#[test]
fn a_recording_of_an_earlier_version_is_read() {
    recordings::check("broker/embedded", &part());
    let history = HistorySettings {
        messages_max: 10,
        bytes_max: 1_000,
        total_bytes_max: 1_000,
        ttl: Duration::from_secs(60),
    };
    let mut taking = SequencerTaking::new(history, 10);
    taking.put(part(), Millis(0)).unwrap();
    let sequencer = taking.finish().unwrap();
    let position = |name: &str| sequencer.position(&ChannelName::new(name).unwrap()).to_string();
    assert_eq!(position("news"), "0123456789abcdef-1:42");
    assert_eq!(position("quiet"), "0123456789abcdef:9");
    assert_eq!(position("other"), "0123456789abcdef-2:0");
}

/// A record as a later version writes it.
#[derive(Serialize)]
struct Later<T> {
    since: Vec<Option<bool>>,
    #[serde(flatten)]
    known: T,
    then: (u8, &'static str),
}

fn later<T>(known: T) -> Later<T> {
    Later { since: vec![Some(true), None], known, then: (1, "two") }
}

/// Additions of a later version are skipped, wherever they stand.
#[test]
fn fields_of_a_later_version_are_skipped() {
    #[derive(Serialize)]
    struct LaterPart {
        at_ms: u64,
        channels: Vec<Later<ChannelRecord>>,
        answers: Vec<Later<AnswerRecord>>,
        floors: Vec<(u64, u64)>,
        sequencer: Later<SequencerRecord>,
    }
    let BrokerPart { at_ms, channels, answers, floors, sequencer, .. } = part();
    let written = later(LaterPart {
        at_ms,
        channels: channels.into_iter().map(later).collect(),
        answers: answers.into_iter().map(later).collect(),
        floors,
        sequencer: later(sequencer.unwrap()),
    });
    let bytes = record::to_bytes(&written);
    assert_eq!(bytes.windows(5).filter(|word| word == b"since").count(), 7);
    assert_eq!(record::from_bytes::<BrokerPart>(&bytes).unwrap(), part());
}

/// Parts of another kind of broker are refused before they could mean something else.
#[test]
fn another_kind_of_broker_is_refused() {
    let settings = HistorySettings {
        messages_max: 10,
        bytes_max: 1_000,
        total_bytes_max: 1_000,
        ttl: Duration::from_secs(60),
    };
    let sequencer = |part| SequencerTaking::new(settings, 10).put(part, Millis(0));
    let process = |part| LocalTaking::new(LocalState::new(settings, 1_000)).put(part, Millis(0));
    let other = |taken| matches!(taken, Err(TakeError::OtherBroker));
    let only_answers =
        |part: BrokerPart| BrokerPart { answers: part.answers, ..BrokerPart::default() };
    assert!(other(sequencer(channels_part())));
    assert!(other(sequencer(local_part())) && other(sequencer(only_answers(local_part()))));
    assert!(other(process(part())) && other(process(only_answers(part()))));
    assert!(sequencer(part()).is_ok() && process(local_part()).is_ok());
}
