//! The routes that look at the process, and where they are to be found.

use std::{cell::Cell, rc::Rc, sync::Arc};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    task::LocalSet,
};

use super::{FOREIGN, Fixture, LOCAL, body, header, read_answer, request, status};
use crate::{
    broker::{Reach, RefusalExtent},
    clock::{Clock, Millis},
    drain::{Command, Outcome, Phase, Steering},
    health_client::{self, Target, Unhealthy},
    http::{
        access::Rules,
        connection::places::{Places, Room},
        serve,
        sources::{BrokerState, Text},
    },
    limits::LOOKS_PER_TURN,
    peer::TrustedProxies,
};

fn get(target: &str) -> String {
    request(&format!("GET {target}"), &[], "")
}

fn token() -> Rules {
    Rules { tokens: vec!["t".into()].into(), insecure_publish: true, ..Rules::default() }
}

#[tokio::test]
async fn health_routes_answer_anyone_on_both_listeners() {
    for is_admin in [false, true] {
        let server = Fixture::with(|context| {
            context.settings.access = token();
            if is_admin {
                context.public = None;
            }
        })
        .start();
        for target in ["/livez", "/healthz", "/livez?x"] {
            let answer = server.ask_as(FOREIGN, get(target)).await;
            assert_eq!((status(&answer), &body(&answer)["status"]), (200, &"ok".into()));
        }
        let ready = server.ask_as(FOREIGN, get("/readyz")).await;
        assert_eq!(ready.split_once("\r\n\r\n").unwrap().1, "{\"status\":\"ready\"}\n");
        let head = server.ask(request("HEAD /readyz", &[], "")).await;
        assert_eq!((status(&head), header(&head, "content-length").as_str()), (200, "19"));
        assert!(head.ends_with("\r\n\r\n"));
        let post = server.ask(request("POST /livez", &[], "x")).await;
        assert_eq!((status(&post), header(&post, "allow").as_str()), (405, "GET, HEAD"));
    }
}

#[tokio::test]
async fn readiness_gives_its_reasons() {
    let server = Fixture::with(|context| {
        context.ops.broker = Rc::new(|| BrokerState {
            reach: Reach::NeverReached,
            refuses: RefusalExtent::Nothing,
            shard_stalled: true,
        });
    })
    .start();
    server.enter(Phase::PreDelay);
    let answer = server.ask(get("/readyz")).await;
    assert_eq!(status(&answer), 503);
    let reasons = serde_json::json!(["draining", "broker", "shard_stalled"]);
    assert_eq!(body(&answer)["reasons"], reasons);
}

/// Admin routes are on public listeners only while those are loopback.
#[tokio::test]
async fn admin_routes_are_public_only_on_loopback() {
    let targets = ["/", "/metrics", "/stats", "/admin/drain"];
    let hidden = Fixture::with(|context| context.settings.admin_on_public = false).start();
    for target in targets {
        assert_eq!(status(&hidden.ask(get(target)).await), 404, "{target}");
    }
    let shown = Fixture::new().start();
    for target in targets {
        assert_eq!(status(&shown.ask(get(target)).await), 200, "{target}");
        assert_eq!(status(&shown.ask_as(FOREIGN, get(target)).await), 403, "{target}");
    }
    let post = shown.ask(request("POST /admin/drain", &[], "")).await;
    assert_eq!(status(&post), 403, "without a token nobody ends the process from there");
    assert!(body(&post)["hint"].as_str().unwrap().contains("--admin-listen"));
    let with_token = Fixture::with(|context| context.settings.access = token()).start();
    assert_eq!(status(&with_token.ask(get("/stats")).await), 200);
    assert_eq!(status(&with_token.ask_as(FOREIGN, get("/stats")).await), 401);
    let post = request("POST /admin/drain", &[], "");
    assert_eq!(status(&with_token.ask(post).await), 401);
    let bearer = request("GET /stats", &["Authorization: Bearer t"], "");
    assert_eq!(status(&with_token.ask_as(FOREIGN, bearer).await), 200);
}

