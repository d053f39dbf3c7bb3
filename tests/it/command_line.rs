//! The command line and the environment: help, version, bad values, precedence.

use std::net::TcpListener;

use crate::support::{
    PATIENCE,
    client::Client,
    eventually,
    http::Http,
    server::{Ended, Launch, Server},
};

/// Every option of the interface.
const OPTIONS: [&str; 45] = [
    "--listen",
    "--admin-listen",
    "--threads",
    "--redis-url",
    "--redis-url-file",
    "--redis-pool",
    "--redis-subscribers",
    "--redis-prefix",
    "--redis-raw-channel",
    "--on-broker-loss",
    "--notify-interval",
    "--notify-text",
    "--greeting",
    "--client-publish",
    "--echo",
    "--compression",
    "--compression-threshold",
    "--api-token",
    "--api-token-file",
    "--insecure-api",
    "--jwt-secret-file",
    "--jwt-secret",
    "--jwt-public-key",
    "--jwt-jwks",
    "--jwt-jwks-max-age",
    "--jwt-issuer",
    "--jwt-audience",
    "--jwt-allow-no-exp",
    "--max-connections",
    "--idle-timeout",
    "--max-message-size",
    "--max-broadcast-size",
    "--backlog",
    "--backlog-total",
    "--slow-consumer",
    "--ping-interval",
    "--ping-timeout",
    "--drain-pre-delay",
    "--drain-timeout",
    "--drain-close-over",
    "--control-socket",
    "--take-over",
    "--log-format",
    "--log-level",
    "--version",
];

fn run(args: &[&str]) -> Ended {
    Launch::new(args).run()
}

/// `--help` names every option and the rule for variables of the environment.
#[test]
fn help_names_every_option() {
    let ended = run(&["--help"]);
    assert_eq!(ended.code, Some(0));
    for option in OPTIONS {
        assert!(ended.stdout.contains(option), "{option}:\n{}", ended.stdout);
    }
    assert!(ended.stdout.contains("WSBCAST_"), "{}", ended.stdout);
    assert!(ended.stdout.contains("health"), "{}", ended.stdout);
    assert_eq!(ended.stderr, "");
}

#[test]
fn version_names_version_and_commit_and_exits_0() {
    let ended = run(&["--version"]);
    assert_eq!(ended.code, Some(0));
    let words: Vec<&str> = ended.stdout.split_whitespace().collect();
    assert_eq!(words[..2], ["wsbcast", env!("CARGO_PKG_VERSION")], "{words:?}");
    assert!(words.len() > 2, "the commit: {words:?}");
}

#[test]
fn all_bad_values_are_reported_together_and_exit_2() {
    let bad = [
        ("--threads", "0"),
        ("--notify-interval", "soon"),
        ("--max-message-size", "64 parsecs"),
        ("--backlog", "-1"),
        ("--drain-timeout", "30"),
        ("--redis-prefix", "a{b}"),
        ("--listen", "nowhere"),
        ("--slow-consumer", "maybe"),
    ];
    let args: Vec<String> = bad.iter().map(|(option, value)| format!("{option}={value}")).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let ended = run(&args);
    assert_eq!(ended.code, Some(2), "{ended:?}");
    for (option, value) in bad {
        let line = ended.stderr.lines().find(|line| line.contains(option) && line.contains(value));
        assert!(line.is_some(), "{option} {value}:\n{}", ended.stderr);
    }
    assert_eq!(ended.stdout, "");
}

#[test]
fn bad_values_in_the_environment_are_reported_alike() {
    let ended = Launch::new(&["--ping-timeout", "x"]).env("WSBCAST_PING_INTERVAL", "y").run();
    assert_eq!(ended.code, Some(2), "{ended:?}");
    for option in ["--ping-timeout", "--ping-interval"] {
        assert!(ended.stderr.contains(option), "{option}:\n{}", ended.stderr);
    }
}

#[test]
fn values_that_conflict_are_bad_values() {
    for args in [
        &["--drain-timeout", "10s", "--drain-close-over", "11s"][..],
        &["--drain-timeout", "10s", "--drain-pre-delay", "11s"],
        &["--drain-timeout", "10s", "--drain-pre-delay", "6s", "--drain-close-over", "6s"],
        &["--backlog", "1MiB", "--max-broadcast-size", "1MiB"],
    ] {
        let ended = run(args);
        assert_eq!(ended.code, Some(2), "{args:?}: {ended:?}");
        assert!(args.iter().step_by(2).any(|option| ended.stderr.contains(option)), "{ended:?}");
    }
}

#[test]
fn unknown_options_exit_with_2() {
    for args in [&["--no-such-option"][..], &["no-such-command"], &["--threads"]] {
        let ended = run(args);
        assert_eq!(ended.code, Some(2), "{args:?}: {ended:?}");
        assert!(ended.stderr.contains(args[0]), "{ended:?}");
    }
}

#[test]
fn a_flag_wins_over_its_environment_variable() {
    let greeting = |launch: Launch| {
        let server = launch.env("WSBCAST_GREETING", "from the environment").start();
        Client::connect(server.addr()).text()
    };
    assert_eq!(greeting(Launch::on_a_free_port(&[])), "from the environment");
    let flag = Launch::on_a_free_port(&["--greeting", "from the flag"]);
    assert_eq!(greeting(flag), "from the flag");
}

/// Variables with the program's prefix that name no option, as Kubernetes sets them, do no harm.
#[test]
fn foreign_variables_of_the_prefix_are_ignored() {
    // Kubernetes makes such ones for a service of this name.
    let server = Launch::on_a_free_port(&[])
        .env("WSBCAST_PORT", "tcp://10.0.0.1:8000")
        .env("WSBCAST_SERVICE_HOST", "10.0.0.1")
        .start();
    Client::connect(server.addr()).leave();
}

#[test]
fn a_switch_may_be_set_in_the_environment() {
    let server = Launch::on_a_free_port(&[]).env("WSBCAST_ECHO", "true").start();
    let mut client = Client::open(server.addr(), "/echo");
    client.send_text("on");
    client.assert_text("on");
}

#[test]
fn the_log_level_can_be_lowered() {
    let notices = |level: &str| {
        let server = Server::start(&["--log-level", level, "--notify-interval", "100ms"]);
        let mut client = Client::connect(server.addr());
        for _ in 0..5 {
            client.text();
        }
        server
    };
    notices("debug").wait_for_log(&["DEBUG"]);
    assert!(!notices("info").log().contains("DEBUG"));
    // Without a log there is no line that names the port: it is chosen here.
    let unused = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = unused.local_addr().unwrap();
    drop(unused);
    let listen = addr.to_string();
    let mut quiet = Launch::on_a_free_port(&["--listen", &listen, "--log-level", "off"]).spawn();
    eventually(PATIENCE, "it serves", || Http::try_connect(addr).is_some());
    Client::connect(addr).leave();
    quiet.signal(&["TERM"]);
    quiet.assert_exit(0);
    assert_eq!(quiet.log(), "");
}
