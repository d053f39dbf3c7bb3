//! A Redis in a few lines of Rust: one channel with its stream, a replica that lags, and the
//! messages under way to each shard. It answers our scripts as `scripts` says they do.

use std::{
    cell::{Cell, RefCell},
    collections::{HashMap, VecDeque},
};

use bytes::Bytes;
use fred::{
    error::{Error, ErrorKind},
    types::Value,
};

use super::{
    PROCESSES, SHARDS_EACH,
    held::{Held, Sent},
};
use crate::broker::redis::{
    commands::call_error::CallError,
    protocol::{
        envelope,
        scripts::{Script, Scripts},
    },
};

#[derive(Debug)]
pub(super) struct Redis {
    pub(super) scripts: Scripts,
    messages_max: usize,
    /// Now and then an answer is lost.
    is_flaky: bool,
    random: RefCell<fastrand::Rng>,
    pub(super) held: RefCell<Held>,
    replica: RefCell<Held>,
    /// Another database, and what a snapshot has.
    other: RefCell<Held>,
    snapshot: RefCell<Held>,
    pub(super) is_up: Cell<bool>,
    pub(super) failures: Cell<u64>,
    pub(super) losses: Cell<u64>,
    pub(super) failovers: Cell<u64>,
    pub(super) rotations: Cell<u64>,
    pub(super) empty_epochs: Cell<u64>,
    /// The epochs of all that was published, in order.
    pub(super) published: RefCell<Vec<String>>,
    /// How many that were when a shard's turn began.
    pub(super) mark: Cell<usize>,
    count: Cell<u64>,
    pub(super) lines: RefCell<Vec<Option<Line>>>,
    /// The content for the process that is [`Redis::away`].
    pub(super) elsewhere: RefCell<Held>,
    pub(super) away: Cell<Option<usize>>,
    /// How often some process was led elsewhere.
    pub(super) leaves: Cell<u64>,
    /// The published messages, as the number that is their text, and how many were published
    /// elsewhere then.
    pub(super) all: RefCell<Vec<(u64, Option<u64>)>>,
    /// When each text was published first.
    moments: RefCell<HashMap<String, u64>>,
    /// Where each text was published.
    placed: RefCell<HashMap<String, Vec<(String, u64)>>>,
    /// How often each process' connections came to lead nowhere.
    pub(super) reigns: RefCell<[u64; PROCESSES]>,
    /// All messages published at a position, on any branch of the history.
    said: RefCell<HashMap<(String, u64), Vec<String>>>,
}

/// A subscriber's connection.
#[derive(Debug, Default)]
pub(super) struct Line {
    pub(super) on_its_way: VecDeque<Bytes>,
    /// It leads to a server that is the primary no more, and nobody has noticed.
    pub(super) is_stale: bool,
    /// It leads elsewhere.
    pub(super) is_away: bool,
}

impl Redis {
    pub(super) fn new(
        random: fastrand::Rng,
        shards: usize,
        messages_max: usize,
        flaky: bool,
    ) -> Self {
        Self {
            scripts: Scripts::new(false),
            messages_max,
            is_flaky: flaky,
            random: RefCell::new(random),
            held: RefCell::default(),
            replica: RefCell::default(),
            other: RefCell::default(),
            snapshot: RefCell::default(),
            is_up: Cell::new(true),
            failures: Cell::new(0),
            losses: Cell::new(0),
            failovers: Cell::new(0),
            rotations: Cell::new(0),
            empty_epochs: Cell::new(0),
            published: RefCell::default(),
            mark: Cell::new(0),
            count: Cell::new(0),
            lines: RefCell::new((0..shards).map(|_| None).collect()),
            elsewhere: RefCell::default(),
            away: Cell::new(None),
            leaves: Cell::new(0),
            all: RefCell::default(),
            moments: RefCell::default(),
            placed: RefCell::default(),
            reigns: RefCell::default(),
            said: RefCell::default(),
        }
    }

    pub(super) fn chance(&self, percent: u8) -> bool {
        self.random.borrow_mut().u8(0..100) < percent
    }

    /// Texts that are published from now on are larger numbers.
    pub(super) fn newest_text(&self) -> u64 {
        self.count.get()
    }

    fn unique(&self) -> u64 {
        self.count.set(self.count.get() + 1);
        self.count.get()
    }

    pub(super) fn publish(&self) {
        if self.is_up.get() {
            self.publish_in(&self.held, false);
        }
    }

    /// Publishes in a server: here, or where `away` leads.
    pub(super) fn publish_in(&self, server: &RefCell<Held>, is_away: bool) {
        let (candidate, text) = (format!("e{}", self.unique()), self.unique().to_string());
        let (nonce, messages_max) = (envelope::nonce().to_string(), self.messages_max.to_string());
        let (half_bytes, none) = (usize::MAX.to_string(), String::new());
        let args = ["", "t", &text, &candidate, "", &nonce, &messages_max, "", &half_bytes, "0"];
        let args: Vec<_> = args.map(ToOwned::to_owned).into_iter().chain([none]).collect();
        self.stamp(server, is_away, None, &args);
    }