#[tokio::test]
async fn an_admin_listener_shows_everyone_and_obeys_few() {
    let server = Fixture::with(|context| context.public = None).start();
    let index = body(&server.ask_as(FOREIGN, get("/")).await);
    assert_eq!((&index["name"], &index["version"]), (&"wsbcast".into(), &"1.2.3 (abc)".into()));
    let metrics = server.ask_as(FOREIGN, get("/metrics")).await;
    assert_eq!(header(&metrics, "content-type"), "text/plain; version=0.0.4; charset=utf-8");
    assert!(metrics.ends_with("wsbcast_connections 0\n"));
    assert_eq!(body(&server.ask_as(FOREIGN, get("/stats")).await)["shards"], serde_json::json!([]));
    for target in ["/ws", "/broadcast", "/nothing", "/livez/"] {
        assert_eq!(status(&server.ask(get(target)).await), 404, "{target}");
    }
    let post = request("POST /admin/drain", &[], "");
    assert_eq!(status(&server.ask_as(FOREIGN, &post).await), 403);

    let server = Fixture::with(|context| {
        context.public = None;
        context.settings.access = token();
    })
    .start();
    assert_eq!(status(&server.ask_as(LOCAL, &post).await), 401, "a set token is always needed");
}

#[tokio::test]
async fn a_drain_can_be_started_and_watched() {
    let server = Fixture::with(|context| context.public = None).start();
    let before = body(&server.ask(get("/admin/drain")).await);
    let expected = serde_json::json!({
        "phase": "serving",
        "clients": 0,
        "seconds_left": null,
        "leave_rate_per_second": null,
        "estimated_seconds_left": null,
    });
    assert_eq!(before, expected);
    let _guard = server.control.barrier.client();
    let mut commands = server.control.commands().unwrap();
    let control = async {
        let asked = commands.recv().await.unwrap();
        assert_eq!(asked.command, Command::Steer(Steering::default()));
        server.enter(Phase::Waiting);
        let at = server.context.clock.now();
        asked.answer(Ok(Outcome { at, drain: server.control.drain(), has_begun: true }));
    };
    let (answer, ()) = tokio::join!(server.ask(request("POST /admin/drain", &[], "")), control);
    assert_eq!((status(&answer), header(&answer, "connection").as_str()), (202, "close"));
    let now = body(&answer);
    assert_eq!((&now["phase"], &now["clients"]), (&"waiting".into(), &1.into()));
    assert!((1..=60).contains(&now["seconds_left"].as_u64().unwrap()));
    let again = server.ask(request("POST /admin/drain", &[], "")).await;
    assert_eq!(status(&again), 200);
    let earlier = Millis(server.context.clock.now().0.saturating_sub(2_000));
    server.control.departures.record(earlier, 0);
    server.control.departures.record(server.context.clock.now(), 7);
    let planned = server.control.drain().unwrap();
    let control = async {
        let asked = commands.recv().await.unwrap();
        assert_eq!(asked.command, Command::Plan(Steering::default()));
        let at = planned.started;
        asked.answer(Ok(Outcome { at, drain: Some(planned), has_begun: false }));
    };
    let dry = server.ask(request("POST /admin/drain?dry-run=true", &[], ""));
    let (told, ()) = tokio::join!(dry, control);
    assert_eq!((status(&told), &body(&told)["dry_run"]), (200, &true.into()));
    for query in ["dry-run", "dry-run=1", "dry-run=true&dry-run=true", "dryrun=true"] {
        let bad = server.ask(request(&format!("POST /admin/drain?{query}"), &[], "")).await;
        assert_eq!(status(&bad), 400, "{query}");
    }
    drop(commands);
    let late = server.ask(request("POST /admin/drain?timeout=1h", &[], "")).await;
    assert_eq!((status(&late), &body(&late)["error"]), (409, &"stopping".into()));
    let misspelt = server.ask(request("POST /admin/drain?timeuot=1h", &[], "")).await;
    assert_eq!((status(&misspelt), &body(&misspelt)["error"]), (400, &"bad_request".into()));
    assert!(body(&misspelt)["hint"].as_str().unwrap().contains("timeout"));
}

