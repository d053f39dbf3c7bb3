//! The common ground of the tests from outside: the real binary as a process, clients made of raw
//! bytes, a real Redis, and one way to wait. Parts that tools need too are in the crate `testkit`.
//!
//! Nothing here knows the server's inside: it starts the binary, speaks HTTP and RFC 6455 by hand
//! over blocking sockets, sends signals and reads the log.
#![allow(dead_code, unused_imports, reason = "each test binary uses its own part")]

pub(crate) mod certificates;
pub(crate) mod client;
pub(crate) mod events;
pub(crate) mod foreign_proxy;
pub(crate) mod frames;
pub(crate) mod http;
pub(crate) mod metrics;
pub(crate) mod publish;
pub(crate) mod server;
pub(crate) mod service_manager;
pub(crate) mod tls;
pub(crate) mod tokens;
pub(crate) mod v1;

use std::{
    net::{SocketAddr, TcpListener},
    time::Duration,
};

pub(crate) use testkit::{
    fake_redis, proxy, redis, redis_cluster,
    wait::{eventually, now},
};

use self::{client::Client, metrics::Metrics};

/// For whatever is promised "at once": generous, since a test machine may be busy.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Lets `time` pass: for promises that are about time itself, never to wait for an effect.
pub(crate) fn let_pass(time: Duration) {
    let start = now();
    eventually(time + PATIENCE, "time passes", || start.elapsed() >= time);
}

/// The address of a listener that can't tell its port, or of nobody.
pub(crate) fn free_address() -> SocketAddr {
    // Of one's own, so that no other test picks the port meanwhile.
    let host = format!("127.77.{}.{}:0", fastrand::u8(1..255), fastrand::u8(1..255));
    let listener = TcpListener::bind(host).expect("the kernel picks a free port");
    listener.local_addr().expect("it is bound")
}

/// Opens clients until every one of `shards` shards has at least one.
pub(crate) fn clients_on_all_shards(addr: SocketAddr, target: &str, shards: usize) -> Vec<Client> {
    const CLIENTS_MAX: usize = 200;
    let mut clients: Vec<Client> = (0..shards * 2).map(|_| Client::open(addr, target)).collect();
    loop {
        let taken = Metrics::of(addr).values_by_shard("wsbcast_connections");
        assert_eq!(taken.len(), shards, "a gauge per shard: {taken:?}");
        if taken.values().all(|&clients| clients > 0.0) {
            return clients;
        }
        assert!(clients.len() < CLIENTS_MAX, "{CLIENTS_MAX} clients miss a shard: {taken:?}");
        clients.push(Client::open(addr, target));
    }
}
