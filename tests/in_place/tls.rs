//! Clients whose TLS ends in the server can't change process: the old one serves them to their end.

use rustls::version::TLS13;

use crate::{
    lineage::{Lineage, wait_for_end},
    support::{
        PATIENCE,
        certificates::Authority,
        client::Client,
        eventually, free_address,
        http::post,
        tls::{Tunnel, trusting},
    },
};

const NAME: &str = "wsbcast.test";

/// They get what is published at the new process, another upgrade has to wait for them, and at
/// their time they are told to come back; the new process serves TLS by then.
#[test]
fn clients_by_tls_stay_with_the_old_process() {
    let authority = Authority::new();
    let pair = authority.files(&[NAME]);
    let tls = free_address();
    let mut lineage = Lineage::start(&[
        "--tls-listen",
        &tls.to_string(),
        "--tls-cert",
        &pair[0],
        "--tls-key",
        &pair[1],
        "--drain-close-over",
        "12s",
        "--drain-timeout",
        "60s",
    ]);
    let tunnel = Tunnel::to(tls, NAME, trusting(authority.path(), &[&TLS13]));
    let mut plain = Client::open(lineage.addr, "/ws?channel=a");
    let mut secure: Vec<Client> =
        (0..3).map(|_| Client::open(tunnel.addr(), "/ws?channel=a")).collect();

    let old = lineage.pid;
    let ended = lineage.ask_upgrade();
    assert_eq!(ended.code, Some(0), "{} {}", ended.stdout, ended.stderr);
    // One client is closed at once, another in the middle: all that are there are served.
    post(lineage.addr, "/broadcast?channel=a", "after").assert_status(202);
    plain.assert_text("after");
    let again = lineage.ask_upgrade();
    assert_eq!(again.code, Some(1), "{} {}", again.stdout, again.stderr);
    assert!(again.stderr.contains("busy"), "{}", again.stderr);
    let mut got = 0;
    for client in &mut secure {
        let (texts, (code, reason)) = client.texts_until_close();
        assert_eq!(code, 1012, "{reason}");
        got += usize::from(texts == ["after"]);
    }
    assert!(got >= 2, "{got} of three got it");
    drop(secure);
    assert_eq!(wait_for_end(old), Some(0), "{}", lineage.log());
    let heirs = lineage.processes();
    assert_eq!(heirs.len(), 1, "{heirs:?}");
    lineage.pid = heirs[0];
    Client::open(tunnel.addr(), "/ws?channel=a").leave();
    eventually(PATIENCE, "it is not busy any more", || lineage.ask_upgrade().code == Some(0));
    lineage.assert_succeeded_by(None);
    plain.leave();
}
