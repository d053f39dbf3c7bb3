//! Listening sockets that the server is started with: by `systemd-socket-activate`, which is part
//! of systemd, and by this test in its place, so that a socket outlives its server.

use std::{
    io::Read as _,
    net::{SocketAddr, TcpListener, UdpSocket},
    os::{fd::OwnedFd, unix::net::UnixStream},
    path::Path,
    process::{Child, Command, Stdio},
};

use nix::{sys::signal, unistd::Pid};
use tempfile::TempDir;

use crate::support::{
    PATIENCE,
    client::{Client, upgrade_request},
    eventually,
    frames::Inbox,
    free_address,
    http::{Http, get, post},
    metrics::Metrics,
    server::{Launch, Server},
    service_manager::Manager,
};

const LIVEZ: &str = "GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";

/// A unit of two ports and the Unix socket `path`, all of which listen; its server is started by
/// the first connection.
fn unit(path: &Path, manager: &Manager) -> (Server, [SocketAddr; 2]) {
    const ATTEMPTS: usize = 5;
    for _ in 0..ATTEMPTS {
        let [public, admin] = [free_address(), free_address()];
        let activate = format!(
            "exec systemd-socket-activate -E NOTIFY_SOCKET -l {public} -l {admin} -l {} \
             --fdname=wsbcast.socket:admin:unix \"$0\" \"$@\"",
            path.display()
        );
        let args = ["--listen", &public.to_string(), "--threads", "2", "--notify-interval", "0"];
        let launch = Launch::new(&args).after(&activate).env("NOTIFY_SOCKET", &manager.address());
        let mut server = launch.spawn();
        let mut listens = false;
        // A port that somebody else has taken meanwhile ends it.
        eventually(PATIENCE, "the unit's sockets are there", || {
            listens = server.log().matches("Listening on ").count() == 3;
            listens || !server.is_running()
        });
        if listens {
            return (server, [public, admin]);
        }
        eprintln!("other ports are tried:\n{}", server.log());
    }
    panic!("no free ports, {ATTEMPTS} times");
}

/// The sockets of a unit are the server's: the first connection, which was there before the server,
/// is answered, all shards serve it, and the drain is as with sockets of its own.
#[test]
fn a_server_serves_the_sockets_of_its_unit() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("socket");
    let manager = Manager::new();
    let (mut server, [public, admin]) = unit(&path, &manager);
    let mut first = Http::connect(public);
    first.send(LIVEZ);
    first.response().assert_status(200);
    manager.wait_for(&["READY=1"]);
    server.wait_for_log(&["admin listening on", &admin.to_string()]);
    get(admin, "/metrics").assert_status(200);
    let mut unix = Http {
        stream: OwnedFd::from(UnixStream::connect(&path).unwrap()).into(),
        inbox: Inbox::default(),
    };
    unix.send(LIVEZ);
    unix.response().assert_status(200);

    let mut clients: Vec<_> = (0..20).map(|_| Client::open(public, "/ws")).collect();
    let held = Metrics::of(admin).values_by_shard("wsbcast_connections");
    assert!(held.len() == 2 && held.values().all(|&held| held >= 6.0), "{held:?}");
    post(public, "/broadcast", "to all").assert_status(202);
    clients.iter_mut().for_each(|client| client.assert_text("to all"));

    server.signal(&["TERM"]);
    manager.wait_for(&["STOPPING=1"]);
    eventually(PATIENCE, "it drains", || get(admin, "/readyz").status == 503);
    let mut late = Http::connect(public);
    late.request(upgrade_request(public, "/ws", "")).assert_status(503);
    drop(clients);
    server.assert_exit(0);
    assert!(path.exists(), "the unit's file is not the server's to remove");
}

/// A process with this test's socket as its first passed one.
fn serve_on(socket: impl Into<OwnedFd>, name: &str, pid: &str, args: &[&str]) -> Child {
    let line = format!(
        "exec 3<&0 </dev/null; export LISTEN_PID={pid} LISTEN_FDS=1 LISTEN_FDNAMES={name}; \
         exec \"$0\" \"$@\""
    );
    let mut command = Command::new("sh");
    command.args(["-c", &line, env!("CARGO_BIN_EXE_wsbcast")]);
    command.args(["--threads", "2", "--notify-interval", "0"]).args(args);
    command.stdin(Stdio::from(socket.into())).stdout(Stdio::null()).stderr(Stdio::piped());
    command.spawn().expect("sh runs")
}

/// The exit code, and what it wrote.
fn ended(mut child: Child) -> (Option<i32>, String) {
    let mut log = String::new();
    let mut stderr = child.stderr.take().unwrap();
    stderr.read_to_string(&mut log).unwrap();
    (child.wait().unwrap().code(), log)
}

fn terminate(child: Child) -> (Option<i32>, String) {
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap());
    signal::kill(pid, signal::Signal::SIGTERM).unwrap();
    ended(child)
}

/// Nobody is refused between two servers: a connection waits in the socket for the next one.
#[test]
fn nobody_is_refused_between_two_servers() {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    for _ in 0..3 {
        let mut waiting = Http::connect(address);
        waiting.send(LIVEZ);
        let server = serve_on(socket.try_clone().unwrap(), "public", "$$", &[]);
        waiting.response().assert_status(200);
        Client::open(address, "/ws").leave();
        let (code, log) = terminate(server);
        assert_eq!(code, Some(0), "{log}");
    }
}

/// A socket that is no listener of the server keeps it from starting, with the reason.
#[test]
fn a_strange_socket_is_a_clear_error() {
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let (code, log) = ended(serve_on(udp, "public", "$$", &[]));
    assert_eq!(code, Some(1), "{log}");
    assert!(log.contains("`public`") && log.contains("does not listen"), "{log}");

    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap().to_string();
    let (code, log) = ended(serve_on(socket, "wsbcast.socket", "$$", &[]));
    assert_eq!(code, Some(1), "{log}");
    assert!(log.contains(&address) && log.contains("FileDescriptorName="), "{log}");

    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let (code, log) = ended(serve_on(socket, "tls", "$$", &[]));
    assert_eq!(code, Some(1), "{log}");
    assert!(log.contains("--tls-cert"), "{log}");
}

/// Sockets that were meant for another process are none of the server's.
#[test]
fn sockets_of_another_process_are_left_alone() {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free_address();
    let server = serve_on(socket, "public", "1", &["--listen", &address.to_string()]);
    eventually(PATIENCE, "it serves its own", || Http::try_connect(address).is_some());
    get(address, "/livez").assert_status(200);
    let (code, log) = terminate(server);
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains(&format!("listening on {address}")), "{log}");
    assert_eq!(log.matches(" listening on ").count(), 1, "{log}");
}
