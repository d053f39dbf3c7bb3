//! Clients as plain data, for another process that goes on with them.
//!
//! A client is its descriptor and what is recorded here. Times are relative, since they are read by
//! another clock. A field that a reader does not know is skipped, and one that a writer did not
//! know has the value of a client that never had what it is about.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{client_rates::RateRecord, entry::Endpoint, token_deadlines::DeadlinesRecord};
use crate::{
    admission::AddressKey,
    broker::PublisherClass,
    channel::ChannelName,
    hub::{BadOutput, ClientOutput, Encoding, HubRecord},
    peer::ClientAddress,
    position::{Missed, Position, Since},
    record::BadRecord,
    token::Rights,
    ws::{Kind, close::CloseReason, decoder::DecoderRecord},
};

/// A part of all that the clients of a shard share. The parts follow each other.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct TableRecord {
    #[serde(default)]
    pub(super) hub: HubRecord,
    /// The rights to which clients refer.
    #[serde(default)]
    pub(super) rights: Vec<Rights>,
}

/// One client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ClientRecord {
    pub(super) endpoint: Endpoint,
    pub(super) encoding: Encoding,
    pub(super) output: ClientOutput,
    pub(super) connected_ago_s: u64,
    pub(super) heard_ago_ms: u64,
    #[serde(default)]
    pub(super) is_pinged: bool,
    /// Its input waits until there is room for the consequences.
    #[serde(default)]
    pub(super) is_paused: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) publisher: Option<PublisherClass>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) credential: Option<CredentialRecord>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) decoder: Option<DecoderRecord>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) message_begun_ago_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) commands: Option<CommandsRecord>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) close: Option<CloseRecord>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) replay: Option<ReplayRecord>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) rate: Option<RateRecord>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) counted: Option<AddressKey>,
    /// The address for which its bad tokens count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) guesses_as: Option<ClientAddress>,
    /// An operator has it come back, and its close is still to come.
    #[serde(default)]
    pub(super) is_returning: bool,
    /// A command of its own, or a channel that it was joining, did not come to an end: it cannot
    /// go on, and comes back.
    #[serde(default)]
    pub(super) is_interrupted: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) logged: Option<LoggedRecord>,
}

/// The credential that a client has shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum CredentialRecord {
    /// A token of `--api-token`.
    Api,
    /// A token with rights of its own.
    Token(TokenRecord),
}

/// A token that a client has shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct TokenRecord {
    /// The number of the rights among all of the shard's.
    pub(super) rights: u32,
    #[serde(default)]
    pub(super) deadlines: Option<DeadlinesRecord>,
}

/// A client's commands that wait.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct CommandsRecord {
    pub(super) waiting: Vec<CommandRecord>,
    /// The next one waits so long.
    #[serde(default)]
    pub(super) pause_ms: Option<u64>,
}

/// A command. The right to it is judged when its turn comes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum CommandRecord {
    Publish(PublishRecord),
    Subscribe(SubscribeRecord),
    Unsubscribe(ChannelName),
    Token(Secret),
    Ping,
}

/// A message to publish.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct PublishRecord {
    pub(super) channel: ChannelName,
    pub(super) kind: Kind,
    pub(super) data: Bytes,
    #[serde(default)]
    pub(super) id: Option<String>,
}

/// A channel to join.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SubscribeRecord {
    pub(super) channel: ChannelName,
    #[serde(default)]
    pub(super) since: Option<Since>,
}

/// A text that `Debug` does not show.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Secret(pub(super) Box<str>);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}

/// A client that is being closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct CloseRecord {
    pub(super) reason: CloseReason,
    /// Until its present step has lasted too long.
    pub(super) left_ms: u64,
    /// Our Close frame is out.
    #[serde(default)]
    pub(super) is_sent: bool,
    #[serde(default)]
    pub(super) hurried: bool,
    #[serde(default)]
    pub(super) peer_closed: bool,
}

