//! Event streams that live on, and all the ways in which they end.

use std::{thread, time::Duration};

use crate::support::{
    PATIENCE,
    client::little_room,
    events::{Block, Events, stream_request},
    eventually,
    http::{Arrival, Http, get, once},
    let_pass,
    metrics::metric,
    now,
    publish::Publisher,
    redis::RedisServer,
    server::Server,
};

/// How many clients have ended for `reason`.
fn closed(server: &Server, reason: &str) -> f64 {
    let label = format!("reason=\"{reason}\"");
    metric(server.addr(), "wsbcast_connections_closed_total", &[&label])
}

/// Comments keep an idle stream alive, and no answer to them is expected.
#[test]
fn an_idle_stream_is_kept_alive_by_comments() {
    let server = Server::start(&["--ping-interval", "100ms", "--ping-timeout", "100ms"]);
    let mut stream = Events::open(server.addr(), "/sse");
    let mut heartbeats = 0;
    while heartbeats < 20 {
        let block = stream.block();
        if block.id.is_none() && block.retry_ms.is_none() {
            assert_eq!(block, Block { comments: 1, ..Block::default() });
            heartbeats += 1;
        }
    }
    Publisher::new(server.addr()).publish_to_all("and messages");
    assert_eq!(stream.text(), "and messages");
    assert_eq!(closed(&server, "ping_timeout"), 0.0);
}

/// Input behind the request of a stream is thrown away, and its end is the end of the client.
#[test]
fn bytes_behind_a_stream_request_are_dropped() {
    let server = Server::start(&["--client-publish", "broadcast"]);
    let addr = server.addr();
    let mut http = Http::connect(addr);
    let first = stream_request(addr, "/sse", "Content-Length: 5\r\n");
    // Neither a body, nor frames, nor another request has an effect.
    http.send(first + "body!" + &stream_request(addr, "/sse?channel=b", ""));
    let mut stream = Events::begun(http);
    stream.http.send([0x81, 0x82, 0, 0, 0, 0, b'n', b'o', 0x88, 0x80, 0, 0, 0, 0, 0xFF, 0xFF]);
    stream.http.send(vec![0xFF; 1024 * 1024]);
    Publisher::new(addr).publish_to_all("yes");
    assert_eq!(stream.text(), "yes");
    assert_eq!(metric(addr, "wsbcast_connections", &[]), 1.0);
    stream.http.finish();
    assert!(stream.blocks_until_end().is_empty());
    eventually(PATIENCE, "it has left", || closed(&server, "client") == 1.0);
    assert_eq!(metric(addr, "wsbcast_connections", &[]), 0.0);
    assert_eq!(metric(addr, "wsbcast_published_total", &["source=\"client\""]), 0.0);
}

/// A reader that is too slow is ended, and costs no more than the backlog.
#[test]
fn a_slow_reader_costs_no_more_than_the_backlog() {
    let server = Server::start(&["--backlog", "256KiB", "--max-broadcast-size", "64KiB"]);
    let addr = server.addr();
    let open = || Events::open_with(little_room(addr), addr, "/sse", "");
    let (mut reads_again, mut takes_nothing) = (open(), open());
    let mut prompt = Events::open(addr, "/sse");
    let mut publisher = Publisher::new(addr);
    let slow = || metric(addr, "wsbcast_slow_consumers_total", &["action=\"close\""]);
    let mut published = 0;
    while slow() < 2.0 {
        assert!(published < 2000, "a stream that nobody reads is ended");
        let text = format!("{published:08}{}", "x".repeat(16 * 1024));
        publisher.publish_to_all(&text);
        assert_eq!(prompt.text(), text);
        published += 1;
        let backlog = metric(addr, "wsbcast_backlog_bytes", &[]);
        assert!(backlog < 1024.0 * 1024.0, "{backlog}");
    }
    // Whole events without a hole, then the end, and nothing else.
    let blocks = reads_again.blocks_until_end();
    let texts = blocks.iter().filter_map(|block| block.data.as_deref());
    for (number, text) in texts.clone().enumerate() {
        assert!(text.len() == 16 * 1024 + 8 && text.starts_with(&format!("{number:08}")));
    }
    assert!(texts.count() < published);
    drop(reads_again);
    eventually(PATIENCE, "both are gone", || closed(&server, "slow_consumer") == 2.0);
    let end = loop {
        match takes_nothing.http.arrival(PATIENCE) {
            Arrival::Bytes => {}
            end => break end,
        }
    };
    assert_eq!(end, Arrival::Reset, "what was not taken within two seconds is thrown away");
    publisher.publish_to_all("the others go on");
    assert_eq!(prompt.text(), "the others go on");
}

/// Under `skip` a reader that is too slow goes on with the newest event, whose id shows the hole.
#[test]
fn under_skip_a_slow_reader_sees_the_hole() {
    let args = ["--backlog", "256KiB", "--max-broadcast-size", "64KiB", "--slow-consumer", "skip"];
    let server = Server::start(&args);
    let addr = server.addr();
    let mut stalled = Events::open_with(little_room(addr), addr, "/sse", "");
    let mut publisher = Publisher::new(addr);
    let long = "x".repeat(16 * 1024);
    let mut published = 0;
    while metric(addr, "wsbcast_skipped_messages_total", &[]) < 50.0 {
        assert!(published < 2000, "a stream that nobody reads is made to skip");
        published = publisher.publish_to_all(&long);
    }
    let last = publisher.publish_to_all("the newest");
    let (mut offset, mut got) = (0, 0);
    while offset < last {
        let event = stalled.event();
        if event.event == "gap" {
            continue;
        }
        let id = event.id.expect("a message has an id");
        let next = id.split_once(':').unwrap().1.parse().unwrap();
        assert!(next > offset, "{next} after {offset}");
        let text = if next == last { "the newest" } else { &long };
        assert!(event.data.as_deref() == Some(text), "whole events only");
        (offset, got) = (next, got + 1);
    }
    assert!(got + 50 <= last, "{got} of {last}");
}

