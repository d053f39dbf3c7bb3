//! A server on sockets that somebody else has bound.

use std::net::{SocketAddr, TcpListener};

use socket2::{Domain, Socket, Type};
use wsbcast::server::{BadListeners, Exit, Listeners, NamedListener, Parts, StartError};

use crate::{
    block, start_of,
    support::{
        PATIENCE,
        client::Client,
        clients_on_all_shards, eventually,
        http::{Http, get, post},
        metrics::Metrics,
    },
};

/// Sockets as another process might have bound them: they block, and share one port.
fn bound(address: &str, count: usize) -> Vec<TcpListener> {
    let mut address: SocketAddr = address.parse().unwrap();
    (0..count)
        .map(|_| {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
            socket.set_reuse_port(true).unwrap();
            socket.bind(&address.into()).unwrap();
            socket.listen(128).unwrap();
            let listener = TcpListener::from(socket);
            address = listener.local_addr().unwrap();
            listener
        })
        .collect()
}

fn parts(public: Vec<TcpListener>, admin: Option<TcpListener>) -> Parts {
    Parts {
        listeners: Some(Listeners { public, admin, ..Listeners::default() }),
        ..Parts::default()
    }
}

/// Why no server of two shards starts on these sockets.
fn refused(more: &[&str], public: Vec<TcpListener>) -> StartError {
    let Err(error) = start_of(2, more, parts(public, None)) else { panic!("it starts") };
    error
}

/// A server serves on all sockets that were handed in, and on no other.
#[test]
fn a_server_serves_only_the_given_sockets() {
    let mut public = bound("127.0.0.1:0", 2);
    // In any order: the addresses tell what belongs together.
    public.extend(bound("127.0.0.2:0", 2));
    public.swap(1, 2);
    let addresses = [&public[0], &public[1]].map(|socket| socket.local_addr().unwrap());
    let admin = bound("127.0.0.1:0", 1).pop().unwrap();
    let admin_address = admin.local_addr().unwrap();
    // That one nobody could listen on.
    let server = start_of(2, &["--listen", "192.0.2.1:80"], parts(public, Some(admin))).unwrap();

    for address in addresses {
        let mut clients = clients_on_all_shards(address, "/ws", 2);
        post(address, "/broadcast", "to all").assert_status(202);
        clients.iter_mut().for_each(|client| client.assert_text("to all"));
    }
    get(admin_address, "/metrics").assert_status(200);
    assert_eq!(server.terminate(), Exit::Drained);
}

/// However many sockets of one address there are, all of them are served by all shards: one that
/// the shards share, fewer than shards, or more.
#[test]
fn any_number_of_sockets_serves_all_shards() {
    for (shards, sockets) in [(2, 1), (3, 2), (2, 3), (1, 2)] {
        let public = bound("127.0.0.1:0", sockets);
        let address = public[0].local_addr().unwrap();
        // The system has spread them over all sockets before the server is there: those of one that
        // is dropped, or that nobody accepts from, would never be answered.
        let request = "GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        let mut waiting: Vec<_> = (0..40).map(|_| Http::connect(address)).collect();
        waiting.iter_mut().for_each(|http| http.send(request));
        let server = start_of(shards, &[], parts(public, None)).unwrap();
        for http in &mut waiting {
            http.response().assert_status(200);
        }
        let mut clients = clients_on_all_shards(server.addr, "/ws", shards);
        post(server.addr, "/broadcast", "to all").assert_status(202);
        clients.iter_mut().for_each(|client| client.assert_text("to all"));
        drop(clients);
        assert_eq!(server.terminate(), Exit::Drained, "{shards} {sockets}");
    }
}

/// Connections of a socket that the shards share go to the shard that holds least: on a quiet
/// machine the shards hold 25 each, and one that is short of a CPU for a moment gets a few less.
#[test]
fn a_shared_socket_fills_the_shards_evenly() {
    let server = start_of(4, &[], parts(bound("127.0.0.1:0", 1), None)).unwrap();
    let clients: Vec<_> = (0..100).map(|_| Client::open(server.addr, "/ws")).collect();
    let held = Metrics::of(server.addr).values_by_shard("wsbcast_connections");
    assert_eq!(held.len(), 4);
    assert!(held.values().all(|&held| (15.0..=35.0).contains(&held)), "{held:?}");
    let placed = Metrics::of(server.addr).sum("wsbcast_connections_placed_total", &["acceptor"]);
    assert!(placed >= 100.0, "{placed}");
    drop(clients);
    assert_eq!(server.terminate(), Exit::Drained);
}

/// A shard that hangs holds up nobody who comes through a socket that the shards share.
#[test]
fn a_hanging_shard_holds_up_nobody_at_a_shared_socket() {
    let server = start_of(2, &[], parts(bound("127.0.0.1:0", 1), None)).unwrap();
    let blocker = block(&server, 0);
    eventually(PATIENCE, "readiness says shard_stalled", || {
        get(server.addr, "/readyz").text().contains("shard_stalled")
    });
    for _ in 0..20 {
        get(server.addr, "/livez").assert_status(200);
    }
    drop(blocker);
    assert_eq!(server.terminate(), Exit::Drained);
}

/// A server without a socket for clients does not start.
#[test]
fn no_socket_for_clients_is_refused() {
    let error = refused(&[], Vec::new());
    assert!(matches!(error, StartError::Listeners(BadListeners::None)), "{error}");
}

/// A socket that is handed in by name or address stands beside those that the server binds itself.
#[test]
fn a_passed_socket_stands_beside_bound_ones() {
    let socket = bound("127.0.0.1:0", 1).pop().unwrap();
    let passed_address = socket.local_addr().unwrap();
    let admin = bound("127.0.0.2:0", 1).pop().unwrap();
    let admin_address = admin.local_addr().unwrap();
    let passed = vec![
        NamedListener { name: "wsbcast.socket".to_owned(), socket: socket.into() },
        NamedListener { name: "admin".to_owned(), socket: admin.into() },
    ];
    let parts = Parts { passed, ..Parts::default() };
    let line = ["--listen", &passed_address.to_string()];
    let server = start_of(2, &line, parts).unwrap();
    assert_eq!(server.addr, passed_address);
    let bound = server.addresses[1];
    for address in [passed_address, bound, admin_address] {
        get(address, "/livez").assert_status(200);
    }
    let mut client = Client::open(passed_address, "/ws");
    post(bound, "/broadcast", "to all").assert_status(202);
    client.assert_text("to all");
    drop(client);
    assert_eq!(server.terminate(), Exit::Drained);
}

/// Sockets that strangers reach obey the rules for these: a server's real addresses count, not the
/// ones that were named.
#[test]
fn sockets_within_reach_of_strangers_have_rules() {
    let server = start_of(2, &[], parts(bound("0.0.0.0:0", 2), None)).unwrap();
    let here = SocketAddr::from(([127, 0, 0, 1], server.addr.port()));
    get(here, "/metrics").assert_status(404);
    assert_eq!(server.terminate(), Exit::Drained);

    let server = start_of(2, &[], parts(bound("127.0.0.1:0", 2), None)).unwrap();
    get(server.addr, "/metrics").assert_status(200);
    assert_eq!(server.terminate(), Exit::Drained);

    let error = refused(&["--client-publish", "broadcast"], bound("0.0.0.0:0", 2));
    assert!(matches!(error, StartError::Open(_)), "{error}");
}
