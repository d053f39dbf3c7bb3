//! The promises of the client while nothing goes wrong.

use serde_json::{Value, json};

use crate::{
    chromium::Page,
    stage::Stage,
    support::{http::post_with, publish::Publisher, server::Server},
};

fn page(server: &Server) -> Page {
    Page::open(Stage::before(server.addr()))
}

/// The offsets of positions that are all of one epoch.
fn offsets(messages: &[(Value, String)]) -> Vec<u64> {
    let parts = |position: &String| {
        let (epoch, offset) = position.split_once(':').unwrap();
        (epoch.to_owned(), offset.parse().unwrap())
    };
    let all: Vec<(String, u64)> = messages.iter().map(|(_, position)| parts(position)).collect();
    assert!(all.iter().all(|(epoch, _)| *epoch == all[0].0), "{all:?}");
    all.into_iter().map(|(_, offset)| offset).collect()
}

fn messages_come_in_order(transport: &str) {
    let server = Server::start(&[]);
    let mut page = page(&server);
    page.connect(&format!("{{channels: ['a', 'b'], transport: '{transport}'}}"));
    let mut a = Publisher::on(server.addr(), "a");
    for number in 0..50 {
        a.publish_to_all(format!("line one\nline {number} \"ä\""));
    }
    let binary = "Content-Type: application/octet-stream\r\n";
    post_with(server.addr(), "/broadcast?channel=b", binary, b"\x00\xff\n").assert_status(202);
    let messages = page.messages("a", 50);
    let expected: Vec<Value> =
        (0..50).map(|number| json!(format!("line one\nline {number} \"ä\""))).collect();
    assert_eq!(messages.iter().map(|(data, _)| data.clone()).collect::<Vec<_>>(), expected);
    assert_eq!(offsets(&messages), (1..=50).collect::<Vec<_>>());
    let bytes = page.messages("b", 1);
    assert_eq!(bytes[0].0, json!([0, 255, 10]));
    let positions = page.run("client.positions");
    assert_eq!(positions, json!({"a": messages[49].1, "b": bytes[0].1}));
    page.run("client.close()");
    page.wait_for_state("closed", 0);
    assert_eq!(page.gaps(), [Value::Null; 0]);
}

#[test]
fn messages_come_in_order_with_their_positions() {
    messages_come_in_order("websocket");
}

#[test]
fn messages_come_in_order_over_event_streams_too() {
    messages_come_in_order("sse");
}

fn clients_with_positions_go_on(transport: &str) {
    let server = Server::start(&[]);
    let mut page = page(&server);
    let mut a = Publisher::on(server.addr(), "a");
    let mut b = Publisher::on(server.addr(), "b");
    a.publish_to_all("before");
    page.connect(&format!("{{channels: ['a', 'b'], last: 5, transport: '{transport}'}}"));
    assert_eq!(page.messages("a", 1)[0].0, "before");
    let kept = page.run("const kept = client.positions; client.close(); kept");
    for number in 0..30 {
        a.publish_to_all(number.to_string());
        b.publish_to_all(number.to_string());
    }
    let options = "channels: ['a', 'b'], last: 0";
    page.connect(&format!("{{{options}, since: {kept}, transport: '{transport}'}}"));
    a.publish_to_all("after");
    let messages = page.messages("a", 32);
    assert_eq!(offsets(&messages), (1..=32).collect::<Vec<_>>());
    assert_eq!(messages[31].0, "after");
    let messages = page.messages("b", 30);
    assert_eq!(offsets(&messages), (1..=30).collect::<Vec<_>>(), "also of a silent channel");
    assert_eq!(page.gaps(), [Value::Null; 0]);
}

#[test]
fn clients_with_positions_go_on_over_websockets() {
    clients_with_positions_go_on("websocket");
}

/// A client that keeps its positions goes on from there over event streams too.
#[test]
fn a_kept_position_works_over_event_streams() {
    clients_with_positions_go_on("sse");
}

fn channels_come_and_go(transport: &str) {
    let server = Server::start(&[]);
    let mut page = page(&server);
    let publish = |channel: &str, text: &str| {
        Publisher::on(server.addr(), channel).publish_to_all(text);
    };
    publish("b", "one");
    page.connect(&format!("{{channels: ['a'], transport: '{transport}'}}"));
    page.run("client.subscribe('b', {last: 1}); client.subscribe('constructor')");
    assert_eq!(page.messages("b", 1)[0].0, "one");
    page.run("client.unsubscribe('a')");
    assert_eq!(page.run("Object.keys(client.positions)")[0], "b");
    // Both are settled at the server once the word about a third channel is.
    page.run("client.subscribe('c', {last: 1})");
    publish("a", "unheard");
    publish("c", "two");
    page.messages("c", 1);
    publish("b", "three");
    assert_eq!(page.messages("b", 2)[1].0, "three");
    let none = page.messages("a", 0);
    assert!(none.is_empty(), "{none:?}");
    let thrown = page.try_run("client.subscribe('bad name')");
    assert!(thrown["text"].as_str().unwrap().contains("bad name"), "{thrown}");
}

