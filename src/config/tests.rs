//! The promises to operators: names, defaults, precedence, and the refusal of bad values.
//!
//! Everything goes in through `parse`, as it does for the binary; the tables hold a good and some
//! bad values of every option.

use std::{collections::BTreeSet, io::Write, time::Duration};

use clap::CommandFactory;

use super::*;
use crate::{
    admission::AddressLimitSettings,
    broker::{OnLoss, Subscribers},
    conn::ClientPublish,
    drain,
    hub::SlowPolicy,
    telemetry,
};

mod any;
mod credentials;
mod line;
mod secrets;
mod tables;
mod tls;
mod tokens;

use tables::{BAD, OPTIONS, SWITCHES, TOGETHER};

fn run(line: &[&str], variables: &[(&str, &str)]) -> Result<Invocation, Stop> {
    let line = std::iter::once("wsbcast").chain(line.iter().copied()).map(OsString::from);
    parse(line, variables.iter().map(|(name, value)| (name.into(), value.into())))
}

#[track_caller]
fn good(line: &[&str], variables: &[(&str, &str)]) -> Config {
    match run(line, variables) {
        Ok(Invocation::Serve(config)) => *config,
        other => panic!("{line:?} {variables:?}: {other:?}"),
    }
}

#[track_caller]
fn bad(line: &[&str], variables: &[(&str, &str)]) -> Vec<BadValue> {
    match run(line, variables) {
        Err(stop @ Stop::BadValues(_)) => {
            assert_eq!(stop.exit_code(), 2);
            let Stop::BadValues(BadValues(bad)) = stop else { unreachable!() };
            bad
        }
        other => panic!("{line:?} {variables:?}: {other:?}"),
    }
}

fn variable(option: &str) -> String {
    format!("WSBCAST_{}", option.to_uppercase().replace('-', "_"))
}

fn token_file(content: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(content.as_bytes()).unwrap();
    file
}

/// Every option is a flag and a variable with the same effect.
#[test]
fn every_option_is_a_flag_and_a_variable() {
    let (file, url_file) =
        (token_file("from-file-0123456789abcdef01234567\n"), token_file("redis://file\n"));
    let key_file = token_file(tokens::PUBLIC_KEY);
    let path = file.path().to_str().unwrap();
    let default = format!("{:?}", good(&[], &[]));
    for (option, value) in OPTIONS {
        let value = match value {
            "FILE" => path,
            "KEY FILE" => key_file.path().to_str().unwrap(),
            "URL FILE" => url_file.path().to_str().unwrap(),
            value => value,
        };
        let is_switch = SWITCHES.contains(&option);
        let flag = if is_switch { format!("--{option}") } else { format!("--{option}={value}") };
        let from_flag = format!("{:?}", good(&[&flag], &[]));
        let from_variable = format!("{:?}", good(&[], &[(&variable(option), value)]));
        assert_ne!(from_flag, default, "{option} has no effect");
        assert_eq!(from_flag, from_variable, "{option}");
    }
}

#[test]
fn the_list_of_options_in_these_tests_is_complete() {
    let listed = OPTIONS.iter().map(|(option, _)| *option).chain(TOGETHER);
    let listed: BTreeSet<_> = listed.map(str::to_owned).collect();
    let command = args::Arguments::command();
    let existing: BTreeSet<_> =
        command.get_arguments().filter_map(|option| option.get_long()).map(str::to_owned).collect();
    assert_eq!(listed, existing);
}

