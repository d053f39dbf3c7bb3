//! One connection's TLS: records in, plaintext out, and the other way round; no socket.
//!
//! An idle session owns no buffer. A record that is not there as a whole is kept until it is; so is
//! the rest of a record that the socket did not take. The last byte of such a record's content is
//! withheld: its taker is told that all but this byte is written, so that it counts as not done,
//! offers the byte again, and learns in the ordinary way when the socket has taken everything.

use std::{
    fmt,
    io::{self, IoSlice},
    sync::Arc,
};

pub use rustls::HandshakeKind;
use rustls::{
    ProtocolVersion, ServerConfig,
    server::UnbufferedServerConnection,
    unbuffered::{ConnectionState, UnbufferedStatus},
};

use super::{
    pieces::{Output, Source},
    scratch::Scratch,
    states::{ask, invalid, note},
};
use crate::limits::{
    TLS_HANDSHAKE_BYTES_MAX, TLS_READ_BYTES_MIN, TLS_RECORD_BYTES_MAX, TLS_WRITE_BYTES_MAX,
    TLS_WRITE_EXTRA_BYTES, TLS12_RECORDS_MAX,
};

/// The outcome of reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    /// So many bytes of plaintext, at least one.
    Plaintext(usize),
    /// Something was read that holds no plaintext, or not yet.
    Nothing,
    /// There is no more: the peer has said so, or has ended its side.
    End,
}

/// The server's side of one connection.
///
/// # Invariants
/// `withheld` is set only while `outgoing` has a part of the record that ends with that byte, or
/// that record was taken since and the byte was not yet offered again. The library keeps positions
/// of a half-arrived message that count from the beginning of `incoming`: it is never called with
/// other input, and not at all for input once `is_torn`.
pub struct Session {
    connection: UnbufferedServerConnection,
    /// The beginning of a record, and the records of a message before it that has not ended.
    incoming: Vec<u8>,
    /// Decrypted, and not asked for yet.
    plaintext: Vec<u8>,
    /// Records, or the rest of one, that the socket has not taken.
    outgoing: Vec<u8>,
    /// The last byte of the content of `outgoing`, of which the taker does not know that it is on
    /// its way.
    withheld: Option<u8>,
    peer_has_closed: bool,
    /// The records that were made.
    records: u32,
    /// The peer broke the protocol, or ended within a record or message: nothing more is heard of
    /// it or said to it, except the alert that is in `outgoing` already.
    is_torn: bool,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("is_handshaking", &self.is_handshaking())
            .field("held_input_bytes", &self.held_input_bytes())
            .field("held_output_bytes", &self.held_output_bytes())
            .finish_non_exhaustive()
    }
}

impl Session {
    /// A session that waits for the client's first message.
    ///
    /// # Errors
    /// When `config` can't work.
    pub fn new(config: Arc<ServerConfig>) -> io::Result<Self> {
        Ok(Self {
            connection: UnbufferedServerConnection::new(config).map_err(invalid)?,
            incoming: Vec::new(),
            plaintext: Vec::new(),
            outgoing: Vec::new(),
            withheld: None,
            peer_has_closed: false,
            records: 0,
            is_torn: false,
        })
    }

    /// Whether no plaintext can be sent yet.
    #[must_use]
    pub fn is_handshaking(&self) -> bool {
        self.connection.is_handshaking()
    }

    /// How the handshake went, once it is over.
    #[must_use]
    pub fn handshake_kind(&self) -> Option<HandshakeKind> {
        self.connection.handshake_kind()
    }

    /// The memory that input holds: the beginning of a record, and plaintext.
    #[must_use]
    pub fn held_input_bytes(&self) -> usize {
        self.incoming.capacity() + self.plaintext.capacity()
    }

    /// The memory that records hold which the socket has not taken.
    #[must_use]
    pub fn held_output_bytes(&self) -> usize {
        self.outgoing.capacity()
    }

    /// Whether the beginning of a record is here, and its end is not.
    #[must_use]
    pub fn has_unfinished_record(&self) -> bool {
        !self.incoming.is_empty()
    }

    /// Whether plaintext is here that was not asked for yet: no socket will tell of it.
    #[must_use]
    pub fn has_plaintext(&self) -> bool {
        !self.plaintext.is_empty()
    }

