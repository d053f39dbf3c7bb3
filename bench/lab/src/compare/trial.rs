//! One run of a comparison: a fresh server, loaded once by a fresh process, both in a network of
//! their own where that is permitted.
//!
//! Connections that earlier runs closed stay with the kernel for a minute and slow its search for
//! free ports, at the expense of the next processes that connect or accept. A new namespace has
//! none. The program starts itself again (`lab trial`) inside it, so that nothing else must change
//! its network. Reports are kept as JSON values: a comparison reads old records too.

use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use testkit::{cli::EXIT_PROBLEMS, output};

use super::{
    args::{FieldArgs, FreshNetwork, TrialArgs},
    server::{Running, ServerSpec},
};

/// `$0` and what follows run in a namespace with nothing but loopback.
const IN_FRESH_NETWORK: &str = "ip link set lo up && exec \"$0\" \"$@\"";

/// Where runs take place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Network {
    Shared,
    Fresh,
}

impl Network {
    /// As asked for; with `auto`, whether it is permitted is tried.
    pub(crate) fn choose(wish: FreshNetwork) -> Result<Self> {
        if wish == FreshNetwork::Never {
            return Ok(Self::Shared);
        }
        let mut attempt = Self::Fresh.command("true");
        let attempt = attempt.stdin(Stdio::null()).stderr(Stdio::null()).status();
        if attempt.is_ok_and(|status| status.success()) {
            return Ok(Self::Fresh);
        }
        ensure!(wish == FreshNetwork::Auto, "--fresh-network always: unshare and ip need root");
        output::remark("no network of their own for the runs (that needs root): they share this");
        Ok(Self::Shared)
    }

    fn command(self, program: &str) -> Command {
        match self {
            Self::Shared => Command::new(program),
            Self::Fresh => {
                let mut command = Command::new("unshare");
                command.args(["--net", "sh", "-c", IN_FRESH_NETWORK, program]);
                command
            }
        }
    }
}

/// Runs `lab trial` for this server; its report. Of the run's arguments the server's own win.
pub(crate) fn start(
    field: &FieldArgs,
    network: Network,
    spec: &ServerSpec,
    more: &[String],
) -> Result<Value> {
    let own_program = std::env::current_exe().context("the path of this program")?;
    let own_program = own_program.to_str().context("the path of this program is not UTF-8")?;
    let trial = network
        .command(own_program)
        .args(["trial", "--server", &spec.to_string(), "--load-cpus", &field.load_cpus, "--"])
        .args(&field.run)
        .args(more)
        .args(&spec.more_run)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .context("starting a run")?;
    ensure!(trial.status.success(), "the run ended with {}", trial.status);
    serde_json::from_slice(&trial.stdout).context("the run's report")
}

/// The run itself; prints the load's report.
pub(crate) fn trial(args: &TrialArgs) -> Result<bool> {
    let spec = ServerSpec::parse(&args.server, "0")?;
    let server = Running::start(&spec)?;
    let wsload = std::env::current_exe().context("this program's path")?.with_file_name("wsload");
    ensure!(wsload.exists(), "{}: no wsload there; build it", wsload.display());
    let pids = server.pids();
    let load = Command::new(wsload)
        .args(["run", "--json", "--url", &format!("ws://127.0.0.1:{}", server.port)])
        .args(pids.iter().flat_map(|pid| ["--server-pid".to_owned(), pid.to_string()]))
        .args(["--pin", &args.load_cpus])
        .args(args.run.iter().map(|word| word.replace("{port}", &server.port.to_string())))
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .context("starting the load")?;
    let code = load.status.code();
    ensure!(
        code == Some(0) || code == Some(i32::from(EXIT_PROBLEMS)),
        "the load ended with {}",
        load.status
    );
    // As it is: the user who started this run reads it.
    output::line(String::from_utf8_lossy(&load.stdout).trim_end());
    Ok(true)
}