    /// Runs the script that publishes.
    pub(super) fn stamp(
        &self,
        server: &RefCell<Held>,
        is_away: bool,
        key: Option<&str>,
        args: &[String],
    ) -> Value {
        let (answer, sent) = server.borrow_mut().publish(key, args);
        let Some(Sent { epoch, offset, nonce, previous }) = sent else { return answer };
        let text = args[2].clone();
        let mut moments = self.moments.borrow_mut();
        if !moments.contains_key(&text) {
            let moment = text.parse().unwrap_or_else(|_| self.unique());
            moments.insert(text.clone(), moment);
            self.all.borrow_mut().push((moment, is_away.then(|| self.leaves.get())));
        }
        self.published.borrow_mut().push(epoch.clone());
        let version = envelope::VERSION;
        let payload = format!("{version} t {epoch} {offset} {nonce} {previous}\n{text}");
        self.placed.borrow_mut().entry(text.clone()).or_default().push((epoch.clone(), offset));
        self.said.borrow_mut().entry((epoch, offset)).or_default().push(text);
        let is_there = |line: &&mut Line| !line.is_stale && line.is_away == is_away;
        for line in self.lines.borrow_mut().iter_mut().flatten().filter(is_there) {
            line.on_its_way.push_back(Bytes::from(payload.clone()));
        }
        answer
    }

    /// The server that a process is led to, and whether it is another than that of all others.
    pub(super) fn server(&self, process: usize) -> (&RefCell<Held>, bool) {
        let is_away = self.away.get() == Some(process);
        (if is_away { &self.elsewhere } else { &self.held }, is_away)
    }

    /// When a text was published first: a larger number than that of all that was before.
    pub(super) fn moment(&self, text: &str) -> u64 {
        let known = self.moments.borrow().get(text).copied();
        known.unwrap_or_else(|| text.parse().expect("nobody has published it"))
    }

    /// All places that a text was published at.
    pub(super) fn places(&self, text: &str) -> Vec<(String, u64)> {
        self.placed.borrow().get(text).cloned().unwrap_or_default()
    }

    /// All connections lead to servers that nobody is to use any more.
    fn all_change(&self) {
        self.reigns.borrow_mut().iter_mut().for_each(|reign| *reign += 1);
        self.lines.borrow_mut().iter_mut().flatten().for_each(|line| line.is_stale = true);
    }

    /// A shard's turn begins; the number of queries that have failed.
    pub(super) fn turn_begins(&self) -> u64 {
        self.mark.set(self.published.borrow().len());
        self.failures.get()
    }

    /// The epochs of empty channels that count; now and then it is time for a new one.
    fn empty_epoch(&self, server: &RefCell<Held>, candidate: &str) -> String {
        let mut held = server.borrow_mut();
        let known = held.empty_epoch.take();
        let before = known.as_ref().and_then(|known| known.split(' ').next());
        let empty_epoch = match before {
            Some(before) if self.chance(2) => format!("{candidate} {before}"),
            Some(_) => known.clone().expect("its beginning is there"),
            None => candidate.to_owned(),
        };
        if known.as_ref() != Some(&empty_epoch) {
            self.empty_epochs.set(self.empty_epochs.get() + 1);
        }
        held.empty_epoch = Some(empty_epoch.clone());
        empty_epoch
    }

    /// Whether what was published after the first `count` messages begins with `epoch`. As far as
    /// anybody can tell: a failover may have lost the proof.
    pub(super) fn goes_on_with(&self, epoch: &str, count: usize) -> bool {
        let published = self.published.borrow();
        // A late message of an earlier history is followed by a report of the next.
        let is_late = || published[..count].iter().any(|one| one == epoch);
        let is_next = published.get(count).is_none_or(|one| one == epoch);
        is_next || is_late() || self.failovers.get() > 0
    }

    /// Whether `text` was published at this position.
    pub(super) fn has_said(&self, epoch: &str, offset: u64, text: &str) -> bool {
        let said = self.said.borrow();
        let texts = said.get(&(epoch.to_owned(), offset));
        texts.is_some_and(|texts| texts.iter().any(|said| said == text))
    }

    /// Whether the message at `offset` of `epoch` can be read, and any reader must find it. Not if
    /// histories were lost or ended again and again (a late message of one may hide another from a
    /// process), or one that was trimmed (a process's memory may be trimmed further).
    pub(super) fn certainly_has(&self, epoch: &str, offset: u64) -> bool {
        let held = self.held.borrow();
        let losses_max = if self.is_flaky { 0 } else { 1 };
        let is_certain = self.losses.get() <= losses_max && self.rotations.get() <= 1;
        let oldest = held.oldest().unwrap_or(u64::MAX);
        let is_kept = (oldest..=held.offset).contains(&offset);
        is_certain && held.epoch.as_deref() == Some(epoch) && is_kept
    }

