//! Acceptors of the control thread while a process hands itself over, with real sockets.

use std::{net, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    task::{spawn_local, yield_now},
    time::timeout,
};

use super::*;
use crate::{
    http::{Room, tests::Fixture},
    metrics::ShardMetrics,
    record::recordings::through_bytes,
    shard::listener::Transport,
};

const PATIENCE: Duration = Duration::from_secs(60);
const LIVE: &str = "GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n";
/// As what the client gets for it ends.
const ANSWERS_END: &[u8] = b"}\n";

async fn in_time<T>(work: impl Future<Output = T>) -> T {
    timeout(PATIENCE, work).await.expect("it comes to its end")
}

/// Other tasks, and the sockets, have their turns.
async fn many_rounds() {
    for _ in 0..1_000 {
        yield_now().await;
    }
}

/// A further handle on a listener, as another process has it.
fn another(listener: &net::TcpListener) -> TcpListener {
    TcpListener::from_std(listener.try_clone().unwrap()).unwrap()
}

fn listener() -> net::TcpListener {
    let listener = net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    listener
}

fn admin(gate: Gate) -> Rc<AdminIntake> {
    let mut context = Fixture::new().context;
    context.public = None;
    let places = Places::new(context.clock, Room { places: 10, spare: 1 }, 1, Arc::default());
    AdminIntake::new(Rc::new(gate), places, Rc::new(context))
}

/// Takes one answer, and not more than there is.
async fn answer(client: &mut TcpStream) {
    let mut answer = Vec::new();
    while !answer.ends_with(ANSWERS_END) {
        answer.push(in_time(client.read_u8()).await.unwrap());
    }
    assert!(answer.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(&answer));
}

/// Connections of the admin listener stop, go on here, and then in another process; one that comes
/// meanwhile waits for whichever is open.
#[tokio::test(flavor = "local")]
async fn admin_connections_go_on_in_another_process() {
    let socket = listener();
    let address = socket.local_addr().unwrap();
    let (old, new) = (admin(Gate::default()), admin(Gate::closed()));
    spawn_local(old.clone().serve(another(&socket)));
    spawn_local(new.clone().serve(another(&socket)));
    let mut clients = Vec::new();
    for cut in [0, 10] {
        let mut client = TcpStream::connect(address).await.unwrap();
        client.write_all(LIVE.as_bytes()).await.unwrap();
        answer(&mut client).await;
        client.write_all(&LIVE.as_bytes()[..cut]).await.unwrap();
        clients.push((client, &LIVE[cut..]));
    }
    let mut fresh = TcpStream::connect(address).await.unwrap();
    while old.under_way() < 3 {
        yield_now().await;
    }
    for is_given in [false, true] {
        old.gate.close();
        old.suspend();
        in_time(old.all_stopped()).await;
        let mut late = TcpStream::connect(address).await.unwrap();
        late.write_all(LIVE.as_bytes()).await.unwrap();
        for (client, rest) in &mut clients {
            client.write_all(rest.as_bytes()).await.unwrap();
            *rest = LIVE;
        }
        if is_given {
            let all: Vec<_> = old.suspended().collect();
            assert_eq!(all.len(), 4, "with the one that was late before");
            for (record, stream) in &all {
                new.restore(&through_bytes(record), stream.try_clone().unwrap());
            }
            many_rounds().await;
            assert_eq!(new.under_way(), 0);
            old.let_go();
            many_rounds().await;
            new.gate.open();
            new.resume();
        } else {
            many_rounds().await;
            old.gate.open();
            old.resume();
        }
        for (client, _) in &mut clients {
            answer(client).await;
        }
        answer(&mut late).await;
        if !is_given {
            clients.push((late, LIVE));
        }
    }
    fresh.write_all(LIVE.as_bytes()).await.unwrap();
    answer(&mut fresh).await;
}

/// Connections that are handed out to shards wait in the kernel while the gate is closed.
#[tokio::test(flavor = "local")]
async fn nothing_is_handed_out_behind_a_closed_gate() {
    let (socket, clock) = (listener(), Clock::start());
    let metrics = Arc::new(ShardMetrics::default());
    metrics.beat_ms.set(u64::MAX);
    let placement = Arc::new(Placement::new(&[metrics], 10));
    let gate = Rc::new(Gate::default());
    let hand_out = HandOut { gate: gate.clone(), placement: placement.clone(), clock };
    let entrance = Entrance { listener: 0, transport: Transport::Plain };
    spawn_local(hand_out.tcp(another(&socket), entrance, Placed::Acceptor));
    let connect = || net::TcpStream::connect(socket.local_addr().unwrap()).unwrap();
    let _first = connect();
    in_time(placement.moved(0)).await;
    gate.close();
    let _second = connect();
    many_rounds().await;
    gate.open();
    let moved = in_time(placement.moved(0)).await;
    gate.close();
    drop(moved);
    let third = connect();
    many_rounds().await;
    let (accepted, _) = socket.accept().expect("it is still in the kernel");
    assert_eq!(accepted.peer_addr().unwrap(), third.local_addr().unwrap());
}
