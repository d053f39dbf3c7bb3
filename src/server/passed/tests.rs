//! Real sockets, sorted by address and name.

use std::{net::Ipv4Addr, path::Path};

use socket2::{Domain, SockAddr, Socket, Type};

use super::*;
use crate::config::ListenAddr;

/// A socket of that kind, bound there, that listens.
fn listening(address: &SockAddr, kind: Type) -> Socket {
    let socket = Socket::new(address.domain(), kind, None).expect("a socket");
    socket.bind(address).expect("the address is free");
    if kind == Type::STREAM {
        socket.listen(16).expect("it is bound");
    }
    socket
}

fn of_tcp(address: &str) -> Socket {
    listening(&address.parse::<SocketAddr>().expect("an address").into(), Type::STREAM)
}

fn port(socket: &Socket) -> SocketAddr {
    socket.local_addr().ok().and_then(|address| address.as_socket()).expect("it has a port")
}

fn named(name: &str, socket: Socket) -> NamedListener {
    NamedListener { name: name.to_owned(), socket }
}

fn listen(addresses: &[SocketAddr], is_default: bool) -> Vec<ListenAddr> {
    addresses.iter().map(|&addr| ListenAddr { addr, is_default }).collect()
}

/// The one error of a socket with that name.
fn refused(name: &str, socket: Socket, wanted: Listening) -> String {
    sort(vec![named(name, socket)], wanted, None).expect_err("it is refused").to_string()
}

/// Sockets take the places of the listeners with their addresses; the others are left to bind.
#[test]
fn sockets_are_found_by_their_addresses() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let [plain, tls, admin] = [(); 3].map(|()| of_tcp("127.0.0.1:0"));
    let other = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
    let wanted = Listening {
        listen: listen(&[other, port(&plain)], false),
        tls_listen: vec![port(&tls), other],
        listen_unix: vec![path.clone(), "/other".into()],
        admin_listen: Some(port(&admin)),
    };
    let unix = listening(&SockAddr::unix(&path).unwrap(), Type::STREAM);
    let sockets = [admin, tls, unix, plain].map(|socket| named("wsbcast.socket", socket));
    let sorted = sort(sockets.into(), wanted.clone(), None).unwrap();
    assert_eq!(sorted.count(), 4);
    assert_eq!(sorted.unix[0].path(), path);
    let left = Listening {
        listen: listen(&[other], false),
        tls_listen: vec![other],
        listen_unix: vec!["/other".into()],
        admin_listen: None,
    };
    assert_eq!(sorted.left, left);
    // The server has them all, those that are handed in first.
    let all = sorted.all().unwrap();
    assert_eq!(all.listen, listen(&[wanted.listen[1].addr, other], false));
    assert_eq!((all.tls_listen, all.listen_unix), (wanted.tls_listen, wanted.listen_unix));
    assert_eq!(all.admin_listen, wanted.admin_listen);
    // The file is not the server's to remove.
    drop(sorted.unix);
    assert!(path.exists());
}

/// A socket whose address no option names is what its name says, and stands for all of that kind;
/// the default addresses are not bound beside any public socket.
#[test]
fn sockets_are_found_by_their_names() {
    let other = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
    let wanted = Listening {
        listen: listen(&[other], false),
        tls_listen: vec![other],
        listen_unix: vec!["/other".into()],
        admin_listen: Some(other),
    };
    for name in ["public", "tls", "admin"] {
        let sorted = sort(vec![named(name, of_tcp("127.0.0.1:0"))], wanted.clone(), None).unwrap();
        let Listening { listen, tls_listen, listen_unix, admin_listen } = sorted.left;
        let counts = [listen.len(), tls_listen.len(), usize::from(admin_listen.is_some())];
        let expected = ["public", "tls", "admin"].map(|kind| usize::from(kind != name));
        assert_eq!((counts, listen_unix.len()), (expected, 1), "{name}");
    }
    let by_default = Listening { listen: listen(&[other], true), ..Listening::default() };
    for (name, left) in [("tls", 0), ("admin", 1)] {
        let sorted =
            sort(vec![named(name, of_tcp("127.0.0.1:0"))], by_default.clone(), None).unwrap();
        assert_eq!(sorted.left.listen.len(), left, "{name}");
    }
    assert_eq!(sort(Vec::new(), by_default.clone(), None).unwrap().left, by_default);
}

/// A socket of all IPv6 addresses that takes IPv4 too, as systemd makes it from a port alone, is
/// both listeners.
#[test]
fn a_socket_of_both_families_is_both_listeners() {
    let socket = Socket::new(Domain::IPV6, Type::STREAM, None).unwrap();
    socket.set_only_v6(false).unwrap();
    socket.bind(&"[::]:0".parse::<SocketAddr>().unwrap().into()).unwrap();
    socket.listen(16).unwrap();
    let six = port(&socket);
    let four = SocketAddr::from((Ipv4Addr::UNSPECIFIED, six.port()));
    let local = SocketAddr::from((Ipv4Addr::LOCALHOST, six.port()));
    let wanted = |addresses: &[SocketAddr]| Listening {
        listen: listen(addresses, false),
        ..Listening::default()
    };
    let sorted =
        sort(vec![named("x", socket.try_clone().unwrap())], wanted(&[four, six]), None).unwrap();
    assert!(sorted.left.listen.is_empty(), "{:?}", sorted.left);
    let sorted =
        sort(vec![named("x", socket.try_clone().unwrap())], wanted(&[four]), None).unwrap();
    assert!(sorted.left.listen.is_empty());
    // An address of one interface is another one.
    assert!(refused("x", socket, wanted(&[local])).contains("which no option names"));
}

/// A socket that is no listener of the server is refused with its name and the reason.
#[test]
fn strange_sockets_are_refused_with_the_reason() {
    let none = Listening::default();
    let local = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));

    let told = refused("public", listening(&local.into(), Type::DGRAM), none.clone());
    assert!(told.contains("`public`") && told.contains("does not listen"), "{told}");
    let bound = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    bound.bind(&local.into()).unwrap();
    assert!(refused("public", bound, none.clone()).contains("does not listen"));

    let socket = of_tcp("127.0.0.1:0");
    let address = port(&socket).to_string();
    let told = refused("wsbcast.socket", socket, none.clone());
    for word in ["`wsbcast.socket`", &address, "--listen", "FileDescriptorName="] {
        assert!(told.contains(word), "{word}: {told}");
    }

    let socket = of_tcp("127.0.0.1:0");
    let wanted = Listening { tls_listen: vec![port(&socket)], ..none.clone() };
    let told = refused("public", socket, wanted);
    assert!(told.contains("`public`") && told.contains("which --tls-listen names"), "{told}");

    let folder = tempfile::tempdir().unwrap();
    let unix = |name: &str| {
        let path: &Path = &folder.path().join(name);
        listening(&SockAddr::unix(path).unwrap(), Type::STREAM)
    };
    assert!(refused("unix", of_tcp("127.0.0.1:0"), none.clone()).contains("wrong family"));
    for name in ["public", "tls", "admin"] {
        assert!(refused(name, unix(name), none.clone()).contains("wrong family"), "{name}");
    }

    let two = [of_tcp("127.0.0.1:0"), of_tcp("127.0.0.1:0")].map(|socket| named("admin", socket));
    let told = sort(two.into(), none, None).unwrap_err().to_string();
    assert!(told.contains("more than one socket"), "{told}");
}