    pub(super) fn connect(&self, shard: usize) -> bool {
        if self.is_up.get() {
            let is_away = self.away.get() == Some(shard / SHARDS_EACH);
            self.lines.borrow_mut()[shard] = Some(Line { is_away, ..Line::default() });
        }
        self.is_up.get()
    }

    pub(super) fn disconnect(&self, shard: usize) {
        self.lines.borrow_mut()[shard] = None;
    }

    pub(super) fn is_connected(&self, shard: usize) -> bool {
        self.lines.borrow()[shard].is_some()
    }

    /// The next message for `shard`.
    pub(super) fn take(&self, shard: usize) -> Option<Bytes> {
        self.lines.borrow_mut()[shard].as_mut()?.on_its_way.pop_front()
    }

    /// The replica has everything.
    pub(super) fn replicate(&self) {
        self.replica.replace(self.held.borrow().clone());
    }

    /// The replica becomes the primary. Connections stay where they are until this is noticed.
    pub(super) fn fail_over(&self) {
        self.held.replace(self.replica.borrow().clone());
        self.failovers.set(self.failovers.get() + 1);
        self.losses.set(self.losses.get() + 1);
        self.all_change();
    }

    /// Databases are swapped: connections stay, and messages under way still come.
    pub(super) fn swap(&self) {
        self.held.swap(&self.other);
        self.losses.set(self.losses.get() + 2);
        self.failovers.set(self.failovers.get() + 1);
    }

    /// The old primary is the primary again, with its old content.
    pub(super) fn fail_back(&self) {
        self.held.swap(&self.replica);
        self.losses.set(self.losses.get() + 2);
        self.failovers.set(self.failovers.get() + 1);
        self.all_change();
    }

    pub(super) fn save(&self) {
        self.snapshot.replace(self.held.borrow().clone());
    }

    /// Redis begins again with what was saved.
    pub(super) fn restore(&self) {
        self.held.replace(self.snapshot.borrow().clone());
        self.losses.set(self.losses.get() + 2);
        self.failovers.set(self.failovers.get() + 1);
        self.all_change();
    }

    /// All data is gone.
    pub(super) fn lose_all(&self) {
        self.held.replace(Held::default());
        self.replica.replace(Held::default());
        self.losses.set(self.losses.get() + 1);
        self.all_change();
    }

    /// Whether a connection leads to a server that is gone.
    pub(super) fn is_stale(&self, shard: usize) -> bool {
        self.lines.borrow()[shard].as_ref().is_some_and(|line| line.is_stale)
    }
}

impl Redis {
    /// The answer to the process of this number.
    pub(super) fn answer(
        &self,
        process: usize,
        script: &Script,
        args: Vec<Value>,
    ) -> Result<Value, CallError> {
        if !self.is_up.get() || (self.is_flaky && self.chance(5)) {
            self.failures.set(self.failures.get() + 1);
            return Err(CallError::InDoubt(Error::new(ErrorKind::IO, "gone")));
        }
        let (server, _) = self.server(process);
        let args: Vec<String> =
            args.into_iter().map(|arg| arg.convert().expect("arguments are text")).collect();
        let answer = if script.sha1 == self.scripts.position.sha1 {
            let held = server.borrow();
            let is_asked = !args.is_empty();
            let is_there =
                || held.epoch.as_ref() == Some(&args[0]) && args[1] == held.offset.to_string();
            match is_asked && !is_there() {
                true => held.read(args[2].parse().unwrap(), args[3].parse().unwrap()),
                false => held.stream_position(),
            }
        } else if script.sha1 == self.scripts.rotate.sha1 {
            let mut held = server.borrow_mut();
            if held.epoch.is_none() || held.epoch.as_ref() == Some(&args[2]) {
                self.rotations.set(self.rotations.get() + 1);
                let held_before = held.clone();
                held.begin(args[0].clone(), args[3].parse().unwrap());
                if let Held { epoch: Some(epoch), offset, nonce, ended, .. } = held_before {
                    held.ended = format!("{epoch}:{offset}:{nonce}{} {ended}", args[5]);
                }
            }
            held.stream_position()
        } else if script.sha1 == self.scripts.empty_epoch.sha1 {
            self.empty_epoch(server, &args[0]).into()
        } else if script.sha1 == self.scripts.read.sha1 {
            server.borrow().read(args[0].parse().unwrap(), args[1].parse().unwrap())
        } else {
            unreachable!("nothing else is asked for while subscribed")
        };
        // Other events happen before the answer arrives.
        while self.chance(20) {
            self.publish();
        }
        Ok(answer)
    }
}