#[test]
fn defaults_are_those_that_the_help_promises() {
    let config = good(&[], &[]);
    let expected = ["127.0.0.1:8000", "[::1]:8000"]
        .map(|text| ListenAddr { addr: text.parse().unwrap(), is_default: true });
    assert_eq!(config.listen, expected);
    assert!(config.is_loopback_only() && config.admin_listen.is_none());
    assert_eq!(config.threads, std::thread::available_parallelism().unwrap().get());
    assert_eq!((config.redis.url, config.redis.pool), (None, 1));
    assert_eq!(config.redis.subscribers, Subscribers::PerShard);
    assert_eq!(config.redis.prefix, "wsbcast");
    assert_eq!(config.redis.raw_channel.as_deref(), Some("notifications"));
    assert_eq!(config.on_broker_loss, OnLoss::Local);
    assert_eq!(config.notify.interval, Some(Duration::from_secs(10)));
    assert_eq!(config.notify.text, "Periodic Test Notification");
    assert_eq!((config.greeting, config.echo, config.insecure_api), (None, false, false));
    assert_eq!(config.client_publish, ClientPublish::Off);
    assert_eq!(config.compression, Compression { on: false, threshold_bytes: 256 });
    assert_eq!((config.api_tokens, config.max_connections), (vec![], None));
    assert!(config.allowed_origins.is_every());
    assert_eq!(config.address_limits, AddressLimitSettings::default());
    assert_eq!(config.idle_timeout, Duration::from_secs(75));
    assert_eq!((config.max_message_bytes, config.max_broadcast_bytes), (64 << 10, 1 << 20));
    assert_eq!((config.backlog_bytes, config.backlog_total_bytes), (8 << 20, 256 << 20));
    assert_eq!((config.slow_consumer, config.coalesce), (SlowPolicy::Close, Duration::ZERO));
    let ping = Ping { interval: Duration::from_secs(25), timeout: Duration::from_secs(20) };
    assert_eq!(config.ping, ping);
    let drain = drain::DrainSettings {
        pre_delay: Duration::ZERO,
        timeout: Duration::from_secs(1800),
        close_over: Duration::from_secs(60),
    };
    assert_eq!(config.drain, drain);
    let log = telemetry::LogSettings {
        format: telemetry::Format::Text,
        level: "info".to_owned(),
        access: false,
    };
    assert_eq!(config.log, log);
}

/// A word that is no level is refused wherever it comes from.
#[test]
fn an_unknown_level_is_refused() {
    for variable in ["RUST_LOG", "WSBCAST_LOG_LEVEL"] {
        for value in ["nonsense", "inof", "wsbcast", "info,loud", "wsbcast=loud", "3"] {
            let found = bad(&[], &[(variable, value)]);
            assert_eq!(found[0].variable.as_deref(), Some(variable), "{value}");
        }
        good(&[], &[(variable, "warn,wsbcast::broker=debug")]);
    }
}

/// Each bad value names option value origin and what is accepted.
#[test]
fn each_bad_value_names_option_value_and_origin() {
    for (option, values) in BAD {
        for value in values {
            let flag = format!("--{option}={value}");
            let variable = variable(option);
            for (found, origin) in [
                (bad(&[&flag], &[]), None),
                // An empty variable is unset; an empty flag is a value.
                (
                    bad(if value.is_empty() { &["--listen="] } else { &[] }, &[(&variable, value)]),
                    (!value.is_empty()).then_some(variable.clone()),
                ),
            ] {
                let [one] = &found[..] else { panic!("{option} {value}: {found:?}") };
                assert_eq!((one.option.as_str(), &one.variable), (option, &origin), "{one}");
                assert!(!one.reason.is_empty());
                let is_secret = ["api-token", "jwt-secret"].contains(&option);
                let shown = if is_secret { "(hidden)" } else { value };
                assert_eq!(one.value, shown);
            }
        }
    }
}

#[test]
fn all_bad_values_are_reported_together() {
    let mut line = Vec::new();
    let mut variables = Vec::new();
    let mut expected = BTreeSet::new();
    for (index, (option, values)) in BAD.iter().enumerate() {
        // Not 7MiB or 31m, which are only bad beside good values of other options.
        let Some(value) = values.last() else { continue };
        let value = if value.is_empty() { "8000" } else { value };
        let (option, value) = ((*option).to_owned(), value.to_owned());
        if index % 2 == 0 {
            line.push(format!("--{option}={value}"));
        } else {
            variables.push((variable(&option), value));
        }
        expected.insert(option);
    }
    variables.push((variable("echo"), "maybe".to_owned()));
    expected.insert("echo".to_owned());
    let line: Vec<_> = line.iter().map(String::as_str).collect();
    let variables: Vec<_> =
        variables.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let found = bad(&line, &variables);
    let options: Vec<_> = found.iter().map(|bad| bad.option.clone()).collect();
    assert_eq!(options.len(), expected.len(), "{options:?}");
    assert_eq!(options.into_iter().collect::<BTreeSet<_>>(), expected);
    let text = BadValues(found).to_string();
    assert!(text.contains("--threads \"1.5\": expected a whole number from 1 to 1024"), "{text}");
    assert!(
        text.contains("--echo \"maybe\" (from WSBCAST_ECHO): expected true or false"),
        "{text}"
    );
}

