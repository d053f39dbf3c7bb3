//! The rules about origins, cookies, limits by address and by client, and local programs, through
//! each real proxy.

use super::{
    BALANCER, FORGED,
    fronts::{Front, OF_BYTES, OF_REQUESTS, World, all},
};
use crate::support::{
    client::{Client, upgrade_request},
    frames::{self, masked},
    http::{Http, Response, get, post},
    metrics::metric,
    now,
    tokens::{KEY, token_for},
};

const ADMIN: [&str; 2] = ["--admin-listen", "127.0.0.1:0"];
/// A burst is ten times as much.
const COMMANDS: [&str; 2] = ["--commands-per-client", "3"];
const TWO_BURSTS: usize = 60;
/// Handshakes that may begin at once where one may in a second.
const BURST_OF_ONE: usize = 10;
const OURS: &str = "Origin: https://app.example\r\n";
const LISTED: [&str; 2] = ["--allowed-origins", "https://app.example"];

#[track_caller]
fn assert_limited(answer: &Response, word: &str, secs: std::ops::RangeInclusive<u32>) {
    answer.assert_status(429);
    assert_eq!(answer.json()["error"], word);
    let retry_after: u32 = answer.header("retry-after").expect("it says when").parse().unwrap();
    assert!(secs.contains(&retry_after), "{retry_after}");
}

/// Each client has its own limits behind a trusted proxy, whatever it claims, and the proxy's own
/// exemption is not theirs.
#[test]
fn limits_are_those_of_the_clients_address() {
    let limits = ["--max-connections-per-address", "2", "--handshakes-per-address", "2"];
    for front in all() {
        let world = World::trusting(front, &[&limits[..], &ADMIN].concat());
        let _clients = [1, 2].map(|claimed| {
            let headers = format!("X-Forwarded-For: 6.6.6.{claimed}\r\n");
            world.client(77, "/ws?channel=a", &headers).expect("it may")
        });
        for headers in ["X-Forwarded-For: 127.0.0.1\r\n", "Forwarded: for=127.0.0.5\r\n", FORGED] {
            let refused = world.client(77, "/ws?channel=a", headers).expect_err("a third one");
            assert_limited(&refused, "address_full", 5..=30);
        }
        drop(world.client(78, "/ws?channel=a", FORGED).expect("another address"));
        assert_burst_limited(&world, front);
        drop(world.client(78, "/ws?channel=a", FORGED).expect("another address"));
        let counted = metric(world.server.admin(), "wsbcast_limited_total", &["clients"]);
        assert_eq!(counted, 3.0, "{front:?}");
        world.server.wait_for_log(&[" access: client ", "address=127.0.0.78 "]);
        assert!(!world.server.log().contains("address=6.6.6"), "{}", world.server.log());
    }
}

/// The address 127.0.0.79 may shake hands twice a second, twenty times at once. Requests of the
/// same moment are sent without waiting for answers: one by one, a machine that is busy with other
/// things would stay below that.
fn assert_burst_limited(world: &World, front: Front) {
    let began = now();
    let send = |_| world.try_send(79, "GET /sse?channel=%20", FORGED);
    let sent: Vec<Option<Http>> = (0..60).map(send).collect();
    let answers: Vec<_> = sent.into_iter().map(|http| http?.try_response()).collect();
    let most = 20 + 2 * (began.elapsed().as_secs() as usize + 1);
    let is_taken =
        |answer: &&Option<Response>| answer.as_ref().is_some_and(|one| one.status == 400);
    let taken = answers.iter().filter(is_taken).count();
    assert!((20..=most).contains(&taken), "{front:?}: {taken}");
    assert!(taken < answers.len(), "{front:?}: none is refused");
    for answer in answers.iter().filter(|answer| !is_taken(answer)) {
        match answer {
            Some(answer) => assert_limited(answer, "rate_limited", 1..=12),
            // The handshake of TLS is one too many before the request is, and is not answered.
            None => assert!(front.passes_tls(), "{front:?}"),
        }
    }
}

/// Floods the server, and says whether the client was closed for it.
fn is_closed_for_a_flood(client: &mut Client) -> bool {
    client.send(masked(true, 9, b"flood").repeat(TWO_BURSTS));
    client.send(masked(true, 9, b"still here"));
    loop {
        let frame = client.frame();
        if frame.opcode == frames::CLOSE {
            let (code, text) = frame.close();
            assert!(code == 1008 && text.starts_with("rate limited; retry in "), "{code} {text}");
            return true;
        }
        if frame.payload == b"still here" {
            return false;
        }
    }
}

