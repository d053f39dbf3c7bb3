//! The slots of a Redis Cluster: even shares at the start, and how one moves with its keys.

use std::net::SocketAddr;

use anyhow::Result;

use crate::resp;

/// How many there are.
pub const SLOTS: usize = 16_384;

/// Gives each master its even share, in order, and an epoch of its own.
pub fn share(masters: &[SocketAddr]) -> Result<()> {
    for (at, address) in masters.iter().enumerate() {
        let first = (SLOTS * at / masters.len()).to_string();
        let last = (SLOTS * (at + 1) / masters.len() - 1).to_string();
        resp::ask(*address, &["CLUSTER", "ADDSLOTSRANGE", &first, &last])?;
        let epoch = (at + 1).to_string();
        resp::ask(*address, &["CLUSTER", "SET-CONFIG-EPOCH", &epoch])?;
    }
    Ok(())
}

/// Moves a slot with its keys, so many at a time, from one master to another; then these two know,
/// and the `others`.
pub fn move_slot(
    slot: &str,
    [from, to]: [SocketAddr; 2],
    others: &[SocketAddr],
    keys_at_a_time: usize,
) -> Result<()> {
    let [from_id, to_id] = [id(from)?, id(to)?];
    let set = |address, state: &str, id: &str| {
        resp::ask(address, &["CLUSTER", "SETSLOT", slot, state, id])
    };
    set(to, "IMPORTING", &from_id)?;
    set(from, "MIGRATING", &to_id)?;
    let (host, port) = (to.ip().to_string(), to.port().to_string());
    let count = keys_at_a_time.to_string();
    loop {
        let keys = resp::ask(from, &["CLUSTER", "GETKEYSINSLOT", slot, &count])?.texts();
        if keys.is_empty() {
            break;
        }
        let mut words = vec!["MIGRATE", &host, &port, "", "0", "5000", "KEYS"];
        words.extend(keys.iter().map(String::as_str));
        resp::ask(from, &words)?;
    }
    for address in [to, from].iter().chain(others) {
        set(*address, "NODE", &to_id)?;
    }
    Ok(())
}

/// A node's name in its cluster.
pub fn id(address: SocketAddr) -> Result<String> {
    Ok(resp::ask(address, &["CLUSTER", "MYID"])?.text().to_owned())
}
