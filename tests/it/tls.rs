//! Listeners by TLS: the same promises as without, and those about certificates and handshakes.

mod exchange;

use std::{fs, net::SocketAddr, time::Duration};

use rustls::{SupportedProtocolVersion, version};

use crate::support::{
    PATIENCE,
    certificates::Authority,
    client::Client,
    events::Events,
    eventually,
    http::{Arrival, Http, get, post},
    metrics::{Metrics, metric},
    now,
    publish::Publisher,
    server::{Launch, Server},
    tls::{Tunnel, trusting},
};

const NAME: &str = "wsbcast.test";
const BOTH: [&SupportedProtocolVersion; 2] = [&version::TLS12, &version::TLS13];

/// A server that listens plainly and by TLS.
struct World {
    server: Server,
    authority: Authority,
    pair: [String; 2],
}

impl World {
    fn new(args: &[&str]) -> Self {
        Self::started(args, |launch| launch)
    }

    fn started(args: &[&str], change: impl FnOnce(Launch) -> Launch) -> Self {
        let authority = Authority::new();
        let pair = authority.files(&[NAME]);
        let tls = ["--tls-listen", "127.0.0.1:0", "--tls-cert", &pair[0], "--tls-key", &pair[1]];
        let server = change(Launch::on_a_free_port(&[&tls, args].concat())).start();
        Self { server, authority, pair }
    }

    fn tls_addr(&self) -> SocketAddr {
        self.server.public()[1]
    }

