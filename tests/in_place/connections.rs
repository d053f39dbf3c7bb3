//! Listeners and HTTP connections go to the new process, whatever they are amid.

use std::{
    net::TcpStream,
    os::{
        fd::OwnedFd,
        unix::{fs::MetadataExt as _, net::UnixStream},
    },
    path::Path,
};

use crate::{
    lineage::Lineage,
    support::{
        PATIENCE,
        client::{Client, upgrade_request},
        eventually,
        frames::Inbox,
        http::{Http, get, post},
        server::Launch,
    },
};

const LIVEZ: &str = "GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n";

fn over_unix(path: &Path) -> Http {
    let stream = TcpStream::from(OwnedFd::from(UnixStream::connect(path).unwrap()));
    Http { stream, inbox: Inbox::default() }
}

/// A connection without a request, and one amid the head of a request, is answered by the new
/// process, wherever it was cut; so is a second request that came with the first one's end.
#[test]
fn requests_amid_an_upgrade_are_answered() {
    let mut lineage = Lineage::start(&[]);
    let mut idle: Vec<Http> = (0..4).map(|_| Http::connect(lineage.addr)).collect();
    // Two of them have been answered once.
    idle.iter_mut().take(2).for_each(|http| drop(http.request(LIVEZ)));
    let cut = |at| {
        let mut http = Http::connect(lineage.addr);
        http.send(&LIVEZ[..at]);
        (http, at)
    };
    let begun: Vec<_> = (1..LIVEZ.len()).map(cut).collect();
    let handshake = upgrade_request(lineage.addr, "/ws?channel=a", "");
    let mut half = Http::connect(lineage.addr);
    half.send(&handshake[..40]);
    lineage.take_over(&["--threads", "3"]);
    for mut http in idle {
        http.request(LIVEZ).assert_status(200);
        http.request(LIVEZ).assert_status(200);
    }
    for (mut http, at) in begun {
        assert_eq!(http.request(&LIVEZ[at..]).status, 200, "cut at {at}");
    }
    half.send(&handshake[40..]);
    let head = half.try_head().expect("an answer");
    assert_eq!(head.status, 101);
    let mut client = Client::upgraded(half, head);
    post(lineage.addr, "/broadcast?channel=a", "hello").assert_status(202);
    client.assert_text("hello");
}

/// New clients are let in by whichever process is there.
#[test]
fn newcomers_find_the_door_open_all_the_time() {
    let mut lineage = Lineage::start(&["--threads", "2"]);
    let addr = lineage.addr;
    let comers = std::thread::spawn(move || {
        let comer = |_| Client::open(addr, "/ws?channel=a").leave();
        (0..300).for_each(|number| drop(comer(number)));
    });
    for threads in ["4", "1", "2", "3"] {
        lineage.take_over(&["--threads", threads]);
    }
    comers.join().expect("nobody is refused");
}

/// A Unix socket and the control socket are the same files before and after, and gone at the end.
#[test]
fn files_of_sockets_are_handed_on() {
    let folder = tempfile::TempDir::new().unwrap();
    let path = folder.path().join("public");
    let mut lineage = Lineage::start(&["--listen", &format!("unix:{}", path.display())]);
    let inode = |path: &Path| std::fs::metadata(path).unwrap().ino();
    let [public, control] = [&path, &lineage.control()].map(|path| inode(path));
    let mut idle = over_unix(&path);
    idle.request(LIVEZ).assert_status(200);
    for _ in 0..2 {
        lineage.upgrade();
        assert_eq!((inode(&path), inode(&lineage.control())), (public, control));
        idle.request(LIVEZ).assert_status(200);
        over_unix(&path).request(LIVEZ).assert_status(200);
    }
    drop(idle);
    assert_eq!(lineage.stop(), Some(0), "{}", lineage.log());
    assert!(!path.exists() && !lineage.control().exists(), "nobody listens, no file");
}

/// The admin listener goes along, and tells of the upgrade.
#[test]
fn metrics_tell_of_an_upgrade() {
    let mut lineage = Lineage::start(&[]);
    let clients: Vec<Client> = (0..5).map(|_| Client::open(lineage.addr, "/ws")).collect();
    let mut scraper = Http::connect(lineage.admin);
    scraper.request(LIVEZ).assert_status(200);
    lineage.upgrade();
    scraper.request(LIVEZ).assert_status(200);
    assert_eq!(lineage.metric("wsbcast_clients_taken_over_total", &[]), 5.0);
    assert_eq!(lineage.metric("wsbcast_connections", &[]), 5.0);
    let pause = lineage.metric("wsbcast_upgrade_pause_seconds", &[]);
    assert!(pause > 0.0 && pause < 2.5, "{pause} s");
    clients.into_iter().for_each(|client| drop(client.leave()));
    eventually(PATIENCE, "all have left", || lineage.metric("wsbcast_connections", &[]) == 0.0);
}

/// Nobody else's port is taken: a process that does not take over finds it in use.
#[test]
fn the_port_is_never_free() {
    let mut lineage = Lineage::start(&[]);
    let address = lineage.addr.to_string();
    for _ in 0..2 {
        let ended = Launch::new(&["--listen", &address]).run();
        assert_eq!(ended.code, Some(1), "{}", ended.stderr);
        lineage.upgrade();
    }
    get(lineage.addr, "/livez").assert_status(200);
}
