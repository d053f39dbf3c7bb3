//! A client whose other end a test holds: what is written, answered and lost is the test's to say,
//! and what becomes of the commands is decided as on a real connection. No socket, no task.

use std::rc::Rc;

use bytes::{Buf as _, Bytes, BytesMut};
use redis_protocol::resp3::{decode::complete::decode_bytes_mut, types::BytesFrame};

use super::{Client, Ending};
use crate::clock::Clock;

/// The other end; dropped, the connection has ended.
pub(crate) struct OtherEnd {
    ending: Ending,
    arrived: BytesMut,
}

impl std::fmt::Debug for OtherEnd {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OtherEnd").finish_non_exhaustive()
    }
}

impl OtherEnd {
    /// A connection.
    pub(crate) fn new(clock: Clock) -> (Client, Self) {
        let client = Client::new(clock);
        let ending = Ending(Rc::clone(&client.0));
        (client, Self { ending, arrived: BytesMut::new() })
    }

    /// As many bytes as `bytes_max` are written; the commands that are complete now.
    pub(crate) fn write(&mut self, bytes_max: usize) -> Vec<Vec<Bytes>> {
        {
            let mut state = self.ending.0.state.borrow_mut();
            let count = state.output.len().min(bytes_max);
            self.arrived.extend_from_slice(&state.output[..count]);
            state.output.advance(count);
            state.written += count as u64;
        }
        let mut commands = Vec::new();
        while let Ok(Some((frame, _, _))) = decode_bytes_mut(&mut self.arrived) {
            let BytesFrame::Array { data, .. } = frame else { panic!("a command is an array") };
            let word = |frame| match frame {
                BytesFrame::BlobString { data, .. } => data,
                other => panic!("a word is a string: {other:?}"),
            };
            commands.push(data.into_iter().map(word).collect());
        }
        commands
    }

    /// The oldest command that has none gets its answer.
    pub(crate) fn answer(&self, frame: BytesFrame) {
        self.ending.0.answered(frame).expect("it answers a command");
    }
}
