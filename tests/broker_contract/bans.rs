//! Bearers of tokens that are kept out: every process learns of it, also one that was away.

use std::time::Duration;

use testkit::proxy::Proxy;
use wsbcast::{
    bans::{BansFull, Bearer},
    broker::{Announcement, BrokerSettings, Disconnection, OnLoss, Selector},
    limits::{BAN_MAX, BANS_MAX},
    metrics::Scope,
};

use crate::{
    Program, Recipe, over_redis_and_valkey,
    process::{Backend, HISTORY, Process, TestSink, redis_settings, run, until},
    redis_server::RedisServer,
};

const KEY: &str = "test:{notifications}:bans";

fn ban(bearer: Bearer, time: Duration) -> Announcement {
    let selector = Selector::Bearer(bearer);
    Announcement::Disconnect(Disconnection { selector, may_return: false, banned_for: Some(time) })
}

fn subject(text: &str) -> Bearer {
    Bearer::Subject(text.into())
}

/// The bearers that are kept out, as far as a shard was told, and for how long.
fn banned(sink: &TestSink) -> Vec<(Bearer, Duration)> {
    let ban = |announcement: &Announcement| {
        let Announcement::Disconnect(disconnection) = announcement;
        assert!(!disconnection.may_return);
        let (bearer, time) = disconnection.ban().expect("nothing else was announced");
        (bearer.clone(), time)
    };
    sink.announced().iter().map(ban).collect()
}

fn bearers(sink: &TestSink) -> Vec<Bearer> {
    let mut bearers: Vec<_> = banned(sink).into_iter().map(|(bearer, _)| bearer).collect();
    bearers.sort_by_key(|bearer| format!("{bearer:?}"));
    bearers
}

fn settings(server: &RedisServer, address: &str) -> BrokerSettings {
    let mut redis = redis_settings(server);
    redis.url = format!("redis://{address}");
    BrokerSettings { redis: Some(redis), on_loss: OnLoss::Local, history: HISTORY }
}

over_redis_and_valkey!(
    later_processes_learn_who_is_kept_out,
    a_process_that_was_away_learns_who_is_kept_out,
);

fn later_processes_learn_who_is_kept_out(program: Program) {
    run(async {
        let backend = Backend::Redis(RedisServer::start_as(&Recipe::new(program, &[])));
        let first = Process::start(backend.settings(), 1).await;
        let hour = Duration::from_secs(3600);
        let odd = "a b:c\nd\u{e9}";
        for (bearer, time) in [
            (subject("alice"), hour),
            (Bearer::TokenId("7".into()), 2 * hour),
            (subject(odd), hour),
            (subject("short"), Duration::from_millis(1)),
            (subject("alice"), 3 * hour),
        ] {
            assert_eq!(first.control.announce(&ban(bearer, time)).await, Ok(Scope::Cluster));
        }
        let Backend::Redis(server) = &backend else { unreachable!() };
        let per_process = BrokerSettings {
            redis: Some(wsbcast::broker::RedisSettings {
                subscribers: wsbcast::broker::Subscribers::PerProcess,
                ..redis_settings(server)
            }),
            ..backend.settings()
        };
        for settings in [backend.settings(), per_process] {
            let later = Process::start(settings, 3).await;
            for sink in &later.sinks {
                until("it has learnt of them", || banned(sink).len() >= 3).await;
                let expected = [subject(odd), subject("alice"), Bearer::TokenId("7".into())];
                assert_eq!(bearers(sink), expected, "the short one is over");
                let banned = banned(sink);
                let (_, time) = banned.iter().find(|(one, _)| *one == subject("alice")).unwrap();
                assert!(*time > 2 * hour && *time <= 3 * hour, "the last one counts: {time:?}");
            }
            later.close().await;
        }
        let lives_ms: i64 = server.cli(&["PTTL", KEY]).parse().unwrap();
        assert!(lives_ms > 0, "it does not stay for ever");
        let mut off = backend.settings();
        off.redis.as_mut().unwrap().reads_bans = false;
        let without_tokens = Process::start(off, 1).await;
        first.control.announce(&ban(subject("bob"), hour)).await.unwrap();
        until("it is told", || !without_tokens.sinks[0].announced().is_empty()).await;
        assert_eq!(bearers(&without_tokens.sinks[0]), [subject("bob")], "it does not ask");
    });
}

