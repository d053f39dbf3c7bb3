//! Every message as the first version wrote it: each later version reads it.

use serde_bytes::ByteBuf;

use super::*;
use crate::{
    handover::messages::{Ack, Enclosed, Hello, Manifest, Message, Progress, Purpose, Reason},
    record::recordings::check,
};

fn identity() -> Identity {
    Identity { major: 1, minor: 0, version: "0.1.0".into(), pid: 4711 }
}

fn enclosed(kind: PartKind) -> Enclosed {
    Enclosed {
        kind,
        shard: Some(1),
        content: ByteBuf::from([0, 1, 255]),
        is_sheet: false,
        descriptors: 2,
        number: 3,
    }
}

#[test]
fn every_message_of_the_first_version_is_read() {
    let sheet = Enclosed { content: ByteBuf::new(), is_sheet: true, ..enclosed(PartKind::Broker) };
    let reason = || Reason { reason: "it took too long".into() };
    let text = "another upgrade is under way".into();
    let refused = Refused { identity: identity(), reason: RefusedFor::Busy, text };
    let hello = |purpose| Message::Hello(Hello { identity: identity(), purpose });
    let process = enclosed(PartKind::Process);
    for (name, message) in [
        ("hello-take-over", hello(Purpose::TakeOver)),
        ("hello-ask-upgrade", hello(Purpose::AskUpgrade)),
        ("refused", Message::Refused(refused)),
        ("manifest", Message::Manifest(Manifest { identity: identity(), enclosed: process })),
        ("built", Message::Built),
        ("ahead", Message::Ahead(sheet)),
        ("ahead-end", Message::AheadEnd),
        ("ready", Message::Ready),
        ("pausing", Message::Pausing),
        ("part-shard", Message::Part(enclosed(PartKind::Shard))),
        ("part-clients", Message::Part(enclosed(PartKind::Clients))),
        ("part-http", Message::Part(enclosed(PartKind::Http))),
        ("parts-end", Message::PartsEnd),
        ("ack", Message::Ack(Ack { number: 3 })),
        ("prepared", Message::Prepared),
        ("commit", Message::Commit),
        ("abort", Message::Abort(reason())),
        ("progress", Message::Progress(Progress { step: Step::Pausing })),
        ("done", Message::Done(Done { pid: 4712, pause_ms: 120, clients: 18_000 })),
        ("rolled-back", Message::RolledBack(reason())),
    ] {
        check(&format!("handover/{name}"), &message);
    }
}
