//! `POST /admin/disconnect`: an operator sends clients away, in every process of the cluster.

use serde_json::json;

use crate::support::{
    PATIENCE,
    client::Client,
    clients_on_all_shards,
    events::Events,
    eventually,
    http::{Response, get, post, post_with},
    metrics::metric,
    publish::Publisher,
    redis::RedisServer,
    server::Server,
    v1::V1,
};

const ADMIN: [&str; 2] = ["--admin-listen", "127.0.0.1:0"];

fn disconnect(server: &Server, query: &str) -> Response {
    post(server.admin(), &format!("/admin/disconnect?{query}"), "")
}

#[track_caller]
fn assert_disconnects(server: &Server, query: &str, clients: usize, scope: &str) {
    let answer = disconnect(server, query);
    answer.assert_status(202);
    assert_eq!(answer.json(), json!({"clients": clients, "scope": scope}), "{query}");
}

fn member(redis: &RedisServer, args: &[&str]) -> Server {
    let server = Server::start(&[&["--redis-url", &redis.url()], &ADMIN[..], args].concat());
    server.wait_until_ready();
    server
}

/// How many clients have ended for `reason`.
fn closed(server: &Server, reason: &str) -> f64 {
    let label = format!("reason=\"{reason}\"");
    metric(server.admin(), "wsbcast_connections_closed_total", &[&label])
}

#[test]
fn all_clients_of_a_channel_are_sent_away() {
    let server = Server::start(&[&ADMIN[..], &["--threads", "3"]].concat());
    let addr = server.addr();
    let mut others = clients_on_all_shards(addr, "/ws?channel=b", 3);
    let mut gone: Vec<Client> = (0..12).map(|_| Client::open(addr, "/ws?channel=a")).collect();
    gone.push(Client::open(addr, "/ws?channel=b&channel=a"));
    let mut v1 = V1::open(addr, "/ws?channel=a");
    let mut stream = Events::open(addr, "/sse?channel=a");
    assert_disconnects(&server, "channel=nobody", 0, "local");
    assert_disconnects(&server, "channel=a", 15, "local");
    gone.push(v1.client);
    for client in &mut gone {
        assert_eq!(client.assert_closed(4403), "disconnected");
    }
    stream.blocks_until_end();
    eventually(PATIENCE, "all are counted", || closed(&server, "disconnected") == 15.0);
    Publisher::on(addr, "b").publish_to_all("sentinel");
    others.iter_mut().for_each(|client| client.assert_text("sentinel"));
    // Nobody is kept from coming back.
    v1 = V1::open(addr, "/ws?channel=a");
    Publisher::on(addr, "a").publish_to_all("again");
    assert_eq!(v1.next()["data"], "again");
}

#[test]
fn clients_that_may_return_are_told_when() {
    let server = Server::start(&ADMIN);
    let addr = server.addr();
    let mut clients: Vec<Client> = (0..10).map(|_| Client::open(addr, "/ws?channel=a")).collect();
    let mut v1 = V1::open(addr, "/ws?channel=a");
    let mut stream = Events::open(addr, "/sse?channel=a");
    Publisher::on(addr, "a").publish_to_all("before");
    assert_disconnects(&server, "channel=a&retry=true", 12, "local");
    for client in &mut clients {
        client.assert_text("before");
        let reason = client.assert_closed(1012);
        assert!(reason.starts_with("service restart; retry in "), "{reason}");
    }
    assert_eq!(v1.next()["data"], "before");
    let told = v1.next();
    assert_eq!(told["type"], "drain");
    assert!(told["reconnect_after_ms"].as_u64().unwrap() <= 120, "there are few: {told}");
    v1.client.assert_closed(1012);
    let last = stream.blocks_until_end().pop().expect("a stream is told, too");
    assert_eq!(last.event, "drain");
    assert!(last.retry_ms.unwrap() <= 120, "{last:?}");
    eventually(PATIENCE, "all are counted", || closed(&server, "restart") == 12.0);
}

