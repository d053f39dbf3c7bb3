//! The receiving side: threads that each hold many clients on one epoll set.
//!
//! A thread has one read buffer; frames are parsed where the kernel put them. Counters that the
//! conductor watches are published once per batch of events, so that a delivery costs the load
//! generator little beside its `recv`.

mod books;
mod slices;
mod stage;

use std::{
    io::ErrorKind,
    sync::{Arc, atomic::Ordering::Relaxed},
    thread::{Builder, JoinHandle},
    time::Duration,
};

use anyhow::{Context as _, Result};
use mio::{Events, Poll, Token};
use testkit::clock;

pub(crate) use self::{
    books::{Books, Outcome, latencies},
    slices::{SLICES_MAX, Slice},
    stage::{Counters, Stage},
};
use crate::connection::{Books as _, Connection, Opening};

/// Connects under way per thread: fewer than any listen queue holds.
const CONNECTING_MAX: usize = 128;
const EVENTS_PER_TURN: usize = 1024;
const READ_BUFFER_BYTES: usize = 256 * 1024;
/// How soon a thread notices what the conductor wants.
const TURN_MAX: Duration = Duration::from_millis(10);

/// The clients of one thread: of `clients` in all those with `index % threads == thread`, the
/// stalled ones spread evenly.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Share {
    pub(crate) thread: usize,
    pub(crate) threads: usize,
    pub(crate) clients: usize,
    pub(crate) stalled: usize,
}

impl Share {
    fn indices(self) -> impl Iterator<Item = usize> {
        (self.thread..self.clients).step_by(self.threads)
    }

    fn is_stalled(self, index: usize) -> bool {
        (index + 1) * self.stalled / self.clients > index * self.stalled / self.clients
    }
}

/// Starts one receiving thread.
pub(crate) fn start(stage: Arc<Stage>, share: Share) -> Result<JoinHandle<Result<Outcome>>> {
    Builder::new()
        .name(format!("clients-{}", share.thread))
        .spawn(move || Crowd::new(stage, share)?.run())
        .context("a thread for clients")
}

struct Crowd {
    stage: Arc<Stage>,
    poll: Poll,
    connections: Vec<Connection>,
    /// (number of the client in the whole run, stalled) by position in `connections`.
    plan: Vec<(usize, bool)>,
    books: Books,
    counters_at: usize,
    /// Clients before this one have everything.
    complete: usize,
}

impl Crowd {
    fn new(stage: Arc<Stage>, share: Share) -> Result<Self> {
        let plan: Vec<_> = share.indices().map(|index| (index, share.is_stalled(index))).collect();
        Ok(Self {
            poll: Poll::new().context("an epoll set")?,
            connections: Vec::with_capacity(plan.len()),
            books: Books::new(
                &stage,
                plan.iter().map(|(index, _)| stage.target.channel(*index) as u32).collect(),
            ),
            plan,
            stage,
            counters_at: share.thread,
            complete: 0,
        })
    }

    fn run(mut self) -> Result<Outcome> {
        let mut events = Events::with_capacity(EVENTS_PER_TURN);
        let mut buffer = vec![0; READ_BUFFER_BYTES];
        while !self.stage.stop.load(Relaxed) && !self.is_complete() {
            self.connect_more();
            match self.poll.poll(&mut events, Some(TURN_MAX)) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                result => result.context("waiting for events")?,
            }
            if let Some(timed_ns) = self.stage.timed_ns.get() {
                self.books.timed_ns = *timed_ns;
            }
            if let Some((p50_us, p99_us)) = self.books.slices.turn_to(clock::now_ns()) {
                let counters = &self.stage.counters[self.counters_at];
                counters.p50_us.store(p50_us as u64, Relaxed);
                counters.p99_us.store(p99_us as u64, Relaxed);
            }
            for event in &events {
                let Token(at) = event.token();
                let connection = &mut self.connections[at];
                let at_end = event.is_read_closed();
                let registry = self.poll.registry();
                connection.on_event(at, at_end, &mut buffer, registry, &mut self.books);
            }
            self.show();
        }
        Ok(self.finish(&mut buffer))
    }

    fn connect_more(&mut self) {
        while self.connections.len() < self.plan.len()
            && self.connections.len() < self.books.settled() + CONNECTING_MAX
        {
            let at = self.connections.len();
            let (index, stalls) = self.plan[at];
            let target = &self.stage.target;
            let opening = Opening {
                address: target.address,
                source: target.source(index),
                tls: target.tls.clone(),
                handshake: target.handshake_of(index),
                form: target.form,
                compression: target.compression,
                stalls,
                receive_buffer: None,
            };
            let connection = Connection::start(opening, at, self.poll.registry());
            let connection = connection.unwrap_or_else(|error| {
                self.books.failed(&error);
                Connection::none()
            });
            self.connections.push(connection);
        }
    }

    /// All sent messages are here, or their clients gone.
    fn is_complete(&mut self) -> bool {
        let Some(sent) = self.stage.sent.get() else { return false };
        while let Some(connection) = self.connections.get(self.complete) {
            if connection.is_reading() && self.books.missing(self.complete, sent) > 0 {
                return false;
            }
            self.complete += 1;
        }
        self.connections.len() == self.plan.len()
    }

    fn show(&self) {
        let counters = &self.stage.counters[self.counters_at];
        let outcome = &self.books.outcome;
        counters.opened.store(outcome.clients.opened, Relaxed);
        counters.failed.store(outcome.clients.failed, Relaxed);
        counters.deliveries.store(outcome.deliveries.total, Relaxed);
        counters.bytes.store(outcome.bytes, Relaxed);
        counters.gone.store(outcome.gone, Relaxed);
    }

    /// Books what is missing, asks the stalled clients what became of them, says goodbye.
    fn finish(mut self, buffer: &mut [u8]) -> Outcome {
        let sent = self.stage.sent.get().map_or(&[][..], Vec::as_slice);
        for (at, connection) in self.connections.iter_mut().enumerate() {
            if connection.is_reading() {
                self.books.client_ends(at, sent);
            }
            if let Some(word) = connection.finish(buffer) {
                *self.books.outcome.clients.stalled.entry(word).or_default() += 1;
            }
        }
        self.show();
        self.books.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every client has one thread and the stalled are as many as asked.
    #[test]
    fn every_client_has_one_thread() {
        for (clients, stalled, threads) in [(1000, 300, 3), (7, 0, 2), (10, 9, 4), (5, 5, 1)] {
            let shares = (0..threads).map(|thread| Share { thread, threads, clients, stalled });
            let mut all: Vec<(usize, bool)> = shares
                .flat_map(|share| share.indices().map(move |i| (i, share.is_stalled(i))))
                .collect();
            all.sort_unstable();
            assert!(all.iter().map(|(index, _)| *index).eq(0..clients));
            assert_eq!(all.iter().filter(|(_, is_stalled)| *is_stalled).count(), stalled);
        }
    }
}