    fn tunnel(&self, versions: &[&'static SupportedProtocolVersion]) -> Tunnel {
        Tunnel::to(self.tls_addr(), NAME, trusting(self.authority.path(), versions))
    }

    fn handshakes(&self, result: &str) -> f64 {
        let label = format!("result=\"{result}\"");
        metric(self.server.addr(), "wsbcast_tls_handshakes_total", &[&label])
    }

    fn reloads(&self, result: &str) -> f64 {
        let label = format!("result=\"{result}\"");
        metric(self.server.addr(), "wsbcast_certificate_reloads_total", &[&label])
    }
}

/// Publications by either way reach clients by both, WebSockets and event streams.
#[test]
fn messages_go_from_everyone_to_everyone() {
    let world = World::new(&["--echo"]);
    let plain = world.server.addr();
    // More than fits into one record, and more than the socket takes at once.
    let long = "long ".repeat(150_000);
    for version in BOTH {
        let tunnel = world.tunnel(&[version]);
        let mut client = Client::connect(tunnel.addr());
        let mut events = Events::open(tunnel.addr(), "/sse");
        let mut other = Client::connect(plain);
        for (publisher, text) in [(plain, "plainly"), (tunnel.addr(), "by TLS"), (plain, &long)] {
            let answer = post(publisher, "/broadcast", text);
            // Nobody knows whose the tunnel's connections are, but they are this user's.
            answer.assert_status(202);
            client.assert_text(text);
            other.assert_text(text);
            assert_eq!(events.text(), text);
        }
        let mut echo = Client::open(tunnel.addr(), "/echo");
        for text in ["short", &long[..60_000]] {
            echo.send_text(text);
            echo.assert_text(text);
        }
        assert_eq!(echo.leave(), [""; 0]);
        assert_eq!(get(tunnel.addr(), "/livez").status, 200);
        assert_eq!((tunnel.refused(), tunnel.truncations()), (0, 0));
    }
    assert!(world.handshakes("full") >= 2.0 && world.handshakes("failed") == 0.0);
    assert!(world.handshakes("resumed") >= 2.0, "each tunnel is a client that comes back");
}

/// A client that does not read for a while gets everything, byte by byte, and holds nothing after.
#[test]
fn a_slow_client_gets_every_byte() {
    const LENGTH: usize = 10_000;
    let world = World::new(&["--threads", "1", "--backlog", "64MiB", "--compression", "off"]);
    let numbered = |number: usize| format!("{number:08} {}", "x".repeat(LENGTH - 9));
    for version in BOTH {
        let tunnel = world.tunnel(&[version]);
        let mut stalled = Client::with_little_room(tunnel.addr(), "/ws");
        let mut events = Events::open_with(
            crate::support::client::little_room(tunnel.addr()),
            tunnel.addr(),
            "/sse",
            "",
        );
        let mut publisher = Publisher::new(world.server.addr());
        let mut published = 0;
        while metric(world.server.addr(), "wsbcast_backlog_bytes", &[]) < 2e6 {
            assert!(published < 6000, "a client that does not read falls behind");
            for _ in 0..50 {
                publisher.publish_to_all(numbered(published));
                published += 1;
            }
        }
        for number in 0..published {
            assert!(stalled.text() == numbered(number), "message {number}");
            assert!(events.text() == numbered(number), "event {number}");
        }
        publisher.publish_to_all("and on");
        stalled.assert_text("and on");
        assert_eq!(events.text(), "and on");
        eventually(PATIENCE, "what everyone has read is forgotten", || {
            metric(world.server.addr(), "wsbcast_backlog_bytes", &[]) < 256.0 * 1024.0
        });
        assert_eq!(tunnel.truncations(), 0);
    }
}

fn not_after(world: &World) -> f64 {
    let metrics = Metrics::of(world.server.addr());
    let end = metrics.sum("wsbcast_certificate_not_after_timestamp_seconds", &[]);
    assert!(end > 1.7e9, "{end}");
    end
}

/// SIGHUP has the files read at once; a bad pair then keeps everything as it is.
#[test]
fn a_signal_has_certificates_read_at_once() {
    let world = World::new(&[]);
    let begun = now();
    world.authority.write_pair(&world.pair, &[NAME]);
    world.server.signal(&["HUP"]);
    world.server.wait_for_log(&["INFO", "new certificates are in use"]);
    assert_eq!(world.reloads("taken"), 1.0);
    fs::write(&world.pair[1], "no key").unwrap();
    world.server.signal(&["HUP"]);
    world.server.wait_for_log(&["ERROR", "holds no private key"]);
    world.server.wait_for_log(&["ERROR", "everything stays as it is"]);
    assert!(begun.elapsed() < PATIENCE);
    assert_eq!(get(world.tunnel(&BOTH).addr(), "/livez").status, 200);
}

/// A pair that does not fit is refused with its reason; the old one stays until it fits again.
#[test]
fn a_bad_pair_leaves_the_old_one() {
    let world = World::new(&[]);
    let tunnel = world.tunnel(&BOTH);
    let other = world.authority.files(&[NAME]);
    fs::copy(&other[0], &world.pair[0]).unwrap();
    world.server.wait_for_log(&["WARN", "those from before stay", "does not belong"]);
    assert!(world.reloads("refused") >= 1.0);
    assert_eq!(get(tunnel.addr(), "/livez").status, 200);
    fs::write(&world.pair[0], "no certificate").unwrap();
    assert_eq!(get(world.tunnel(&BOTH).addr(), "/livez").status, 200);
    world.authority.write_pair(&world.pair, &[NAME]);
    eventually(PATIENCE, "the good pair is in use", || world.reloads("taken") == 1.0);
    assert_eq!(get(world.tunnel(&BOTH).addr(), "/livez").status, 200);
    assert!(!world.server.log().contains("PRIVATE"));
}

/// The name that a client asks for decides on its certificate; a client of another name refuses.
#[test]
fn several_certificates_are_chosen_by_name() {
    let authority = Authority::new();
    let [one, two] = ["one.test", "two.test"].map(|name| authority.files(&[name]));
    let args = [
        "--threads",
        "2",
        "--notify-interval",
        "0",
        "--tls-listen",
        "127.0.0.1:0",
        "--tls-cert",
        &one[0],
        "--tls-key",
        &one[1],
        "--tls-cert",
        &two[0],
        "--tls-key",
        &two[1],
    ];
    let mut server = Launch::new(&args).spawn();
    server.wait_for_log(&["listening on 127.0.0.1:", "by TLS"]);
    let line = server.wait_for_log(&["INFO", "ready"]);
    assert!(!line.contains("8000"), "a listener by TLS replaces the default");
    let log = server.log();
    let addr = log.split("listening on ").nth(1).unwrap().split(' ').next().unwrap();
    let addr: SocketAddr = addr.parse().unwrap();
    for name in ["one.test", "two.test"] {
        let tunnel = Tunnel::to(addr, name, trusting(authority.path(), &BOTH));
        assert_eq!(get(tunnel.addr(), "/livez").status, 200, "{name}");
    }
    let stranger = Tunnel::to(addr, "three.test", trusting(authority.path(), &BOTH));
    assert!(Http::connect(stranger.addr()).arrival(PATIENCE) != Arrival::Bytes);
    eventually(PATIENCE, "it is refused by the client", || stranger.refused() == 1);
    let health = |args: &[&str]| Launch::new(&[&["health"], args].concat()).run().code;
    assert_eq!(health(&["--tls-listen", &addr.to_string()]), Some(0));
    assert_eq!(health(&[&format!("https://{addr}")]), Some(0));
    assert_eq!(health(&[&addr.to_string()]), Some(1), "not by plain HTTP");
    server.kill();
}

/// A bad pair keeps the server from starting, with the reason.
#[test]
fn a_bad_pair_ends_the_start() {
    let authority = Authority::new();
    let [one, two] = ["one.test", "two.test"].map(|name| authority.files(&[name]));
    let args = ["--tls-listen", "127.0.0.1:0", "--tls-cert", &one[0], "--tls-key", &two[1]];
    let ended = Launch::on_a_free_port(&args).run();
    assert_eq!(ended.code, Some(2), "{}", ended.stderr);
    assert!(ended.stderr.contains("--tls-key") && ended.stderr.contains("does not belong"));
}

/// A request without TLS is told what is spoken there.
#[test]
fn plain_http_is_told_that_tls_is_spoken() {
    let world = World::new(&[]);
    for request in ["GET / HTTP/1.1\r\nHost: a\r\n\r\n", "POST /broadcast HTTP/1.0\r\n\r\n"] {
        let answer = Http::connect(world.tls_addr()).request(request);
        answer.assert_status(400);
        assert_eq!(answer.json()["error"], "tls_required");
    }
    assert_eq!(world.handshakes("plain_http"), 2.0);
}

/// Connections that never finish a handshake are closed in time, however little they send.
#[test]
fn unfinished_handshakes_end_in_time() {
    let world = World::new(&[]);
    let begun = now();
    // The head of a record, and of a message, that never come.
    let beginnings = [&[][..], &[22], &[22, 3, 1, 0x02, 0, 1, 0, 0x01, 0xfc, 3, 3]];
    let mut silent: Vec<_> = beginnings
        .iter()
        .map(|beginning| {
            let mut http = Http::connect(world.tls_addr());
            http.send(beginning);
            http
        })
        .collect();
    for http in &mut silent {
        assert!(matches!(http.arrival(PATIENCE), Arrival::Eof | Arrival::Reset));
    }
    assert!(begun.elapsed() >= Duration::from_secs(8), "clients have their time");
    assert_eq!(world.handshakes("unfinished"), 3.0);
    let mut noise = Http::connect(world.tls_addr());
    noise.send([0x80; 100]);
    while noise.arrival(PATIENCE) == Arrival::Bytes {}
    eventually(PATIENCE, "it failed", || world.handshakes("failed") == 1.0);
}

/// Half handshakes by the hundred keep nobody out: they make room for those that come.
#[test]
fn half_handshakes_hold_no_places() {
    let args = ["--threads", "1", "--max-connections", "20"];
    let world = World::started(&args, |launch| launch.after("ulimit -n 150"));
    let half = |_| {
        let mut http = Http::connect(world.tls_addr());
        http.send([22, 3, 1, 0x02, 0, 1, 0, 0x01, 0xfc, 3, 3]);
        http
    };
    let _held: Vec<_> = (0..400).map(half).collect();
    let begun = now();
    let tunnel = world.tunnel(&BOTH);
    let mut client = Client::connect(tunnel.addr());
    assert_eq!(get(world.server.addr(), "/livez").status, 200);
    assert!(begun.elapsed() < Duration::from_secs(8), "nobody waited for a deadline");
    Publisher::new(world.server.addr()).publish_to_all("hello");
    client.assert_text("hello");
}

/// A drain closes clients by TLS as all others, with a farewell of TLS at the end.
#[test]
fn a_drain_ends_with_close_frames_and_farewells() {
    let args = ["--drain-timeout", "10s", "--drain-close-over", "8s"];
    let mut world = World::new(&args);
    let tunnel = world.tunnel(&BOTH);
    let mut clients = [(); 5].map(|()| Client::connect(tunnel.addr()));
    let mut events = Events::open(tunnel.addr(), "/sse");
    world.server.signal(&["TERM"]);
    for client in &mut clients {
        client.assert_closed(1012);
    }
    events.blocks_until_end();
    world.server.assert_exit(0);
    eventually(PATIENCE, "all were told", || tunnel.farewells() == 6);
    assert_eq!(tunnel.truncations(), 0);
}
