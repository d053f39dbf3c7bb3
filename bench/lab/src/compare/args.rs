//! The command lines of `compare` and of the runs that it starts, as typed.

use std::path::PathBuf;

use clap::ValueEnum;
use testkit::cli::count;

/// Servers in turn, and how each is loaded.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct FieldArgs {
    /// A server as NAME=COMMAND; {port} in the command becomes a free port. The first is what the
    /// others are compared with
    #[arg(long = "server", value_name = "NAME=COMMAND", required = true)]
    pub(crate) servers: Vec<String>,
    /// More run arguments for one server, as NAME=ARGUMENTS; they override the others (repeatable)
    #[arg(long, value_name = "NAME=ARGUMENTS")]
    pub(crate) run_for: Vec<String>,
    /// Each server runs this often, in turn
    #[arg(long, default_value_t = 5, value_parser = count(1, 1000))]
    pub(crate) rounds: usize,
    /// Cores of the servers (taskset list); a server may have its own: NAME@CPUS=COMMAND
    #[arg(long, default_value = "0", value_name = "CPUS")]
    pub(crate) server_cpus: String,
    /// Cores of the load (taskset list)
    #[arg(long, default_value = "1", value_name = "CPUS")]
    pub(crate) load_cpus: String,
    /// Give each run a network namespace of its own, without the closed connections of earlier
    /// runs
    #[arg(long, value_enum, default_value_t, value_name = "WHEN")]
    pub(crate) fresh_network: FreshNetwork,
    /// Directory for the raw results and the summary, created if missing
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
    /// A line for the record, e.g. a version (repeatable)
    #[arg(long, value_name = "TEXT")]
    pub(crate) note: Vec<String>,
    /// Arguments of `wsload run`, without --url and --server-pid; {port} becomes the server's port
    #[arg(last = true, value_name = "RUN ARGUMENTS")]
    pub(crate) run: Vec<String>,
}

/// When a run gets a network namespace of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum FreshNetwork {
    /// If this user may (root, mostly)
    #[default]
    Auto,
    /// Or fail
    Always,
    Never,
}

/// Several servers, one scenario.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct CompareArgs {
    #[command(flatten)]
    pub(crate) field: FieldArgs,
    /// Name of this scenario in file names and headings
    #[arg(long, default_value = "run", value_name = "WORD")]
    pub(crate) scenario: String,
}

/// One server, one run.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct TrialArgs {
    /// As NAME@CPUS=COMMAND
    #[arg(long)]
    pub(crate) server: String,
    /// Cores of the load
    #[arg(long)]
    pub(crate) load_cpus: String,
    /// Arguments of `wsload run`
    #[arg(last = true)]
    pub(crate) run: Vec<String>,
}