/// History that a client is still to be given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ReplayRecord {
    pub(super) steps: Vec<StepRecord>,
    #[serde(default)]
    pub(super) holes: Vec<HoleRecord>,
}

/// The messages of a channel after a position, up to an offset.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct StepRecord {
    pub(super) channel: ChannelName,
    pub(super) after: Position,
    pub(super) to: u64,
}

/// A hole that a client is still to be told of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct HoleRecord {
    pub(super) channel: ChannelName,
    pub(super) missed: Missed,
}

/// A client of which the log has spoken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct LoggedRecord {
    pub(super) address: ClientAddress,
    #[serde(default)]
    pub(super) forwarded: Option<Box<str>>,
    pub(super) since_ago_ms: u64,
}

/// A record cannot be read, or contradicts itself.
#[derive(Debug, Error)]
pub enum BadClientRecord {
    /// It is no record of this kind.
    #[error(transparent)]
    Record(#[from] BadRecord),
    /// In what the client is to get.
    #[error(transparent)]
    Output(#[from] BadOutput),
    /// In what it has said.
    #[error("a client's record has an input that no client can have sent")]
    Input,
    /// In its rights.
    #[error("a client's record refers to rights that are not there")]
    Rights,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        channel::{ChannelPattern, ChannelPatterns},
        hub::{
            BehindRecord, BodyRecord, ChannelRecord, LongRecord, OutputState, PayloadForm,
            PayloadRecord, Piece, SharedPiece,
        },
        record::{self, recordings},
        ws::decoder::Decoder,
    };

    fn channel(name: &str) -> ChannelName {
        ChannelName::new(name).unwrap()
    }

    fn position(text: &str) -> Position {
        text.parse().unwrap()
    }

    fn patterns(texts: &[&str]) -> ChannelPatterns {
        texts.iter().map(|text| ChannelPattern::new(text).unwrap()).collect()
    }

    fn body(skipped: u64, text: &str, starts: Vec<u16>, long: Option<LongRecord>) -> BodyRecord {
        BodyRecord { number: 0, skipped, bytes: text.to_owned().into(), starts, long }
    }

    fn table() -> TableRecord {
        let rights = Rights {
            subscribe: patterns(&["a", "b.*"]),
            publish: patterns(&["a"]),
            sub: Some("alice".into()),
            jti: None,
            expires_at: Some(2_000_000_000),
            verified_at: 1_900_000_000,
        };
        let long = LongRecord {
            opening: "data: ".into(),
            payload: 3,
            form: PayloadForm::Lines,
            closing: "\n\n".into(),
            length: 15,
        };
        let bodies = vec![body(7, "\u{1}kept", vec![0, 4], None), body(0, "", vec![0], Some(long))];
        let payloads = vec![PayloadRecord { number: 3, bytes: "payload".into() }];
        let of = |name, position| ChannelRecord { name: channel(name), position };
        let channels = vec![of("a", Some(position("e:7"))), of("b", None)];
        TableRecord { hub: HubRecord { channels, payloads, bodies }, rights: vec![rights] }
    }

    fn commands() -> CommandsRecord {
        CommandsRecord {
            waiting: vec![
                CommandRecord::Publish(PublishRecord {
                    channel: channel("a"),
                    kind: Kind::Binary,
                    data: "data".into(),
                    id: Some("id".into()),
                }),
                CommandRecord::Subscribe(SubscribeRecord {
                    channel: channel("b.c"),
                    since: Some(Since::After(position("e:5"))),
                }),
                CommandRecord::Unsubscribe(channel("a")),
                CommandRecord::Token(Secret("token".into())),
                CommandRecord::Ping,
            ],
            pause_ms: Some(150),
        }
    }

    fn busy() -> ClientRecord {
        let mut decoder = Decoder::default();
        let mut begun = *b"\x01\x85abcdxyz";
        let rules = crate::ws::decoder::FrameRules {
            message_bytes_max: 100,
            keep_payload: true,
            compression: false,
        };
        assert!(decoder.next(&mut begun, &rules).is_ok());
        let shared = SharedPiece { body: 0, from: 1, to: 5, head: 0, of_log: true };
        let missed = Missed { epoch: Some("e".into()), from: 3, to: Some(4), sure: true };
        ClientRecord {
            endpoint: Endpoint::Ws,
            encoding: Encoding::V1,
            output: ClientOutput {
                channels: vec![0, 1],
                carried: "rest".into(),
                pieces: vec![Piece::Own("\u{1}own".into()), Piece::Shared(shared)],
                begun_bytes: 2,
                is_held: true,
                behind: vec![BehindRecord { channel: channel("b"), piece: shared }],
                state: OutputState::LogsThenClose("close".into()),
            },
            connected_ago_s: 3_600,
            heard_ago_ms: 7_000,
            is_pinged: true,
            is_paused: true,
            publisher: Some(PublisherClass::Token),
            credential: Some(CredentialRecord::Token(TokenRecord { rights: 0, deadlines: None })),
            decoder: decoder.record(),
            message_begun_ago_ms: Some(20),
            commands: Some(commands()),
            close: Some(CloseRecord {
                reason: CloseReason::SlowConsumer,
                left_ms: 1_900,
                is_sent: false,
                hurried: true,
                peer_closed: true,
            }),
            replay: Some(ReplayRecord {
                steps: vec![StepRecord { channel: channel("a"), after: position("e:2"), to: 6 }],
                holes: vec![HoleRecord { channel: channel("b"), missed }],
            }),
            rate: Some(RateRecord::WholeIn(5_000_000)),
            counted: Some(AddressKey::from(std::net::IpAddr::from([192, 0, 2, 1]))),
            guesses_as: Some(ClientAddress::Ip([192, 0, 2, 1].into())),
            is_returning: true,
            is_interrupted: true,
            logged: Some(LoggedRecord {
                address: ClientAddress::Unnamed,
                forwarded: Some("somebody".into()),
                since_ago_ms: 3_600_000,
            }),
        }
    }

    /// Every later version reads what this one has written.
    #[test]
    fn recordings_are_read() {
        recordings::check("clients/table", &table());
        recordings::check("clients/busy", &busy());
    }

    /// A record of the least that there may be is one of a client that is idle.
    #[test]
    fn a_field_that_is_missing_has_its_default() {
        #[derive(Serialize)]
        struct Least {
            endpoint: Endpoint,
            encoding: Encoding,
            output: LeastOutput,
            connected_ago_s: u64,
            heard_ago_ms: u64,
            a_field_of_a_later_version: [u8; 3],
        }
        #[derive(Serialize)]
        struct LeastOutput {
            state: OutputState,
        }
        let least = Least {
            endpoint: Endpoint::Ws,
            encoding: Encoding::Plain,
            output: LeastOutput { state: OutputState::Open },
            connected_ago_s: 1,
            heard_ago_ms: 2,
            a_field_of_a_later_version: [1, 2, 3],
        };
        let read: ClientRecord = record::from_bytes(&record::to_bytes(&least)).unwrap();
        let idle = (read.publisher, read.decoder, read.commands, read.close, read.logged);
        assert_eq!(idle, (None, None, None, None, None));
        assert!(!read.is_pinged && !read.is_returning && !read.is_interrupted);
        assert!(read.output.pieces.is_empty() && read.output.channels.is_empty());
    }

    /// A token does not get into a log by way of its record.
    #[test]
    fn a_secret_is_not_shown() {
        assert!(!format!("{:?}", busy()).contains("\"token\""));
    }

    /// The words of the reasons are those on the wire, and no later version changes them.
    #[test]
    fn reasons_are_written_by_their_words() {
        for reason in CloseReason::ALL {
            let written = record::to_bytes(&reason);
            let word: String = record::from_bytes(&written).unwrap();
            assert_eq!(word, reason.word());
        }
    }
}
