//! The division of the process's descriptors.
//!
//! First come those that the parent has left open, and the server's own: shards, listeners, Redis.
//! The rest is divided for good between clients and HTTP connections, so that neither can take the
//! other's part: however many clients there are, a refusal and a health probe get through. A server
//! with too few descriptors for its work does not start.

use thiserror::Error;
use tracing::{info, warn};

use crate::{
    config::Config,
    http::Room,
    limits::{
        ADMIN_CONNECTIONS_MAX, CLIENTS_MIN, CLUSTER_PRIMARIES_RESERVED, DESCRIPTORS_PER_SHARD,
        DESCRIPTORS_RESERVED, HANDOVER_DESCRIPTORS, HTTP_CONNECTIONS_PER_SHARD_MAX,
        HTTP_CONNECTIONS_PER_SHARD_MIN, HTTP_CONNECTIONS_PER_SHARD_SURE, HTTP_DESCRIPTORS_SHARE,
    },
};

/// Input, output, error: they are among [`DESCRIPTORS_RESERVED`].
#[cfg(unix)]
const STANDARD_STREAMS: u64 = 3;

/// How many sockets of each kind there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shares {
    /// WebSockets and event streams of the process.
    pub(super) clients: usize,
    /// HTTP connections of each shard.
    pub(super) shard: Room,
    /// Connections of the admin listener.
    pub(super) admin: Room,
}

/// The process may have too few descriptors.
#[derive(Debug, Error)]
#[error(
    "{shards} shards need at least {needed} descriptors{}, and the limit is {limit}: raise it \
     (ulimit -n, LimitNOFILE= of systemd, --ulimit nofile= of Docker), or start fewer with \
     --threads",
    of_the_parent(*inherited)
)]
pub struct TooFew {
    shards: usize,
    needed: u64,
    inherited: u64,
    limit: u64,
}

fn of_the_parent(inherited: u64) -> String {
    match inherited {
        0 => String::new(),
        _ => format!(", with {inherited} that the parent process has left open in it"),
    }
}

/// Raises the soft limit to the hard one and shares out what there is. `handed_in` is the number of
/// listeners that are open already, `own` that of the process's other descriptors.
///
/// # Errors
/// When there are too few to work.
pub(super) fn share_out(config: &Config, handed_in: u64, own: u64) -> Result<Shares, TooFew> {
    let Some(limit) = raise_limit() else {
        let has_admin = config.admin_listen.is_some();
        return Ok(shares(usize::MAX / 2, config.threads, has_admin, config.max_connections));
    };
    share_out_of(limit, open(limit).saturating_sub(own), config, handed_in)
}

/// Shares out what is left of `limit` when so many are `open`, those that were `handed_in` among
/// them: these the server counts as its own.
fn share_out_of(limit: u64, open: u64, config: &Config, handed_in: u64) -> Result<Shares, TooFew> {
    let has_admin = config.admin_listen.is_some();
    let inherited = open.saturating_sub(handed_in);
    if inherited > 0 {
        info!(inherited, "the parent process left descriptors open in this one");
    }
    let own = own(config) + inherited + surplus(config, handed_in);
    let listeners = config.threads + usize::from(has_admin);
    let needed = own + (CLIENTS_MIN + listeners * HTTP_CONNECTIONS_PER_SHARD_MIN) as u64;
    if limit < needed {
        return Err(TooFew { shards: config.threads, needed, inherited, limit });
    }
    let left = usize::try_from(limit - own).unwrap_or(usize::MAX);
    let shares = shares(left, config.threads, has_admin, config.max_connections);
    if let Some(asked) = config.max_connections.filter(|asked| *asked > shares.clients) {
        // Without descriptors no client could be told 503.
        let allowed = shares.clients;
        warn!(asked, allowed, "--max-connections is more than the descriptor limit allows");
    }
    Ok(shares)
}

/// The descriptors that the server needs for itself.
fn own(config: &Config) -> u64 {
    let redis = config.redis.url.as_ref().map_or(0, |url| {
        match url.expose().contains("-cluster://") {
            // Command connections, one of them for queries, and a subscriber to each primary.
            true => CLUSTER_PRIMARIES_RESERVED * (config.redis.pool + 2),
            false => config.redis.pool + 1,
        }
    });
    // Each shard's listeners, the control thread's duplicates, and a connection of each that waits
    // for a place.
    let has_control = config.control_socket.is_some() || config.take_over.is_some();
    // Another duplicate of each is for a new process.
    let to_hand_on = usize::from(has_control);
    let per_shard = DESCRIPTORS_PER_SHARD
        + ((3 + to_hand_on) * (config.listen.len() + config.tls_listen.len()) + redis) as u64;
    // A Unix socket, and the control thread's handle on it.
    let unix = (2 + to_hand_on) * config.listen_unix.len();
    let control = if has_control { HANDOVER_DESCRIPTORS } else { 0 };
    // The control thread publishes, too.
    DESCRIPTORS_RESERVED + (redis + unix) as u64 + control + per_shard * config.threads as u64
}

/// The descriptors of listeners that were handed in beyond one of each for every shard; all have a
/// duplicate, and a connection that waits.
fn surplus(config: &Config, handed_in: u64) -> u64 {
    let public = config.threads * (config.listen.len() + config.tls_listen.len());
    let counted = public + config.listen_unix.len() + usize::from(config.admin_listen.is_some());
    3 * handed_in.saturating_sub(counted as u64)
}

