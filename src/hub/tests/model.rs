//! The naive model: the published messages, and which of them a client may and must have received.

use std::collections::VecDeque;

use bytes::Bytes;

use super::{SLOW_FRAME, pieces::laid_out, pipe::Frame, pipe::Pipe, pipe::parse};
use crate::{
    hub::{Encode, Encoding, Finish, Key, LaidOut},
    position::Position,
    ws::{Kind, extension::WindowBits, frame},
};

pub(super) const CHANNELS: usize = 4;

pub(super) const ENCODINGS: usize = 4;

/// The Close frame for clients of a channel that has lost messages.
pub(super) const GAP: &[u8] = &[15, 161];

/// Plain, two that stand for compression with the smallest and the largest window, and one whose
/// clients are told which messages they miss.
pub(super) fn encoding(number: usize) -> Encoding {
    let deflate = |bits| Encoding::Deflate(WindowBits::new(bits).unwrap());
    match number {
        0 => Encoding::Plain,
        1 => deflate(9),
        2 => deflate(15),
        _ => Encoding::V1,
    }
}

/// A message as it is encoded: of another length in every encoding.
fn written(message: &[u8], encoding: Encoding) -> Vec<u8> {
    match encoding {
        Encoding::Deflate(window) => {
            let (place, filler) = message.split_at(5);
            let shorter = &filler[..filler.len() * usize::from(window.get()) / 20];
            [place, &[window.get()], shorter].concat()
        }
        Encoding::V1 => [message, b"v1"].concat(),
        _ => message.to_vec(),
    }
}

fn frame_bytes(message: &[u8], encoding: Encoding) -> u64 {
    let length = written(message, encoding).len();
    (frame::data_header(Kind::Binary, length).as_ref().len() + length) as u64
}

/// A message that relies on being asked once per encoding.
pub(super) struct Message<'a> {
    message: &'a [u8],
    asked: Vec<Encoding>,
    frame: [Vec<u8>; 2],
    /// The payload for encodings that are laid out.
    payload: Bytes,
}

impl Encode for Message<'_> {
    fn encode(&mut self, encoding: Encoding) -> [&[u8]; 2] {
        assert!(!self.asked.contains(&encoding), "{encoding:?} was asked for twice");
        self.asked.push(encoding);
        let payload = written(self.message, encoding);
        let header = frame::data_header(Kind::Binary, payload.len());
        self.frame = [header.as_ref().to_vec(), payload];
        self.frame.each_ref().map(Vec::as_slice)
    }

    fn payload_bytes(&self) -> usize {
        self.message.len()
    }

    fn lay_out(&mut self, encoding: Encoding) -> Option<LaidOut> {
        // Not every message has pieces.
        if self.message.len().is_multiple_of(3) {
            return None;
        }
        let payload = self.payload.clone();
        Some(laid_out(self.encode(encoding).concat(), &payload))
    }
}

/// Everything published on one channel.
#[derive(Default)]
pub(super) struct Channel {
    pub(super) messages: Vec<Vec<u8>>,
    pub(super) positions: Vec<Option<Position>>,
}

impl Channel {
    /// Publishes a message of `size` bytes that says where it belongs.
    pub(super) fn push(
        &mut self,
        number: usize,
        size: usize,
        filler: u8,
        position: Option<Position>,
    ) -> Message<'_> {
        let mut payload = vec![u8::try_from(number).unwrap()];
        payload.extend_from_slice(&u32::try_from(self.messages.len()).unwrap().to_be_bytes());
        payload.resize(size, filler);
        self.messages.push(payload);
        self.positions.push(position);
        let message = self.messages.last().unwrap();
        let payload = Bytes::copy_from_slice(message);
        Message { message, asked: Vec::new(), frame: Default::default(), payload }
    }
}

/// A close that was asked for, or that the policy began.
pub(super) struct Close {
    pub(super) frame: Vec<u8>,
    pub(super) finish: Finish,
    /// Messages per channel when it began.
    pub(super) published: [usize; CHANNELS],
}

/// One client.
pub(super) struct Client {
    pub(super) key: Key,
    pub(super) pipe: Pipe,
    pub(super) encoding: Encoding,
    pub(super) encoding_number: usize,
    /// The number of messages received when its logs began to wait.
    pub(super) held: Option<u64>,
    pub(super) skipped_when_held: u64,
    /// Channels that it has joined since.
    pub(super) fresh: [bool; CHANNELS],
    /// For a channel that it left in the middle of a frame: the smallest number which that message
    /// may have.
    trailing: [Option<usize>; CHANNELS],
    has_left: bool,
    /// Messages of a channel when some of it were lost: the client gets no more, and is closed.
    pub(super) parts_at: [Option<usize>; CHANNELS],
    /// The next message, and the end, of those that waited when the client moved to another hub:
    /// whatever it does there, it gets them first.
    moved: [Option<(usize, usize)>; CHANNELS],
    /// The same of those that wait until it is released.
    behind: [Option<(usize, usize)>; CHANNELS],
    /// The next message expected, for each subscribed channel.
    pub(super) next: [Option<usize>; CHANNELS],
    /// Messages received.
    pub(super) received: u64,
    holes: u64,
    /// Messages reported to it as missed.
    pub(super) skipped: u64,
    pub(super) controls: VecDeque<Vec<u8>>,
    pub(super) queued: VecDeque<Vec<u8>>,
    pub(super) pongs: Vec<Vec<u8>>,
    parsed: usize,
    pub(super) close: Option<Close>,
    /// The Close frame was received; the hub has said so.
    pub(super) closed: bool,
    pub(super) close_sent: bool,
    pub(super) failed: bool,
    /// It was closed as slow: its own output that was not begun is discarded.
    pub(super) cut_short: bool,
    /// Its close was told not to wait for the logs.
    pub(super) hurried: bool,
}

