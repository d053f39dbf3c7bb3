//! Seeing clients: publishers are told how many hear them, and the log at `debug` tells who comes,
//! who goes, and who is refused.

use crate::support::{
    PATIENCE,
    client::{Client, upgrade_request},
    clients_on_all_shards,
    events::Events,
    eventually,
    http::{Http, post, post_with},
    server::{Launch, Server},
    v1::V1,
};
use serde_json::json;

#[test]
fn a_publisher_is_told_how_many_clients_hear_it_over_all_shards_and_forms() {
    let server = Server::start(&["--threads", "2", "--client-publish", "broadcast"]);
    let addr = server.addr();
    let clients = |channel: &str| {
        post(addr, &format!("/broadcast?channel={channel}"), "x").json()["clients"].clone()
    };
    assert_eq!(clients("a"), 0);
    let plain = clients_on_all_shards(addr, "/ws?channel=a&channel=b", 2);
    let mut v1 = V1::open(addr, "/ws?channel=a");
    let stream = Events::open(addr, "/sse?channel=a");
    let all = plain.len() + 2;
    assert_eq!(clients("a"), all);
    assert_eq!(clients("b"), plain.len());
    v1.say(&json!({"type": "publish", "channel": "a", "data": "x", "id": "1"}));
    // Its own messages and the answer come in any order.
    let published =
        std::iter::repeat_with(|| v1.next()).find(|word| word["type"] == "published").unwrap();
    assert_eq!(published["clients"], all, "{published}");
    let lines = "{\"data\":1,\"channel\":\"a\"}\n{\"data\":2,\"channel\":\"none\"}\n";
    let headers = "Content-Type: application/x-ndjson\r\n";
    let results = post_with(addr, "/broadcast", headers, lines.as_bytes()).json();
    assert_eq!(results["results"][0]["clients"], all, "{results}");
    assert_eq!(results["results"][1]["clients"], 0, "{results}");
    drop((plain, v1, stream));
    eventually(PATIENCE, "those who left are not counted", || clients("a") == 0);
}

#[test]
fn at_debug_the_log_tells_who_comes_who_goes_and_who_is_refused_and_why() {
    let args = ["--log-level", "debug", "--threads", "1"];
    let server = Launch::on_a_free_port(&args).start();
    let addr = server.addr();
    let forwarded = "X-Forwarded-For: 192.0.2.7\r\n";
    let client = Client::try_open(Http::connect(addr), addr, "/ws?channel=seen", forwarded);
    let client = client.expect("it upgrades");
    server.wait_for_log(&["handshake accepted", "192.0.2.7", "seen"]);
    server.wait_for_log(&["client connected", "127.0.0.1:", "channels=1", "seen"]);
    client.leave();
    server.wait_for_log(&[
        "client gone",
        "127.0.0.1:",
        "channels=1",
        "seconds=",
        "reason=\"client\"",
    ]);
    let refused = Http::connect(addr).request(upgrade_request(addr, "/ws?last=x", ""));
    assert_eq!(refused.status, 400);
    server.wait_for_log(&["handshake refused", "bad_request", "hint"]);
}