/// A client that says too much is closed through each proxy, and it alone, though others have its
/// address; the proxy's own exemption is not its own, and its own address's is.
#[test]
fn a_client_that_says_too_much_alone_is_closed() {
    for front in all() {
        let exempt = ["--limit-exempt", "127.0.0.78"];
        let world = World::trusting(front, &[&COMMANDS[..], &exempt, &ADMIN].concat());
        let [mut flooding, mut same, mut exempt] =
            [77, 77, 78].map(|last| world.client(last, "/ws?channel=a", FORGED).unwrap());
        assert!(is_closed_for_a_flood(&mut flooding), "{front:?}");
        assert!(!is_closed_for_a_flood(&mut exempt), "{front:?}");
        same.send(masked(true, 9, b"and I"));
        assert_eq!(same.frame().payload, b"and I", "{front:?}");
        let counted = metric(world.server.admin(), "wsbcast_limited_total", &["commands"]);
        assert_eq!(counted, 1.0, "{front:?}");
        world.server.wait_for_log(&[" access: client ", "address=127.0.0.77 ", "code=1008"]);
    }
}

/// A dry run counts what each limit would refuse of the clients behind a proxy, and refuses none.
#[test]
fn a_dry_run_refuses_nobody_behind_a_proxy() {
    let limits = ["--max-connections-per-address", "1", "--handshakes-per-address", "1"];
    for front in all() {
        let dry = [&limits[..], &COMMANDS, &ADMIN, &["--limits-dry-run"]].concat();
        let world = World::trusting(front, &dry);
        let mut clients: Vec<_> = (0..2 * BURST_OF_ONE)
            .map(|_| world.client(77, "/ws?channel=a", FORGED).expect("nobody is refused"))
            .collect();
        assert!(!is_closed_for_a_flood(&mut clients[0]), "{front:?}");
        let counted = |limit| metric(world.server.admin(), "wsbcast_limited_total", &[limit]);
        // An address may begin one more with each second.
        assert!(counted("handshakes") > 0.0, "{front:?}");
        assert_eq!(counted("clients"), clients.len() as f64 - 1.0, "{front:?}");
        assert!(counted("commands") >= 1.0, "{front:?}");
    }
}

/// The checks of the documented HAProxy reach a server that has TLS itself.
#[test]
fn a_balancers_checks_find_a_server_by_tls() {
    let world = World::trusting(Front::HaproxyTcpToTls, &[]);
    let from = format!("address={BALANCER} ");
    world.server.wait_for_log(&[" access: request ", &from, "/readyz", "status=200"]);
}

/// Behind a proxy that is not trusted all clients are the proxy, for limits too; and none is local.
#[test]
fn behind_an_untrusted_proxy_all_clients_are_one() {
    for front in OF_REQUESTS {
        let world = World::new(front, &["--max-connections-per-address", "2"]);
        let _clients = [77, 78].map(|last| world.client(last, "/ws?channel=a", FORGED).unwrap());
        let refused = world.client(79, "/ws?channel=a", "").expect_err("a third one");
        assert_limited(&refused, "address_full", 5..=30);
        assert_eq!(world.ask(77, "POST /broadcast", "").status, 403, "{front:?}");
    }
}

/// Nothing that comes through a proxy is local; what comes from here directly is, unless the proxy
/// has this address.
#[test]
fn nothing_that_a_proxy_passes_on_is_local() {
    for front in OF_BYTES {
        let world = World::trusting(front, &[]);
        for headers in ["", FORGED, "X-Forwarded-For: 127.0.0.1\r\n"] {
            let publish = world.ask(77, "POST /broadcast", headers);
            assert_eq!(publish.status, 403, "{front:?} {headers}");
            // Bytes are passed on for every route.
            for path in ["/metrics", "/stats", "/admin/drain", "/"] {
                assert_eq!(world.ask(77, &format!("GET {path}"), headers).status, 403, "{path}");
            }
            assert_eq!(world.ask(77, "POST /admin/drain", headers).status, 403);
        }
        // A client that has the server's own address as well.
        assert_eq!(world.ask(1, "POST /broadcast", "").status, 403, "{front:?}");
        post(world.server.addr(), "/broadcast", "x").assert_status(202);
        assert_eq!(get(world.server.addr(), "/metrics").status, 200);
    }
}

/// A server that was not told to expect PROXY headers takes none.
#[test]
fn a_header_without_the_option_is_no_request() {
    let world = World::new(Front::NginxStream, &[]);
    assert_eq!(world.ask(77, "GET /livez", "").status, 400);
    assert_eq!(world.ask(77, "POST /broadcast", "").status, 400);
    get(world.server.addr(), "/livez").assert_status(200);
}

