//! Connections that are under way in the kernel when a server is replaced.
//!
//! On loopback a handshake takes no time, so none would be found under way. `TCP_DEFER_ACCEPT` on
//! the listener has the kernel hold each connection, half made, until its client has said
//! something; closing such a listener instead of handing it on resets them all. The listener is
//! made by Python and passed as systemd passes one.

use std::{collections::BTreeMap, path::Path, time::Duration};

use anyhow::{Context as _, Result};
use serde::Serialize;
use testkit::http::{Connection, upgrade_request};

use super::{
    args::{RunArgs, Way},
    server::Server,
};

const ANSWER_DEADLINE: Duration = Duration::from_secs(15);
/// Connections before each upgrade; half of them live through two.
const CONNECTIONS: usize = 100;
const UPGRADES: usize = 4;

/// A server's program and arguments behind the address of the listener that it gets.
const LAUNCHER: &str = r"
import os, socket, sys
port, program = int(sys.argv[1]), sys.argv[2]
listener = socket.socket()
listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, 60)
listener.bind(('127.0.0.1', port))
listener.listen(4096)
if listener.fileno() != 3:
    os.dup2(listener.fileno(), 3)
os.set_inheritable(3, True)
passed = {'LISTEN_PID': str(os.getpid()), 'LISTEN_FDS': '1', 'LISTEN_FDNAMES': 'public'}
os.execve(program, sys.argv[2:], {**os.environ, **passed})
";

/// The result.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Pending {
    pub(crate) asked: u64,
    /// By status, or the kind of error.
    pub(crate) failed: BTreeMap<String, u64>,
}

/// Upgrades with connections under way.
pub(crate) fn upgrade(args: &RunArgs, folder: &Path) -> Result<Pending> {
    let mut server = Server::start(args, None, folder, Some(LAUNCHER))?;
    let mut pending = Pending::default();
    let mut kept = Vec::new();
    for number in 0..UPGRADES {
        let open = |_| Connection::open(server.address, ANSWER_DEADLINE);
        let opened: std::io::Result<Vec<_>> = (0..CONNECTIONS).map(open).collect();
        let mut opened = opened.context("connections under way")?;
        let way = if args.ways.contains(&Way::Restart) { Way::Restart } else { Way::TakeOver };
        server.replace(way, args.threads[(number + 1) % args.threads.len()])?;
        server.wait_until_ready()?;
        let later = opened.split_off(CONNECTIONS / 2);
        ask(&server, &mut pending, kept.drain(..).chain(opened));
        kept = later;
    }
    ask(&server, &mut pending, kept.into_iter());
    server.stop_at_once()?;
    Ok(pending)
}

fn ask(server: &Server, pending: &mut Pending, connections: impl Iterator<Item = Connection>) {
    let request = upgrade_request(server.address, "/ws", "");
    for mut connection in connections {
        pending.asked += 1;
        let word = match connection.ask(request.as_bytes()) {
            Ok(answer) if answer.status == 101 => continue,
            Ok(answer) => answer.status.to_string(),
            Err(error) => error.kind().to_string(),
        };
        *pending.failed.entry(word).or_default() += 1;
    }
}
