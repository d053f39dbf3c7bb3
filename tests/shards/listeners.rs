//! A server on sockets that somebody else has bound.

use std::net::{SocketAddr, TcpListener};

use socket2::{Domain, Socket, Type};
use wsbcast::server::{BadListeners, Exit, Listeners, Parts, StartError};

use crate::{
    start_of,
    support::{
        clients_on_all_shards,
        http::{get, post},
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

/// Sockets whose number does not fit the shards are refused with that number.
#[test]
fn too_few_sockets_for_the_shards_are_refused() {
    let mut public = bound("127.0.0.1:0", 2);
    let strange = bound("127.0.0.1:0", 3);
    let address = strange[0].local_addr().unwrap();
    public.extend(strange);
    let error = refused(&[], public);
    let told = format!("3 of the sockets handed in listen on {address}, and there have to be 2");
    assert!(error.to_string().starts_with(&told), "{error}");

    // One port each is no port for both shards.
    let two = [bound("127.0.0.1:0", 1), bound("127.0.0.1:0", 1)].into_iter().flatten();
    let error = refused(&[], two.collect());
    assert!(
        matches!(error, StartError::Listeners(BadListeners::Number { got: 1, wanted: 2, .. })),
        "{error}"
    );
    let error = refused(&[], Vec::new());
    assert!(matches!(error, StartError::Listeners(BadListeners::None)), "{error}");
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
