//! The command line.
//!
//! Defaults are the full run; everything that takes time has a bound.

use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};
use serde::{Deserialize, Serialize};
use testkit::{
    cli::{Seconds, count, seconds},
    output::ReportArgs,
};

/// Upgrades of a server that is in use, and every client judged
#[derive(Clone, Debug, Parser)]
#[command(name = "upgrades", version, max_term_width = 100)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Clone, Debug, Subcommand)]
pub(crate) enum Command {
    /// Upgrades, then new processes that fail, then an old one that dies
    Run(Box<RunArgs>),
    /// A new process that does not get further than a step
    #[command(hide = true)]
    Taker(TakerArgs),
}

/// The order of messages: the process's own, or that of a Redis.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Broker {
    /// Without Redis
    Embedded,
    /// With a redis-server of its own
    Redis,
}

/// How a server gets a successor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Way {
    /// `wsbcast --take-over`, with the next number of threads
    TakeOver,
    /// `wsbcast upgrade`
    Command,
    /// SIGUSR2
    Signal,
    /// A stop and a start, which is no upgrade: clients must be seen to suffer
    Restart,
}

/// The options of a run.
#[derive(Clone, Debug, clap::Args, Serialize, Deserialize)]
pub(crate) struct RunArgs {
    /// Brokers, one after the other (repeatable, or with commas)
    #[arg(long, value_enum, value_delimiter = ',', default_value = "embedded,redis")]
    pub(crate) brokers: Vec<Broker>,
    /// Upgrades with each broker
    #[arg(long, default_value_t = 20, value_parser = count(0, 1000))]
    pub(crate) upgrades: usize,
    /// The ways of the upgrades, in turn
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        default_value = "take-over,take-over,command,take-over,signal"
    )]
    pub(crate) ways: Vec<Way>,
    /// Shards of the first server and of each that takes over with options of its own, in turn
    #[arg(long, value_delimiter = ',', default_value = "2,4,1", value_parser = count(1, 64))]
    pub(crate) threads: Vec<usize>,
    /// New processes that fail, at every step, and real ones that are stopped or refused
    #[arg(long, value_name = "yes|no", default_value = "yes", action = clap::ArgAction::Set,
          value_parser = yes_or_no)]
    pub(crate) faults: bool,
    /// Real new processes that are stopped (SIGSTOP) at some moment
    #[arg(long, default_value_t = 12, value_parser = count(0, 100))]
    pub(crate) stops: usize,
    /// Clients that stay: half of them plain, the others wsbcast.v1, event streams, compressed
    #[arg(long, default_value_t = 18_000, value_parser = count(1, 19_000))]
    pub(crate) clients: usize,
    /// Those of them that listen to the channel with many messages
    #[arg(long, default_value_t = 100, value_parser = count(0, 10_000))]
    pub(crate) fast: usize,
    /// Of these, those that do not read for a while around each upgrade
    #[arg(long, default_value_t = 20, value_parser = count(0, 10_000))]
    pub(crate) laggards: usize,
    /// Clients amid a message of their own at each upgrade
    #[arg(long, default_value_t = 100, value_parser = count(0, 10_000))]
    pub(crate) half: usize,
    /// Clients that read only at the very end
    #[arg(long, default_value_t = 200, value_parser = count(0, 10_000))]
    pub(crate) non_readers: usize,
    /// HTTP connections that are idle, or amid the head of a request, at each upgrade
    #[arg(long, default_value_t = 40, value_parser = count(0, 1000))]
    pub(crate) requests: usize,
    /// Messages a second to all
    #[arg(long, default_value_t = 20, value_parser = count(1, 1000))]
    pub(crate) rate: usize,
    /// Messages a second on the other channel
    #[arg(long, default_value_t = 500, value_parser = count(1, 10_000))]
    pub(crate) fast_rate: usize,
    /// Bytes of a message to all; from 256 on compressed ones are compressed
    #[arg(long, default_value_t = 300, value_parser = count(64, 100_000))]
    pub(crate) size: usize,
    /// Bytes of a message on the other channel
    #[arg(long, default_value_t = 1000, value_parser = count(64, 100_000))]
    pub(crate) fast_size: usize,
    /// New clients a second, which stay for a moment
    #[arg(long, default_value_t = 500, value_parser = count(0, 5000))]
    pub(crate) connect_rate: usize,
    /// The server's --history-size
    #[arg(long, default_value_t = 1000, value_parser = count(0, 100_000))]
    pub(crate) history_size: usize,
    /// The server's --history-total, in MiB, which is filled first
    #[arg(long, default_value_t = 256, value_parser = count(0, 10_000))]
    pub(crate) history_mib: usize,
    /// Quiet time before each upgrade
    #[arg(long, default_value = "2", value_parser = seconds)]
    pub(crate) pause: Seconds,
    /// How long clients may take to get everything once publishing has stopped
    #[arg(long, default_value = "60", value_parser = seconds)]
    pub(crate) settle: Seconds,
    /// A longer silence of any client is a problem
    #[arg(long, default_value = "4", value_parser = seconds)]
    pub(crate) silence_max: Seconds,
    /// The server; without it the wsbcast beside this program
    #[arg(long, value_name = "PATH")]
    pub(crate) server_binary: Option<PathBuf>,
    /// Keep logs also when all is well
    #[arg(long)]
    #[serde(skip)]
    pub(crate) keep: bool,
    #[command(flatten)]
    #[serde(skip)]
    pub(crate) report: ReportArgs,
}

impl RunArgs {
    /// Bounds that depend on each other.
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        anyhow::ensure!(
            self.fast + self.half + self.non_readers <= self.clients,
            "--fast, --half and --non-readers are parts of --clients"
        );
        anyhow::ensure!(self.laggards <= self.fast, "--laggards are a part of --fast");
        Ok(())
    }
}

fn yes_or_no(text: &str) -> Result<bool, &'static str> {
    match text {
        "yes" => Ok(true),
        "no" => Ok(false),
        _ => Err("expected yes or no"),
    }
}

/// The step at which a new process fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum FailingStep {
    /// It has connected
    Greeting,
    /// It builds its server
    Building,
    /// It gets what is large
    Ahead,
    /// It is to be ready
    Ready,
    /// The old process pauses, and hands over
    State,
    /// It is to have all
    Prepared,
}

/// The kind of a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Failing {
    /// SIGKILL
    Killed,
    /// SIGSTOP
    Stopped,
    /// It says that it can't; at the greeting: it speaks another protocol
    Refusing,
}

/// The options of a new process that fails.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct TakerArgs {
    /// The old process's control socket
    #[arg(long, value_name = "PATH")]
    pub(crate) control_socket: PathBuf,
    /// How far it gets
    #[arg(long, value_enum)]
    pub(crate) step: FailingStep,
    /// How it fails
    #[arg(long, value_enum)]
    pub(crate) kind: Failing,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    fn run(arguments: &[&str]) -> RunArgs {
        let all = ["upgrades", "run"].iter().chain(arguments);
        match Args::try_parse_from(all).unwrap().command {
            Command::Run(run) => *run,
            Command::Taker(_) => unreachable!("it runs"),
        }
    }

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
        assert!(run(&[]).check().is_ok() && run(&[]).faults);
    }

    #[test]
    fn parts_are_no_more_than_the_whole() {
        assert!(run(&["--clients", "300", "--faults", "no"]).check().is_err());
        assert!(run(&["--laggards", "101"]).check().is_err());
    }
}
