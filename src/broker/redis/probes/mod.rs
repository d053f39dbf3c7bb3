//! The process's own checks, apart from messages and clients: whether Redis accepts writes, whether
//! its name still leads to the server in use, and which processes take
//! clients: this one tells, too.

pub(super) mod presence;
pub(super) mod watch;
