//! The promises of the client when things go wrong: nothing is lost, repeated or kept secret.

use std::thread;

use serde_json::{Value, json};

use crate::{
    chromium::Page,
    stage::Stage,
    support::{let_pass, publish::Publisher, server::Server},
};

fn page(server: &Server) -> Page {
    Page::open(Stage::before(server.addr()))
}

/// Cuts the connection again and again under 200 messages a second.
fn cuts_lose_nothing(transport: &str) {
    const MESSAGES: usize = 1200;
    const CUTS: usize = 5;
    let server = Server::start(&[]);
    let mut page = page(&server);
    page.connect(&format!("{{channels: ['a'], transport: '{transport}'}}"));
    let addr = server.addr();
    let publisher = thread::spawn(move || {
        let mut publisher = Publisher::on(addr, "a");
        for number in 0..MESSAGES {
            publisher.publish_to_all(number.to_string());
            let_pass(std::time::Duration::from_millis(5));
        }
    });
    for cut in 0..CUTS {
        page.messages("a", (cut + 1) * MESSAGES / (CUTS + 2));
        let opened = page.states("open").len();
        page.stage.cut();
        page.wait_for_state("open", opened);
    }
    publisher.join().unwrap();
    let messages = page.messages("a", MESSAGES);
    assert_eq!(messages.len(), MESSAGES);
    for (number, (data, _)) in messages.iter().enumerate() {
        assert_eq!(*data, json!(number.to_string()));
    }
    assert_eq!(page.gaps(), [Value::Null; 0]);
    assert!(page.states("waiting").len() >= CUTS);
}

#[test]
fn a_connection_that_is_cut_loses_and_repeats_nothing() {
    cuts_lose_nothing("websocket");
}

#[test]
fn a_stream_that_is_cut_loses_and_repeats_nothing() {
    cuts_lose_nothing("sse");
}

/// A page that is cut off before its first message misses none.
#[test]
fn a_cut_before_the_first_message_loses_none() {
    for transport in ["websocket", "sse"] {
        let server = Server::start(&[]);
        let mut page = page(&server);
        let mut publisher = Publisher::on(server.addr(), "a");
        publisher.publish_to_all("before");
        page.connect(&format!("{{channels: ['a'], transport: '{transport}'}}"));
        page.stage.cut();
        publisher.publish_to_all("meanwhile");
        page.wait_for_state("open", 1);
        publisher.publish_to_all("after");
        let messages = page.messages("a", 2);
        let data: Vec<&Value> = messages.iter().map(|(data, _)| data).collect();
        assert_eq!(data, ["meanwhile", "after"], "{transport}");
    }
}

fn a_restart_is_a_gap(transport: &str) {
    let mut server = Server::start(&[]);
    let mut page = page(&server);
    page.connect(&format!("{{channels: ['a'], transport: '{transport}'}}"));
    let mut publisher = Publisher::on(server.addr(), "a");
    publisher.publish_to_all("of the first");
    let first = page.messages("a", 1)[0].1.clone();
    server.kill();
    let server = Server::start(&[]);
    page.stage.set_target(server.addr());
    page.wait_for_state("open", 1);
    Publisher::on(server.addr(), "a").publish_to_all("of the second");
    let (data, second) = page.messages("a", 2)[1].clone();
    assert_eq!(data, "of the second");
    let (epoch, _) = second.split_once(':').unwrap();
    assert!(!first.starts_with(epoch), "another history: {first} {second}");
    let gaps = page.gaps();
    assert_eq!(gaps.len(), 1, "{gaps:?}");
    let told = (&gaps[0]["channel"], &gaps[0]["epoch"], &gaps[0]["from"], &gaps[0]["to"]);
    assert_eq!(told, (&json!("a"), &json!(epoch), &json!(1), &json!(0)));
}

/// A server that starts anew is told as a gap and its messages come.
#[test]
fn a_restarted_server_is_told_as_a_gap() {
    a_restart_is_a_gap("websocket");
}

/// A server that starts anew is told as a gap over event streams, too.
#[test]
fn event_streams_tell_a_new_server_as_a_gap() {
    a_restart_is_a_gap("sse");
}

