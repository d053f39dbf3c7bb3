//! Redis over TLS: a private authority, whose word is the only one that counts.
//!
//! Which authorities are trusted is the environment's business (`SSL_CERT_FILE`), so the real
//! binary is started with one. Each Redis here speaks TLS on one port and plainly on another: the
//! test looks at it through the latter.

use crate::support::{
    PATIENCE,
    certificates::Authority,
    client::Client,
    eventually,
    http::get,
    metrics::metric,
    publish::Publisher,
    redis::RedisServer,
    redis_cluster::RedisCluster,
    server::{Launch, Server},
};

const NODE: &str = "127.0.0.1";

/// A process on the Redis of `url` that trusts `authority` alone.
fn start(authority: &Authority, url: &str, args: &[&str]) -> Server {
    let args = [&["--redis-url", url], args].concat();
    Launch::on_a_free_port(&args).env("SSL_CERT_FILE", authority.path()).start()
}

/// Such a process, once it is ready to serve.
fn member(authority: &Authority, url: &str, args: &[&str]) -> Server {
    let server = start(authority, url, args);
    eventually(PATIENCE, "it is ready", || get(server.addr(), "/readyz").status == 200);
    server
}

fn url(redis: &RedisServer, host: &str) -> String {
    let address = redis.tls_address().expect("it speaks TLS");
    format!("rediss://:secret@{}", address.replace(NODE, host))
}

/// Whether anyone has introduced itself to Redis, which is when a password is said.
fn was_greeted(redis: &RedisServer) -> bool {
    redis.cli(&["PING"]);
    let commands = redis.cli(&["INFO", "commandstats"]);
    assert!(commands.contains("cmdstat_ping:"), "it counts: {commands}");
    commands.contains("cmdstat_hello:") || commands.contains("cmdstat_auth:")
}

/// Channels that live on different masters, if there are several.
const CHANNELS: [&str; 4] = ["a", "b", "c", "d"];

/// A message that one process takes reaches the clients of the other; a client that comes back to
/// either gets what it missed.
fn act_as_one(servers: &[Server; 2]) {
    let [one, other] = servers.each_ref().map(Server::addr);
    // More than fits into one record of TLS.
    let long = "long ".repeat(100_000);
    for channel in CHANNELS {
        let target = format!("/ws?channel={channel}");
        let (mut here, mut there) = (Client::open(one, &target), Client::open(other, &target));
        let mut publisher = Publisher::on(one, channel);
        for (text, offset) in [("short", 1), (&long, 2)] {
            assert_eq!(publisher.publish_to_all(text), offset);
            here.assert_text(text);
            there.assert_text(text);
        }
        here.leave();
        there.leave();
        let epoch = publisher.publish("missed").epoch.unwrap();
        for server in [one, other] {
            let mut back = Client::open(server, &format!("{target}&since={epoch}:1"));
            back.assert_text(&long);
            back.assert_text("missed");
            assert_eq!(back.leave(), [""; 0], "nothing twice");
        }
    }
}

/// The connections on which subscribers hear are cut, and what is published meanwhile arrives.
fn survive_a_cut(servers: &[Server; 2], nodes: &[RedisServer]) {
    let [one, other] = servers.each_ref().map(Server::addr);
    let mut clients = CHANNELS.map(|name| Client::open(one, &format!("/ws?channel={name}")));
    let cut = |node: &RedisServer| node.cli(&["CLIENT", "KILL", "TYPE", "pubsub"]);
    let killed: u32 = nodes.iter().map(|node| cut(node).parse::<u32>().unwrap()).sum();
    assert!(killed >= 2, "both hear: {killed}");
    for (name, client) in CHANNELS.into_iter().zip(&mut clients) {
        let mut publisher = Publisher::on(other, name);
        eventually(PATIENCE, "it is published", || publisher.publish("after").is_clustered());
        client.assert_text("after");
    }
}

/// Processes act as one over TLS with certificates of a private authority.
#[test]
fn processes_act_as_one_over_tls() {
    let authority = Authority::new();
    let redis = RedisServer::start_as(&authority.redis(&[NODE]));
    assert!(!was_greeted(&redis));
    let servers = [&["--redis-subscribers", "per-shard"], &["--redis-subscribers", "per-process"]]
        .map(|args| member(&authority, &url(&redis, NODE), args));
    act_as_one(&servers);
    survive_a_cut(&servers, std::slice::from_ref(&redis));
    let mut client = Client::connect(servers[1].addr());
    redis.publish("notifications", b"raw");
    client.assert_text("raw");
    assert!(was_greeted(&redis), "a password is said where the certificate is good");
}

#[test]
fn a_host_is_known_by_its_name() {
    let authority = Authority::new();
    let redis = RedisServer::start_as(&authority.redis(&["localhost"]));
    let server = member(&authority, &url(&redis, "localhost"), &[]);
    Publisher::new(server.addr()).publish_to_all("hi");
}

