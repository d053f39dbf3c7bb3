//! Clients' commands on a shard, on a paused clock.

use std::io::{Read as _, Write as _};

use tokio::task::yield_now;

use super::joining::run;
use crate::{conn::socket::Ready, limits::TOKEN_REFUSED_PAUSE};

/// A bad token, as a client sends it: masked with zeros.
const BAD_TOKEN: &[u8] = b"\x81\x9b\0\0\0\0{\"type\":\"token\",\"token\":\"\"}";

/// The pause after a bad token holds up its client, and neither a task nor the process.
#[test]
fn a_pause_after_a_bad_token_holds_nothing() {
    run(|world| async move {
        world.broker.is_slow.set(false);
        world.come("a", 1).await.unwrap().unwrap();
        let (key, mut peer) = world.connect();
        peer.write_all(&BAD_TOKEN.repeat(3)).unwrap();
        peer.set_nonblocking(true).unwrap();
        let mut heard = Vec::new();
        let mut refusals = || {
            let _ = peer.read_to_end(&mut heard);
            String::from_utf8_lossy(&heard).matches("bad_token").count()
        };
        let ready = Ready { key, readable: true, writable: false, ended: false };
        while refusals() == 0 {
            let now = world.core.clock.now();
            world.core.with(|clients| clients.on_ready(ready, now));
            yield_now().await;
        }
        for round in 2..=3 {
            yield_now().await;
            assert_eq!(world.control.barrier.requests(), 0, "nobody waits but the client");
            assert_eq!(refusals(), round - 1);
            tokio::time::advance(TOKEN_REFUSED_PAUSE * 2).await;
            let now = world.core.clock.now();
            world.core.with(|clients| {
                clients.begin_tick(now);
                assert!(clients.work_off(&mut || true));
            });
            while refusals() < round {
                yield_now().await;
            }
        }
    });
}
