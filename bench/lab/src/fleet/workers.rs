//! The conductor's end of the worker processes: a line asks, a line of JSON answers.
//!
//! A thread per worker reads its answers, so that a worker that hangs costs a deadline and not the
//! run.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::SocketAddr,
    process::{ChildStdin, Stdio},
    sync::mpsc::{Receiver, sync_channel},
    time::Duration,
};

use anyhow::{Context as _, Result};
use serde::de::DeserializeOwned;
use testkit::node::{Process, words};

use super::{
    args::FleetArgs,
    worker::{Account, Progress, sources_of},
};

const ANSWER_DEADLINE: Duration = Duration::from_secs(10);

/// All workers.
#[derive(Debug)]
pub(super) struct Workers(Vec<Worker>);

#[derive(Debug)]
struct Worker {
    process: Process,
    questions: ChildStdin,
    answers: Receiver<String>,
}

impl Workers {
    /// One for each server; they begin to connect at once.
    pub(super) fn start(args: &FleetArgs, run: u32, servers: &[SocketAddr]) -> Result<Self> {
        let rate = args.connect_rate as f64 / servers.len() as f64;
        let mut source = 1;
        let mut workers = Vec::with_capacity(servers.len());
        for (at, address) in servers.iter().enumerate() {
            let clients = args.clients_of(at);
            let options = [
                ("--address", address.to_string()),
                ("--first-source", source.to_string()),
                ("--clients", clients.to_string()),
                ("--connect-rate", rate.to_string()),
                ("--run", run.to_string()),
            ];
            source += sources_of(clients);
            let arguments = [vec!["fleet-worker".to_owned()], words(options)].concat();
            workers.push(Worker::start(&arguments)?);
        }
        Ok(Self(workers))
    }

    /// All together.
    pub(super) fn progress(&mut self) -> Result<Progress> {
        let mut sum = Progress::default();
        for more in self.ask::<Progress>("progress")? {
            sum.opened += more.opened;
            sum.failed += more.failed;
            sum.deliveries += more.deliveries;
            sum.closed += more.closed;
        }
        Ok(sum)
    }

    /// All together.
    pub(super) fn account(&mut self) -> Result<Account> {
        let mut sum = Account::default();
        self.ask::<Account>("account")?.into_iter().for_each(|account| sum.merge(account));
        Ok(sum)
    }

    /// Their process ids.
    pub(super) fn pids(&self) -> Vec<u32> {
        self.0.iter().map(|worker| worker.process.child.id()).collect()
    }

    /// Asks all, then hears all, so that they answer at the same time.
    fn ask<T: DeserializeOwned>(&mut self, question: &str) -> Result<Vec<T>> {
        for worker in &mut self.0 {
            writeln!(worker.questions, "{question}").context("a worker has ended")?;
        }
        let answers = self.0.iter().map(|worker| {
            let line = worker.answers.recv_timeout(ANSWER_DEADLINE);
            let line = line.context("a worker does not answer")?;
            serde_json::from_str(&line).context("a worker's answer")
        });
        answers.collect()
    }
}

impl Worker {
    fn start(arguments: &[String]) -> Result<Self> {
        let program = std::env::current_exe().context("the path of lab")?;
        let mut process = Process::start(&program, arguments, |command| {
            command.stdin(Stdio::piped()).stdout(Stdio::piped());
        })?;
        let questions = process.child.stdin.take().context("a worker's standard input")?;
        let output = process.child.stdout.take().context("a worker's standard output")?;
        let (say, answers) = sync_channel(4);
        let read = move || {
            let lines = BufReader::new(output).lines().map_while(Result::ok);
            for line in lines {
                if say.send(line).is_err() {
                    return;
                }
            }
        };
        std::thread::Builder::new().name("worker".to_owned()).spawn(read).context("a thread")?;
        Ok(Self { process, questions, answers })
    }
}
