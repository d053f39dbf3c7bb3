//! The naive model: what was published, and what one client may and must have seen of it.

use std::collections::VecDeque;

use super::{SLOW_FRAME, pipe::Frame, pipe::Pipe, pipe::parse};
use crate::{
    hub::{Encode, Encoding, Finish, Key},
    ws::{Kind, extension::WindowBits, frame},
};

pub(super) const CHANNELS: usize = 4;

/// Plain, and what stands for compression with the smallest and the largest window.
pub(super) fn encoding(number: usize) -> Encoding {
    [9, 15]
        .get(number)
        .map_or(Encoding::Plain, |&bits| Encoding::Deflate(WindowBits::new(bits).unwrap()))
}

/// What a message is written as: of another length in every encoding.
fn written(message: &[u8], encoding: Encoding) -> Vec<u8> {
    let Encoding::Deflate(window) = encoding else { return message.to_vec() };
    let (place, filler) = message.split_at(5);
    let shorter = &filler[..filler.len() * usize::from(window.get()) / 20];
    [place, &[window.get()], shorter].concat()
}

fn frame_bytes(message: &[u8], encoding: Encoding) -> u64 {
    let length = written(message, encoding).len();
    (frame::data_header(Kind::Binary, length).as_ref().len() + length) as u64
}

/// A message that counts on being asked once per encoding.
pub(super) struct Message<'a> {
    message: &'a [u8],
    asked: Vec<Encoding>,
    frame: [Vec<u8>; 2],
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
}

/// Everything published on one channel.
#[derive(Default)]
pub(super) struct Channel {
    pub(super) messages: Vec<Vec<u8>>,
}

impl Channel {
    /// Publishes a message of `size` bytes that says where it belongs.
    pub(super) fn push(&mut self, number: usize, size: usize, filler: u8) -> Message<'_> {
        let mut payload = vec![u8::try_from(number).unwrap()];
        payload.extend_from_slice(&u32::try_from(self.messages.len()).unwrap().to_be_bytes());
        payload.resize(size, filler);
        self.messages.push(payload);
        let message = self.messages.last().unwrap();
        Message { message, asked: Vec::new(), frame: Default::default() }
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
    /// Next message expected, per channel it hears.
    pub(super) next: [Option<usize>; CHANNELS],
    /// Messages received.
    pub(super) received: u64,
    holes: u64,
    /// Messages that it was told to have missed.
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
    /// Its close was told not to wait for the logs.
    pub(super) hurried: bool,
}

impl Client {
    pub(super) fn new(key: Key, pipe: Pipe, encoding: Encoding) -> Self {
        Self {
            key,
            pipe,
            encoding,
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
            hurried: false,
        }
    }

    /// At least how far it is behind in the channel where it is furthest, bytes.
    pub(super) fn lag(&self, channels: &[Channel; CHANNELS]) -> u64 {
        let behind = |channel: usize| {
            let unseen = channels[channel].messages[self.next[channel]?..].iter();
            Some(unseen.map(|message| frame_bytes(message, self.encoding)).sum())
        };
        (0..CHANNELS).filter_map(behind).max().unwrap_or(0)
    }

    /// Parses what has arrived since the last look.
    pub(super) fn see_bytes(&mut self, channels: &[Channel; CHANNELS]) {
        let pipe = self.pipe.clone();
        let state = pipe.0.borrow();
        let (frames, used) = parse(&state.received[self.parsed..]);
        self.parsed += used;
        for frame in frames {
            self.see_frame(frame, channels);
        }
    }

    fn see_frame(&mut self, frame: Frame<'_>, channels: &[Channel; CHANNELS]) {
        assert!(!self.closed, "something came after the Close frame");
        let Frame { opcode, payload } = frame;
        match opcode {
            0x2 => self.see_message(payload, channels),
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
                let expected = self.close.as_ref().map_or(SLOW_FRAME, |close| &close.frame);
                assert_eq!(payload, &expected[2..], "the Close frame that came first");
            }
            _ => panic!("frame {opcode:#x} {payload:?} is not next"),
        }
    }

    fn see_message(&mut self, payload: &[u8], channels: &[Channel; CHANNELS]) {
        let channel = usize::from(payload[0]);
        let number = u32::from_be_bytes(payload[1..5].try_into().unwrap()) as usize;
        let expected = written(&channels[channel].messages[number], self.encoding);
        assert!(payload == expected, "as it was published, in the client's encoding");
        let next = self.next[channel].as_mut().expect("only channels it hears");
        assert!(number >= *next, "in order and without repeat: {number} after {next}");
        self.holes += (number - *next) as u64;
        self.received += 1;
        *next = number + 1;
    }

    /// Everything was taken: nothing may be missing. `cut`: logs may have been cut.
    pub(super) fn finish(&self, channels: &[Channel; CHANNELS], cut: bool) {
        if self.failed || self.pipe.0.borrow().broken {
            return;
        }
        assert_eq!(self.parsed, self.pipe.0.borrow().received.len(), "whole frames only");
        assert_eq!(self.closed, self.close.is_some(), "who is closed gets the Close frame");
        assert_eq!(self.closed, self.close_sent, "and the hub says so");
        assert!(self.controls.is_empty() && self.queued.is_empty(), "control frames arrive");
        assert!(self.pongs.is_empty(), "the last pong arrives");
        let Some(close) = &self.close else {
            assert_eq!(self.holes, self.skipped, "holes are told, and counted exactly");
            for (next, channel) in self.next.iter().zip(channels) {
                let all = next.is_none_or(|next| next == channel.messages.len());
                assert!(all, "an open client gets everything");
            }
            return;
        };
        assert!(self.holes <= self.skipped, "no hole that was not told");
        let whole = close.finish == Finish::Log && !self.hurried && !cut;
        for (next, published) in self.next.iter().zip(close.published) {
            let next = next.unwrap_or(published);
            assert!(next <= published, "nothing newer goes out");
            assert!(next == published || !whole, "the log goes first");
        }
    }
}