/// Flag beats variable beats default and ours beat the shared ones.
#[test]
fn a_flag_beats_a_variable_beats_the_default() {
    let variables = [
        ("WSBCAST_THREADS", "3"),
        ("WSBCAST_LISTEN", "127.0.0.1:1, [::1]:2"),
        ("WSBCAST_API_TOKEN", "a,b"),
        ("REDIS_URL", "redis://shared"),
        ("RUST_LOG", "hyper=debug"),
    ];
    let config = good(&[], &variables);
    assert_eq!(config.threads, 3);
    assert_eq!(config.listen.len(), 2);
    assert!(config.listen.iter().all(|listener| !listener.is_default));
    let tokens: Vec<_> = config.api_tokens.iter().map(Token::expose).collect();
    assert_eq!(tokens, ["a,b"], "a secret is never split");
    assert_eq!(config.redis.url.unwrap().expose(), "redis://shared");
    assert_eq!(config.log.level, "hyper=debug");

    let line = ["--threads=4", "--listen", "127.0.0.1:9", "--listen=127.0.0.2:9", "--api-token=c"];
    let mut all = variables.to_vec();
    all.extend([("WSBCAST_REDIS_URL", "redis://ours"), ("WSBCAST_LOG_LEVEL", "warn")]);
    let config = good(&line, &all);
    assert_eq!((config.threads, config.listen.len(), config.api_tokens.len()), (4, 2, 1));
    assert_eq!(config.redis.url.unwrap().expose(), "redis://ours");
    assert_eq!(config.log.level, "warn");
    let config = good(&["--redis-url", "", "--log-level=error"], &all);
    assert_eq!((config.redis.url, config.log.level.as_str()), (None, "error"));
}

#[test]
fn foreign_and_empty_variables_are_not_looked_at() {
    let default = format!("{:?}", good(&[], &[]));
    let variables = [
        ("WSBCAST_PORT", "tcp://10.0.0.1:8000"),
        ("WSBCAST_SERVICE_HOST", "10.0.0.1"),
        ("WSBCAST_THREADS", ""),
        ("WSBCAST_REDIS_URL", ""),
        ("REDIS_URL", ""),
        ("WSBCAST_ECHO", ""),
        ("WSBCAST_INSECURE_API", "false"),
        ("wsbcast_threads", "5"),
    ];
    assert_eq!(format!("{:?}", good(&[], &variables)), default);
    // Where an empty variable has a meaning, it is obeyed; a missing secret must not open the door.
    assert_eq!(good(&[], &[("WSBCAST_REDIS_RAW_CHANNEL", "")]).redis.raw_channel, None);
    assert_eq!(good(&[], &[("WSBCAST_NOTIFY_TEXT", "")]).notify.text, "");
    assert_eq!(bad(&[], &[("WSBCAST_API_TOKEN", "")])[0].option, "api-token");
    assert_eq!(bad(&["--api-token="], &[])[0].option, "api-token");
}

