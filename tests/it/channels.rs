//! Channels: which clients get what, and the one order of each channel on every shard.

use std::{collections::BTreeMap, thread};

use crate::support::{
    PATIENCE, client::Client, clients_on_all_shards, eventually, metrics::metric,
    publish::Publisher, server::Server,
};

/// A client gets all messages of its channels and none of any other.
#[test]
fn a_client_gets_only_the_messages_of_its_channels() {
    let server = Server::start(&["--threads", "3"]);
    let addr = server.addr();
    let mut default = clients_on_all_shards(addr, "/ws", 3);
    let mut a = clients_on_all_shards(addr, "/ws?channel=a", 3);
    let mut a_and_b = clients_on_all_shards(addr, "/ws?channel=a&channel=b", 3);
    let mut case = Client::open(addr, "/ws?channel=A");
    let mut publishers = ["notifications", "a", "b", "A"].map(|name| Publisher::on(addr, name));
    for round in 0..20 {
        for (publisher, name) in publishers.iter_mut().zip(["notifications", "a", "b", "A"]) {
            publisher.publish_to_all(format!("{name} {round}"));
        }
    }
    let expected =
        |name: &str| (0..20).map(|round| format!("{name} {round}")).collect::<Vec<String>>();
    let received =
        |client: &mut Client, count| -> Vec<String> { (0..count).map(|_| client.text()).collect() };
    for client in &mut default {
        assert_eq!(received(client, 20), expected("notifications"));
    }
    for client in &mut a {
        assert_eq!(received(client, 20), expected("a"));
    }
    for client in &mut a_and_b {
        let texts = received(client, 40);
        for name in ["a", "b"] {
            let own: Vec<String> = texts
                .iter()
                .filter(|text| text.starts_with(&format!("{name} ")))
                .cloned()
                .collect();
            assert_eq!(own, expected(name));
        }
    }
    assert_eq!(received(&mut case, 20), expected("A"));
    for client in default.into_iter().chain(a).chain(a_and_b).chain([case]) {
        assert_eq!(client.leave(), Vec::<String>::new(), "and nothing else");
    }
}

#[test]
fn a_channel_named_twice_is_subscribed_once() {
    let server = Server::start(&[]);
    let client = Client::open(server.addr(), "/ws?channel=a&channel=a");
    Publisher::on(server.addr(), "a").publish_to_all("once");
    let mut client = client;
    client.assert_text("once");
    Publisher::on(server.addr(), "a").publish_to_all("twice");
    client.assert_text("twice");
    assert_eq!(client.leave(), Vec::<String>::new());
}

/// Clients of all shards see the messages of concurrent publishers in one and the same order.
#[test]
fn all_clients_see_one_order() {
    const PUBLISHERS: usize = 8;
    const MESSAGES: usize = 100;
    let server = Server::start(&["--threads", "4"]);
    let addr = server.addr();
    let mut clients = clients_on_all_shards(addr, "/ws", 4);
    let publishers: Vec<_> = (0..PUBLISHERS)
        .map(|publisher| {
            thread::spawn(move || {
                let mut connection = Publisher::new(addr);
                (0..MESSAGES)
                    .map(|message| {
                        let text = format!("{publisher}:{message}");
                        (connection.publish_to_all(&text), text)
                    })
                    .collect::<Vec<_>>()
            })
        })
        .collect();
    let by_offset: BTreeMap<u64, String> =
        publishers.into_iter().flat_map(|publisher| publisher.join().unwrap()).collect();
    assert_eq!(by_offset.len(), PUBLISHERS * MESSAGES, "no offset was given twice");
    let expected: Vec<String> = by_offset.into_values().collect();
    for client in &mut clients {
        let received: Vec<String> = (0..expected.len()).map(|_| client.text()).collect();
        assert_eq!(received, expected, "the order of the offsets");
    }
    for client in clients {
        assert_eq!(client.leave(), Vec::<String>::new());
    }
}

/// A client sees every message that is published after the answer to its upgrade.
#[test]
fn nothing_published_after_the_upgrade_is_missed() {
    let server = Server::start(&["--threads", "4"]);
    let addr = server.addr();
    for round in 0..100 {
        let channel = format!("channel-{round}");
        let mut client = Client::open(addr, &format!("/ws?channel={channel}"));
        Publisher::on(addr, &channel).publish_to_all("at once");
        client.assert_text("at once");
    }
}

/// A message of a channel without clients reaches no shard; its offset is counted all the same.
#[test]
fn messages_nobody_hears_cost_nothing() {
    let server = Server::start(&[]);
    let mut publisher = Publisher::on(server.addr(), "unheard");
    for offset in 1..=100 {
        assert_eq!(publisher.publish_to_all("x".repeat(10_000)), offset);
    }
    eventually(PATIENCE, "no backlog stays", || {
        metric(server.addr(), "wsbcast_backlog_bytes", &[]) < 100_000.0
    });
    let mut late = Client::open(server.addr(), "/ws?channel=unheard");
    assert_eq!(publisher.publish_to_all("heard"), 101);
    // A shard that has yet to take an earlier message from its mailbox may deliver that, too.
    late.texts_until("heard");
}
