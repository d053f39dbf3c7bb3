//! The states of the library's side of a session: asked for, and what they have to say.

use std::io;

use rustls::{
    server::{ServerConnectionData, UnbufferedServerConnection},
    unbuffered::{ConnectionState, EncodeError, UnbufferedStatus},
};

/// The state of a session whose whole records are all used up; `incoming` is what is left.
pub(super) fn ask<'a>(
    connection: &'a mut UnbufferedServerConnection,
    incoming: &'a mut [u8],
) -> Result<ConnectionState<'a, 'a, ServerConnectionData>, rustls::Error> {
    let UnbufferedStatus { discard, state } = connection.process_tls_records(incoming);
    debug_assert_eq!(discard, 0, "nothing that is kept is used up by itself");
    state
}

/// Appends what the library has to say; false: that was nothing, and there is nothing more to do.
pub(super) fn note(
    state: ConnectionState<'_, '_, ServerConnectionData>,
    outgoing: &mut Vec<u8>,
    peer_has_closed: &mut bool,
) -> io::Result<bool> {
    match state {
        ConnectionState::EncodeTlsData(mut data) => {
            if let Err(EncodeError::InsufficientSize(size)) = data.encode(&mut []) {
                let start = outgoing.len();
                outgoing.resize(start + size.required_size, 0);
                data.encode(&mut outgoing[start..]).map_err(io::Error::other)?;
            }
        }
        ConnectionState::TransmitTlsData(data) => data.done(),
        ConnectionState::PeerClosed => *peer_has_closed = true,
        _ => return Ok(false),
    }
    Ok(true)
}

pub(super) fn invalid(error: rustls::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}
