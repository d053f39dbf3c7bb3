//! `lab tokens`: how many tokens one core verifies in a second, of each kind of key.
//!
//! The server's own verifier, called as it is by a handshake, without a network. *New* tokens are
//! all different and were never shown; *known* ones are the same again, as they come back in a
//! storm of reconnects.

mod signer;

use std::{fmt, hint::black_box};

use anyhow::{Context as _, Result, anyhow, ensure};
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};
use testkit::{
    cli::count,
    clock,
    machine::{Machine, date_utc, said_by},
    output::ReportArgs,
};
use tokio::runtime;
use wsbcast::{
    clock::Clock,
    token::{TokenSettings, Verifier},
};

use self::signer::Signer;

/// A verifier without a network.
#[derive(Clone, Debug, clap::Args, Serialize, Deserialize)]
pub(crate) struct TokensArgs {
    /// Tokens of each algorithm; as many as the server remembers, at most
    #[arg(long, default_value_t = 5_000, value_parser = count(10, 30_000))]
    pub(crate) tokens: usize,
    /// How often known ones are shown again
    #[arg(long, default_value_t = 20, value_parser = count(1, 1000))]
    pub(crate) passes: usize,
    #[command(flatten)]
    #[serde(skip)]
    report: ReportArgs,
}

/// The outcome.
#[derive(Debug, Serialize)]
struct Report {
    date_utc: String,
    commit: String,
    machine: Machine,
    scenario: TokensArgs,
    rows: Vec<Row>,
}

/// One algorithm.
#[derive(Debug, Serialize)]
struct Row {
    algorithm: &'static str,
    token_bytes: usize,
    new_per_second: f64,
    known_per_second: f64,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { date_utc, commit, machine, .. } = self;
        writeln!(f, "{date_utc}, {commit}; {}: {}\n", machine.host, machine.cpu)?;
        writeln!(f, "| algorithm | bytes of a token | new, verified/s | known, taken/s |")?;
        write!(f, "|---|---|---|---|")?;
        for Row { algorithm, token_bytes, new_per_second, known_per_second } in &self.rows {
            write!(
                f,
                "\n| {algorithm} | {token_bytes} | {new_per_second:.0} | {known_per_second:.0} |"
            )?;
        }
        Ok(())
    }
}

/// Measures all algorithms.
pub(crate) fn run(args: &TokensArgs) -> Result<bool> {
    let rows = Signer::all()?.iter().map(|signer| measure(signer, args)).collect::<Result<_>>()?;
    args.report.deliver(&Report {
        date_utc: date_utc(),
        commit: said_by("git", &["rev-parse", "HEAD"]),
        machine: Machine::describe(),
        scenario: args.clone(),
        rows,
    })?;
    Ok(true)
}

fn measure(signer: &Signer, args: &TokensArgs) -> Result<Row> {
    let tokens: Vec<String> = (0..args.tokens).map(|number| signer.token(number)).collect();
    let settings = TokenSettings {
        secrets: signer.secret()?.into_iter().collect(),
        public_keys: signer.public_keys()?,
        ..TokenSettings::default()
    };
    let verifier = Verifier::new(Clock::start(), &settings).context("a verifier")?;
    let runtime = runtime::Builder::new_current_thread().build().context("a runtime")?;
    let show_all = |passes: usize| -> Result<f64> {
        // Of CPU: what else the machine does is no matter of tokens.
        let started_ns = cpu_ns();
        for token in tokens.iter().cycle().take(passes * tokens.len()) {
            let rights = runtime.block_on(verifier.verify(token));
            black_box(rights.map_err(|error| anyhow!("{}: {error}", signer.algorithm()))?);
        }
        Ok((passes * tokens.len()) as f64 / clock::as_secs(cpu_ns() - started_ns))
    };
    let row = Row {
        algorithm: signer.algorithm(),
        token_bytes: tokens[0].len(),
        new_per_second: show_all(1)?,
        known_per_second: show_all(args.passes)?,
    };
    let [verified, known, ..] = verifier.counts();
    let shown = (tokens.len() as u64, (tokens.len() * args.passes) as u64);
    ensure!((verified, known) == shown, "{verified} verified and {known} known of {shown:?}");
    Ok(row)
}

/// The CPU that this thread has used, exactly: the scheduler's books are milliseconds late.
fn cpu_ns() -> u64 {
    let used = clock_gettime(ClockId::ThreadCPUTime);
    used.tv_sec as u64 * 1_000_000_000 + used.tv_nsec as u64
}
