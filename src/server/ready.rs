//! The log's lines at the end of the start: the listeners, and "ready" once the broker is there.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    rc::Rc,
};

use tracing::info;

use super::{Server, rights, settings, supervision::Milestones};
use crate::{broker::Reach, shard::listener::Transport};

/// Says where `server` listens, and as soon as it is so, that it is ready: its service manager is
/// then told, too.
pub(super) fn say(server: &Server, milestones: Rc<Milestones>) {
    for (address, transport) in &server.listeners.addresses {
        let (how, option) = match transport {
            Transport::Plain => ("", "--listen"),
            Transport::Tls => (" by TLS", "--tls-listen"),
        };
        info!("listening on {address}{how}{}", ipv4_hint(server, *address, option));
    }
    for socket in &server.unix {
        info!("listening on unix:{}", socket.path().display());
    }
    let (shards, connections_max) = (server.config.threads, server.process.shares.clients);
    let broker = settings::broker_words(&server.config, &server.process.broker);
    let ready = broker.clone();
    let say = move || {
        info!(shards, connections_max, broker = ready, "ready");
        milestones.is_ready();
    };
    let health = server.process.broker.health();
    if matches!(health.reach(), Reach::Up | Reach::Embedded) {
        say();
    } else {
        info!("waiting for {broker}: /readyz is not ready before");
        tokio::task::spawn_local(async move {
            health.up().await;
            say();
        });
    }
    rights::say(&server.config, &server.listeners.addresses);
}

/// On some systems `[::]` includes IPv4, and operators used to those expect it.
fn ipv4_hint(server: &Server, address: SocketAddr, option: &str) -> String {
    let everywhere = SocketAddr::from((Ipv4Addr::UNSPECIFIED, address.port()));
    let is_lacking = !server.has_given
        && address.ip() == IpAddr::from(Ipv6Addr::UNSPECIFIED)
        && !server.addresses().contains(&everywhere);
    if is_lacking {
        format!(" (IPv6 only; for IPv4, too, add {option} {everywhere})")
    } else {
        String::new()
    }
}
