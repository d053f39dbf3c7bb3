//! The servers of a fleet, and the Redis that joins them.

use std::{net::SocketAddr, path::Path, time::Duration};

use anyhow::Result;
use testkit::node::{Node, check_redis_server, free_address, server_binary};

use super::args::FleetArgs;

pub(super) const START_DEADLINE: Duration = Duration::from_secs(20);

/// Starts a Redis that keeps nothing.
pub(super) fn start_redis(folder: &Path) -> Result<Node> {
    check_redis_server()?;
    let address = free_address()?;
    let port = address.port().to_string();
    let words = ["--port", &port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"];
    let arguments = words.map(str::to_owned).to_vec();
    let mut redis = Node::new(folder, "redis", address, Path::new("redis-server"), arguments)?;
    redis.start()?;
    redis.wait_until_it_answers(START_DEADLINE)?;
    Ok(redis)
}

/// Starts server number `at`; it is not waited for.
pub(super) fn start_server(
    args: &FleetArgs,
    at: usize,
    redis: SocketAddr,
    folder: &Path,
) -> Result<Node> {
    let binary = server_binary(args.server_binary.as_deref())?;
    let address = free_address()?;
    let milliseconds = |seconds: f64| format!("{}ms", (seconds * 1000.0).round());
    let options = [
        ("--listen", address.to_string()),
        ("--threads", args.threads_per_server.to_string()),
        ("--redis-url", format!("redis://{redis}")),
        ("--drain-timeout", milliseconds(args.drain_over.0)),
        ("--drain-close-over", milliseconds(args.drain_over.0)),
        ("--ping-interval", milliseconds(args.ping_interval.0)),
        ("--notify-interval", "0".to_owned()),
    ];
    let options = options.into_iter().flat_map(|(name, value)| [name.to_owned(), value]);
    let name = format!("server-{at}");
    let mut server = Node::new(folder, &name, address, &binary, options.collect())?;
    server.start()?;
    Ok(server)
}