/// The backlogs hold the largest message twice and each other.
#[test]
fn the_backlogs_hold_the_largest_message_twice() {
    good(&["--backlog=2MiB"], &[]);
    good(&["--backlog=1MiB", "--max-broadcast-size=512KiB"], &[]);
    assert_eq!(good(&["--backlog=1MiB"], &[]).max_broadcast_bytes, 512 << 10);
    let found = bad(&["--backlog=1MiB", "--max-broadcast-size=1MiB"], &[]);
    assert_eq!((found.len(), found[0].option.as_str()), (1, "backlog"));
    good(&["--max-message-size=16MiB"], &[]);
    let found = bad(&["--max-message-size=16MiB", "--client-publish=broadcast"], &[]);
    assert_eq!((found.len(), found[0].option.as_str()), (1, "backlog"));
    assert!(found[0].reason.contains("at least 32MiB, twice --max-message-size"), "{}", found[0]);
    good(&["--max-message-size=16MiB", "--client-publish=broadcast", "--backlog=32MiB"], &[]);
    let found =
        bad(&["--max-message-size=33MiB", "--client-publish=broadcast", "--backlog=100MiB"], &[]);
    assert_eq!(found[0].option, "max-message-size");
    let found = bad(&["--backlog=6MiB", "--backlog-total=6MiB"], &[]);
    assert_eq!((found.len(), found[0].option.as_str()), (1, "backlog-total"));
    assert!(found[0].reason.contains("event stream"), "{}", found[0]);
    good(&["--backlog=6MiB", "--backlog-total=8MiB"], &[]);
    let clients = ["--client-publish=broadcast", "--max-message-size=2MiB", "--backlog=4MiB"];
    let found = bad(&[&clients[..], &["--backlog-total=14MiB"]].concat(), &[]);
    assert_eq!((found.len(), found[0].option.as_str()), (1, "backlog-total"));
    good(&[&clients[..], &["--backlog-total=15MiB"]].concat(), &[]);
    good(&["--max-message-size=2MiB", "--backlog=4MiB", "--backlog-total=14MiB"], &[]);
    let found = bad(&["--backlog=512MiB"], &[]);
    assert_eq!((found.len(), found[0].option.as_str()), (1, "backlog-total"));
    assert!(found[0].reason.contains("--backlog, which is 512MiB"), "{}", found[0]);
    let greeting = format!("--greeting={}", "x".repeat(1025));
    assert_eq!(bad(&["--max-broadcast-size=1KiB", &greeting], &[])[0].option, "greeting");
}

/// The closing window fits into the drain by default and must when given.
#[test]
fn the_closing_window_fits_into_the_drain() {
    let close_over = |line: &[&str]| good(line, &[]).drain.close_over.as_secs();
    assert_eq!(close_over(&["--drain-timeout=10s"]), 10);
    assert_eq!(close_over(&["--drain-timeout=10s", "--drain-pre-delay=4s"]), 6);
    assert_eq!(close_over(&["--drain-timeout=5m", "--drain-pre-delay=4s"]), 60);
    assert_eq!(close_over(&["--drain-timeout=5m", "--drain-close-over=5m"]), 300);
    assert_eq!(close_over(&["--drain-timeout=0"]), 0);
    let conflict = ["--drain-timeout=5m", "--drain-close-over=5m", "--drain-pre-delay=1s"];
    let found = bad(&conflict, &[]);
    assert_eq!((found.len(), found[0].option.as_str()), (1, "drain-close-over"));
    assert!(found[0].reason.contains("at most 4m59s"), "{}", found[0]);
    let found = bad(&["--drain-timeout=5s", "--drain-pre-delay=6s"], &[]);
    assert_eq!((found.len(), found[0].option.as_str()), (1, "drain-pre-delay"));
}

/// Clients publish off loopback only with a token or with explicit consent.
#[test]
fn publishing_clients_off_loopback_need_consent() {
    let line = ["--client-publish=broadcast", "--listen=127.0.0.1:1", "--listen=0.0.0.0:2"];
    let found = bad(&line, &[]);
    assert_eq!((found.len(), found[0].option.as_str()), (1, "client-publish"));
    assert!(found[0].reason.contains("--api-token") && found[0].reason.contains("--insecure-api"));
    for variables in [("WSBCAST_API_TOKEN", "t"), ("WSBCAST_INSECURE_API", "1")] {
        good(&line, &[variables]);
    }
    good(&["--client-publish=broadcast", "--listen=[::1]:1", "--listen=127.9.9.9:1"], &[]);
    good(&["--client-publish=broadcast", "--listen=[::ffff:127.0.0.1]:1"], &[]);
    good(&["--listen=0.0.0.0:1"], &[]);
}

