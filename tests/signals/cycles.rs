//! Two hundred lives: start, serve or not, stop; none hangs, each ends with code 0.

use std::thread;

use crate::support::{client::Client, frames::masked_close, publish::Publisher, server::Server};

const CYCLES: usize = 200;
const AT_ONCE: usize = 4;

/// One life; `kind` decides what is going on when the signal comes.
fn cycle(kind: usize) {
    let mut server = Server::start(&["--threads", ["1", "2", "4"][kind % 3]]);
    let addr = server.addr();
    match kind % 5 {
        // No client is there.
        0 => server.signal(&["TERM"]),
        // A client leaves as the signal comes.
        1 => {
            let client = Client::connect(addr);
            server.signal(&["INT"]);
            client.leave();
        }
        // Clients vanish as the signal comes.
        2 => {
            let clients = [Client::connect(addr), Client::connect(addr)];
            server.signal(&["TERM"]);
            drop(clients);
        }
        // A message is under way.
        3 => {
            let mut client = Client::connect(addr);
            Publisher::new(addr).publish_to_all("last words");
            server.signal(&["TERM"]);
            client.assert_text("last words");
            client.leave();
        }
        // A client comes with the signal: it is served or refused.
        _ => {
            let first = Client::connect(addr);
            server.signal(&["TERM"]);
            if let Ok(mut second) = Client::try_connect(addr) {
                second.send(masked_close(1000, ""));
            }
            first.leave();
        }
    }
    assert_eq!(server.wait().code, Some(0), "kind {kind}\n{}", server.log());
}

#[test]
fn two_hundred_lives_end_without_a_hang() {
    let workers: Vec<_> = (0..AT_ONCE)
        .map(|worker| thread::spawn(move || (worker..CYCLES).step_by(AT_ONCE).for_each(cycle)))
        .collect();
    for worker in workers {
        worker.join().expect("every life ended well");
    }
}
