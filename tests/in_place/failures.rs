//! A hand-over that fails: the old process goes on, and nobody notices.

use std::{fs, os::fd::OwnedFd, os::unix::fs::PermissionsExt as _};

use rustix::process::Signal;
use tokio::sync::oneshot;
use wsbcast::handover::{Identity, Link, Parcel, Taker, take_over};

use crate::{
    lineage::{Lineage, wait_for_end},
    support::{client::Client, eventually, http::post, now, v1::V1},
};

/// Clients that must not notice anything.
struct Witnesses {
    plain: Client,
    v1: V1,
    said: usize,
}

impl Witnesses {
    fn of(lineage: &Lineage) -> Self {
        let plain = Client::open(lineage.addr, "/ws?channel=a");
        Self { plain, v1: V1::open(lineage.addr, "/ws?channel=a"), said: 0 }
    }

    #[track_caller]
    fn assert_served(&mut self, lineage: &Lineage) {
        self.said += 1;
        let text = format!("number {}", self.said);
        post(lineage.addr, "/broadcast?channel=a", &text).assert_status(202);
        self.plain.assert_text(&text);
        assert_eq!(self.v1.message(), (text, self.said as u64));
    }
}

/// A program that can't be started, or ends at once: `wsbcast upgrade` says so with code 1, and a
/// program that is mended works.
#[test]
fn a_broken_program_changes_nothing() {
    let mut lineage = Lineage::start(&[]);
    let mut witnesses = Witnesses::of(&lineage);
    let good = lineage.path("good");
    fs::rename(&lineage.program, &good).unwrap();
    for broken in [None, Some("#!/bin/sh\necho broken >&2; exit 7\n"), Some("no program at all")] {
        if let Some(text) = broken {
            fs::write(&lineage.program, text).unwrap();
            fs::set_permissions(&lineage.program, fs::Permissions::from_mode(0o755)).unwrap();
        }
        let ended = lineage.ask_upgrade();
        assert_eq!(ended.code, Some(1), "{broken:?}: {} {}", ended.stdout, ended.stderr);
        assert!(!ended.stderr.is_empty(), "the reason is told");
        witnesses.assert_served(&lineage);
        lineage.signal(Signal::USR2);
        witnesses.assert_served(&lineage);
    }
    fs::rename(&good, &lineage.program).unwrap();
    eventually(crate::support::PATIENCE, "the last try is over", || {
        lineage.ask_upgrade().code == Some(0)
    });
    lineage.assert_succeeded_by(None);
    witnesses.assert_served(&lineage);
}

/// A new process whose options are bad, or whose port is taken, ends by itself.
#[test]
fn bad_options_of_a_new_process_change_nothing() {
    let lineage = Lineage::start(&[]);
    let mut witnesses = Witnesses::of(&lineage);
    let control = lineage.control().display().to_string();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for (words, code) in [(["--threads", "0"], 2), (["--listen", &address], 1)] {
        let new = lineage.spawn(&[&["--take-over", &control][..], &words].concat());
        assert_eq!(wait_for_end(new), Some(code), "{words:?}: {}", lineage.log());
        lineage.assert_goes_on();
        witnesses.assert_served(&lineage);
    }
}

/// A new process that does nothing at its step until it is told, and then fails.
struct Hanging {
    at_state: bool,
    reached: Option<oneshot::Sender<()>>,
    release: Option<oneshot::Receiver<()>>,
}

impl Hanging {
    async fn hang(&mut self) -> Result<(), String> {
        if let Some(reached) = self.reached.take() {
            let _ = reached.send(());
        }
        if let Some(release) = self.release.take() {
            let _ = release.await;
        }
        Err("it was told to fail".to_owned())
    }
}

impl Taker for Hanging {
    type Started = ();

    async fn build(&mut self, _: &Identity, _: Parcel<OwnedFd>) -> Result<(), String> {
        if self.at_state { Ok(()) } else { self.hang().await }
    }

