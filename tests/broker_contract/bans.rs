//! Bearers of tokens that are kept out: every process learns of it, also one that was away.

use std::{sync::Arc, time::Duration};

use testkit::proxy::Proxy;
use wsbcast::{
    bans::{Bans, BansFull, Bearer, Given},
    broker::{
        Announced, Announcement, Announcer, BrokerSettings, Disconnection, OnLoss, Selector, Sink,
    },
    limits::{BAN_MAX, BANS_MAX},
    metrics::Scope,
};

use crate::{
    Program, Recipe, over_redis_and_valkey,
    process::{Backend, HISTORY, Process, TestSink, redis_settings, run, run_in_real_time, until},
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
    bans_of_a_process_without_redis_reach_the_others,
    the_last_command_counts_whoever_was_away,
    a_redis_that_has_lost_its_bans_gets_them_back,
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
        off.redis.as_mut().unwrap().bans = None;
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

/// A process that reaches Redis by a way that can be cut.
struct Pair {
    server: RedisServer,
    nobody: RedisServer,
    far: Proxy,
    here: Operated,
    away: Operated,
}

/// A process as its operator sees it.
struct Operated {
    process: Process,
    bans: Arc<Bans>,
    announcer: Announcer,
}

impl Operated {
    async fn start(settings: BrokerSettings) -> Self {
        let bans = settings.redis.as_ref().unwrap().bans.clone().unwrap();
        let process = Process::start(settings, 2).await;
        let sinks: Arc<[_]> =
            process.sinks.iter().map(|sink| sink.clone() as Arc<dyn Sink>).collect();
        let announcer = Announcer::new(process.control.clone(), sinks, bans.clone());
        Self { process, bans, announcer }
    }

    async fn ban(&self, who: &str, secs: u64, scope: Scope) {
        let announcement = ban(subject(who), Duration::from_secs(secs));
        let announced = self.announcer.announce(announcement).await;
        assert_eq!(announced, Ok(Announced { clients: 2, scope }), "{who}");
    }

    fn keeps_out(&self, who: &str) -> bool {
        self.bans.keeps_out(&subject(who))
    }

    fn is_shared(&self, who: &str) -> bool {
        let own = self.bans.own(&subject(who)).expect("there was a command");
        matches!(own.given, Given::Shared(_))
    }

    /// For how many hours somebody is kept out.
    fn hours(&self, who: &str) -> u64 {
        self.bans.own(&subject(who)).unwrap().time.as_secs().div_ceil(3600)
    }
}

impl Pair {
    async fn start(program: Program) -> Self {
        let server = RedisServer::start_as(&Recipe::new(program, &[]));
        let far = Proxy::start(&server.address(), Duration::ZERO);
        let here = Operated::start(settings(&server, &server.address())).await;
        let away = Operated::start(settings(&server, &far.address())).await;
        Self { nobody: RedisServer::not_started(), server, far, here, away }
    }

    async fn cut(&self) {
        self.far.lead_to(&self.nobody.address());
        self.far.cut();
        self.away.process.lost().await;
    }

    fn mend(&self) {
        self.far.lead_to(&self.server.address());
    }

    /// Two commands are in an order if there is more time between them than a round trip takes.
    async fn let_time_pass(&self) {
        let now = self.seconds();
        until("there are two seconds between", || self.seconds() >= now + 2).await;
    }

    fn seconds(&self) -> u64 {
        self.server.cli(&["TIME"]).lines().next().unwrap().parse().unwrap()
    }
}

fn bans_of_a_process_without_redis_reach_the_others(program: Program) {
    run(async {
        let pair = Pair::start(program).await;
        pair.cut().await;
        pair.away.ban("alice", 3600, Scope::Local).await;
        assert!(pair.away.keeps_out("alice") && !pair.here.keeps_out("alice"));
        pair.mend();
        for sink in &pair.here.process.sinks {
            until("each shard is to close her clients", || !sink.announced().is_empty()).await;
            assert_eq!(bearers(sink), [subject("alice")]);
        }
        assert!(pair.here.keeps_out("alice"));
        until("it knows that they know", || pair.away.is_shared("alice")).await;
        assert_eq!(pair.server.cli(&["ZRANGE", KEY, "0", "-1"]), "sub:alice");
        let later = Process::start(settings(&pair.server, &pair.server.address()), 1).await;
        until("a later one learns of it", || !later.sinks[0].announced().is_empty()).await;
        let [(_, time)] = banned(&later.sinks[0])[..] else { panic!("more than one") };
        assert!(time > Duration::from_secs(3000) && time <= Duration::from_secs(3600), "{time:?}");
    });
}

fn the_last_command_counts_whoever_was_away(program: Program) {
    const HOUR: u64 = 3600;
    run_in_real_time(async {
        let pair = Pair::start(program).await;
        let Pair { here, away, .. } = &pair;
        for who in ["shortened away", "lifted here", "longer here"] {
            here.ban(who, HOUR, Scope::Cluster).await;
            until("the other one has heard", || away.keeps_out(who)).await;
        }
        pair.cut().await;
        away.ban("shortened away", 1, Scope::Local).await;
        here.ban("lifted here", 1, Scope::Cluster).await;
        here.ban("longer here", 3 * HOUR, Scope::Cluster).await;
        here.ban("shorter, then longer away", HOUR, Scope::Cluster).await;
        away.ban("longer, then shorter here", 2 * HOUR, Scope::Local).await;
        away.ban("lifted here, banned away before", HOUR, Scope::Local).await;
        pair.let_time_pass().await;
        away.ban("shorter, then longer away", 2 * HOUR, Scope::Local).await;
        here.ban("longer, then shorter here", HOUR, Scope::Cluster).await;
        here.ban("lifted here, banned away before", 1, Scope::Cluster).await;
        let lifted = ["shortened away", "lifted here", "lifted here, banned away before"];
        until("the lifted ones are over", || !here.keeps_out(lifted[2])).await;
        assert!(
            here.keeps_out(lifted[0]) && away.keeps_out(lifted[1]) && away.keeps_out(lifted[2])
        );
        pair.mend();
        for who in lifted {
            let is_let_in = || !here.keeps_out(who) && !away.keeps_out(who);
            until("both let them in", is_let_in).await;
        }
        for process in [here, away] {
            for (who, hours) in [
                ("longer here", 3),
                ("shorter, then longer away", 2),
                ("longer, then shorter here", 1),
            ] {
                until("both agree", || process.hours(who) == hours).await;
            }
        }
        let soon_ms = format!("{}", (pair.seconds() + 60) * 1000);
        assert_eq!(pair.server.cli(&["ZCOUNT", KEY, &soon_ms, "+inf"]), "3");
    });
}

/// A Redis that was emptied knows of no command at all: nobody is let in by that.
fn a_redis_that_has_lost_its_bans_gets_them_back(program: Program) {
    run(async {
        let pair = Pair::start(program).await;
        pair.here.ban("alice", 3600, Scope::Cluster).await;
        until("the other one has heard", || pair.away.keeps_out("alice")).await;
        pair.cut().await;
        pair.server.cli(&["FLUSHALL"]);
        pair.mend();
        until("it is told", || pair.server.cli(&["ZRANGE", KEY, "0", "-1"]) == "sub:alice").await;
        assert!(pair.here.keeps_out("alice") && pair.away.keeps_out("alice"));
        assert_eq!((pair.here.hours("alice"), pair.away.hours("alice")), (1, 1));
    });
}

/// A ban that Redis refuses while it is within reach is told as soon as it no longer does.
#[test]
fn a_ban_that_redis_refuses_is_told_later() {
    run(async {
        let pair = Pair::start(Program::Redis).await;
        pair.server.cli(&["CONFIG", "SET", "min-replicas-to-write", "1"]);
        pair.away.ban("alice", 3600, Scope::Local).await;
        pair.server.cli(&["CONFIG", "SET", "min-replicas-to-write", "0"]);
        until("the other one has heard", || pair.here.keeps_out("alice")).await;
        until("it knows that they know", || pair.away.is_shared("alice")).await;
    });
}

/// Where all processes together keep out as many as may be, a ban that was given without Redis
/// stays with the one that has it, which tries again.
#[test]
fn a_ban_that_has_no_room_stays_where_it_is() {
    run(async {
        let pair = Pair::start(Program::Redis).await;
        pair.cut().await;
        pair.away.ban("alice", 3600, Scope::Local).await;
        let fill =
            format!("for i = 1, {BANS_MAX} do redis.call('ZADD', KEYS[1], 9e15, 'sub:' .. i) end");
        pair.server.cli(&["EVAL", &fill, "1", KEY]);
        pair.mend();
        until("it has read the others", || pair.away.keeps_out("1")).await;
        pair.away.process.up().await;
        assert!(pair.away.keeps_out("alice") && !pair.away.is_shared("alice"));
        assert!(!pair.here.keeps_out("alice"));
        assert_eq!(pair.server.cli(&["ZCARD", KEY]), BANS_MAX.to_string());
    });
}
