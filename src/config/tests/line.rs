//! Command lines without a server: help, version, `health`, and lines that are not valid.
//!
//! These tests call the parser; the binary's own tests look at its streams.

use super::*;
use crate::{health_client::Target, peer::ClientAddress};

/// An unknown option ends with 2, help and version with 0.
#[test]
fn an_unknown_option_ends_with_2() {
    for line in [
        &["--bogus"][..],
        &["stray"],
        &["--threads"],
        &["--threads=1", "--threads=2"],
        &["--echo=1"],
        &["--threads=1", "health"],
    ] {
        let Err(stop) = run(line, &[]) else { panic!("{line:?} was accepted") };
        assert_eq!(stop.exit_code(), 2, "{line:?}");
    }
    for (line, text) in [("--version", VERSION), ("--help", "Publishing rights:")] {
        // Even with a bad environment.
        let Err(stop) = run(&[line], &[("WSBCAST_THREADS", "0")]) else { panic!("{line} ran") };
        assert_eq!(stop.exit_code(), 0);
        assert!(stop.to_string().contains(text));
    }
}

/// The help is grouped and shows every option with its default.
#[test]
fn the_help_shows_every_option_with_its_default() {
    let Err(stop) = run(&["--help"], &[]) else { panic!("help ran") };
    let help = stop.to_string();
    for heading in [
        "Listening",
        "Redis",
        "Messages",
        "Clients",
        "Publishing rights",
        "Limits",
        "Shutdown",
        "Logs",
    ] {
        assert!(help.contains(&format!("\n{heading}:\n")), "{heading}\n{help}");
    }
    let blocks: Vec<_> = help.split("\n      --").collect();
    for (option, _) in OPTIONS {
        let start = |block: &&&str| block.split([' ', '\n']).next() == Some(option);
        let block = blocks.iter().find(start).unwrap_or_else(|| panic!("{option}\n{help}"));
        let unwrapped = block.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(unwrapped.contains("[default: "), "{option}: {unwrapped}");
    }
}

fn addresses(health: &HealthQuery) -> Vec<String> {
    health.targets.iter().map(|target| target.address.clone()).collect()
}

/// Health announces itself where a server behind proxies expects it, and nowhere else.
#[test]
fn health_announces_itself_on_public_listeners() {
    let own = ClientAddress::from(std::net::IpAddr::from([127, 0, 0, 1]));
    let beside = [
        ("WSBCAST_ADMIN_LISTEN", "127.0.0.1:9000"),
        ("WSBCAST_LISTEN", "127.0.0.1:8000"),
        ("WSBCAST_TRUSTED_PROXIES", "127.0.0.0/8,10.0.0.0/8"),
    ];
    for (line, protocol, expected) in [
        (&["health"][..], "on", &[false, true][..]),
        (&["health"], "off", &[false, false]),
        (&["health", "http://127.0.0.1:8000"], "on", &[false]),
    ] {
        let variables = [&beside[..], &[("WSBCAST_PROXY_PROTOCOL", protocol)]].concat();
        let Ok(Invocation::Health(health)) = run(line, &variables) else { panic!("{line:?}") };
        let announced: Vec<_> =
            health.targets.iter().map(|target| target.announced.trust(own)).collect();
        assert_eq!(announced, expected, "{line:?} {protocol}");
    }
}

/// Health asks this machine unless told otherwise and ignores the server's options.
#[test]
fn health_asks_this_machine_by_default() {
    let health = |line: &[&str]| match run(line, &[("WSBCAST_THREADS", "0")]) {
        Ok(Invocation::Health(health)) => (addresses(&health), health.host, health.path),
        other => panic!("{line:?}: {other:?}"),
    };
    let default = vec!["127.0.0.1:8000".to_owned(), "[::1]:8000".to_owned()];
    assert_eq!(health(&["health"]), (default, "localhost:8000".into(), "/livez".into()));
    for (url, target, host, path) in [
        ("http://host:9000", "host:9000", "host:9000", "/livez"),
        ("host:9000", "host:9000", "host:9000", "/livez"),
        ("http://[::1]:9/readyz?a=b", "[::1]:9", "[::1]:9", "/readyz?a=b"),
        ("http://host", "host:80", "host", "/livez"),
    ] {
        let expected = (vec![target.to_owned()], host.to_owned(), path.to_owned());
        assert_eq!(health(&["health", url]), expected, "{url}");
    }
    for url in ["ftp://host", "http://", "http://u:p@host", "http://host:99999", ":80", "a b"] {
        let Err(stop) = run(&["health", url], &[]) else { panic!("{url} was accepted") };
        assert_eq!(stop.exit_code(), 2, "{url}");
        assert!(!stop.to_string().contains("u:p"));
    }
}

