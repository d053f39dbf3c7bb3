//! The command lines of `lab fleet` and of the worker processes that it starts.
//!
//! Defaults are the largest service that fits a machine with 20,000 descriptors per process and
//! some 20 GiB of memory. Everything that takes time has a bound.

use std::{net::SocketAddr, path::PathBuf};

use serde::{Deserialize, Serialize};
use testkit::{
    cli::{Seconds, count, seconds},
    output::ReportArgs,
};
use wsload::stamp::STAMP_BYTES;

/// Many servers on one Redis, as one service.
#[derive(Clone, Debug, clap::Args, Serialize, Deserialize)]
pub(crate) struct FleetArgs {
    /// WebSocket clients of the whole service
    #[arg(long, default_value_t = 200_000, value_parser = count(1, 1_000_000))]
    pub(crate) clients: usize,
    /// Clients of one server process, and of one client process
    #[arg(long, default_value_t = 18_000, value_parser = count(1, 1_000_000))]
    pub(crate) per_server: usize,
    /// Shards of a server process
    #[arg(long, default_value_t = 1, value_parser = count(1, 64))]
    pub(crate) threads_per_server: usize,
    /// The server; without it the wsbcast beside this program
    #[arg(long, value_name = "PATH")]
    pub(crate) server_binary: Option<PathBuf>,
    /// Connects a second, all together
    #[arg(long, default_value_t = 5000, value_parser = count(1, 1_000_000))]
    pub(crate) connect_rate: usize,
    /// Broadcasts, one after the other; each is waited for at every client
    #[arg(long, default_value_t = 11, value_parser = count(1, 1000))]
    pub(crate) messages: usize,
    /// Bytes of a broadcast; at least 44, for its stamp
    #[arg(long, default_value_t = 128, value_parser = count(STAMP_BYTES as i64, 1_000_000))]
    pub(crate) size: usize,
    /// How long a broadcast may take to the last client
    #[arg(long, default_value = "60", value_parser = seconds)]
    pub(crate) delivery_timeout: Seconds,
    /// The drain closes everyone with 1012, evenly over this long
    #[arg(long, default_value = "30", value_parser = seconds)]
    pub(crate) drain_over: Seconds,
    /// Without a byte from a client for this long the server pings it
    #[arg(long, default_value = "300", value_parser = seconds)]
    pub(crate) ping_interval: Seconds,
    #[command(flatten)]
    #[serde(skip)]
    pub(crate) report: ReportArgs,
}

/// One process of clients, told what to do by lines on its standard input.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct WorkerArgs {
    /// The server
    #[arg(long)]
    pub(crate) address: SocketAddr,
    /// Clients come from 127.1.0.N and those after it
    #[arg(long, default_value_t = 1)]
    pub(crate) first_source: u32,
    #[arg(long)]
    pub(crate) clients: usize,
    /// Connects a second
    #[arg(long)]
    pub(crate) connect_rate: f64,
    /// The number in the stamps of this run's messages
    #[arg(long)]
    pub(crate) run: u32,
}

impl FleetArgs {
    /// Server processes, each with a client process of its own.
    pub(super) fn servers(&self) -> usize {
        self.clients.div_ceil(self.per_server)
    }

    /// Clients of server number `at`: as even as can be.
    pub(super) fn clients_of(&self, at: usize) -> usize {
        let servers = self.servers();
        self.clients / servers + usize::from(at < self.clients % servers)
    }
}