/// A peer that acknowledges nothing is given up after the interval and the timeout of keepalive.
#[cfg(target_os = "linux")]
#[test]
fn a_peer_that_acknowledges_nothing_is_given_up() {
    let server = Server::start(&["--ping-interval", "200ms", "--ping-timeout", "300ms"]);
    let addr = server.addr();
    let _stalled = Events::open_with(little_room(addr), addr, "/sse", "");
    let mut publisher = Publisher::new(addr);
    for _ in 0..4 {
        // Far less than the backlog, more than the kernel takes.
        publisher.publish_to_all("x".repeat(1000 * 1000));
    }
    eventually(PATIENCE, "the kernel gives it up", || closed(&server, "lost") == 1.0);
    assert_eq!(metric(addr, "wsbcast_connections", &[]), 0.0);
}

/// A drain tells each stream, after its last message, when to come back.
#[test]
fn a_drain_tells_streams_when_to_come_back() {
    let mut server = Server::start(&["--drain-timeout", "3s", "--drain-close-over", "2s"]);
    let addr = server.addr();
    let streams: Vec<Events> = (0..10).map(|_| Events::open(addr, "/sse")).collect();
    server.signal(&["TERM"]);
    eventually(PATIENCE, "readiness is red", || get(addr, "/readyz").status == 503);
    let refused = once(addr, stream_request(addr, "/sse", ""));
    refused.assert_status(503);
    assert_eq!(refused.header("retry-after"), Some("5"));
    assert!(refused.header_is("connection", "close"), "{refused:?}");
    assert_eq!(Publisher::new(addr).publish("still heard").status, 202);
    // Each by a thread of its own: when it ended is when it has to be looked at.
    let readers: Vec<_> = (streams.into_iter())
        .map(|mut stream| thread::spawn(move || (stream.blocks_until_end(), now())))
        .collect();
    let mut returns = Vec::new();
    for reader in readers {
        let (blocks, told) = reader.join().unwrap();
        let (drain, before) = blocks.split_last().unwrap();
        let retry_ms = drain.retry_ms.unwrap();
        returns.push(told + Duration::from_millis(retry_ms));
        assert_eq!((drain.event.as_str(), &drain.id), ("drain", &None));
        let data = format!("{{\"reconnect_after_ms\":{retry_ms}}}");
        assert_eq!(drain.data.as_deref(), Some(data.as_str()));
        let texts: Vec<_> = before.iter().filter_map(|block| block.data.as_deref()).collect();
        assert_eq!(texts, ["still heard"]);
    }
    // The process may end before its limit; at the limit it surely has.
    server.assert_exit(0);
    let ended = now();
    let early = returns.iter().filter(|&&returns| returns < ended).count();
    assert_eq!(early, 0, "nobody is told to come back to a process that still refuses");
}

/// When each stream of a server on `redis` that drains is told to come back.
fn retries_in_a_drain(redis: &RedisServer) -> Vec<u64> {
    let args = ["--drain-timeout", "5s", "--drain-close-over", "2s", "--redis-url", &redis.url()];
    let mut server = Server::start(&args);
    let addr = server.addr();
    eventually(PATIENCE, "it is ready", || get(addr, "/readyz").status == 200);
    let streams: Vec<Events> = (0..10).map(|_| Events::open(addr, "/sse")).collect();
    server.signal(&["TERM"]);
    let retries = streams.into_iter().map(|mut stream| {
        let blocks = stream.blocks_until_end();
        blocks.last().unwrap().retry_ms.unwrap()
    });
    let retries = retries.collect();
    server.assert_exit(0);
    retries
}

/// With another process on the same Redis drained streams may come back at once.
#[test]
fn streams_may_return_to_another_process_at_once() {
    let redis = RedisServer::start();
    let alone = retries_in_a_drain(&redis);
    assert!(alone.iter().all(|&retry_ms| retry_ms >= 2000), "{alone:?}");
    let other = Server::start(&["--redis-url", &redis.url()]);
    eventually(PATIENCE, "it is ready", || get(other.addr(), "/readyz").status == 200);
    let beside = retries_in_a_drain(&redis);
    assert!(beside.iter().all(|&retry_ms| retry_ms <= 2000), "{beside:?}");
}

#[test]
fn a_second_signal_ends_streams_at_once_in_good_order() {
    let mut server = Server::start(&[]);
    let addr = server.addr();
    let mut stream = Events::open(addr, "/sse");
    server.signal(&["TERM"]);
    eventually(PATIENCE, "readiness is red", || get(addr, "/readyz").status == 503);
    let_pass(Duration::from_millis(400));
    server.signal(&["TERM"]);
    let blocks = stream.blocks_until_end();
    assert!(blocks.iter().all(|block| block.data.is_none()), "{blocks:?}");
    drop(stream);
    server.assert_exit(0);
}