/// Health asks the listeners that the server beside it has the admin one first.
#[test]
fn health_asks_the_listeners_beside_it() {
    for (line, variables, targets) in [
        (&[][..], &[("WSBCAST_LISTEN", "0.0.0.0:81")][..], &["127.0.0.1:81"][..]),
        (&[], &[("WSBCAST_LISTEN", "[::]:81, 10.0.0.1:82")], &["[::1]:81", "10.0.0.1:82"]),
        (
            &[],
            &[("WSBCAST_ADMIN_LISTEN", "0.0.0.0:9000"), ("WSBCAST_LISTEN", "0.0.0.0:8000")],
            &["127.0.0.1:9000", "127.0.0.1:8000"],
        ),
        (&["--admin-listen", "[::1]:9"], &[], &["[::1]:9"]),
        (&["--listen=127.0.0.1:5"], &[("WSBCAST_LISTEN", "0.0.0.0:81")], &["127.0.0.1:5"]),
        (&[], &[("WSBCAST_TLS_LISTEN", "0.0.0.0:443")], &["127.0.0.1:443"]),
        (&["--listen=[::]:5"], &[("WSBCAST_TLS_LISTEN", "0.0.0.0:443")], &["[::1]:5"]),
        (&["https://a.test"], &[], &["a.test:443"]),
        (&["host:9"], &[("WSBCAST_LISTEN", "0.0.0.0:81")], &["host:9"]),
    ] {
        let line = [&["health"], line].concat();
        let Ok(Invocation::Health(health)) = run(&line, variables) else { panic!("{line:?}") };
        assert_eq!(addresses(&health), targets, "{line:?} {variables:?}");
        let are_right = |target: &Target| target.is_tls == target.address.ends_with(":443");
        assert!(health.targets.iter().all(are_right), "{line:?} {variables:?}");
        assert_eq!(health.path, "/livez");
    }
    for value in ["nonsense", "127.0.0.1:0"] {
        let found = bad(&["health"], &[("WSBCAST_ADMIN_LISTEN", value)]);
        assert_eq!(found[0].variable.as_deref(), Some("WSBCAST_ADMIN_LISTEN"), "{found:?}");
    }
}

/// Listeners that leave each other no room are told apart in words.
#[test]
fn conflicting_listeners_are_told_apart() {
    for (line, option, words) in [
        (
            &["--listen=0.0.0.0:1", "--listen=127.0.0.1:1"][..],
            "listen",
            "with 0.0.0.0:1 (--listen)",
        ),
        (&["--listen=[::1]:1", "--listen=[::]:1"], "listen", "with [::1]:1 (--listen): it covers"),
        (&["--listen=127.0.0.1:1", "--listen=127.0.0.1:1"], "listen", "already, by --listen"),
        (&["--admin-listen=0.0.0.0:8000"], "admin-listen", "the default of --listen"),
        (&["--admin-listen=127.0.0.1:8000"], "admin-listen", "by the default of --listen"),
        (&["--listen=0.0.0.0:1", "--admin-listen=10.0.0.1:1"], "admin-listen", "every IPv4"),
    ] {
        let found = bad(line, &[]);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].option, option);
        assert!(found[0].reason.contains(words), "{line:?}: {}", found[0].reason);
    }
    for line in [
        &["--listen=0.0.0.0:1", "--listen=[::]:1"][..],
        &["--listen=127.0.0.1:1", "--listen=127.0.0.2:1", "--admin-listen=127.0.0.1:2"],
        &["--listen=0.0.0.0:0", "--listen=127.0.0.1:0"],
    ] {
        good(line, &[]);
    }
}
