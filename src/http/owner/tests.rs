//! Real sockets of this process; other users are in the integration tests.
#![cfg(target_os = "linux")]

use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};

use socket2::{Domain, Socket, Type};

use super::*;

/// Both ends of a connection to `address`.
fn connected(address: &str) -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind(address).unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (client, listener.accept().unwrap().0)
}

fn whose(ours: &TcpStream) -> Owner {
    of(&ours.into())
}

#[test]
fn our_own_connections_are_ours_over_both_protocols() {
    for address in ["127.0.0.1:0", "127.3.2.1:0", "[::1]:0"] {
        let (client, ours) = connected(address);
        assert_eq!(whose(&ours), Owner::Us, "{address}");
        // It has only said that nothing more comes.
        client.shutdown(Shutdown::Write).unwrap();
        assert_eq!(whose(&ours), Owner::Us, "{address}");
    }
}

#[test]
fn a_mapped_address_is_asked_as_ipv4() {
    let v6 = |bind: &str| {
        let socket = Socket::new(Domain::IPV6, Type::STREAM, None).unwrap();
        socket.set_only_v6(false).unwrap();
        socket.bind(&bind.parse::<SocketAddr>().unwrap().into()).unwrap();
        socket
    };
    let listener = v6("[::]:0");
    listener.listen(1).unwrap();
    let port = listener.local_addr().unwrap().as_socket().unwrap().port();
    let client = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let ours = TcpStream::from(listener.accept().unwrap().0);
    assert!(ours.peer_addr().unwrap().is_ipv6());
    assert_eq!(whose(&ours), Owner::Us);
    drop(client);

    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = v6("[::ffff:127.0.0.1]:0");
    let port = listener.local_addr().unwrap().port();
    let mapped = SocketAddr::from(([0, 0, 0, 0, 0, 0xffff, 0x7f00, 1], port));
    client.connect(&mapped.into()).unwrap();
    assert_eq!(whose(&listener.accept().unwrap().0), Owner::Us);
}

/// The kernel still knows such a socket, with inode 0 and the user 0.
#[test]
fn a_closed_peer_is_nobody() {
    for address in ["127.0.0.1:0", "[::1]:0"] {
        let (client, ours) = connected(address);
        drop(client);
        assert_eq!(whose(&ours), Owner::Stranger, "{address}");
    }
}

/// A program on the port of another one that is gone is not taken for it.
/// Its port is free then, and what listens there now has nothing to do with the connection.
#[test]
fn a_new_owner_of_a_port_is_not_the_old_one() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    // An address of its own: the port stays free until it is bound again.
    let client = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    client.bind(&SocketAddr::from(([127, 77, 1, 2], 0)).into()).unwrap();
    client.connect(&listener.local_addr().unwrap().into()).unwrap();
    let (ours, port) = listener.accept().unwrap();
    client.set_linger(Some(std::time::Duration::ZERO)).unwrap();
    drop(client);
    let local = listener.local_addr().unwrap();
    let listener = TcpListener::bind(port).unwrap();
    let told = system::ask(port, local).unwrap();
    assert_ne!(told[0].inode, 0, "the kernel names the listener instead");
    assert_eq!(system::held(Some(told), port, local), None);
    assert_eq!(whose(&ours), Owner::Stranger);
    let again = TcpStream::connect(port).unwrap();
    let (_theirs, _) = listener.accept().unwrap();
    assert_eq!(whose(&ours), Owner::Stranger);
    drop(again);
}

#[test]
fn the_system_says_whether_it_can_be_asked() {
    for address in ["127.0.0.1:0", "0.0.0.0:0", "[::1]:0", "[::]:0"] {
        let listener = TcpListener::bind(address).unwrap();
        let bound = listener.local_addr().unwrap();
        assert!(is_told(bound), "{address}");
    }
    assert!(!is_told("127.0.0.1:1".parse().unwrap()), "nobody listens there");
}
