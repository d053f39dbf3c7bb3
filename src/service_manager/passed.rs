//! Sockets that the service manager has opened before it started this process (sd_listen_fds(3)).
//!
//! They are this process's if `LISTEN_PID` says so, numbered from 3 on, and have the names that
//! their units give them. Linux only; elsewhere there are none.

use std::io;
#[cfg(target_os = "linux")]
use std::os::fd::{FromRawFd as _, OwnedFd, RawFd};

use socket2::Socket;

/// The sockets with their names, each its unit's `FileDescriptorName=`. To be called once: from
/// then on the sockets are the caller's, and close with their values.
///
/// # Errors
/// When the variables contradict each other, or what is open.
#[cfg(target_os = "linux")]
pub fn passed_sockets() -> io::Result<Vec<(String, Socket)>> {
    // Names beside sockets that are another process's would not fit.
    if sd_notify::listen_fds()?.len() == 0 {
        return Ok(Vec::new());
    }
    let sockets = sd_notify::listen_fds_with_names()?;
    Ok(sockets.map(|(number, name)| (name, own(number))).collect())
}

#[cfg(target_os = "linux")]
#[expect(unsafe_code, reason = "a number from the environment becomes a descriptor here")]
fn own(number: RawFd) -> Socket {
    // SAFETY: the manager has opened this number for this process and for nothing else, since
    // LISTEN_PID is this process; it is open, since its flags could be set; no value of this
    // process owns it, since whatever it has opened itself got other numbers, and this runs once.
    let socket = unsafe { OwnedFd::from_raw_fd(number) };
    socket.into()
}

/// There are none.
///
/// # Errors
/// None.
#[cfg(not(target_os = "linux"))]
pub fn passed_sockets() -> io::Result<Vec<(String, Socket)>> {
    Ok(Vec::new())
}
