//! The options of a run, as typed; every count and every time has an upper bound.
//!
//! Defaults make the scenario that the project's figures are about: 1,000 clients, 128-byte
//! messages, 50 a second.

use std::{net::Ipv4Addr, path::PathBuf};

use clap::{Parser, ValueEnum};
use serde::{Deserialize, Serialize};
use testkit::{
    cli::{Seconds, count, seconds},
    output::ReportArgs,
};

use crate::{
    form::Form, payload::Payload, scenario::Scenario, stamp::STAMP_BYTES_MIN, tls::TlsVersion,
};

/// Their numbers have a fixed width.
pub(crate) const CHANNELS_MAX: i64 = 100_000;
/// A source address gives up to 28,000 ports, but the kernel's search for a free one gets slow
/// (and is booked on the server) long before.
pub const CLIENTS_PER_SOURCE_MAX: usize = 10_000;
/// Publishers are threads of their own.
pub(crate) const PUBLISHERS_MAX: i64 = 256;
const SIZE_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// The options of `wsload run`; of an option given twice the last counts.
#[derive(Debug, Parser)]
#[command(name = "wsload run", args_override_self = true)]
pub(crate) struct RunCommand {
    #[command(flatten)]
    pub(crate) run: RunArgs,
}

/// How messages are sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Mode {
    /// At a fixed rate, whatever the server does; latency counts from the intended time
    #[default]
    Live,
    /// Each publisher sends as soon as it was answered
    Burst,
    /// No messages: what do clients cost that only wait
    Idle,
}

/// The requests of the storm.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum StormRequest {
    /// That of the clients that stay
    #[default]
    Upgrade,
    /// The same, with a token (HS256) that is well-formed, never the same, and wrongly signed
    BadToken,
    /// A message for everybody, to /broadcast, with such a token
    Publish,
}

/// When a client of the storm is reset.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum StormHold {
    /// As soon as it is upgraded
    #[default]
    Upgrade,
    /// When its first message comes
    Message,
    /// When all others had their turn: as many as there are stay connected, and read nothing
    Turn,
}

/// One scenario.
#[derive(Clone, Debug, clap::Args, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct RunArgs {
    /// Options for a purpose; those given besides override them
    #[arg(long, value_enum, value_name = "NAME")]
    pub(crate) scenario: Option<Scenario>,
    /// Clients connect here, by TLS at a wss:// one; without a path: /ws
    #[arg(long, default_value = "ws://127.0.0.1:8000")]
    pub(crate) url: String,
    /// Publish here instead of /broadcast on the same address (another process, another path)
    #[arg(long, value_name = "URL")]
    pub(crate) publish_url: Option<String>,
    /// Clients, those of the storm too, speak TLS in this version (default with wss://: 1.3); any
    /// certificate will do. Publishers speak plain HTTP, to another --publish-url
    #[arg(long, value_enum, value_name = "VERSION")]
    pub(crate) tls: Option<TlsVersion>,
    /// They resume TLS by a ticket that an earlier one was given, if there is one
    #[arg(long)]
    pub(crate) tls_resume: bool,
    /// Channel of clients and publishers
    #[arg(long, value_name = "NAME")]
    pub(crate) channel: Option<String>,
    /// Spread the clients evenly over so many channels, and publish to each in turn
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = count(1, CHANNELS_MAX))]
    pub(crate) channels: usize,
    /// Sent as `Authorization: Bearer`
    #[arg(long, env = "WSLOAD_TOKEN", hide_env_values = true)]
    #[serde(skip)]
    pub(crate) token: Option<String>,
    /// How messages are sent
    #[arg(long, value_enum, default_value_t)]
    pub(crate) mode: Mode,
    /// WebSocket clients
    #[arg(long, default_value_t = 1000, value_parser = count(1, 1_000_000))]
    pub(crate) clients: usize,
    /// How many of them share a source address, on loopback
    #[arg(long, default_value_t = CLIENTS_PER_SOURCE_MAX, value_name = "N",
          value_parser = count(1, CLIENTS_PER_SOURCE_MAX as i64))]
    pub(crate) clients_per_address: usize,
    /// How many of them never read after their handshake
    #[arg(long, default_value_t = 0, value_name = "K", value_parser = count(0, 1_000_000))]
    pub(crate) stalled: usize,
    /// How many others connect, upgrade and are reset, again and again, in the measured time
    #[arg(long, default_value_t = 0, value_name = "N", value_parser = count(0, 1_000_000))]
    pub(crate) storm_clients: usize,
    /// How many of them are on their way at a time
    #[arg(long, default_value_t = 256, value_name = "N", value_parser = count(1, 10_000))]
    pub(crate) storm_parallel: usize,
    /// The request that they send
    #[arg(long, value_enum, default_value_t, value_name = "WHAT")]
    pub(crate) storm_sends: StormRequest,
    /// All of them connect from this address of loopback; without it, from sixteen
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) storm_address: Option<Ipv4Addr>,
    /// How long each of them stays
    #[arg(long, value_enum, default_value_t, value_name = "WHAT")]
    pub(crate) storm_hold: StormHold,
    /// Messages a second, all publishers together (live)
    #[arg(long, default_value_t = 50.0, value_parser = rate)]
    pub(crate) rate: f64,
    /// Publishing connections, kept alive
    #[arg(long, default_value_t = 1, value_parser = count(1, PUBLISHERS_MAX))]
    pub(crate) publishers: usize,
    /// Bytes of a message, e.g. 128 or 1KiB; at least 16, for its stamp
    #[arg(long, default_value = "128", value_name = "BYTES", value_parser = size)]
    pub(crate) size: usize,
    /// The content of messages after their stamp
    #[arg(long, value_enum, default_value_t)]
    pub(crate) payload: Payload,
    /// Clients negotiate permessage-deflate and inflate what they get
    #[arg(long)]
    pub(crate) compression: bool,
    /// How clients want their messages
    #[arg(long, value_enum, default_value_t, conflicts_with = "compression")]
    pub(crate) form: Form,
    /// Measured time
    #[arg(long, default_value = "10", value_parser = seconds)]
    pub(crate) seconds: Seconds,
    /// Time before it, with the same load, not measured
    #[arg(long, default_value = "2", value_parser = seconds)]
    pub(crate) warmup: Seconds,
    /// How long to wait at the end for deliveries still on their way
    #[arg(long, default_value = "15", value_parser = seconds)]
    pub(crate) settle: Seconds,
    /// How long connecting may take, all clients together
    #[arg(long, default_value = "60", value_parser = seconds)]
    pub(crate) connect_timeout: Seconds,
    /// Stop publishing after this many messages in any case
    #[arg(long, default_value_t = 10_000_000, value_name = "N",
          value_parser = count(1, 1_000_000_000))]
    pub(crate) max_messages: usize,
    /// Threads that read
    #[arg(long, default_value_t = 1, value_parser = count(1, 256))]
    pub(crate) threads: usize,
    /// The server's process, for its CPU and memory (repeatable: a cluster)
    #[arg(long, value_name = "PID")]
    pub(crate) server_pid: Vec<u32>,
    /// Keep this program on these cores, e.g. 1 or 1,3 (with taskset)
    #[arg(long, value_name = "CPUS")]
    pub(crate) pin: Option<String>,
    /// Allow a server that is not on this machine
    #[arg(long)]
    pub(crate) allow_remote: bool,
    #[command(flatten)]
    #[serde(skip)]
    pub(crate) report: ReportArgs,
    /// Write the report as a page with charts: one file that needs no network
    #[arg(long, value_name = "FILE")]
    #[serde(skip)]
    pub(crate) html: Option<PathBuf>,
}

