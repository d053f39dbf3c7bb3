//! A drain is handed on, with its clock.

use rustix::process::Signal;

use crate::{
    lineage::{Lineage, wait_for_end},
    support::{
        PATIENCE,
        client::{Client, upgrade_request},
        eventually,
        http::{Http, get, post},
    },
};

/// The drain goes on in the new process: newcomers are refused, its limit comes no later, and it
/// ends with the last client.
#[test]
fn a_drain_goes_on_in_the_new_process() {
    let mut lineage = Lineage::start(&["--drain-timeout", "10m"]);
    let mut client = Client::open(lineage.addr, "/ws?channel=a");
    post(lineage.admin, "/admin/drain?timeout=5m", "").assert_status(202);
    let left = |admin| get(admin, "/admin/drain").json()["seconds_left"].as_u64().unwrap();
    eventually(PATIENCE, "its clock goes", || left(lineage.admin) < 298);
    lineage.upgrade();
    let drain = get(lineage.admin, "/admin/drain").json();
    assert_eq!((&drain["phase"], &drain["clients"]), (&"waiting".into(), &1.into()), "{drain}");
    assert!((200..298).contains(&left(lineage.admin)), "the clock goes on: {drain}");
    let mut late = Http::connect(lineage.addr);
    late.request(upgrade_request(lineage.addr, "/ws", "")).assert_status(503);
    post(lineage.addr, "/broadcast?channel=a", "still served").assert_status(202);
    client.assert_text("still served");
    client.leave();
    assert_eq!(wait_for_end(lineage.pid), Some(0), "{}", lineage.log());
}

/// A drain that was handed on can be taken back, and is hastened by a signal.
#[test]
fn a_drain_that_was_handed_on_can_be_steered() {
    let mut lineage = Lineage::start(&[]);
    let client = Client::open(lineage.addr, "/ws?channel=a");
    post(lineage.admin, "/admin/drain", "").assert_status(202);
    lineage.upgrade();
    post(lineage.admin, "/admin/undrain", "").assert_status(200);
    eventually(PATIENCE, "it serves", || get(lineage.addr, "/readyz").status == 200);
    Client::open(lineage.addr, "/ws?channel=a").leave();
    lineage.signal(Signal::TERM);
    eventually(PATIENCE, "it drains", || get(lineage.admin, "/readyz").status == 503);
    client.leave();
    assert_eq!(wait_for_end(lineage.pid), Some(0), "{}", lineage.log());
}
