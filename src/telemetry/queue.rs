//! The queue of log lines: bounded, with one thread that does nothing but write them.
//!
//! A thread that logs never waits: a line without room is dropped and counted, and so is one that
//! can't be written. Standard error may be a pipe without a reader, a full disk or a stopped
//! terminal; then only the writing thread stands still. Its notice about missing lines says which
//! of the two it was. Nothing here may be needed for anything but the log.

use std::{
    io::{self, ErrorKind, Write},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    thread,
    time::Duration,
};

use tracing_subscriber::fmt::MakeWriter;

use crate::{
    clock::{Clock, Millis},
    limits::{
        LOG_COUNT_INTERVAL, LOG_FLUSH_DEADLINE, LOG_FLUSH_DEADLINE_HURRIED, LOG_FLUSH_POLL,
        LOG_QUEUE_BYTES_MAX, LOG_QUEUE_LINES_MAX, LOG_TICK, LOG_WRITE_RETRY,
    },
};

/// Lines that will never be written, of all logs of this process.
static DROPPED: AtomicU64 = AtomicU64::new(0);
/// The process is to end without the log's full deadline.
static HURRIED: AtomicBool = AtomicBool::new(false);

type LogLine = Box<[u8]>;

/// The end of the queue into which any thread puts lines.
#[derive(Clone, Debug)]
pub(super) struct LogQueue {
    clock: Clock,
    sender: SyncSender<LogLine>,
    /// The bytes of lines that were put in and are not yet written or given up.
    bytes: Arc<AtomicUsize>,
}

/// Lines that were dropped for want of room, or that could not be written.
#[must_use]
pub fn lines_dropped() -> u64 {
    DROPPED.load(Ordering::Relaxed)
}

/// The end of the process waits for the log only a moment from now on, even if it is already
/// waiting.
pub fn hurry() {
    HURRIED.store(true, Ordering::Relaxed);
}

/// Lost lines that have not been reported in the log.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct LostLines {
    /// Lines dropped for want of room: the others were not taken.
    pub(super) unread: u64,
    /// Lines that could not be written...
    pub(super) unwritten: u64,
    /// ...the last of them for this reason.
    pub(super) error: Option<String>,
}

impl LogQueue {
    /// Starts the thread, which writes to `out`. `notice` formats the lines that report missing
    /// ones; `tick` is called from time to time, and may log.
    pub(super) fn start(
        clock: Clock,
        out: impl Write + Send + 'static,
        notice: impl Fn(&LostLines) -> Vec<u8> + Send + 'static,
        tick: impl Fn(Millis) + Send + 'static,
    ) -> io::Result<Self> {
        let (sender, lines) = sync_channel(LOG_QUEUE_LINES_MAX);
        let queue = Self { clock, sender, bytes: Arc::default() };
        let bytes = queue.bytes.clone();
        let out_lines = LineWriter::new(out);
        let told = lines_dropped();
        let writer = Writer {
            clock,
            lines,
            bytes,
            out_lines,
            notice,
            tick,
            told,
            unwritten: 0,
            missing_since: None,
        };
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
        let start = self.clock.now();
        let is_late = || self.clock.now() - start >= flush_deadline();
        while self.bytes.load(Ordering::Acquire) > 0 && !is_late() {
            thread::park_timeout(LOG_FLUSH_POLL);
        }
    }
}

fn flush_deadline() -> Duration {
    if HURRIED.load(Ordering::Relaxed) { LOG_FLUSH_DEADLINE_HURRIED } else { LOG_FLUSH_DEADLINE }
}

/// The formatter passes each line in one call.
impl Write for &LogQueue {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for LogQueue {
    type Writer = &'a Self;

    fn make_writer(&'a self) -> Self::Writer {
        self
    }
}

/// The thread.
struct Writer<O, N, T> {
    clock: Clock,
    lines: Receiver<LogLine>,
    bytes: Arc<AtomicUsize>,
    out_lines: LineWriter<O>,
    notice: N,
    tick: T,
    /// The dropped lines that have been reported.
    told: u64,
    /// Of the unreported ones, those that could not be written.
    unwritten: u64,
    missing_since: Option<Millis>,
}

impl<O: Write, N: Fn(&LostLines) -> Vec<u8>, T: Fn(Millis)> Writer<O, N, T> {
    fn run(mut self) {
        let mut next_tick = Millis::default();
        loop {
            let line = match self.lines.recv_timeout(LOG_TICK) {
                Ok(line) => Some(line),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            let now = self.clock.now();
            if next_tick <= now {
                (self.tick)(now);
                next_tick = now + LOG_TICK;
            }
            let Some(line) = line else { continue };
            if self.out_lines.write(&line) {
                let is_last = self.bytes.load(Ordering::Relaxed) == line.len();
                self.tell_what_is_missing(is_last, now);
            } else {
                DROPPED.fetch_add(1, Ordering::Relaxed);
                self.unwritten += 1;
            }
            // Only now: the wait at the end includes the notice.
            self.bytes.fetch_sub(line.len(), Ordering::Release);
        }
    }

    /// One line when writing goes on, and one from time to time while lines are being dropped.
    fn tell_what_is_missing(&mut self, is_last: bool, now: Millis) {
        let dropped = lines_dropped();
        if dropped == self.told {
            return;
        }
        let since = *self.missing_since.get_or_insert(now);
        if !is_last && now < since + LOG_COUNT_INTERVAL {
            return;
        }
        let missing = LostLines {
            unread: (dropped - self.told).saturating_sub(self.unwritten),
            unwritten: self.unwritten,
            error: self.out_lines.error.clone(),
        };
        if self.out_lines.write(&(self.notice)(&missing)) {
            self.told = dropped;
            self.unwritten = 0;
            self.missing_since = None;
        }
    }
}

/// The output.
struct LineWriter<O> {
    out: O,
    /// The last line was written in part.
    torn: bool,
    /// The error of the last line that could not be written.
    error: Option<String>,
}

impl<O: Write> LineWriter<O> {
    fn new(out: O) -> Self {
        Self { out, torn: false, error: None }
    }

    /// Writes a line, however long that takes; returns whether it is written.
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
                // Another process that shares the pipe made it non-blocking.
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    thread::park_timeout(LOG_WRITE_RETRY);
                }
                Err(error) => {
                    self.error = Some(error.to_string());
                    return false;
                }
            }
        }
        true
    }
}

#[cfg(test)]
mod tests;
