//! `wsbcast.v1` with Redis out of reach: nothing is promised that nobody knows.

use serde_json::{Value, json};

use crate::support::{publish::Publisher, server::Server, v1::V1};

/// An address without a server.
const UNREACHABLE: &str = "redis://127.0.0.1:1";

fn server(policy: &str) -> Server {
    let loss = ["--redis-url", UNREACHABLE, "--on-broker-loss", policy];
    Server::start(&[&loss[..], &["--client-publish", "broadcast"]].concat())
}

/// Local messages have no position, and positions that nobody knows are null.
#[test]
fn local_messages_have_no_position() {
    let server = server("local");
    let addr = server.addr();
    let mut client = V1::open(addr, "/ws?channel=a&since=e:5");
    assert_eq!(client.hello["positions"], json!({"a": null}));
    let gap = client.next();
    assert_eq!(gap, json!({"type": "gap", "channel": "a", "epoch": null, "from": 6, "to": null}));
    assert!(Publisher::on(addr, "a").publish("hi").is_local());
    let message = client.next();
    assert_eq!(message, json!({"type": "message", "channel": "a", "scope": "local", "data": "hi"}));
    let subscribed = client.ask(&json!({"type": "subscribe", "channel": "b", "last": 3}));
    assert_eq!((&subscribed["epoch"], &subscribed["offset"]), (&Value::Null, &Value::Null));
    assert_eq!(subscribed["recovered"], false);
    client.next_of("gap");
    let word = json!({"type": "publish", "channel": "c", "data": "x", "id": "1"});
    let published = client.ask(&word);
    let expected = json!({
        "type": "published",
        "id": "1",
        "channel": "c",
        "epoch": null,
        "offset": null,
        "scope": "local",
        "clients": 0,
    });
    assert_eq!(published, expected);
    client.assert_nothing_else();
}

/// A publication that failed is told so, with its id.
#[test]
fn a_failed_publication_is_told_with_its_id() {
    let server = server("reject");
    let mut client = V1::open(server.addr(), "/ws?channel=a");
    let word = json!({"type": "publish", "channel": "a", "data": "x", "id": "7"});
    let refused = client.ask(&word);
    assert_eq!((&refused["type"], &refused["code"]), (&json!("error"), &json!("broker_lost")));
    assert_eq!((&refused["channel"], &refused["id"]), (&json!("a"), &json!("7")));
    client.assert_nothing_else();
}
