//! Publishers are not refused, and what they were promised holds.

use crate::{
    lineage::Lineage,
    support::{
        client::Client,
        http::{Http, post_with},
    },
};

fn publish_once(lineage: &Lineage, key: &str) -> serde_json::Value {
    let header = format!("Idempotency-Key: {key}\r\n");
    let response = post_with(lineage.addr, "/broadcast?channel=a", &header, key.as_bytes());
    response.assert_status(202);
    response.json()
}

/// A key that was used before is not published again.
#[test]
fn idempotency_keys_are_known_to_the_new_process() {
    let mut lineage = Lineage::start(&[]);
    let mut client = Client::open(lineage.addr, "/ws?channel=a");
    let first = publish_once(&lineage, "one");
    lineage.upgrade();
    let again = publish_once(&lineage, "one");
    assert_eq!((&again["offset"], &again["epoch"]), (&first["offset"], &first["epoch"]));
    publish_once(&lineage, "two");
    client.assert_text("one");
    client.assert_text("two");
}

/// One connection serves a publisher through all upgrades, and each publish is accepted.
#[test]
fn a_publisher_keeps_its_connection() {
    let mut lineage = Lineage::start(&[]);
    let mut client = Client::open(lineage.addr, "/ws?channel=a");
    let mut http = Http::connect(lineage.addr);
    let request = |text: &str| {
        let length = text.len();
        format!(
            "POST /broadcast?channel=a HTTP/1.1\r\nHost: localhost\r\n\
             Content-Length: {length}\r\n\r\n{text}"
        )
    };
    for round in 0..4 {
        let text = format!("round {round}");
        let answer = http.request(request(&text));
        assert_eq!(answer.json()["offset"], round + 1, "{answer:?}");
        assert!(!answer.header_is("connection", "close"), "{answer:?}");
        client.assert_text(&text);
        match round % 2 {
            0 => lineage.take_over(&["--threads", "3"]),
            _ => drop(lineage.upgrade()),
        }
    }
}
