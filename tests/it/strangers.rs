//! What strangers say is no more than what they say: numbers that nobody can count on from, and
//! what others write and publish in our Redis.

use serde_json::json;

use crate::support::{events::Events, http::once, server::Server, v1::V1};

/// Nobody listens there.
const UNREACHABLE: &str = "redis://127.0.0.1:1";

#[test]
fn an_offset_that_nobody_can_count_on_from_is_none_wherever_it_comes_in() {
    for args in [&["--redis-url", UNREACHABLE][..], &[]] {
        let server = Server::start(args);
        let addr = server.addr();
        let mut v1 = V1::open(addr, "/ws?channel=b");
        for offset in ["9007199254740992", "18446744073709551615", "18446744073709551616", "-1"] {
            let asked =
                format!("GET /sse?channel=a&since=a:{offset} HTTP/1.1\r\nHost: {addr}\r\n\r\n");
            let resumed =
                format!("GET /sse HTTP/1.1\r\nHost: {addr}\r\nLast-Event-ID: a:{offset}\r\n\r\n");
            for request in [asked, resumed] {
                once(addr, &request).assert_status(400);
            }
            let since = format!("a:{offset}");
            let refused = v1.ask(&json!({"type": "subscribe", "channel": "a", "since": since}));
            assert_eq!(refused["code"], "bad_position", "{refused}");
        }
        let refused = V1::try_open(addr, "/ws?channel=a&since=a:18446744073709551615");
        refused.unwrap_err().assert_status(400);
        // The largest that is one, and what follows it.
        let mut stream = Events::open(addr, "/sse?channel=a&since=a:9007199254740991");
        let gap = stream.event();
        assert_eq!(gap.event, "gap", "{gap:?}");
        let is_away = !args.is_empty();
        let from = if is_away { "\"from\":9007199254740992" } else { "\"from\":1" };
        assert!(gap.data.as_deref().is_some_and(|data| data.contains(from)), "{gap:?}");
    }
}