#[tokio::test]
async fn the_health_command_believes_the_status_alone() {
    let server = Fixture::new().start();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let target = Target {
        address: address.to_string(),
        announced: TrustedProxies::default(),
        is_tls: false,
    };
    let check = async |path: &str| {
        let (target, path) = ([target.clone()], path.to_owned());
        let asking = move || health_client::check(Clock::start(), &target, "localhost", &path);
        let asking = tokio::task::spawn_blocking(asking);
        let (stream, peer) = listener.accept().await.unwrap();
        let place = server.places.enter();
        let (_, result) = tokio::join!(serve(stream, peer, &server.context, &place), asking);
        result.unwrap()
    };
    assert!(check("/livez").await.is_ok());
    assert!(matches!(check("/nothing").await, Err(Unhealthy::Status(_, 404))));
    drop(listener);
    let refused = health_client::check(Clock::start(), &[target], "localhost", "/livez");
    assert!(matches!(refused, Err(Unhealthy::Unreachable(..))));
}

/// A flood of pipelined requests keeps no sender from a probe.
#[tokio::test]
async fn pipelined_requests_leave_room_for_probes() {
    const MANY: usize = 10 * LOOKS_PER_TURN;
    const EACH: usize = 10;
    for is_admin in [false, true] {
        let made = Rc::new(Cell::new(0));
        let count = made.clone();
        let mut server = Fixture::with(|context| {
            if is_admin {
                context.public = None;
            }
            context.ops.stats_json = Text::new(Clock::start(), move || {
                count.set(count.get() + 1);
                "{}".into()
            });
        })
        .start();
        server.places =
            Places::new(Clock::start(), Room { places: MANY + 1, spare: 1 }, 1, Arc::default());
        let local = LocalSet::new();
        let flood = get("/stats").repeat(EACH);
        let mut flooding = Vec::new();
        for _ in 0..MANY {
            let (serving, mut client) = server.connect(LOCAL);
            client.write_all(flood.as_bytes()).await.unwrap();
            local.spawn_local(async move { drop(serving.await) });
            flooding.push(client);
        }
        let (serving, mut client) = server.connect(LOCAL);
        local.spawn_local(async move { drop(serving.await) });
        let probing = async {
            client.write_all(get("/livez").as_bytes()).await.unwrap();
            assert_eq!(status(&read_answer(&mut client).await), 200);
            made.get()
        };
        let before = local.run_until(probing).await;
        assert!(before <= 4 * LOOKS_PER_TURN, "{before} answers before a probe's");
        let everybody = async {
            for client in &mut flooding {
                for _ in 0..EACH {
                    assert_eq!(status(&read_answer(client).await), 200);
                }
            }
        };
        local.run_until(everybody).await;
    }
}

/// A connection that sends many requests at once is answered one in a turn.
#[tokio::test]
async fn pipelined_requests_are_answered_in_turns() {
    let server = Fixture::new().start();
    let (serving, mut client) = server.connect(LOCAL);
    client.write_all(get("/livez").repeat(10).as_bytes()).await.unwrap();
    let local = LocalSet::new();
    local.spawn_local(async move { drop(serving.await) });
    let (mut text, mut reads) = (String::new(), 0);
    let reading = async {
        let mut buffer = vec![0; 65_536];
        while text.matches("200 OK").count() < 10 {
            let count = client.read(&mut buffer).await.unwrap();
            text += str::from_utf8(&buffer[..count]).unwrap();
            reads += 1;
        }
    };
    local.run_until(reading).await;
    assert_eq!(reads, 10, "a turn for somebody else after each answer");
}