    async fn take_ahead(&mut self, _: Parcel<OwnedFd>) -> Result<(), String> {
        Ok(())
    }

    async fn ready(&mut self) -> Result<(), String> {
        Ok(())
    }

    async fn restore(&mut self, _: Parcel<OwnedFd>) -> Result<(), String> {
        self.hang().await
    }

    async fn prepare(&mut self) -> Result<(), String> {
        self.hang().await
    }

    fn start(self, _: Link) {}
}

/// Has a new process hang; `meanwhile` runs when it does, and then it fails.
fn with_a_hanging_process(lineage: &Lineage, at_state: bool, meanwhile: impl FnOnce()) {
    let (reached, is_reached) = oneshot::channel();
    let (go, release) = oneshot::channel();
    let taker = Hanging { at_state, reached: Some(reached), release: Some(release) };
    let path = lineage.control();
    let hanging = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let link = Link::connect(&path).unwrap();
            take_over(link, Identity::own("0.0.0"), taker).await.map(drop)
        })
    });
    is_reached.blocking_recv().expect("it comes that far");
    meanwhile();
    let _ = go.send(());
    assert!(hanging.join().unwrap().is_err(), "it never serves");
}

/// One upgrade at a time: a second one is refused, and the first one goes its way.
#[test]
fn a_second_upgrade_at_a_time_is_refused() {
    let mut lineage = Lineage::start(&[]);
    let mut witnesses = Witnesses::of(&lineage);
    with_a_hanging_process(&lineage, false, || {
        let ended = lineage.ask_upgrade();
        assert_eq!(ended.code, Some(1), "{} {}", ended.stdout, ended.stderr);
        assert!(ended.stderr.contains("busy"), "{}", ended.stderr);
        let control = lineage.control().display().to_string();
        let new = lineage.spawn(&["--take-over", &control]);
        assert_eq!(wait_for_end(new), Some(1), "{}", lineage.log());
        witnesses.assert_served(&lineage);
    });
    witnesses.assert_served(&lineage);
    eventually(crate::support::PATIENCE, "the first one is over", || {
        lineage.ask_upgrade().code == Some(0)
    });
    lineage.assert_succeeded_by(None);
    witnesses.assert_served(&lineage);
}

/// A new process that hangs when everything stands still for it is not waited for: the old one goes
/// on within two seconds, with what came meanwhile, and says why.
#[test]
fn a_new_process_that_hangs_in_the_pause_is_left() {
    let lineage = Lineage::start(&[]);
    let mut witnesses = Witnesses::of(&lineage);
    for _ in 0..2 {
        with_a_hanging_process(&lineage, true, || {
            let start = now();
            witnesses.assert_served(&lineage);
            // Two seconds are promised; the rest is a slow machine's.
            assert!(start.elapsed().as_secs() < 10, "{:?}", start.elapsed());
        });
        witnesses.assert_served(&lineage);
    }
    lineage.assert_goes_on();
    assert_eq!(
        lineage.metric("wsbcast_upgrades_total", &["rolled_back"]),
        2.0,
        "{}",
        lineage.log()
    );
}

/// The old process dies before it has handed over: the new one ends, and has served nobody.
#[test]
fn a_new_process_without_an_old_one_serves_nobody() {
    let lineage = Lineage::start(&[]);
    let mut client = Client::open(lineage.addr, "/ws?channel=a");
    // Nothing answers the new process: the old one is stopped.
    lineage.signal(Signal::STOP);
    let control = lineage.control().display().to_string();
    let new = lineage.spawn(&["--take-over", &control]);
    lineage.signal(Signal::KILL);
    assert_eq!(wait_for_end(lineage.pid), None);
    assert_eq!(wait_for_end(new), Some(1), "{}", lineage.log());
    assert_ne!(client.event_within(crate::support::PATIENCE), None, "the crash is seen");
    std::net::TcpListener::bind(lineage.addr).expect("the port is free");
}