/// A certificate that proves nothing is refused with its reason, and its server is told no
/// password.
#[test]
fn an_untrusted_certificate_is_named() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    for (recipe, reason) in [
        (theirs.redis(&[NODE]), "UnknownIssuer"),
        (ours.redis(&["localhost", "127.0.0.2"]), "not valid for name"),
        (ours.redis_of_the_past(&[NODE]), "certificate expired"),
    ] {
        let redis = RedisServer::start_as(&recipe);
        let server = start(&ours, &url(&redis, NODE), &["--log-level", "debug"]);
        server.wait_for_log(&["WARN", "Redis' certificate is not trusted", "SSL_CERT_FILE"]);
        refused(&server, &redis, reason);
    }
}

/// A server that speaks no TLS is refused, and told no password.
#[test]
fn a_server_without_tls_gets_no_password() {
    let redis = RedisServer::start();
    let url = format!("rediss://:secret@{}", redis.address());
    let server = start(&Authority::new(), &url, &["--log-level", "debug"]);
    refused(&server, &redis, "");
}

/// It tries again and again, says why in vain, and serves its own clients meanwhile.
fn refused(server: &Server, redis: &RedisServer, reason: &str) {
    server.wait_for_log(&["WARN", "Redis is out of reach", reason]);
    server.wait_for_log(&["Redis is still out of reach", reason]);
    assert!(!server.log().contains("secret"));
    assert_eq!(get(server.addr(), "/readyz").status, 503);
    assert!(Publisher::new(server.addr()).publish("local").is_local());
    assert_eq!(metric(server.addr(), "wsbcast_broker_connected", &[]), 0.0);
    assert!(!was_greeted(redis), "nobody has got as far as a password");
}

#[test]
fn a_cluster_is_used_over_tls_by_address_and_by_name() {
    let by_name = [
        "--cluster-announce-hostname",
        "localhost",
        "--cluster-preferred-endpoint-type",
        "hostname",
    ];
    for (host, options) in [(NODE, &[][..]), ("localhost", &by_name)] {
        let authority = Authority::new();
        let recipe = authority.redis(&[host]).and(options);
        let cluster = RedisCluster::start_as(3, false, &recipe);
        let url = cluster.url().replace(NODE, host).replace("://", "://:secret@");
        let servers = [(); 2].map(|()| member(&authority, &url, &[]));
        act_as_one(&servers);
        let lives_on = CHANNELS.map(|name| cluster.slot(name) * 3 / 16_384);
        assert!(lives_on.iter().any(|master| *master != lives_on[0]), "{lives_on:?}");
        survive_a_cut(&servers, &cluster.masters);
    }
}

/// A cluster whose members prove nothing is refused, and told no password.
#[test]
fn an_unproven_cluster_gets_no_password() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let cluster = RedisCluster::start_as(2, false, &theirs.redis(&[NODE]));
    let url = cluster.url().replace("://", "://:secret@");
    let server = start(&ours, &url, &["--log-level", "debug"]);
    server.wait_for_log(&["Redis is out of reach", "UnknownIssuer"]);
    server.wait_for_log(&["the slots were not read", "UnknownIssuer"]);
    assert!(cluster.masters.iter().all(|node| !was_greeted(node)));
}

/// A primary is found through a sentinel and used over TLS, by address and by name.
#[test]
fn a_primary_behind_a_sentinel_is_used_over_tls() {
    let by_name =
        ["--sentinel", "resolve-hostnames", "yes", "--sentinel", "announce-hostnames", "yes"];
    for (host, options) in [(NODE, &[][..]), ("localhost", &by_name)] {
        let authority = Authority::new();
        let recipe = authority.redis(&[host]);
        let redis = RedisServer::start_as(&recipe);
        let address = |server: &RedisServer| server.tls_address().unwrap().replace(NODE, host);
        let watcher = recipe.and(&["--tls-replication", "yes"]).and(options);
        let sentinel = RedisServer::start_sentinel_as(&watcher, &address(&redis));
        let sentinel = address(&sentinel);
        let url = format!("rediss-sentinel://:secret@{sentinel}?sentinelServiceName=main");
        let servers = [(); 2].map(|()| member(&authority, &url, &[]));
        act_as_one(&servers);
        survive_a_cut(&servers, std::slice::from_ref(&redis));
    }
}