#[test]
fn channels_come_and_go_without_a_reconnect() {
    channels_come_and_go("websocket");
}

#[test]
fn channels_come_and_go_over_event_streams_too() {
    channels_come_and_go("sse");
}

fn a_publisher_hears(transport: &str) {
    let server = Server::start(&["--client-publish", "broadcast", "--api-token", "secret"]);
    let mut page = page(&server);
    page.connect(&format!("{{channels: ['a'], token: 'secret', transport: '{transport}'}}"));
    let published = page.run("client.publish('a', 'text', {id: 'first'})");
    let again = page.run("client.publish('a', 'text', {id: 'first'})");
    assert_eq!(published, again, "one message, one answer");
    page.run("client.publish('a', {some: ['json']})");
    page.run("client.publish('a', new Uint8Array([1, 2, 255]))");
    let messages = page.messages("a", 3);
    let data: Vec<&Value> = messages.iter().map(|(data, _)| data).collect();
    assert_eq!(data, [&json!("text"), &json!("{\"some\":[\"json\"]}"), &json!([1, 2, 255])]);
    let expected = json!({"channel": "a", "position": messages[0].1, "scope": "cluster"});
    assert_eq!(published, expected);
    page.run("connect({channels: ['b'], token: 'secret'}); client.close()");
    let closed = page.try_run("client.publish('a', 'x')");
    assert_eq!((&closed["kind"], &closed["code"]), (&json!("thrown"), &json!("closed")));
}

#[test]
fn a_publisher_hears_where_its_message_stands() {
    a_publisher_hears("websocket");
}

/// A publisher hears where its message stands over event streams too.
#[test]
fn a_publisher_over_sse_gets_positions() {
    a_publisher_hears("sse");
}

fn data(page: &Page, channel: &str, count: usize) -> Vec<Value> {
    page.messages(channel, count).into_iter().map(|(data, _)| data).collect()
}

/// With what each channel begins, whatever brings it; a reconnect is a beginning, too.
fn a_greeting_comes_first(transport: &str) {
    let server = Server::start(&["--greeting", "welcome"]);
    let mut page = page(&server);
    page.connect(&format!("{{channels: ['a', 'b'], transport: '{transport}'}}"));
    for channel in ["a", "b"] {
        Publisher::on(server.addr(), channel).publish_to_all("news");
        assert_eq!(data(&page, channel, 2), ["welcome", "news"], "{channel}");
    }
    page.run("client.subscribe('c', {last: 1})");
    Publisher::on(server.addr(), "c").publish_to_all("news");
    assert_eq!(data(&page, "c", 2)[0], "welcome");
    page.stage.cut();
    page.wait_for_state("open", 1);
    Publisher::on(server.addr(), "a").publish_to_all("more");
    assert_eq!(data(&page, "a", 4), ["welcome", "news", "welcome", "more"]);
}

#[test]
fn a_greeting_comes_first_in_each_channel() {
    a_greeting_comes_first("websocket");
}

/// A greeting comes first in each channel over event streams too.
#[test]
fn a_greeting_comes_first_over_event_streams_too() {
    a_greeting_comes_first("sse");
}

/// A page from elsewhere is told why it may not publish or listen.
/// The browser tells a page nothing of a refused preflight, nor of an answer that it may not read.
#[test]
fn a_page_from_elsewhere_is_told_its_rights() {
    let server = Server::start(&[]);
    let mut page = page(&server);
    let origin = format!("http://{}/", server.addr());
    page.connect(&format!("{{url: '{origin}', channels: ['a'], transport: 'sse'}}"));
    let refused =
        page.try_run("client.publish('a', 'x').catch(e => { throw e.code + ' ' + e.message })");
    let text = refused["text"].to_string();
    assert!(text.contains("forbidden") && text.contains("token or the same origin"), "{text}");

    let server = Server::start(&["--api-token", "secret"]);
    let origin = format!("http://{}/", server.addr());
    let told = "client.publish('a', 'x').catch(e => { throw e.code })";
    page.connect(&format!("{{url: '{origin}', channels: ['a'], transport: 'sse'}}"));
    assert!(page.try_run(told)["text"].to_string().contains("unauthorized"));
    page.run(&format!(
        "connect({{url: '{origin}', channels: ['a'], token: 'wrong', transport: 'sse'}})"
    ));
    page.wait_for_state("failed", 0);
    assert_eq!(page.states("failed")[0]["code"], 401);
}

/// A page from elsewhere loads the client and it finds its server.
#[test]
fn a_page_from_elsewhere_can_load_the_client() {
    let server = Server::start(&[]);
    let mut page = page(&server);
    let origin = format!("http://{}", server.addr());
    page.run(&format!(
        "import('{origin}/client.js').then(({{WsBcast}}) => connect({{url: null}}, WsBcast))"
    ));
    page.wait_for_state("open", 0);
    page.stage.cut();
    Publisher::new(server.addr()).publish_to_all("straight from the server");
    assert_eq!(page.messages("notifications", 1)[0].0, "straight from the server");
    assert_eq!(page.states("open").len(), 1, "the stage is not in between");
}