impl Default for RunArgs {
    /// Nothing typed; also what a report of an older version does not say.
    fn default() -> Self {
        RunCommand::parse_from(["run"]).run
    }
}

impl RunArgs {
    /// The scenario's name; without one, the mode's.
    pub(crate) fn title(&self) -> String {
        match self.scenario {
            Some(scenario) => format!("{scenario:?}"),
            None => format!("{:?}", self.mode),
        }
    }

    /// Sockets that are open at a time, at most.
    pub(crate) fn descriptors(&self) -> u64 {
        let on_their_way = self.storm_parallel.min(self.storm_clients);
        let storm = match self.storm_hold {
            StormHold::Upgrade | StormHold::Message => on_their_way,
            StormHold::Turn => self.storm_clients + on_their_way,
        };
        (self.clients + self.publishers + storm) as u64
    }

    /// Bounds that depend on each other.
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        anyhow::ensure!(
            self.stalled < self.clients || self.mode == Mode::Idle,
            "--stalled {} of --clients {}: nobody is left to read",
            self.stalled,
            self.clients
        );
        anyhow::ensure!(
            self.storm_clients == 0 || self.mode != Mode::Idle,
            "--storm-clients needs messages: not with --mode idle"
        );
        anyhow::ensure!(
            self.storm_address.is_none_or(|address| address.is_loopback()),
            "--storm-address: one of loopback, 127.0.0.0/8"
        );
        anyhow::ensure!(self.seconds.0 > 0.0, "--seconds must be more than 0");
        let channel = self.channel.as_deref().unwrap_or_default();
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_.:-".contains(&byte);
        anyhow::ensure!(
            channel.bytes().all(is_plain),
            "--channel {channel:?}: letters, digits and _ . : - only"
        );
        Ok(())
    }
}

fn rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if (0.001..=1e6).contains(&rate) => Ok(rate),
        _ => Err("expected messages a second, 0.001 to 1000000".to_owned()),
    }
}

fn size(text: &str) -> Result<usize, String> {
    let (digits, unit) = match text {
        _ if text.ends_with("KiB") => (&text[..text.len() - 3], 1024),
        _ if text.ends_with("MiB") => (&text[..text.len() - 3], 1024 * 1024),
        _ => (text, 1),
    };
    let bytes = digits.parse::<u64>().ok().and_then(|number| number.checked_mul(unit));
    match bytes {
        Some(bytes) if (STAMP_BYTES_MIN as u64..=SIZE_BYTES_MAX).contains(&bytes) => {
            Ok(bytes as usize)
        }
        _ => Err(format!("expected {STAMP_BYTES_MIN} bytes to 64MiB, e.g. 128 or 1KiB")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_bounds() {
        assert_eq!(size("1KiB"), Ok(1024));
        assert_eq!(size("16"), Ok(16));
        assert!(size("15").is_err() && size("65MiB").is_err() && size("x").is_err());
    }
}