fn a_process_that_was_away_learns_who_is_kept_out(program: Program) {
    run(async {
        let server = RedisServer::start_as(&Recipe::new(program, &[]));
        let far = Proxy::start(&server.address(), Duration::ZERO);
        let here = Process::start(settings(&server, &server.address()), 1).await;
        let away = Process::start(settings(&server, &far.address()), 2).await;
        let nobody = RedisServer::not_started();
        far.lead_to(&nobody.address());
        far.cut();
        away.lost().await;
        let hour = Duration::from_secs(3600);
        let announcement = ban(subject("alice"), hour);
        assert_eq!(here.shards[0].announce(&announcement).await, Ok(Scope::Cluster));
        assert!(away.sinks.iter().all(|sink| sink.announced().is_empty()));
        far.lead_to(&server.address());
        for sink in &away.sinks {
            until("it has learnt of it", || !sink.announced().is_empty()).await;
            assert_eq!(bearers(sink), [subject("alice")]);
        }
        assert!(here.sinks[0].announced().is_empty(), "it has told its own shards itself");
    });
}

/// As many as may be are kept out; for one more nobody is told, until one of them is over.
#[test]
fn too_many_bans_are_refused_and_none_is_forgotten() {
    run(async {
        let server = RedisServer::start();
        let processes = [
            Process::start(settings(&server, &server.address()), 1).await,
            Process::start(settings(&server, &server.address()), 1).await,
        ];
        let fill = format!(
            "for i = 1, {} do redis.call('ZADD', KEYS[1], 9e15, 'sub:' .. i) end",
            BANS_MAX - 1
        );
        server.cli(&["EVAL", &fill, "1", KEY]);
        let announce = async |bearer, secs| {
            let announcement = ban(bearer, Duration::from_secs(secs));
            processes[0].control.announce(&announcement).await
        };
        assert_eq!(announce(subject("last"), 3600).await, Ok(Scope::Cluster));
        assert_eq!(announce(subject("more"), 3600).await, Err(BansFull));
        assert_eq!(announce(subject("7"), 3600).await, Ok(Scope::Cluster), "it is among them");
        assert_eq!(server.cli(&["ZCARD", KEY]), BANS_MAX.to_string());
        // The end of one makes room.
        server.cli(&["ZADD", KEY, "1", "sub:8"]);
        assert_eq!(announce(subject("more"), 3600).await, Ok(Scope::Cluster));
        let told = &processes[1].sinks[0];
        until("the others are told", || told.announced().len() == 3).await;
        let expected = [subject("7"), subject("last"), subject("more")];
        assert_eq!(bearers(told), expected);
        let later = Process::start(settings(&server, &server.address()), 1).await;
        until("all are read", || later.sinks[0].announced().len() == BANS_MAX).await;
    });
}

/// Another program's writing where bans are kept keeps nobody out for ever, and is no reason not to
/// go on.
#[test]
fn foreign_bans_do_no_harm() {
    run(async {
        let server = RedisServer::start();
        for (score, member) in [
            ("inf", "sub:ever"),
            ("9e15", "channel:a"),
            ("9e15", "nonsense"),
            ("9e15", "sub:"),
            ("-inf", "sub:over"),
            ("9e15", &format!("sub:{}", "x".repeat(10_000))),
        ] {
            server.cli(&["ZADD", KEY, score, member]);
        }
        let process = Process::start(settings(&server, &server.address()), 1).await;
        until("they are read", || !process.sinks[0].announced().is_empty()).await;
        assert_eq!(banned(&process.sinks[0]), [(subject("ever"), BAN_MAX)]);

        for command in [["SET", KEY, "x"], ["RPUSH", KEY, "x"]] {
            server.cli(&["DEL", KEY]);
            server.cli(&command);
            let other = Process::start(settings(&server, &server.address()), 1).await;
            let announcement = ban(subject("alice"), Duration::from_secs(60));
            assert_eq!(process.control.announce(&announcement).await, Ok(Scope::Cluster));
            assert_eq!(server.cli(&["ZRANGE", KEY, "0", "-1"]), "sub:alice", "begun anew");
            until("it is told", || !other.sinks[0].announced().is_empty()).await;
        }
    });
}