    /// Whether records are here that the socket has not taken.
    #[must_use]
    pub fn has_unsent(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// Gives plaintext that is here, or reads once by `read` and decrypts that. Answers of the
    /// protocol that this causes are to be sent with [`Session::flush`], also after an error.
    ///
    /// # Errors
    /// Those of `read`, after which nothing has changed; `InvalidData` when the peer breaks the
    /// protocol.
    pub fn read(
        &mut self,
        scratch: &mut Scratch,
        into: &mut [u8],
        read: impl FnOnce(&mut [u8]) -> io::Result<usize>,
    ) -> io::Result<Input> {
        if self.has_plaintext() {
            return Ok(Input::Plaintext(self.take_plaintext(into)));
        }
        if self.peer_has_closed || self.is_torn {
            return Ok(Input::End);
        }
        let scratch = &mut *scratch.0;
        let kept = self.incoming.len();
        // No more than can be given, but for the rest of one record: what is left over is held.
        let end = scratch.len().min(kept + into.len().max(TLS_READ_BYTES_MIN));
        let count = read(&mut scratch[kept..end])?;
        if count == 0 {
            self.is_torn |= kept > 0;
            self.incoming = Vec::new();
            return Ok(Input::End);
        }
        scratch[..kept].copy_from_slice(&self.incoming);
        self.incoming = Vec::new();
        let records = &mut scratch[..kept + count];
        let mut output = Output::new(into);
        let kept = self.process(records, &mut output).and_then(|used| self.keep(&records[used..]));
        let Output { filled, spilled, .. } = output;
        if let Err(error) = kept {
            self.is_torn = true;
            // The alert, if there is one to send: it comes before the library looks at input.
            while self.connection.wants_write() && matches!(self.speaks(), Ok(true)) {}
            return Err(error);
        }
        self.plaintext = spilled;
        Ok(match filled {
            0 if self.peer_has_closed => Input::End,
            0 => Input::Nothing,
            filled => Input::Plaintext(filled),
        })
    }

    /// Sends what the socket did not take, by `send`.
    ///
    /// # Errors
    /// Those of `send`: `WouldBlock` while something is left.
    pub fn flush(&mut self, send: &mut impl FnMut(&[u8]) -> io::Result<usize>) -> io::Result<()> {
        let mut sent = 0;
        let result = loop {
            if sent == self.outgoing.len() {
                self.outgoing = Vec::new();
                return Ok(());
            }
            match send(&self.outgoing[sent..]) {
                Ok(0) => break Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => sent += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => break Err(error),
            }
        };
        self.outgoing.drain(..sent);
        result
    }

    /// Encrypts `slices` and sends that by `send`; returns how many of their bytes are done with.
    /// The others are to be offered again, from there on.
    ///
    /// # Errors
    /// Those of `send`: `WouldBlock` when the socket is full. `InvalidData` when other bytes are
    /// offered than those that were begun: the stream would be torn.
    pub fn write(
        &mut self,
        slices: &[IoSlice<'_>],
        scratch: &mut Scratch,
        send: &mut impl FnMut(&[u8]) -> io::Result<usize>,
    ) -> io::Result<usize> {
        self.flush(send)?;
        let mut source = Source::new(slices);
        let mut done = 0;
        let (room, record) = scratch.0.split_at_mut(TLS_WRITE_BYTES_MAX);
        if let Some(withheld) = self.withheld {
            if source.next(&mut room[..1]) != [withheld] {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "a begun record changed"));
            }
            self.withheld = None;
            done = 1;
        }
        loop {
            let content = source.next(room);
            let Some(last) = content.last() else { return Ok(done) };
            let length = loop {
                match self.encrypt(content, record)? {
                    Some(length) => break length,
                    None => match self.flush(send) {
                        Err(error) if would_block(&error) && done > 0 => return Ok(done),
                        result => result?,
                    },
                }
            };
            done += content.len();
            if !self.send(&record[..length], send)? {
                self.withheld = Some(*last);
                if done > 1 {
                    return Ok(done - 1);
                }
                // The socket says itself that it is full, so that it knows who waits for room.
                self.flush(send)?;
                self.withheld = None;
                return Ok(1);
            }
        }
    }

    /// Says that nothing more will be sent; to be flushed.
    pub fn close(&mut self) {
        if self.is_torn {
            return;
        }
        while matches!(self.speaks(), Ok(true)) {}
        let mut record = [0; TLS_WRITE_EXTRA_BYTES];
        let state = ask(&mut self.connection, &mut self.incoming);
        // Without a handshake there is nothing to close.
        if let Ok(ConnectionState::WriteTraffic(mut traffic)) = state
            && let Ok(length) = traffic.queue_close_notify(&mut record)
        {
            self.outgoing.extend_from_slice(&record[..length]);
        }
    }

