//! One connection that has stopped where its server owes its peer nothing.

use std::rc::Rc;

use bytes::Bytes;

use crate::{http::connection::wire::Wire, peer::Announced};

/// The way of all connections of a thread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Course {
    /// They are served.
    #[default]
    Serving,
    /// Each stops where its server owes its peer nothing.
    Suspending,
    /// Those that were recorded are another process' by now; the others end as in a drain.
    LetGo,
}

/// A connection that has stopped.
pub(super) struct Suspended {
    /// Its task has it, too.
    pub(super) stream: Rc<dyn Wire>,
    /// Its bytes that were read and not parsed.
    pub(super) unparsed: Bytes,
    /// `None`: what a proxy announces is still to come, and `unparsed` begins it.
    pub(super) announced: Option<Announced>,
    /// Another process may go on with it.
    pub(super) is_recorded: bool,
}
