//! The three ways to an upgrade, and its exit codes.

use rustix::process::Signal;

use crate::{
    lineage::Lineage,
    support::{client::Client, http::post, server::Launch, service_manager::Manager},
};

#[track_caller]
fn assert_served(lineage: &Lineage, client: &mut Client, word: &str) {
    post(lineage.addr, "/broadcast?channel=a", word).assert_status(202);
    client.assert_text(word);
}

/// SIGUSR2 has the server start its own program, with its own options, and end.
#[test]
fn a_signal_starts_the_program_anew() {
    let mut lineage = Lineage::start(&["--threads", "3"]);
    let mut client = Client::open(lineage.addr, "/ws?channel=a");
    for word in ["one", "two"] {
        lineage.signal(Signal::USR2);
        lineage.assert_succeeded_by(None);
        assert_served(&lineage, &mut client, word);
        let shards = crate::support::metrics::Metrics::of(lineage.admin);
        assert_eq!(shards.values_by_shard("wsbcast_connections").len(), 3);
    }
}

/// `wsbcast upgrade` says how it went, and works in any process of the line.
#[test]
fn a_command_has_a_server_upgraded_and_says_so() {
    let mut lineage = Lineage::start(&[]);
    let mut client = Client::open(lineage.addr, "/ws?channel=a");
    for word in ["one", "two", "three"] {
        let said = lineage.upgrade();
        assert!(said.contains(&lineage.pid.to_string()), "the new process is named: {said}");
        assert_served(&lineage, &mut client, word);
    }
    lineage.take_over(&["--threads", "4"]);
    assert_served(&lineage, &mut client, "four");
    lineage.upgrade();
    lineage.signal(Signal::USR2);
    lineage.assert_succeeded_by(None);
    assert_served(&lineage, &mut client, "five");
}

/// A process that takes over has its own options.
#[test]
fn a_new_process_has_its_own_options() {
    let mut lineage = Lineage::start(&["--threads", "2"]);
    let mut client = Client::open(lineage.addr, "/ws?channel=a");
    for threads in [4, 1, 3] {
        lineage.take_over(&["--threads", &threads.to_string()]);
        let metrics = crate::support::metrics::Metrics::of(lineage.admin);
        assert_eq!(metrics.values_by_shard("wsbcast_connections").len(), threads);
        assert_served(&lineage, &mut client, &format!("{threads} shards"));
    }
}

/// Nobody there: code 4, with a file that nobody listens at, too.
#[test]
fn nobody_there_is_told_by_the_exit_code() {
    let mut lineage = Lineage::start(&[]);
    let path = lineage.path("nobody");
    let ask = |path: &std::path::Path| {
        Launch::new(&["upgrade", "--control-socket", &path.display().to_string()]).run()
    };
    let ended = ask(&path);
    assert_eq!(ended.code, Some(4), "{}", ended.stderr);
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let ended = ask(&path);
    assert_eq!(ended.code, Some(4), "{}", ended.stderr);
    // A server that was killed leaves its file, and the next one replaces it.
    lineage.signal(Signal::KILL);
    crate::lineage::wait_for_end(lineage.pid);
    assert_eq!(lineage.ask_upgrade().code, Some(4));
    let control = lineage.control().display().to_string();
    lineage.pid = lineage.spawn(&["--control-socket", &control]);
    crate::support::eventually(crate::support::PATIENCE, "it is back", || {
        lineage.ask_upgrade().code == Some(0)
    });
    lineage.assert_succeeded_by(None);
}

#[test]
fn bad_options_of_the_command_have_a_code() {
    for words in [&["upgrade"][..], &["upgrade", "--control-socket"], &["upgrade", "--what"]] {
        assert_eq!(Launch::new(words).run().code, Some(2), "{words:?}");
    }
}

/// The service manager hears of the new process from the old one, and then from the new one, even
/// if that has spoken before.
#[test]
fn the_manager_is_told_of_the_new_process() {
    let manager = Manager::new();
    let mut lineage = Lineage::start_in(&[], &[("NOTIFY_SOCKET", &manager.address())]);
    let ready = manager.wait_for(&["READY=1"]);
    lineage.upgrade();
    let main = manager.wait_for_after(ready + 1, &[&format!("MAINPID={}", lineage.pid)]);
    manager.wait_for_after(main, &["READY=1"]);
    assert!(!manager.heard().iter().any(|text| text.contains("STOPPING=1")));
}

/// A supervisor that would not follow the new process is found out, and nothing is begun.
#[test]
fn a_supervisor_that_cannot_follow_is_no_place_for_it() {
    let lineage = Lineage::start_in(&[], &[("INVOCATION_ID", "0123456789abcdef")]);
    let ended = lineage.ask_upgrade();
    assert_eq!(ended.code, Some(1), "{} {}", ended.stdout, ended.stderr);
    assert!(ended.stderr.contains("NOTIFY_SOCKET"), "{}", ended.stderr);
    lineage.assert_goes_on();
}