#[test]
fn only_operators_disconnect_and_only_as_they_mean() {
    let tokens = ["--api-token", "correct-horse-battery-staple"];
    let server = Server::start(&[&ADMIN[..], &tokens].concat());
    let mut client = Client::open(server.addr(), "/ws?channel=a");
    let target = "/admin/disconnect?channel=a";
    disconnect(&server, "channel=a").assert_status(401);
    let bearer = |token: &str| format!("Authorization: Bearer {token}\r\n");
    post_with(server.admin(), target, &bearer("wrong"), b"").assert_status(401);
    let good = bearer(tokens[1]);
    assert_eq!(get(server.admin(), target).status, 405);
    for query in ["", "channel=a&channel=a", "chanel=a", "channel=a&retry=1", "channel=a&x=1"] {
        let answer = post_with(server.admin(), &format!("/admin/disconnect?{query}"), &good, b"");
        answer.assert_status(400);
        assert_eq!(answer.json()["error"], "bad_request", "{query}");
    }
    let answer = post_with(server.admin(), "/admin/disconnect?channel=a%20b", &good, b"");
    answer.assert_status(400);
    assert_eq!(answer.json()["error"], "bad_channel");
    post_with(server.addr(), "/broadcast?channel=a", &good, b"still here").assert_status(202);
    client.assert_text("still here");
    // Admin routes are on this public listener, since it is for this machine alone.
    post_with(server.addr(), target, "", b"").assert_status(401);
    post_with(server.addr(), target, &good, b"").assert_status(202);
    client.assert_closed(4403);

    let open = Server::start(&ADMIN);
    post(open.addr(), target, "").assert_status(403);
    assert_disconnects(&open, "channel=a", 0, "local");
}

#[test]
fn clients_of_all_processes_are_sent_away() {
    let redis = RedisServer::start();
    let per_process = ["--redis-subscribers", "per-process", "--threads", "3"];
    let servers = [member(&redis, &["--threads", "3"]), member(&redis, &per_process)];
    let mut gone: Vec<_> =
        servers.iter().map(|one| clients_on_all_shards(one.addr(), "/ws?channel=a", 3)).collect();
    let mut others = servers.each_ref().map(|one| Client::open(one.addr(), "/ws?channel=b"));
    assert_disconnects(&servers[1], "channel=a", gone[1].len(), "cluster");
    for client in gone.iter_mut().flatten() {
        client.assert_closed(4403);
    }
    gone =
        servers.iter().map(|one| clients_on_all_shards(one.addr(), "/ws?channel=a", 3)).collect();
    assert_disconnects(&servers[0], "channel=a&retry=true", gone[0].len(), "cluster");
    for client in gone.iter_mut().flatten() {
        client.assert_closed(1012);
    }
    Publisher::on(servers[0].addr(), "b").publish_to_all("sentinel");
    others.iter_mut().for_each(|client| client.assert_text("sentinel"));
    for server in &servers {
        assert_eq!(metric(server.admin(), "wsbcast_broker_dropped_messages_total", &[]), 0.0);
    }
}

/// A process that Redis cannot reach is not told, and the answer says so.
#[test]
fn without_redis_only_this_process_is_concerned() {
    let mut redis = RedisServer::start();
    let servers = [member(&redis, &[]), member(&redis, &[])];
    let mut clients = servers.each_ref().map(|one| Client::open(one.addr(), "/ws?channel=a"));
    redis.kill();
    assert_disconnects(&servers[0], "channel=a", 1, "local");
    clients[0].assert_closed(4403);
    redis.restart();
    servers.iter().for_each(Server::wait_until_ready);
    // It is not made up for: by now it may not be meant any more.
    Publisher::on(servers[0].addr(), "a").publish_to_all("sentinel");
    clients[1].assert_text("sentinel");
    assert_disconnects(&servers[0], "channel=a", 0, "cluster");
    clients[1].assert_closed(4403);
}

/// A stranger's words where processes tell each other what to do close nobody unless they are a
/// whole announcement, and are delivered to nobody.
#[test]
fn hostile_announcements_are_dropped_and_counted() {
    let redis = RedisServer::start();
    let server = member(&redis, &["--threads", "2"]);
    let mut client = Client::open(server.addr(), "/ws?channel=a");
    let name = "wsbcast:announcements";
    let long = format!("1 disconnect x away 0 0 channel\n{}", "a".repeat(4 << 20));
    let hostile: [&[u8]; 10] = [
        b"",
        b"hello",
        b"1 disconnect x away 0 0 channel\n*",
        b"1 disconnect x away 0 0 channel\na\n",
        b"2 disconnect x away 0 0 channel\na",
        b"1 disconnect x away 3600000 5 channel\na",
        b"1 disconnect x away 99999999999999999999 5 sub\nalice",
        b"1 disconnect x away 0 0 everybody\n",
        b"1 disconnect x away 0 0 channel\n\xff",
        long.as_bytes(),
    ];
    for payload in hostile {
        assert_eq!(redis.publish(name, payload), 2, "each shard hears");
    }
    let dropped = 2.0 * hostile.len() as f64;
    eventually(PATIENCE, "they are counted", || {
        let foreign = ["reason=\"foreign\""];
        metric(server.admin(), "wsbcast_broker_dropped_messages_total", &foreign) == dropped
    });
    Publisher::on(server.addr(), "a").publish_to_all("still here");
    client.assert_text("still here");
    assert!(get(server.addr(), "/readyz").status == 200);
    // The right to publish there is the right to do this.
    redis.publish(name, b"1 disconnect x away 0 0 channel\na");
    client.assert_closed(4403);
}
