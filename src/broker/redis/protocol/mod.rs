//! The protocol between this process and Redis: the names of keys and channels, the scripts and
//! their arguments, the envelope of a publication, and the reading of answers and refusals. Nothing
//! here connects to anything.

pub(super) mod announcement;
pub(super) mod arguments;
pub(super) mod envelope;
pub(super) mod names;
pub(super) mod refusal;
pub(super) mod replies;
pub(super) mod scripts;