#[test]
fn tokens_come_from_a_file_one_a_line_and_never_show() {
    let file = token_file("\u{feff}# ours\n\n  first \nsecond\r\n#third\n");
    let path = file.path().to_str().unwrap();
    let config = good(&["--api-token-file", path, "--api-token=typed"], &[]);
    let tokens: Vec<_> = config.api_tokens.iter().map(Token::expose).collect();
    assert_eq!(tokens, ["typed", "first", "second"]);
    assert!(!format!("{config:?}").contains("second"));
    for (content, reason) in [("# none\n", "holds no token"), ("good\nb ad\n", "line 2")] {
        let file = token_file(content);
        let found = bad(&["--api-token-file", file.path().to_str().unwrap()], &[]);
        assert!(found.len() == 1 && found[0].reason.contains(reason), "{found:?}");
    }
    let found = bad(&["--api-token=se cret", "--redis-url=http://u:secret@h"], &[]);
    assert!(!BadValues(found).to_string().contains("cret"));
    for content in ["http://u:secret@h", "secret", "token=secret"] {
        let file = token_file(content);
        let path = file.path().to_str().unwrap();
        let shown = BadValues(bad(&["--redis-url-file", path], &[])).to_string();
        assert!(shown.contains(path) && !shown.contains("secret"), "{shown}");
    }
}

/// Every kind of Redis is taken and what a sentinel needs is told.
#[test]
fn every_kind_of_redis_url_is_taken() {
    for url in [
        "redis://localhost",
        "redis://user:pass@host:6380/3",
        "redis://:p%40ss@[::1]:6379",
        "rediss://host:6380",
        "redis-cluster://a:7000?node=b:7001&node=c:7002",
        "rediss-cluster://a:7000",
        "redis-sentinel://host:26379?sentinelServiceName=main",
        "rediss-sentinel://[::1]:26379?sentinelServiceName=main&node=[::1]:26380",
    ] {
        let flag = format!("--redis-url={url}");
        assert_eq!(good(&[&flag], &[]).redis.url.unwrap().expose(), url);
    }
    let found = bad(&["--redis-url=redis-sentinel://host:26379"], &[]);
    assert!(found[0].reason.contains("sentinelServiceName"), "{}", found[0]);
}

#[test]
fn one_address_is_listened_on_once() {
    for line in [
        ["--listen=127.0.0.1:5", "--listen=127.0.0.1:5"],
        ["--listen=127.0.0.1:5", "--admin-listen=127.0.0.1:5"],
    ] {
        assert_eq!(bad(&line, &[]).len(), 1);
    }
    let admin = bad(&["--admin-listen=127.0.0.1:8000"], &[]);
    assert_eq!(admin[0].option, "admin-listen");
    good(&["--listen=127.0.0.1:0", "--listen=127.0.0.1:0", "--admin-listen=127.0.0.1:0"], &[]);
}

#[cfg(unix)]
#[test]
fn a_variable_that_is_no_text_is_one_more_bad_value() {
    use std::os::unix::ffi::OsStringExt;
    let value = OsString::from_vec(vec![b'a', 0xff]);
    let result = parse(["wsbcast".into()], [("WSBCAST_GREETING".into(), value)]);
    let Err(Stop::BadValues(BadValues(found))) = result else { panic!("accepted") };
    assert_eq!((found.len(), found[0].option.as_str()), (1, "greeting"));
}

/// The text of notices need not fit where there are no notices.
#[test]
fn unused_notice_text_may_have_any_length() {
    let small = ["--max-broadcast-size", "64"];
    assert_eq!(bad(&small, &[])[0].option, "notify-text");
    let off = [&small[..], &["--notify-interval", "0"]].concat();
    assert_eq!(good(&off, &[]).max_broadcast_bytes, 64);
}