/// Authorities that cannot be read are told in words, with their file.
#[test]
fn unreadable_authorities_are_told_with_their_file() {
    let folder = tempfile::tempdir().unwrap();
    let written = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let args = ["--redis-url", "rediss://:secret@localhost"];
    for path in [
        "/nowhere/ca.pem".to_owned(),
        written("empty.pem", ""),
        written("garbage.pem", "no certificate\n"),
        written("torn.pem", "-----BEGIN CERTIFICATE-----\nAAAA"),
    ] {
        let ended = Launch::on_a_free_port(&args).env("SSL_CERT_FILE", &path).run();
        assert_eq!(ended.code, Some(2), "{path}");
        for word in ["--redis-url", "SSL_CERT_FILE", &path] {
            assert!(ended.stderr.contains(word), "{word}: {}", ended.stderr);
        }
        assert!(!ended.stderr.contains("secret"));
        assert!(!ended.stderr.contains(['{', '}']), "no dump: {}", ended.stderr);
    }
}

/// The options that name an authority, and a pair of the client's.
fn shown<'a>(authority: &'a str, [certificate, key]: &'a [String; 2]) -> [&'a str; 6] {
    ["--redis-tls-ca", authority, "--redis-tls-cert", certificate, "--redis-tls-key", key]
}

/// Redis gets the certificate that it wants to see, and is trusted by the authority that an option
/// names; the environment's authorities count no more.
#[test]
fn redis_is_shown_a_certificate() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let redis = RedisServer::start_as(&ours.mutual_redis(&[NODE]));
    let pair = ours.files(&["client"]);
    let options = shown(ours.path(), &pair);
    let servers = [(); 2].map(|()| member(&theirs, &url(&redis, NODE), &options));
    act_as_one(&servers);
    survive_a_cut(&servers, std::slice::from_ref(&redis));
}

/// Nodes of a cluster, and sentinels, are shown it as well.
#[test]
fn nodes_and_sentinels_are_shown_a_certificate() {
    let authority = Authority::new();
    let recipe = authority.mutual_redis(&[NODE]);
    let pair = authority.files(&["client"]);
    let options = shown(authority.path(), &pair);
    let sentinel_options = ["--tls-replication", "yes"];
    let redis = RedisServer::start_as(&recipe);
    let watched = redis.tls_address().unwrap();
    let sentinel = RedisServer::start_sentinel_as(&recipe.and(&sentinel_options), &watched);
    let sentinel = sentinel.tls_address().unwrap();
    let url = format!("rediss-sentinel://:secret@{sentinel}?sentinelServiceName=main");
    act_as_one(&[(); 2].map(|()| member(&authority, &url, &options)));
}

/// A Redis that wants a certificate refuses those who have none, or another authority's.
#[test]
fn without_its_certificate_redis_is_out_of_reach() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let redis = RedisServer::start_as(&ours.mutual_redis(&[NODE]));
    let foreign = theirs.files(&["client"]);
    for options in [&["--redis-tls-ca", ours.path()][..], &shown(ours.path(), &foreign)] {
        let args = [options, &["--log-level", "debug"]].concat();
        let server = start(&ours, &url(&redis, NODE), &args);
        server.wait_for_log(&["WARN", "Redis is out of reach"]);
        assert!(!server.log().contains("secret"));
        assert_eq!(get(server.addr(), "/readyz").status, 503);
    }
}

/// Files that cannot be used, and options that have no use, end the start.
#[test]
fn bad_files_for_redis_end_the_start() {
    let authority = Authority::new();
    let [pair, other] = [(); 2].map(|()| authority.files(&["client"]));
    let (ca, cert, key) = (authority.path(), &*pair[0], &*pair[1]);
    let tls = ["--redis-url", "rediss://:secret@localhost"];
    for (url, options, option, words) in [
        (&tls, &["--redis-tls-ca", "/nowhere"][..], "--redis-tls-ca", "cannot be read"),
        (&tls, &["--redis-tls-ca", key], "--redis-tls-ca", "holds no certificate"),
        (&tls, &["--redis-tls-cert", cert], "--redis-tls-cert", "needs its --redis-tls-key"),
        (&tls, &["--redis-tls-key", key], "--redis-tls-key", "needs its --redis-tls-cert"),
        (
            &tls,
            &["--redis-tls-ca", ca, "--redis-tls-cert", cert, "--redis-tls-key", &other[1]],
            "--redis-tls-key",
            "does not belong",
        ),
        (
            &["--redis-url", "redis://:secret@a"],
            &["--redis-tls-ca", ca],
            "--redis-tls-ca",
            "rediss",
        ),
    ] {
        let ended = Launch::on_a_free_port(&[&url[..], options].concat()).run();
        assert_eq!(ended.code, Some(2), "{options:?}");
        for word in [option, words] {
            assert!(ended.stderr.contains(word), "{word}: {}", ended.stderr);
        }
        assert!(ended.stderr.contains("1 bad value"), "{}", ended.stderr);
        assert!(!ended.stderr.contains("secret") && !ended.stderr.contains("PRIVATE"));
    }
}