impl Client {
    pub(super) fn new(key: Key, pipe: Pipe, encoding_number: usize) -> Self {
        Self {
            key,
            pipe,
            encoding: encoding(encoding_number),
            encoding_number,
            held: None,
            skipped_when_held: 0,
            fresh: [false; CHANNELS],
            trailing: [None; CHANNELS],
            has_left: false,
            parts_at: [None; CHANNELS],
            moved: [None; CHANNELS],
            behind: [None; CHANNELS],
            next: [None; CHANNELS],
            received: 0,
            holes: 0,
            skipped: 0,
            controls: VecDeque::new(),
            queued: VecDeque::new(),
            pongs: Vec::new(),
            parsed: 0,
            close: None,
            closed: false,
            close_sent: false,
            failed: false,
            cut_short: false,
            hurried: false,
        }
    }

    /// How many messages of each channel are due to it.
    pub(super) fn due(&self, channels: &[Channel; CHANNELS]) -> [usize; CHANNELS] {
        let all = |channel: usize| channels[channel].messages.len();
        std::array::from_fn(|channel| self.parts_at[channel].unwrap_or_else(|| all(channel)))
    }

    /// A lower bound of how far it is behind in the channel where it is furthest behind, bytes.
    pub(super) fn lag(&self, channels: &[Channel; CHANNELS]) -> u64 {
        let behind = |channel: usize| {
            let unseen = channels[channel].messages[self.next[channel]?..].iter();
            Some(unseen.map(|message| frame_bytes(message, self.encoding)).sum())
        };
        (0..CHANNELS).filter_map(behind).max().unwrap_or(0)
    }

    /// A lower bound of its own output that it has not taken.
    pub(super) fn unread_bytes(&self) -> usize {
        let told = self.queued.iter().chain(&self.controls).chain(self.pongs.last());
        told.map(|payload| payload.len() + 4).sum()
    }

    /// Parses what has arrived since the last look.
    pub(super) fn read_bytes(&mut self, channels: &[Channel; CHANNELS]) {
        let pipe = self.pipe.clone();
        let state = pipe.0.borrow();
        let (frames, used) = parse(&state.received[self.parsed..]);
        self.parsed += used;
        for frame in frames {
            self.check_frame(frame, channels);
        }
    }

    fn check_frame(&mut self, frame: Frame<'_>, channels: &[Channel; CHANNELS]) {
        assert!(!self.closed, "something came after the Close frame");
        let Frame { opcode, payload } = frame;
        match opcode {
            0x2 => self.check_message(payload, channels),
            0x9 if self.controls.front().is_some_and(|next| next == payload) => {
                self.controls.pop_front();
            }
            0x1 if self.queued.front().is_some_and(|next| next == payload) => {
                self.queued.pop_front();
            }
            0xa => {
                let at = self.pongs.iter().position(|pong| pong == payload);
                self.pongs.drain(..=at.expect("pongs come once and in order"));
            }
            0x8 => {
                self.closed = true;
                let parts = self.parts_at.iter().any(Option::is_some) && payload == GAP;
                let expected = self.close.as_ref().map_or(SLOW_FRAME, |close| &close.frame);
                let is_first = payload == &expected[2..] || (parts && self.close.is_none());
                assert!(is_first, "the Close frame that came first");
            }
            _ => panic!("frame {opcode:#x} {payload:?} is not next"),
        }
    }

    /// It has left a channel, maybe in the middle of a frame.
    pub(super) fn leave(&mut self, channel: usize) {
        let mut next = self.next[channel].take();
        // Bytes that wait in its own output are not taken back.
        if let Some((first, _)) = self.behind[channel].take() {
            next = Some(first);
        }
        let is_amid = self.parsed < self.pipe.0.borrow().received.len();
        if is_amid && self.moved[channel].is_none() {
            // It may have joined and left again while the same frame was on its way.
            self.trailing[channel] = self.trailing[channel].or(next);
        }
        self.fresh[channel] = false;
        self.parts_at[channel] = None;
        self.has_left = true;
    }