/// Divides the rest. Descriptors that clients may not use, since fewer were asked for, are for
/// HTTP.
fn shares(left: usize, shards: usize, has_admin: bool, asked: Option<usize>) -> Shares {
    let admin = if has_admin { http_share(left, shards + 1).min(ADMIN_CONNECTIONS_MAX) } else { 0 };
    let left = left - admin;
    let unasked = asked.map_or(0, |asked| left.saturating_sub(asked) / shards);
    let shard = http_share(left, shards).max(unasked).min(HTTP_CONNECTIONS_PER_SHARD_MAX);
    let allowed = left - shard * shards;
    let clients = asked.map_or(allowed, |asked| asked.min(allowed));
    Shares { clients, shard: Room::of(shard), admin: Room::of(admin) }
}

/// HTTP connections of one listener of so many.
fn http_share(left: usize, listeners: usize) -> usize {
    let sure = (left / 4 / listeners).min(HTTP_CONNECTIONS_PER_SHARD_SURE);
    (left / HTTP_DESCRIPTORS_SHARE / listeners).max(sure).max(HTTP_CONNECTIONS_PER_SHARD_MIN)
}

#[cfg(unix)]
fn raise_limit() -> Option<u64> {
    match rlimit::increase_nofile_limit(u64::MAX) {
        Ok(limit) => {
            info!(limit, "descriptor limit");
            Some(limit)
        }
        Err(error) => {
            warn!(%error, "cannot raise the descriptor limit");
            Some(rlimit::getrlimit(rlimit::Resource::NOFILE).map_or(1024, |(soft, _)| soft))
        }
    }
}

/// Descriptors that are open at the start besides standard input, output and error. Those past
/// `limit`, which was higher once, take nothing from the number below it.
#[cfg(unix)]
fn open(limit: u64) -> u64 {
    use std::{fs, os::fd::AsRawFd};

    let listed = |folder| {
        let entries = fs::read_dir(folder).ok()?;
        let numbers =
            entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u64>().ok());
        // One of them is the look at the folder.
        Some((numbers.filter(|number| *number < limit).count() as u64).saturating_sub(1))
    };
    // Where neither of the two is mounted: the lowest free number, below which all are open.
    let least_free = || u64::try_from(fs::File::open("/").ok()?.as_raw_fd()).ok();
    let open = listed("/proc/self/fd").or_else(|| listed("/dev/fd")).or_else(least_free);
    // Not one more can be opened.
    open.unwrap_or(limit).saturating_sub(STANDARD_STREAMS)
}

#[cfg(not(unix))]
fn open(_limit: u64) -> u64 {
    0
}

/// Descriptors that are open now besides standard input, output and error.
pub(super) fn open_now() -> u64 {
    open(u64::MAX)
}

/// Windows has no such limit.
#[cfg(not(unix))]
fn raise_limit() -> Option<u64> {
    None
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;
    use crate::{
        config::{self, Invocation},
        server::Listeners,
    };

    /// Sockets that are handed in are the server's own listeners, and none beside them. They were
    /// counted twice, and taken for descriptors that the parent process had left open.
    #[test]
    fn handed_in_sockets_are_counted_once() {
        let line = "wsbcast --listen 127.0.0.1:80 --admin-listen 127.0.0.1:81 --threads 2";
        let line = line.split(' ').map(Into::into);
        let Ok(Invocation::Serve(config)) = config::parse(line, []) else { panic!("it serves") };
        let socket = || TcpListener::bind("127.0.0.1:0").unwrap();
        let listeners = Listeners {
            public: vec![socket(), socket()],
            admin: Some(socket()),
            ..Listeners::default()
        };
        let handed_in = listeners.count();
        assert_eq!(handed_in, 3);
        assert_eq!([3, 4].map(|handed_in| surplus(&config, handed_in)), [0, 3]);
        for limit in 1..1_000 {
            let none = share_out_of(limit, 5, &config, 0);
            let some = share_out_of(limit, 5 + handed_in, &config, handed_in);
            match (none, some) {
                (Ok(none), Ok(some)) => assert_eq!(some, none),
                (Err(none), Err(some)) => {
                    assert_eq!(some.to_string(), none.to_string());
                    assert_eq!(some.inherited, 5);
                }
                (none, some) => panic!("{limit}: {none:?} {some:?}"),
            }
        }
    }

    #[test]
    fn all_shares_together_are_what_is_left() {
        for shards in [1, 2, 8, 64] {
            for has_admin in [false, true] {
                let listeners = shards + usize::from(has_admin);
                let least = CLIENTS_MIN + listeners * HTTP_CONNECTIONS_PER_SHARD_MIN;
                for left in [least, least + 1, 1_000.max(least), 20_000, 65_536, 1_048_576] {
                    let Shares { clients, shard, admin } = shares(left, shards, has_admin, None);
                    let all = clients + shard.connections_max() * shards + admin.connections_max();
                    assert_eq!(all, left, "{shards} {has_admin} {left}");
                    assert!(clients >= CLIENTS_MIN, "{shards} {has_admin} {left}: {clients}");
                    assert!(shard.places > 0 && shard.spare > 0);
                    assert_eq!(admin.spare > 0, has_admin);
                }
            }
        }
    }

    /// A server with many descriptors has as many places as it wants.
    #[test]
    fn a_high_descriptor_limit_gives_all_places() {
        let Shares { clients, shard, admin } = shares(1_048_576, 8, true, None);
        assert_eq!(shard.connections_max(), HTTP_CONNECTIONS_PER_SHARD_MAX);
        assert_eq!(admin.connections_max(), ADMIN_CONNECTIONS_MAX);
        assert!(clients > 1_000_000);
        let few = shares(20_000, 2, true, Some(1_000));
        assert_eq!(
            (few.clients, few.shard.connections_max()),
            (1_000, HTTP_CONNECTIONS_PER_SHARD_MAX)
        );
        let many = shares(20_000, 2, true, Some(100_000));
        assert_eq!(many, shares(20_000, 2, true, None));
        assert!(shares(20_000, 2, false, None).clients >= 18_700);
    }
}