/// The rule about origins, and all that a page has to see of the answers, pass through.
#[test]
fn origins_are_the_pages_own() {
    for front in all() {
        let world =
            World::trusting(front, &[&LISTED[..], &[KEY, "--public-channels", "open"]].concat());
        let allowed = |answer: &Response| {
            let value = answer.header("access-control-allow-origin");
            value.map(str::to_owned)
        };
        let ours = Some("https://app.example".to_owned());
        for page in ["https://evil.example", "null", "http://app.example"] {
            let origin = format!("Origin: {page}\r\n");
            let refused = [
                world.client(77, "/ws?channel=open", &origin).expect_err("another page"),
                world.stream("/sse?channel=open", &origin),
                world.ask(77, "POST /broadcast", &origin),
                world.ask(77, "OPTIONS /broadcast", &origin),
            ];
            for answer in &refused {
                assert_eq!((answer.status, allowed(answer)), (403, None), "{front:?} {page}");
            }
            assert_eq!(refused[0].json()["error"], "bad_origin");
        }
        drop(world.client(77, "/ws?channel=open", OURS).expect("it upgrades"));
        drop(world.client(77, "/ws?channel=open", "").expect("no page"));
        let asked = format!(
            "{OURS}Access-Control-Request-Method: POST\r\n\
             Access-Control-Request-Headers: authorization,idempotency-key\r\n"
        );
        let preflight = world.ask(77, "OPTIONS /broadcast", &asked);
        assert_eq!((preflight.status, allowed(&preflight)), (204, ours.clone()), "{front:?}");
        let list = |name: &str| preflight.header(name).unwrap_or_default().to_ascii_lowercase();
        assert!(list("access-control-allow-methods").contains("post"), "{front:?}");
        assert!(list("access-control-allow-headers").contains("authorization"), "{front:?}");
        for (answer, status) in [
            (world.stream("/sse?channel=open", OURS), 200),
            (world.stream("/sse?channel=private", OURS), 401),
            (world.ask(77, "POST /broadcast", OURS), 401),
            (world.ask(77, "GET /client.js", OURS), 200),
        ] {
            assert_eq!((answer.status, allowed(&answer)), (status, ours.clone()), "{front:?}");
            let shown = answer.header("access-control-expose-headers").unwrap_or_default();
            assert!(shown.contains("WWW-Authenticate"), "{front:?}: {:?}", answer.headers);
            let varies = |(name, value): &(String, String)| name == "vary" && value == "Origin";
            assert!(answer.headers.iter().any(varies), "{front:?}: {:?}", answer.headers);
        }
    }
}

/// A login by cookie counts for pages of ours, and for no other, through each proxy.
#[test]
fn cookies_count_for_pages_of_ours() {
    for front in all() {
        let world =
            World::trusting(front, &[&LISTED[..], &[KEY, "--jwt-cookie", "session"]].concat());
        let token = token_for("alice", &["news"], &["news"], 3600);
        let login = format!("Cookie: session={token}\r\n");
        let statuses = |headers: &str| {
            let headers = format!("{headers}{login}");
            let request = upgrade_request(world.proxy.addr(), "/ws?channel=news", &headers);
            [
                world.connect(77).request(request).status,
                world.stream("/sse?channel=news", &headers).status,
                world.ask(77, "POST /broadcast?channel=news", &headers).status,
            ]
        };
        let same_origin = "Sec-Fetch-Site: same-origin\r\n";
        for ours in [OURS, same_origin] {
            assert_eq!(statuses(ours), [101, 200, 202], "{front:?} {ours}");
        }
        assert_eq!(statuses(""), [401; 3], "{front:?}");
        assert_eq!(statuses("Sec-Fetch-Site: cross-site\r\n"), [401; 3], "{front:?}");
        let evil = format!("Origin: https://evil.example\r\n{same_origin}");
        assert_eq!(statuses(&evil), [403; 3], "{front:?}");
        let cookies = world.stream("/sse?channel=news", &format!("{OURS}{login}"));
        assert_eq!(cookies.header("access-control-allow-credentials"), Some("true"), "{front:?}");
        // Its line is the client's own, and has no token.
        world.server.wait_for_log(&[" access: request ", "address=127.0.0.77 ", "sub=\"alice\""]);
        assert!(!world.server.log().contains(token.split('.').nth(2).unwrap()));
    }
}
