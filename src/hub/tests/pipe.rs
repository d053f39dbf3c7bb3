//! An outlet under a test's control, and a parser for what it received.

use std::{
    cell::RefCell,
    io::{self, IoSlice},
    rc::Rc,
    sync::Arc,
};

use crate::hub::{Budget, Outlet};

/// The test's end of an outlet.
#[derive(Debug, Default)]
pub(super) struct WritingState {
    /// All bytes taken so far.
    pub(super) received: Vec<u8>,
    /// Bytes it will still take.
    pub(super) room: usize,
    /// Writes so far.
    pub(super) writes: usize,
    /// At most this many bytes per write; 0: no bound.
    pub(super) per_write: usize,
    /// Writes to interrupt before the next one works.
    pub(super) interrupts: usize,
    /// It reported that it is full, and has not been reported writable since.
    pub(super) full: bool,
    pub(super) broken: bool,
}

/// An outlet that takes as much as its test allows.
#[derive(Clone, Debug, Default)]
pub(super) struct Pipe(pub(super) Rc<RefCell<WritingState>>);

impl Pipe {
    pub(super) fn with_room(room: usize) -> Self {
        let pipe = Self::default();
        pipe.0.borrow_mut().room = room;
        pipe
    }

    pub(super) fn open() -> Self {
        Self::with_room(usize::MAX)
    }

    /// Takes `room` bytes more from now on; the caller then says `writable`.
    pub(super) fn make_room(&self, room: usize) {
        let mut state = self.0.borrow_mut();
        state.room = room;
        state.full = false;
    }

    pub(super) fn frames(&self) -> Vec<(u8, Vec<u8>)> {
        let state = self.0.borrow();
        let (frames, used) = parse(&state.received);
        assert_eq!(used, state.received.len(), "only whole frames");
        frames.into_iter().map(|frame| (frame.opcode, frame.payload.to_vec())).collect()
    }

    pub(super) fn texts(&self) -> Vec<String> {
        let text = |(_, payload)| String::from_utf8(payload).unwrap();
        self.frames().into_iter().map(text).collect()
    }
}

impl Outlet for Pipe {
    type Shared = ();

    fn shared(_budget: &Arc<Budget>) {}

    fn write_vectored(&mut self, (): &mut (), slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut state = self.0.borrow_mut();
        assert!(!state.full, "written to though it is full and was not said to be writable");
        let offered: usize = slices.iter().map(|slice| slice.len()).sum();
        assert!(offered > 0, "a write of nothing");
        state.writes += 1;
        if state.broken {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        if state.interrupts > 0 {
            state.interrupts -= 1;
            return Err(io::ErrorKind::Interrupted.into());
        }
        let bound = if state.per_write == 0 { usize::MAX } else { state.per_write };
        let taken = offered.min(state.room).min(bound);
        state.full = taken < offered;
        if taken == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let mut left = taken;
        for slice in slices {
            let part = left.min(slice.len());
            state.received.extend_from_slice(&slice[..part]);
            left -= part;
        }
        state.room = state.room.saturating_sub(taken);
        Ok(taken)
    }
}

/// A frame as a client sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Frame<'a> {
    pub(super) opcode: u8,
    pub(super) payload: &'a [u8],
}

/// The whole frames at the start of `bytes`, and how many bytes they take.
pub(super) fn parse(bytes: &[u8]) -> (Vec<Frame<'_>>, usize) {
    let (mut frames, mut at) = (Vec::new(), 0);
    while let Some((header, length)) = parse_header(&bytes[at..]) {
        let Some(payload) = bytes.get(at + header..at + header + length) else { break };
        frames.push(Frame { opcode: bytes[at] & 0xf, payload });
        at += header + length;
    }
    (frames, at)
}

fn parse_header(bytes: &[u8]) -> Option<(usize, usize)> {
    let (&first, &second) = (bytes.first()?, bytes.get(1)?);
    assert_eq!(first & 0xf0, 0x80, "final, no reserved bits");
    assert!(matches!(first & 0xf, 0x1 | 0x2 | 0x8 | 0x9 | 0xa), "a known opcode");
    assert!(second < 0x80, "not masked");
    match second {
        126 => Some((4, u16::from_be_bytes(bytes.get(2..4)?.try_into().unwrap()).into())),
        127 => {
            let length = u64::from_be_bytes(bytes.get(2..10)?.try_into().unwrap());
            Some((10, usize::try_from(length).unwrap()))
        }
        short => Some((2, short.into())),
    }
}

/// A small frame of the given opcode.
pub(super) fn frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x80 | opcode, u8::try_from(payload.len()).unwrap()];
    bytes.extend_from_slice(payload);
    bytes
}