    /// It goes on in another hub; everything that has arrived was read.
    pub(super) fn move_on(&mut self, channels: &[Channel; CHANNELS]) {
        for channel in 0..CHANNELS {
            let end =
                self.close.as_ref().map_or_else(|| self.due(channels), |close| close.published);
            let end = end[channel];
            let Some(next) = self.next[channel].as_mut().filter(|next| **next < end) else {
                continue;
            };
            let waiting = if self.held.is_some() { &mut self.behind } else { &mut self.moved };
            let first = waiting[channel].map_or(*next, |(first, _)| first);
            waiting[channel] = Some((first, end));
            *next = end;
        }
    }

    /// Its logs no longer wait.
    pub(super) fn release(&mut self) {
        self.held = None;
        self.fresh = [false; CHANNELS];
        for (moved, behind) in self.moved.iter_mut().zip(&mut self.behind) {
            if let Some((first, end)) = behind.take() {
                *moved = Some((moved.map_or(first, |(first, _)| first), end));
            }
        }
    }

    /// It goes on with the newest message of a channel that it has joined.
    pub(super) fn join_at_head(&mut self, channel: usize, published: usize) {
        self.next[channel] = Some(published);
        self.behind[channel] = None;
    }

    fn check_message(&mut self, payload: &[u8], channels: &[Channel; CHANNELS]) {
        let channel = usize::from(payload[0]);
        let number = u32::from_be_bytes(payload[1..5].try_into().unwrap()) as usize;
        let expected = written(&channels[channel].messages[number], self.encoding);
        assert!(payload == expected, "as it was published, in the client's encoding");
        self.received += 1;
        let is_last_of_left = self.trailing[channel].is_some();
        if !is_last_of_left && self.moved[channel].is_some() {
            // It is output of its own.
            self.held = self.held.map(|held| held + 1);
            self.holes += take_next(&mut self.moved[channel], number);
            return;
        }
        if let Some(held) = self.held {
            assert!(self.received <= held + 1, "of its logs only the begun frame goes out");
        }
        if !is_last_of_left && self.behind[channel].is_some() {
            self.holes += take_next(&mut self.behind[channel], number);
            return;
        }
        if let Some(least) = self.trailing[channel].take()
            && self.next[channel].is_none_or(|next| number < next)
        {
            assert!(number >= least, "in order and without repeat, also the last");
            self.holes += (number - least) as u64;
            return;
        }
        let next = self.next[channel].as_mut().expect("only channels it hears");
        assert!(number >= *next, "in order and without repeat: {number} after {next}");
        assert!(self.parts_at[channel].is_none_or(|end| number < end), "nothing behind the hole");
        self.holes += (number - *next) as u64;
        *next = number + 1;
    }

    fn has_moved_on(&self) -> bool {
        self.moved.iter().chain(&self.behind).all(Option::is_none)
    }

    /// Everything was taken: nothing may be missing. `cut`: logs may have been cut.
    pub(super) fn finish(&self, channels: &[Channel; CHANNELS], cut: bool) {
        if self.failed || self.pipe.0.borrow().broken {
            return;
        }
        assert_eq!(self.parsed, self.pipe.0.borrow().received.len(), "whole frames only");
        assert_eq!(self.closed, self.close.is_some(), "who is closed gets the Close frame");
        assert_eq!(self.closed, self.close_sent, "and the hub says so");
        let told = self.controls.is_empty() && self.queued.is_empty();
        // A client that was closing, and whose logs were still due before the close, is given up
        // silently.
        let hurried = cut && self.close.as_ref().is_some_and(|it| it.finish == Finish::Log);
        assert!(told || self.cut_short || hurried, "control frames arrive");
        assert!(self.pongs.is_empty() || self.cut_short || hurried, "the last pong arrives");
        let Some(close) = &self.close else {
            assert!(self.holes <= self.skipped, "holes are told");
            let exactly = self.holes == self.skipped || self.has_left;
            assert!(exactly, "holes are counted exactly, as far as they can be seen");
            assert!(self.has_moved_on(), "also what had waited elsewhere");
            for (next, channel) in self.next.iter().zip(channels) {
                let all = next.is_none_or(|next| next == channel.messages.len());
                assert!(all, "an open client gets everything");
            }
            return;
        };
        assert!(self.holes <= self.skipped, "no hole that was not told");
        let whole = close.finish == Finish::Log && !self.hurried && !cut;
        assert!(!whole || self.has_moved_on(), "also what had waited elsewhere");
        for (next, published) in self.next.iter().zip(close.published) {
            let next = next.unwrap_or(published);
            assert!(next <= published, "nothing newer goes out");
            assert!(next == published || !whole, "the log goes first");
        }
    }
}

/// Takes `number` off what waits; how many before it are missing.
fn take_next(waiting: &mut Option<(usize, usize)>, number: usize) -> u64 {
    let (next, end) = waiting.take().expect("something waits");
    assert!((next..end).contains(&number), "{number} is not of {next}..{end}");
    *waiting = (number + 1 < end).then_some((number + 1, end));
    (number - next) as u64
}
