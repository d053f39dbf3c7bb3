//! The command line.
//!
//! Defaults are the full run; everything that takes time has a bound.

use std::path::PathBuf;

use clap::{Parser, ValueEnum as _};
use serde::{Deserialize, Serialize};
use testkit::{
    cli::{Seconds, count, name_of, seconds},
    output::ReportArgs,
};

use super::fault::{Deployment, Fault};

/// Real servers on a real Redis, and what may go wrong with both, one fault after the other.
#[derive(Clone, Debug, Parser, Serialize, Deserialize)]
#[command(name = "chaos", version, max_term_width = 100)]
pub(crate) struct Args {
    /// How Redis is run
    #[arg(long, value_enum, default_value_t)]
    pub(super) redis: Deployment,
    /// Only these faults, in this order (repeatable, or with commas); all that fit the deployment
    #[arg(long, value_enum, value_name = "NAME", value_delimiter = ',')]
    pub(super) faults: Vec<Fault>,
    /// Each fault so often
    #[arg(long, default_value_t = 1, value_parser = count(1, 100))]
    pub(super) rounds: usize,
    /// Server processes
    #[arg(long, default_value_t = 3, value_parser = count(2, 9))]
    pub(super) servers: usize,
    /// Shards of each
    #[arg(long, default_value_t = 2, value_parser = count(1, 64))]
    pub(super) threads_per_server: usize,
    /// The server; without it the wsbcast beside this program
    #[arg(long, value_name = "PATH")]
    pub(super) server_binary: Option<PathBuf>,
    /// WebSocket clients of all servers together; every tenth has three channels
    #[arg(long, default_value_t = 2000, value_parser = count(1, 15_000))]
    pub(super) clients: usize,
    /// Channels, published to in turn
    #[arg(long, default_value_t = 20, value_parser = count(1, 1000))]
    pub(super) channels: usize,
    /// Publishes a second, all channels together
    #[arg(long, default_value_t = 500, value_parser = count(1, 100_000))]
    pub(super) rate: usize,
    /// Clients that leave and come back by themselves, each second
    #[arg(long, default_value_t = 10, value_parser = count(0, 10_000))]
    pub(super) churn: usize,
    /// Quiet time before each fault
    #[arg(long, default_value = "3", value_parser = seconds)]
    pub(super) pause: Seconds,
    /// How long clients may take to get everything once publishing has stopped
    #[arg(long, default_value = "30", value_parser = seconds)]
    pub(super) settle: Seconds,
    /// Of the choices made by chance [default: a new one]
    #[arg(long, value_name = "N")]
    pub(super) seed: Option<u64>,
    /// The servers' log level
    #[arg(long, default_value = "info", value_name = "LEVEL")]
    pub(super) log_level: String,
    /// Keep logs and Redis' files also when all is well
    #[arg(long)]
    #[serde(skip)]
    pub(super) keep: bool,
    #[command(flatten)]
    #[serde(skip)]
    pub(super) report: ReportArgs,
}

impl Args {
    /// The faults, in order.
    pub(super) fn faults(&self) -> Vec<Fault> {
        match self.faults.as_slice() {
            [] => Fault::value_variants()
                .iter()
                .filter(|fault| fault.fits(self.redis))
                .copied()
                .collect(),
            some => some.to_vec(),
        }
    }

    /// Bounds that depend on each other.
    pub(super) fn check(&self) -> anyhow::Result<()> {
        for fault in &self.faults {
            anyhow::ensure!(
                fault.fits(self.redis),
                "--faults {}: not with --redis {}",
                fault.name(),
                name_of(&self.redis)
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chaos(arguments: &[&str]) -> Args {
        Args::try_parse_from(["chaos"].iter().chain(arguments)).unwrap()
    }

    #[test]
    fn every_deployment_has_faults_of_its_own() {
        let standalone = chaos(&[]).faults();
        assert!(standalone.contains(&Fault::BlackHole) && !standalone.contains(&Fault::SlotMove));
        assert!(chaos(&["--redis", "cluster"]).faults().contains(&Fault::SlotMove));
        assert!(chaos(&["--redis", "sentinel"]).faults().contains(&Fault::Failover));
    }

    #[test]
    fn a_fault_that_the_deployment_cannot_have_is_refused() {
        assert!(chaos(&["--faults", "slot-move"]).check().is_err());
        let some = chaos(&["--redis", "cluster", "--faults", "roll,slot-move"]);
        assert!(some.check().is_ok());
        assert_eq!(some.faults(), [Fault::Roll, Fault::SlotMove]);
    }
}
