//! What this process and Redis say to each other: the names of keys and channels, the scripts and
//! their arguments, how a publication is wrapped, and how answers and refusals are read. Nothing
//! here connects to anything.

pub(super) mod arguments;
pub(super) mod envelope;
pub(super) mod names;
pub(super) mod refusal;
pub(super) mod replies;
pub(super) mod scripts;