fn a_drain_is_obeyed(transport: &str) {
    let drain = ["--drain-timeout", "3s", "--drain-close-over", "2s"];
    let mut server = Server::start(&drain);
    let mut page = page(&server);
    page.connect(&format!("{{channels: ['a'], transport: '{transport}'}}"));
    let next = Server::start(&[]);
    server.signal(&["TERM"]);
    let waiting = page.wait_for_state("waiting", 0);
    page.stage.set_target(next.addr());
    server.wait();
    let opening = page.wait_for_state("connecting", 1);
    // Whole milliseconds are the server's word, fractions would be the client's own.
    assert!(waiting["delay"].is_u64(), "{waiting}");
    let delay = waiting["delay"].as_f64().unwrap();
    if transport == "websocket" {
        let text = format!("service restart; retry in {delay} ms");
        assert_eq!((&waiting["code"], &waiting["reason"]), (&json!(1012), &json!(text)));
    }
    let waited = opening["at"].as_f64().unwrap() - waiting["at"].as_f64().unwrap();
    // The page hears of it a little after the client has set its clock.
    assert!(waited >= delay - 100.0, "waited {waited} ms of {delay}");
    page.wait_for_state("open", 1);
    Publisher::on(next.addr(), "a").publish_to_all("from the next");
    assert_eq!(page.messages("a", 1)[0].0, "from the next");
}

#[test]
fn a_drain_says_when_to_come_back_and_is_obeyed() {
    a_drain_is_obeyed("websocket");
}

#[test]
fn a_drain_of_event_streams_is_obeyed_too() {
    a_drain_is_obeyed("sse");
}

/// Event streams bring the messages where WebSockets are refused.
#[test]
fn event_streams_replace_refused_websockets() {
    let server = Server::start(&[]);
    let mut page = page(&server);
    page.stage.refuse_upgrades();
    page.connect("{channels: ['a', 'b']}");
    let tried: Vec<Value> =
        page.states("connecting").iter().map(|s| s["transport"].clone()).collect();
    assert_eq!(tried, ["websocket", "websocket", "sse"]);
    Publisher::on(server.addr(), "a").publish_to_all("one");
    page.messages("a", 1);
    page.stage.cut();
    Publisher::on(server.addr(), "b").publish_to_all("two");
    assert_eq!(page.messages("b", 1)[0].0, "two");
}

#[test]
fn clients_once_on_a_websocket_wait_for_another() {
    let mut server = Server::start(&[]);
    let mut page = page(&server);
    page.connect("{channels: ['a']}");
    server.kill();
    page.wait_for_state("waiting", 3);
    let is_stream = |state: &Value| state["transport"] == "sse";
    assert!(!page.states("connecting").iter().any(is_stream));
}

#[test]
fn a_connection_without_a_sign_of_life_is_given_up() {
    let server = Server::start(&["--ping-interval", "1s"]);
    let mut page = page(&server);
    page.connect("{channels: ['a'], transport: 'websocket'}");
    page.stage.let_links_die();
    Publisher::on(server.addr(), "a").publish_to_all("into the void");
    page.wait_for_state("open", 1);
    assert_eq!(page.messages("a", 1)[0].0, "into the void");
    assert_eq!(page.states("waiting")[0]["reason"], "no sign of life");
}

#[test]
fn a_publication_goes_through_a_reconnect_once() {
    let server = Server::start(&["--client-publish", "broadcast"]);
    let mut page = page(&server);
    page.connect("{channels: ['a'], transport: 'websocket'}");
    // A publication over the dead link gets no answer, and is repeated over the next.
    page.stage.let_links_die();
    page.run("window.answers = Promise.all(['one', 'two'].map(t => client.publish('a', t))); 0");
    page.stage.cut();
    let answers = page.run("answers");
    let messages = page.messages("a", 2);
    let expected: Vec<&str> = messages.iter().map(|(_, position)| position.as_str()).collect();
    assert_eq!([&answers[0]["position"], &answers[1]["position"]], [expected[0], expected[1]]);
    assert_eq!(messages.len(), 2);
}

#[test]
fn clients_at_fault_do_not_come_back_when_closed() {
    let server = Server::start(&["--client-publish", "broadcast", "--max-message-size", "1KiB"]);
    let mut page = page(&server);
    page.connect("{channels: ['a'], transport: 'websocket'}");
    let thrown = page.try_run("client.publish('a', 'x'.repeat(5000))");
    assert_eq!((&thrown["kind"], &thrown["text"]), (&json!("thrown"), &json!("Error: failed")));
    let failed = page.wait_for_state("failed", 0);
    assert_eq!(failed["code"], 1009);
    assert_eq!(page.states("connecting").len(), 1);
}

#[test]
fn a_stream_that_is_refused_fails_with_its_status() {
    let server = Server::start(&["--api-token", "secret"]);
    let mut page = page(&server);
    page.run("connect({channels: ['a'], token: 'wrong', transport: 'sse'})");
    assert_eq!(page.wait_for_state("failed", 0)["code"], 401);
}
