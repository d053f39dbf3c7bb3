//! Log lines on their way out: a bounded queue, and one thread that does nothing but write them.
//!
//! Whoever logs never waits: a line for which there is no room is dropped and counted, and so is
//! one that can't be written. Standard error may be a pipe that nobody reads, a full disk or a
//! stopped terminal; then this thread stands still, and nothing else does. Nothing here may be
//! needed for anything but the log.

use std::{
    io::{self, ErrorKind, Write},
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    thread,
};

use tracing_subscriber::fmt::MakeWriter;

use crate::{
    clock::{self, Millis},
    limits::{
        LOG_COUNT_INTERVAL, LOG_FLUSH_DEADLINE, LOG_FLUSH_POLL, LOG_QUEUE_BYTES_MAX,
        LOG_QUEUE_LINES_MAX, LOG_TICK, LOG_WRITE_RETRY,
    },
};

/// Lines that nobody will read, of all logs of this process.
static DROPPED: AtomicU64 = AtomicU64::new(0);

type Line = Box<[u8]>;

/// Where lines are put by any thread.
#[derive(Clone, Debug)]
pub(super) struct Queue {
    sender: SyncSender<Line>,
    /// Of the lines that were put in and are not yet dealt with.
    bytes: Arc<AtomicUsize>,
}

/// Lines that were dropped because nobody took them, or that could not be written.
#[must_use]
pub fn lines_dropped() -> u64 {
    DROPPED.load(Ordering::Relaxed)
}

impl Queue {
    /// Starts the thread, which writes to `out`. `notice` makes the line that tells how many
    /// lines are missing; `tick` is called now and then, and may log.
    pub(super) fn start(
        out: impl Write + Send + 'static,
        notice: impl Fn(u64) -> Vec<u8> + Send + 'static,
        tick: impl Fn(Millis) + Send + 'static,
    ) -> io::Result<Self> {
        let (sender, lines) = sync_channel(LOG_QUEUE_LINES_MAX);
        let queue = Self { sender, bytes: Arc::default() };
        let bytes = queue.bytes.clone();
        let pen = Pen { out, torn: false };
        let told = lines_dropped();
        let writer = Writer { lines, bytes, pen, notice, tick, told, missing_since: None };
        thread::Builder::new().name("log".to_owned()).spawn(move || writer.run())?;
        Ok(queue)
    }

    /// Puts a line in, or drops it; never waits.
    pub(super) fn push(&self, line: &[u8]) {
        let waiting = self.bytes.fetch_add(line.len(), Ordering::Relaxed);
        if waiting + line.len() > LOG_QUEUE_BYTES_MAX || self.sender.try_send(line.into()).is_err()
        {
            self.bytes.fetch_sub(line.len(), Ordering::Release);
            DROPPED.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Waits until all lines are written, for a bounded time.
    pub(super) fn flush(&self) {
        let start = clock::instant();
        while self.bytes.load(Ordering::Acquire) > 0 && start.elapsed() < LOG_FLUSH_DEADLINE {
            thread::park_timeout(LOG_FLUSH_POLL);
        }
    }
}

/// The formatter gives each line at once.
impl Write for &Queue {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Queue {
    type Writer = &'a Self;

    fn make_writer(&'a self) -> Self::Writer {
        self
    }
}

/// The thread.
struct Writer<O, N, T> {
    lines: Receiver<Line>,
    bytes: Arc<AtomicUsize>,
    pen: Pen<O>,
    notice: N,
    tick: T,
    /// Of the dropped lines, those that the log speaks of.
    told: u64,
    missing_since: Option<Millis>,
}

impl<O: Write, N: Fn(u64) -> Vec<u8>, T: Fn(Millis)> Writer<O, N, T> {
    fn run(mut self) {
        never_stop_for_a_terminal();
        let mut next_tick = Millis::default();
        loop {
            let line = match self.lines.recv_timeout(LOG_TICK) {
                Ok(line) => Some(line),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            let now = clock::now();
            if next_tick <= now {
                (self.tick)(now);
                next_tick = now + LOG_TICK;
            }
            let Some(line) = line else { continue };
            if self.pen.write(&line) {
                let is_last = self.bytes.load(Ordering::Relaxed) == line.len();
                self.tell_what_is_missing(is_last, now);
            } else {
                DROPPED.fetch_add(1, Ordering::Relaxed);
            }
            // Only now: whoever waits for the end waits for the notice, too.
            self.bytes.fetch_sub(line.len(), Ordering::Release);
        }
    }

    /// One line when it goes on, and now and then where lines are dropped all the time.
    fn tell_what_is_missing(&mut self, is_last: bool, now: Millis) {
        let dropped = lines_dropped();
        if dropped == self.told {
            return;
        }
        let since = *self.missing_since.get_or_insert(now);
        let is_due = is_last || since + LOG_COUNT_INTERVAL <= now;
        if is_due && self.pen.write(&(self.notice)(dropped - self.told)) {
            self.told = dropped;
            self.missing_since = None;
        }
    }
}

/// What is written to.
struct Pen<O> {
    out: O,
    /// The last line is there in part.
    torn: bool,
}

impl<O: Write> Pen<O> {
    /// Writes a line, however long that takes; whether it is there.
    fn write(&mut self, line: &[u8]) -> bool {
        if self.torn && !self.write_bytes(b"\n") {
            return false;
        }
        self.torn = false;
        self.write_bytes(line)
    }

    fn write_bytes(&mut self, mut rest: &[u8]) -> bool {
        while !rest.is_empty() {
            match self.out.write(rest) {
                Ok(0) => return false,
                Ok(count) => {
                    rest = &rest[count..];
                    self.torn = !rest.is_empty();
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // Somebody who has the same pipe made it non-blocking.
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    thread::park_timeout(LOG_WRITE_RETRY);
                }
                Err(_) => return false,
            }
        }
        true
    }
}

/// A job in the background that writes to its terminal is stopped as a whole after `stty tostop`;
/// where the writing thread has the signal blocked, the kernel lets it write instead.
#[cfg(unix)]
fn never_stop_for_a_terminal() {
    let mut signals = nix::sys::signal::SigSet::empty();
    signals.add(nix::sys::signal::Signal::SIGTTOU);
    // Refused only for what is no signal.
    let _ = signals.thread_block();
}

#[cfg(not(unix))]
fn never_stop_for_a_terminal() {}

#[cfg(test)]
mod tests;