    /// Whether its key has been used so much that the client should come back for another one. In
    /// TLS 1.3 keys change by themselves (RFC 8446 §4.6.3).
    #[must_use]
    pub fn is_worn(&self) -> bool {
        self.records >= TLS12_RECORDS_MAX
            && self.connection.protocol_version() == Some(ProtocolVersion::TLSv1_2)
    }

    /// As if so many records had been made.
    #[cfg(test)]
    pub(crate) fn age(&mut self, records: u32) {
        self.records = records;
    }

    /// Whether a session could go on in another process. None can: its keys and the numbers of its
    /// records are the library's. Where the kernel has TLS (`setsockopt` with `TCP_ULP` `"tls"`),
    /// they can be given to it after the handshake, by
    /// [`UnbufferedServerConnection::dangerous_into_kernel_connection`]; the client is then a plain
    /// socket for all that writes to it, and could be handed on like one.
    #[must_use]
    pub fn can_be_handed_on(&self) -> bool {
        false
    }

    /// Sends a record; false: its rest is kept.
    fn send(
        &mut self,
        record: &[u8],
        send: &mut impl FnMut(&[u8]) -> io::Result<usize>,
    ) -> io::Result<bool> {
        let sent = loop {
            match send(record) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break 0,
                result => break result?,
            }
        };
        if sent < record.len() {
            self.outgoing = record[sent..].to_vec();
        }
        Ok(sent == record.len())
    }

    /// Makes a record; `None`: the library had something to say before, which is in `outgoing` now.
    fn encrypt(&mut self, content: &[u8], record: &mut [u8]) -> io::Result<Option<usize>> {
        if self.is_torn {
            return Err(io::ErrorKind::NotConnected.into());
        }
        let state = ask(&mut self.connection, &mut self.incoming);
        match state.map_err(invalid)? {
            ConnectionState::WriteTraffic(mut traffic) => match traffic.encrypt(content, record) {
                Ok(length) => {
                    self.records = self.records.saturating_add(1);
                    Ok(Some(length))
                }
                Err(error) => Err(io::Error::other(error)),
            },
            state => match note(state, &mut self.outgoing, &mut self.peer_has_closed)? {
                true => Ok(None),
                false => Err(io::ErrorKind::NotConnected.into()),
            },
        }
    }

    /// Whether the library had something to say, which is added to `outgoing` then.
    fn speaks(&mut self) -> io::Result<bool> {
        let state = ask(&mut self.connection, &mut self.incoming);
        note(state.map_err(invalid)?, &mut self.outgoing, &mut self.peer_has_closed)
    }

    /// Decrypts all whole records; returns the number of bytes that are used up.
    fn process(&mut self, records: &mut [u8], output: &mut Output<'_>) -> io::Result<usize> {
        let mut used = 0;
        loop {
            let UnbufferedStatus { mut discard, state } =
                self.connection.process_tls_records(&mut records[used..]);
            let goes_on = match state {
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    while let Some(record) = traffic.next_record() {
                        let record = record.map_err(invalid)?;
                        output.put(record.payload);
                        discard += record.discard;
                    }
                    true
                }
                state => {
                    let state = state.map_err(invalid)?;
                    note(state, &mut self.outgoing, &mut self.peer_has_closed)?
                }
            };
            used += discard;
            if !goes_on {
                return Ok(used);
            }
        }
    }

    /// Keeps the beginning of a record.
    fn keep(&mut self, rest: &[u8]) -> io::Result<()> {
        let bytes_max = match self.is_handshaking() {
            true => TLS_HANDSHAKE_BYTES_MAX,
            false => TLS_RECORD_BYTES_MAX,
        };
        if rest.len() > bytes_max {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a message is too long"));
        }
        self.incoming = if self.peer_has_closed { Vec::new() } else { rest.to_vec() };
        Ok(())
    }

    fn take_plaintext(&mut self, into: &mut [u8]) -> usize {
        let count = into.len().min(self.plaintext.len());
        into[..count].copy_from_slice(&self.plaintext[..count]);
        self.plaintext.drain(..count);
        if self.plaintext.is_empty() {
            self.plaintext = Vec::new();
        }
        count
    }
}

fn would_block(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock
}
